// SPDX-License-Identifier: Apache-2.0
//
// A model bound to shapes: every tensor's desc and place, every node's kernel ready to run. A static model
// has one binding, its plan; a dynamic one gets a binding for each set of input shapes, which the context
// keeps and reuses.
#pragma once

#include "core/model.h"

namespace pyneo {

class Binding {
 public:
  // One step of the run loop: `call(state, run)`, reference kernels through an adapter.
  struct Step {
    Status (*call)(const void* state, RunContext&);
    const void* state;
    RunContext run;
    int32_t node;
  };

  Binding() = default;
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;
  ~Binding();

  // The plan of a static model, as validated.
  Status build_static(const Model& model);
  // Infers every shape from those of the inputs, evaluates what is known from shapes and constants alone, and
  // plans memory. kNeedsValue if a shape depends on data.
  Status build_dynamic(const Model& model, const Shape* input_shapes);

  bool matches(const Shape* input_shapes) const;
  int64_t arena_bytes() const { return arena_bytes_; }
  int64_t thread_bytes() const { return thread_stride_; }
  int64_t overhead_bytes() const;
  const TensorDesc& desc(int32_t tensor) const { return tensors_[tensor].desc; }
  Array<Step>& steps() { return steps_; }

  // Points every tensor of the arena and every step's scratch at memory of at least the sizes above.
  void attach(uint8_t* arena, uint8_t* thread_scratch, int64_t thread_stride, Pool* pool);
  // Points the tensors of a slot (inputs, then outputs) at a caller's buffer.
  void set_buffer(int32_t slot, uint8_t* buffer);

 private:
  struct Place {
    enum Kind : uint8_t { kArena, kFixed, kSlot } kind;  // kFixed: data never moves (constant, known value)
    int32_t slot;
    int64_t offset;
  };
  struct Bound {  // a tensor in a caller's buffer
    int32_t tensor;
    int64_t offset;
  };
  Status allocate(const Model& model);
  Status bind_node(const Model& model, int32_t i, struct NodeWorkspace& w, bool* is_step);
  Status prepare_steps(const Model& model, struct NodeWorkspace& w);
  Status index_slots(const Model& model);
  Status plan(const Model& model);

  Array<Tensor> tensors_;
  Array<Place> places_;
  Array<int32_t> roots_;               // dynamic: tensor whose memory it shares, itself if none
  Array<const KernelDef*> kernels_;    // of every node
  Array<uint8_t> skip_;                // nodes that need not run: views, values known at binding
  Array<int64_t> scratch_;             // dynamic: bytes, then the arena offset of each node's scratch (-1 none)
  Array<void*> values_;                // values known at binding; owned
  Array<Tensor*> operands_;
  Array<Step> steps_;
  Block states_;
  Array<Bound> bound_;                 // sorted by slot
  Array<int32_t> bound_begin_;         // slot -> first entry of bound_
  Array<Shape> inputs_;
  int64_t arena_bytes_ = 0;
  int64_t thread_stride_ = 0;
};

}  // namespace pyneo
