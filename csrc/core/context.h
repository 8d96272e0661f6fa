// SPDX-License-Identifier: Apache-2.0
//
// A context: what one thread needs to run a model. All memory is taken when it is made; run() allocates
// nothing.
#pragma once

#include "core/model.h"
#include "pyneo/pyneo.h"

namespace pyneo {

struct NodeTime {
  uint64_t start_ns, duration_ns;
};

class Context {
 public:
  static Status create(Model* model, const Pool& pool, Context** out);
  void destroy();

  const Model& model() const { return *model_; }
  Status bind_input(uint32_t i, const pn_tensor& t) { return bind(true, i, t); }
  Status bind_output(uint32_t i, const pn_tensor& t) { return bind(false, i, t); }
  Status run();
  Status run_profiled();
  const Array<NodeTime>& times() const { return times_; }
  pn_context_memory memory() const;

 private:
  // One step of the run loop: `call(state, run)`, reference kernels through an adapter.
  struct Step {
    Status (*call)(const void* state, RunContext&);
    const void* state;
    RunContext run;
  };
  Context() = default;
  ~Context() = default;
  Status init(Model* model, const Pool& pool);
  Status bind(bool input, uint32_t i, const pn_tensor& t);
  Status check_bound();
  Status failed_step(int64_t i, Status s) const;

  Model* model_ = nullptr;
  Pool pool_ = Pool::serial();
  Array<Tensor> tensors_;
  Array<Tensor*> operands_;            // of all nodes, in step order
  Array<Step> steps_;
  Block states_, arena_, thread_scratch_;
  // Tensors that live in a caller's buffer: index and offset, sorted by slot.
  struct Bound {
    int32_t tensor;
    int64_t offset;
  };
  Array<Bound> bound_;
  Array<int32_t> bound_begin_;         // slot -> first entry of bound_; inputs, then outputs
  Array<uint8_t*> buffers_;            // slot -> caller's buffer
  bool checked_ = false;               // buffers were checked since the last bind
  Array<NodeTime> times_;
};

}  // namespace pyneo
