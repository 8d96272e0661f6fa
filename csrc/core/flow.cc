// SPDX-License-Identifier: Apache-2.0
#include "core/flow.h"

#include <cstring>

#include "core/clock.h"

namespace pyneo {
namespace {

constexpr uint64_t kPollNs = 20'000'000;

// Adds to a node's time in its scope, if times are wanted.
class Timer {
 public:
  Timer(StepTime* times, int32_t node, uint64_t* total, const RunContext* run = nullptr)
      : times_(times), node_(node), total_(total), run_(run) {
    if (__builtin_expect(times_ != nullptr, 0)) {
      inside_ = *total_;
      start_ = now_ns();
    }
  }
  ~Timer() {
    if (__builtin_expect(times_ == nullptr, 1)) return;
    // Without what nodes of subgraphs have counted for themselves.
    const uint64_t whole = now_ns() - start_, inside = *total_ - inside_;
    StepTime& t = times_[node_];
    if (t.start_ns == 0) t = StepTime{node_, start_, 0, 0, 0, 0};
    t.duration_ns += whole - inside;
    if (run_ != nullptr) t.add_work(*run_);
    *total_ += whole - inside;
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  StepTime* times_;
  int32_t node_;
  uint64_t* total_;
  const RunContext* run_;
  uint64_t inside_ = 0, start_ = 0;
};

}  // namespace

Flow::~Flow() {
  for (int64_t i = 0; i < bindings_.size(); ++i) {
    for (Binding* b = bindings_[i]; b != nullptr;) {
      Binding* next = b->next;
      Binding::destroy(b);
      b = next;
    }
  }
  for (int64_t i = 0; i < live_.size(); ++i) live_[i].own.release();
}

Status Flow::init(const Model& model, Pool* pool, RunMemory* memory) {
  model_ = &model;
  pool_ = pool;
  memory_ = memory;
  PN_TRY(builder_.init(model));
  PN_TRY(w_.allocate(model));
  PN_TRY(operands_.allocate(w_.descs.size()));
  PN_TRY(tensors_.allocate(w_.descs.size()));
  PN_TRY(live_.allocate(model.tensors().size()));
  PN_TRY(bindings_.allocate(model.nodes().size() + 1));
  PN_TRY(output_buffers_.allocate(model.output_count()));
  PN_TRY(bound_outputs_.allocate(model.output_count()));
  for (int64_t i = 0; i < live_.size(); ++i) {
    const ModelTensor& t = model.tensor(i);
    if (t.storage != format::kStorageConst) continue;
    live_[i].desc = t.desc;
    live_[i].data = const_cast<uint8_t*>(model.weights()) + t.offset;  // constants are no views in a dynamic plan
  }
  return Status::kOk;
}

int64_t Flow::live_bytes() const {
  int64_t bytes = 0;
  for (int64_t i = 0; i < live_.size(); ++i) bytes += live_[i].own.capacity;
  return bytes;
}

int64_t Flow::overhead_bytes() const {
  int64_t bytes = static_cast<int64_t>(sizeof(Flow)) + live_.size() * static_cast<int64_t>(sizeof(Live));
  for (int64_t i = 0; i < bindings_.size(); ++i) {
    for (const Binding* b = bindings_[i]; b != nullptr; b = b->next) bytes += b->overhead_bytes();
  }
  return bytes;
}

void Flow::set_output(int32_t tensor, uint8_t* data, const TensorDesc& desc) {
  const int64_t o = model_->tensor(tensor).offset;
  output_buffers_[o] = data;
  bound_outputs_[o] = desc;
}

Status Flow::find(int32_t graph, int32_t begin, Binding** out) {
  Binding** head = &bindings_[begin];
  int count = 0;
  for (Binding** at = head; *at != nullptr; at = &(*at)->next, ++count) {
    Binding* b = *at;
    if (!b->matches(live_.data())) continue;
    *at = b->next;
    b->next = *head;
    *head = *out = b;
    return Status::kOk;
  }
  Binding* b = Binding::make();
  if (b == nullptr) return fail(Status::kOutOfMemory, "out of memory: a binding");
  const Status s = builder_.build_segment(graph, begin, live_.data(), b);
  if (s != Status::kOk) {
    Binding::destroy(b);
    return s;
  }
  if (count >= kMaxBindings) {
    Binding** last = head;
    while ((*last)->next != nullptr) last = &(*last)->next;
    Binding::destroy(*last);
    *last = nullptr;
  }
  b->next = *head;
  *head = *out = b;
  return Status::kOk;
}

Status Flow::run(StepTime* times) {
  times_ = times;
  timed_ns_ = 0;
  polled_ns_ = now_ns();
  return run_graph(0);
}

Status Flow::poll() {
  if (interrupt_ == nullptr) return Status::kOk;
  const uint64_t now = now_ns();
  if (now - polled_ns_ < kPollNs) return Status::kOk;
  polled_ns_ = now;
  if (interrupt_(interrupt_user_) == 0) return Status::kOk;
  return fail(Status::kInterrupted, "the run was interrupted");
}

Status Flow::run_graph(int32_t graph) {
  const ModelGraph& g = model_->graphs()[graph];
  for (int32_t at = g.begin; at < g.end; ++at) {
    Binding* b = nullptr;
    PN_TRY(find(graph, at, &b));
    PN_TRY(run_segment(b));
    at = b->end();
    if (at == g.end) break;
    const ModelNode& n = model_->nodes()[at];
    PN_TRY(poll());
    const Timer timer(times_, at, &timed_ns_);
    const Status s = n.control != Control::kNone ? run_control(n) : run_alone(graph, at);
    if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", n.name, n.op->name);
  }
  return Status::kOk;
}

// Memory for a value of y.desc: the caller's buffer for an output of the model, else our own.
Status Flow::place(int32_t tensor, Live& y) {
  y.known = false;
  const ModelTensor& t = model_->tensor(tensor);
  int64_t padded = 0;
  if (!checked_elements(y.desc.shape, 16 * static_cast<int64_t>(dtype_size(y.desc.dtype)), &padded)) {
    return fail(Status::kOutOfMemory, "'%s' does not fit in memory", t.name);
  }
  if (t.storage == format::kStorageOutput && output_buffers_[t.offset] != nullptr) {
    const TensorDesc& bound = bound_outputs_[t.offset];
    if (bound.shape != y.desc.shape) {
      char a[160], b[160];
      return fail(Status::kInvalidArgument, "output '%s' has shape %s, the buffer bound to it has shape %s", t.name,
                  format_shape(y.desc.shape, a, sizeof(a)), format_shape(bound.shape, b, sizeof(b)));
    }
    y.data = output_buffers_[t.offset];
    return Status::kOk;
  }
  PN_TRY(y.own.grow(y.desc.bytes(), t.name));
  y.data = y.own.data;
  return Status::kOk;
}

Status Flow::run_segment(Binding* b) {
  PN_TRY(memory_->reserve(b->arena_bytes(), b->thread_bytes(), pool_->size()));
  b->attach(*memory_, pool_);
  const Array<Binding::Slot>& slots = b->slots();
  const int32_t count = static_cast<int32_t>(slots.size()), in = b->slots_in();
  for (int32_t k = 0; k < count; ++k) {
    const Binding::Slot& slot = slots[k];
    Live& x = live_[slot.tensor];
    if (k >= in) {
      x.desc = slot.desc;
      if (slot.value != nullptr) {
        x.data = slot.value;
        x.known = slot.desc.bytes() <= kMaxKeptBytes;
        continue;
      }
      PN_TRY(place(slot.tensor, x));
    }
    b->set_buffer(k, x.data);
  }
  Array<Binding::Step>& steps = b->steps();
  const int64_t n = steps.size();
  for (int64_t i = 0; i < n; ++i) {
    Binding::Step& step = steps[i];
    const Timer timer(times_, step.node, &timed_ns_, &step.run);
    const Status s = step.call(step.state, step.run);
    if (__builtin_expect(s != Status::kOk, 0)) {
      const ModelNode& node = model_->nodes()[step.node];
      return fail_in(s, "node '%s' (%s)", node.name, node.op->name);
    }
  }
  return Status::kOk;
}

// A node whose outputs' shapes depend on data: everything it reads is there, so it is inferred with it.
Status Flow::run_alone(int32_t graph, int32_t node) {
  const ModelNode& n = model_->nodes()[node];
  for (int32_t k = 0; k < n.n_in; ++k) {
    operands_[k] = nullptr;
    w_.descs[k] = nullptr;
    w_.values[k] = nullptr;
    if (n.inputs[k] < 0) continue;
    const Live& x = live_[n.inputs[k]];
    tensors_[k] = Tensor{x.desc, x.data};
    operands_[k] = &tensors_[k];
    w_.descs[k] = &tensors_[k].desc;
    if (x.desc.layout == Layout::kPlain) w_.values[k] = x.data;
  }
  PN_TRY(infer_node(n, w_));
  for (int32_t o = 0; o < n.n_out; ++o) {
    const int32_t t = n.outputs[o], k = n.n_in + o;
    operands_[k] = nullptr;
    w_.descs[k] = nullptr;
    if (t < 0) continue;
    const ModelTensor& declared = model_->tensor(t);
    PN_TRY(check_declared(declared, w_.inferred[o], "output", o));
    Live& y = live_[t];
    y.desc = w_.inferred[o];
    y.desc.layout = declared.desc.layout;
    // A view's bytes are its input's, unless the graph hands them on.
    const bool plain = tensors_[0].desc.layout == Layout::kPlain && y.desc.layout == Layout::kPlain;
    const bool view = (n.op->flags & kOpView) && plain && n.n_out == 1 && model_->last_use(t) < model_->graphs()[graph].end;
    if (view) {
      y.data = static_cast<uint8_t*>(tensors_[0].data);
      y.known = false;
      return Status::kOk;
    }
    PN_TRY(place(t, y));
    tensors_[k] = Tensor{y.desc, y.data};
    operands_[k] = &tensors_[k];
    w_.descs[k] = &tensors_[k].desc;
  }
  NodeNeeds needs;
  const KernelDef* kernel = nullptr;
  PN_TRY(pick_kernel(*model_, n, w_, &kernel, &needs));
  PN_TRY(memory_->reserve(needs.scratch_bytes, round_up(needs.thread_scratch_bytes, 64), pool_->size()));
  RunContext run;
  set_operands(n, operands_.data(), &run);
  run.scratch = memory_->arena.data();
  run.thread_scratch = memory_->thread_scratch.data();
  run.thread_stride = memory_->thread_stride;
  run.pool = pool_;
  if (kernel == nullptr) return n.op->run(run);
  alignas(64) uint8_t state[kMaxKernelState];
  if (kernel->code->prepare != nullptr) PN_TRY(kernel->code->prepare(kernel_query(n, kernel, w_), state));
  return kernel->code->run(state, run);
}

}  // namespace pyneo
