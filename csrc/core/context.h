// SPDX-License-Identifier: Apache-2.0
//
// A context: what one thread needs to run a model. A static model's memory is all taken when its context is
// made; a dynamic model's when shapes are seen for the first time. A run over known shapes allocates nothing.
#pragma once

#include "core/flow.h"
#include "pyneo/pyneo.h"

namespace pyneo {

class Context {
 public:
  static Status create(Model* model, const Pool& pool, Context** out);
  void destroy();

  const Model& model() const { return *model_; }
  Status bind_input(uint32_t i, const pn_tensor& t);
  Status bind_output(uint32_t i, const pn_tensor& t);
  Status output_shape(uint32_t i, pn_tensor* out);
  // Where output i of the last run is: the caller's buffer, or the context's own until its next run.
  Status output(uint32_t i, pn_tensor* out);
  Status run() { return run_model(false); }
  Status run_profiled() { return run_model(true); }
  // State begins at zero again.
  void reset() { fresh_ = true; }
  void set_interrupt(Interrupt f, void* user) {
    if (flow_ != nullptr) flow_->set_interrupt(f, user);
  }
  const Array<StepTime>& times() const { return times_; }
  pn_context_memory memory();

 private:
  Context() = default;
  ~Context();
  Status init(Model* model, const Pool& pool);
  Status bind_shapes();          // finds or makes the binding of the inputs' shapes, or knows that there is none
  Status place_outputs();
  Status check_buffers();
  Status run_model(bool profiled);
  Status begin_state();          // before a run: zeros at first, and what the run before left
  Status keep_state();           // after a run that came to its end
  void set_state(int32_t slot, const TensorDesc& desc, uint8_t* data);
  bool symbol_size(int64_t symbol, int64_t* size) const;
  Status run_steps(bool profiled);
  Status run_flow(bool profiled);
  Status data_dependent(uint32_t output) const;
  Status check_output(uint32_t i) const;
  int32_t slots() const { return model_->input_count() + model_->output_count(); }
  const ModelTensor& slot_tensor(int32_t slot) const;
  Live& output_live(int32_t o) { return flow_->live(model_->output(o)); }

  Model* model_ = nullptr;
  Pool pool_ = Pool::serial();
  RunMemory memory_;
  Binding* plan_ = nullptr;               // a static model's
  Flow* flow_ = nullptr;                  // a dynamic model's
  Binding* bound_ = nullptr;              // the whole model at the inputs' shapes; nullptr: to be found, or segmented
  bool segmented_ = false;                // no one binding holds the whole model: shapes depend on data
  bool finished_ = false;                 // the last run came to its end: outputs are there
  Array<Shape> input_shapes_;
  Array<uint8_t*> buffers_;               // slot -> caller's buffer; inputs, then outputs
  Array<int64_t> buffer_bytes_;
  Array<uint8_t> from_caller_;            // output -> whether its buffer is the caller's
  bool checked_ = false;                  // buffers were checked since the last bind
  Array<StepTime> times_, node_times_;
  Array<Buffer> state_;                   // a static model's: of each state its value, then where the next one goes
  Array<Tensor> results_;                 // of a model with state: outputs of the last run, whose shapes may be others now
  bool fresh_ = true;                     // state is to begin at zero
};

}  // namespace pyneo
