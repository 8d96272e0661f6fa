// SPDX-License-Identifier: Apache-2.0
//
// Nodes bound to shapes: every tensor's desc and place, every node's kernel ready to run. A static model has
// one binding, its plan. A dynamic one gets a binding for each segment (nodes whose shapes can be bound
// together, see flow.h) and each set of shapes of what the segment reads.
#pragma once

#include "core/live.h"
#include "core/model.h"
#include "core/vector.h"

namespace pyneo {

class Binding {
 public:
  // One step of the run loop: `call(state, run)`, reference kernels through an adapter.
  struct Step {
    Status (*call)(const void* state, RunContext&);
    const void* state;
    RunContext run;
    int64_t scratch;  // arena offset, -1 = none
    int32_t node;
  };
  // A tensor that the segment reads or leaves behind. `value`: known when it was bound; owned by the binding.
  struct Slot {
    int32_t tensor;
    TensorDesc desc;
    uint8_t* value;
  };

  Binding() = default;
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;
  ~Binding();
  static Binding* make();
  static void destroy(Binding* b);

  // Whether this is the binding for what the segment reads now.
  bool matches(const Live* live) const;
  int32_t end() const { return end_; }  // the first node behind the segment
  int64_t arena_bytes() const { return arena_bytes_; }
  int64_t thread_bytes() const { return thread_stride_; }
  int64_t overhead_bytes() const;
  // Slots: what is read, then what is left behind. Of a whole model: its inputs, then its outputs.
  int32_t slots_in() const { return slots_in_; }
  const Array<Slot>& slots() const { return slots_; }
  Array<Step>& steps() { return steps_; }

  // Points every tensor of the arena and every step's scratch at the memory, which has at least the sizes above.
  void attach(const RunMemory& memory, Pool* pool);
  // Points the tensors of a slot at a buffer.
  void set_buffer(int32_t slot, uint8_t* buffer) {
    if (buffers_[slot] == buffer) return;
    buffers_[slot] = buffer;
    for (int32_t k = bound_begin_[slot]; k < bound_begin_[slot + 1]; ++k) {
      tensors_[bound_[k].tensor].data = buffer + bound_[k].offset;
    }
  }

  Binding* next = nullptr;  // in the cache's list

 private:
  friend class Builder;
  struct Place {
    enum Kind : uint8_t { kArena, kFixed, kSlot } kind;  // kFixed: data never moves (constant, known value)
    int32_t slot;
    int64_t offset;
  };
  struct Bound {  // a tensor in a slot
    int32_t tensor;
    int64_t offset;
  };

  int32_t end_ = 0;
  int32_t slots_in_ = 0;
  uint32_t epoch_ = 0;
  Array<Slot> slots_;
  Array<uint8_t*> buffers_;            // of each slot, as set last
  Array<Tensor> tensors_;
  Array<Place> places_;
  Vector<void*> values_;               // values known at binding; owned
  Array<Tensor*> operands_;
  Array<Step> steps_;
  Block states_;
  Array<Bound> bound_;                 // sorted by slot
  Array<int32_t> bound_begin_;         // slot -> first entry of bound_
  int64_t arena_bytes_ = 0;
  int64_t thread_stride_ = 0;
};

}  // namespace pyneo
