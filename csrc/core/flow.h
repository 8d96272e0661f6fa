// SPDX-License-Identifier: Apache-2.0
//
// Runs a dynamic model's graphs. A graph is a chain of segments: nodes whose shapes can be bound from what is
// known where they begin, as long a run of them as there is. A segment is bound once for each set of shapes
// (builder.h) and its last eight bindings are kept. Between segments stand nodes whose shapes depend on data,
// which are inferred when their data is there, and control-flow nodes, whose subgraphs are run the same way.
//
// A graph is never at work twice at the same time (plans have no recursion), so there is one record (Live)
// for each tensor, and a body that runs again finds its bindings and buffers. What lives only inside a segment
// is in an arena that all segments share; what outlives one is in a buffer that only grows. So a call over
// shapes that were seen allocates nothing.
#pragma once

#include "core/builder.h"
#include "core/step_time.h"
#include "threads/pool.h"

namespace pyneo {

// Asked now and then while a model runs, between steps; anything but 0 ends the run.
using Interrupt = int (*)(void* user);

class Flow {
 public:
  Flow() = default;
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  ~Flow();
  Status init(const Model& model, Pool* pool, RunMemory* memory);

  Live& live(int32_t tensor) { return live_[tensor]; }
  // Where the model's output lies: the caller's buffer for a tensor of this shape, or nullptr for our own.
  void set_output(int32_t tensor, uint8_t* data, const TensorDesc& desc);
  void set_interrupt(Interrupt f, void* user) {
    interrupt_ = f;
    interrupt_user_ = user;
  }
  // The binding for the segment of `graph` that begins at `begin` and what is live now; made if it is new.
  Status find(int32_t graph, int32_t begin, Binding** out);
  // Runs the model from the inputs in live(). `times`: one for each node, to be added to; nullptr: none.
  Status run(StepTime* times);
  int64_t live_bytes() const;
  int64_t overhead_bytes() const;

 private:
  static constexpr int kMaxBindings = 8;  // for each place where a segment begins

  Status run_graph(int32_t graph);
  Status run_segment(Binding* b);
  Status run_alone(int32_t graph, int32_t node);
  Status place(int32_t tensor, Live& y);
  Status poll();

  // control.cc
  Status run_control(const ModelNode& n);
  Status run_if(const ModelNode& n);
  Status run_loop(const ModelNode& n);
  Status run_scan(const ModelNode& n);
  Status read_flag(int32_t tensor, const char* what, bool* out) const;
  Status hand_over(const ModelNode& n, int32_t from, int32_t output);
  Status set_input(int32_t tensor, const TensorDesc& desc, uint8_t* data);
  Status carry(int32_t from, int32_t to);
  Status append(const ModelNode& n, int32_t from, int32_t output, int64_t i);
  Status set_slice(int32_t to, const Live& x, int axis, int64_t i);
  Status put_slice(const ModelNode& n, int32_t from, int32_t output, int64_t axis, int64_t length, int64_t i, bool first);
  Status no_slices(const ModelNode& n, int32_t from, int32_t output, int64_t axis);

  const Model* model_ = nullptr;
  Pool* pool_ = nullptr;
  RunMemory* memory_ = nullptr;
  Builder builder_;
  NodeWorkspace w_;
  Array<Live> live_;
  Array<Binding*> bindings_;        // lists by the node where the segment begins, most recently used first
  Array<TensorDesc> bound_outputs_; // by model output: what the caller's buffer holds
  Array<uint8_t*> output_buffers_;
  Array<Tensor*> operands_;
  Array<Tensor> tensors_;
  StepTime* times_ = nullptr;
  uint64_t timed_ns_ = 0;
  Interrupt interrupt_ = nullptr;
  void* interrupt_user_ = nullptr;
  uint64_t polled_ns_ = 0;
};

}  // namespace pyneo
