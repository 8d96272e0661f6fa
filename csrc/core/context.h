// SPDX-License-Identifier: Apache-2.0
//
// A context: what one thread needs to run a model. A static model's memory is all taken when its context is
// made; a dynamic model's when shapes are seen for the first time. A run over known shapes allocates nothing.
#pragma once

#include "core/binding.h"
#include "core/model.h"
#include "pyneo/pyneo.h"

namespace pyneo {

class Context {
 public:
  struct StepTime {
    int32_t node;
    uint64_t start_ns, duration_ns;
  };

  static Status create(Model* model, const Pool& pool, Context** out);
  void destroy();

  const Model& model() const { return *model_; }
  Status bind_input(uint32_t i, const pn_tensor& t);
  Status bind_output(uint32_t i, const pn_tensor& t);
  Status output_shape(uint32_t i, pn_tensor* out);
  // Where output i of the last run is: the caller's buffer, or the context's own until its next run.
  Status output(uint32_t i, pn_tensor* out);
  Status run() { return run_steps(false); }
  Status run_profiled() { return run_steps(true); }
  const Array<StepTime>& times() const { return times_; }
  pn_context_memory memory() const;

 private:
  static constexpr int kMaxBindings = 8;

  Context() = default;
  ~Context();
  Status init(Model* model, const Pool& pool);
  Status bind_shapes();          // makes or finds the binding of the inputs' shapes
  Status reserve(const Binding& b);
  Status check_buffers();
  Status run_steps(bool profiled);
  int32_t slots() const { return model_->input_count() + model_->output_count(); }
  const ModelTensor& slot_tensor(int32_t slot) const;

  Model* model_ = nullptr;
  Pool pool_ = Pool::serial();
  bool dynamic_ = false;
  Binding* bindings_[kMaxBindings] = {};  // most recently used first
  Binding* bound_ = nullptr;              // the one whose shapes the inputs have; nullptr: to be found
  Block arena_, thread_scratch_;
  int64_t thread_stride_ = 0;
  Array<Shape> input_shapes_;
  Array<uint8_t*> buffers_;               // slot -> caller's buffer; inputs, then outputs
  Array<int64_t> buffer_bytes_;
  Array<Block> own_outputs_;              // dynamic: buffers of outputs the caller has not bound
  bool checked_ = false;                  // buffers were checked since the last bind
  Array<StepTime> times_;
};

}  // namespace pyneo
