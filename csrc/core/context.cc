// SPDX-License-Identifier: Apache-2.0
#include "core/context.h"

#include <new>

#include "core/abi.h"
#include "core/clock.h"

namespace pyneo {
namespace {

uint8_t g_nothing[64];  // stands for the buffer of a tensor without elements

}  // namespace

Status Context::create(Model* model, const Pool& pool, Context** out) {
  void* memory = calloc(1, sizeof(Context));
  if (memory == nullptr) return fail(Status::kOutOfMemory, "out of memory: a context object of %zu bytes", sizeof(Context));
  Context* c = new (memory) Context();
  const Status s = c->init(model, pool);
  if (s != Status::kOk) {
    c->destroy();
    return s;
  }
  *out = c;
  return Status::kOk;
}

Context::~Context() {
  for (int64_t i = 0; i < state_.size(); ++i) state_[i].release();
  Binding::destroy(plan_);
  if (flow_ != nullptr) {
    flow_->~Flow();
    free(flow_);
  }
}

void Context::destroy() {
  Model* model = model_;
  this->~Context();
  free(this);
  if (model != nullptr) model->release();
}

Status Context::init(Model* model, const Pool& pool) {
  model->retain();
  model_ = model;
  pool_ = pool;
  PN_TRY(buffers_.allocate(slots()));
  PN_TRY(buffer_bytes_.allocate(slots()));
  PN_TRY(input_shapes_.allocate(model->input_count()));
  PN_TRY(from_caller_.allocate(model->output_count()));
  PN_TRY(state_.allocate(2 * model->state_count()));
  PN_TRY(results_.allocate(model->state_count() > 0 ? model->output_count() : 0));
  for (int32_t i = 0; i < model->input_count(); ++i) input_shapes_[i] = slot_tensor(i).desc.shape;
  if (model->dynamic()) {
    void* memory = calloc(1, sizeof(Flow));
    if (memory == nullptr) return fail(Status::kOutOfMemory, "out of memory: a context of %zu bytes", sizeof(Flow));
    flow_ = new (memory) Flow();
    PN_TRY(flow_->init(*model, &pool_, &memory_));
    for (int32_t i = 0; i < model->input_count(); ++i) flow_->live(model->input(i)).desc = slot_tensor(i).desc;
    return Status::kOk;
  }
  plan_ = Binding::make();
  if (plan_ == nullptr) return fail(Status::kOutOfMemory, "out of memory: a binding");
  Builder builder;
  PN_TRY(builder.init(*model));
  PN_TRY(builder.build_static(plan_));
  PN_TRY(memory_.reserve(plan_->arena_bytes(), plan_->thread_bytes(), pool_.size()));
  plan_->attach(memory_, &pool_);
  bound_ = plan_;
  return model->state_count() > 0 ? begin_state() : Status::kOk;
}

const ModelTensor& Context::slot_tensor(int32_t slot) const {
  const int32_t inputs = model_->input_count();
  return model_->tensor(slot < inputs ? model_->input(slot) : model_->output(slot - inputs));
}

Status Context::bind_shapes() {
  if (bound_ != nullptr || segmented_) return Status::kOk;
  if (model_->state_count() > 0) PN_TRY(begin_state());
  for (int32_t i = 0; i < model_->input_count(); ++i) {
    if (buffers_[i] == nullptr) return fail(Status::kInvalidArgument, "input '%s' is not bound", slot_tensor(i).name);
  }
  Binding* b = nullptr;
  PN_TRY(flow_->find(0, 0, &b));
  checked_ = false;
  if (b->end() < model_->graphs()[0].end) {
    segmented_ = true;
    return Status::kOk;
  }
  PN_TRY(memory_.reserve(b->arena_bytes(), b->thread_bytes(), pool_.size()));
  b->attach(memory_, &pool_);
  for (int32_t s = 0; s < slots(); ++s) {
    if (buffers_[s] != nullptr) b->set_buffer(s, buffers_[s]);
  }
  bound_ = b;
  return Status::kOk;
}

namespace {

Status mismatch(const char* what, const ModelTensor& expected, const char* shape, const pn_tensor& t) {
  TensorDesc given;
  PN_TRY(to_desc(t, what, &given));
  char found[160];
  return fail(Status::kInvalidArgument, "%s '%s' expects %s %s, found %s %s", what, expected.name,
              dtype_name(expected.desc.dtype), shape, dtype_name(given.dtype), format_shape(given.shape, found, sizeof(found)));
}

Status check_buffer(const char* what, const ModelTensor& expected, int64_t bytes, const pn_tensor& t) {
  if (bytes > 0 && (t.data == nullptr || t.bytes < static_cast<uint64_t>(bytes))) {
    return fail(Status::kInvalidArgument, "%s '%s' needs a buffer of %lld bytes, found %llu", what, expected.name,
                static_cast<long long>(bytes), static_cast<unsigned long long>(t.data ? t.bytes : 0));
  }
  const size_t element = dtype_size(expected.desc.dtype);
  if (reinterpret_cast<uintptr_t>(t.data) % element != 0) {
    return fail(Status::kInvalidArgument, "%s '%s': the buffer is not aligned to its element size of %zu bytes", what,
                expected.name, element);
  }
  return Status::kOk;
}

bool same_shape(const pn_tensor& t, const TensorDesc& d, const Shape& shape) {
  bool same = t.dtype == static_cast<uint8_t>(d.dtype) && t.layout == 0 && t.rank == shape.rank;
  for (int k = 0; same && k < shape.rank; ++k) same = t.dims[k] == shape[k];
  return same;
}

}  // namespace

Status Context::bind_input(uint32_t i, const pn_tensor& t) {
  if (i >= static_cast<uint32_t>(model_->input_count() - model_->state_count())) {
    return fail(Status::kInvalidArgument, "input %u does not exist: the model has %d", i,
                model_->input_count() - model_->state_count());
  }
  const int32_t slot = static_cast<int32_t>(i);
  const ModelTensor& expected = slot_tensor(slot);
  Shape shape = input_shapes_[slot];
  if (!same_shape(t, expected.desc, shape)) {
    char text[160];
    if (flow_ == nullptr) return mismatch("input", expected, format_shape(shape, text, sizeof(text)), t);
    TensorDesc given;
    PN_TRY(to_desc(t, "input", &given));
    if (given.layout != Layout::kPlain || given.dtype != expected.desc.dtype || !model_->input_fits(slot, given.shape)) {
      return mismatch("input", expected, model_->format_input_shape(slot, text, sizeof(text)), t);
    }
    shape = given.shape;
  }
  int64_t elements = 0;
  if (!checked_elements(shape, static_cast<int64_t>(dtype_size(expected.desc.dtype)), &elements)) {
    return fail(Status::kInvalidArgument, "input '%s': its shape overflows", expected.name);
  }
  const int64_t bytes = elements * static_cast<int64_t>(dtype_size(expected.desc.dtype));
  PN_TRY(check_buffer("input", expected, bytes, t));
  if (shape != input_shapes_[slot]) {
    input_shapes_[slot] = shape;
    flow_->live(model_->input(slot)).desc.shape = shape;
    bound_ = nullptr;
    segmented_ = false;
  }
  uint8_t* data = t.data ? static_cast<uint8_t*>(t.data) : g_nothing;
  if (buffers_[slot] == data && buffer_bytes_[slot] == bytes) return Status::kOk;
  buffers_[slot] = data;
  buffer_bytes_[slot] = bytes;
  checked_ = false;
  if (flow_ != nullptr) flow_->live(model_->input(slot)).data = data;
  if (bound_ != nullptr) bound_->set_buffer(slot, data);
  return Status::kOk;
}

Status Context::bind_output(uint32_t i, const pn_tensor& t) {
  PN_TRY(check_output(i));
  PN_TRY(bind_shapes());
  const int32_t slot = model_->input_count() + static_cast<int32_t>(i);
  const ModelTensor& expected = slot_tensor(slot);
  TensorDesc d;
  if (segmented_) {  // its shape is known when it is there (Flow::place)
    PN_TRY(to_desc(t, "output", &d));
    char text[160];
    if (d.dtype != expected.desc.dtype || d.layout != Layout::kPlain || check_declared(expected, d, "output", slot) != Status::kOk) {
      return mismatch("output", expected, format_shape(expected.desc.shape, text, sizeof(text)), t);
    }
  } else {
    d = bound_->slots()[slot].desc;
    if (!same_shape(t, d, d.shape)) {
      char text[160];
      return mismatch("output", expected, format_shape(d.shape, text, sizeof(text)), t);
    }
  }
  PN_TRY(check_buffer("output", expected, d.bytes(), t));
  uint8_t* data = t.data ? static_cast<uint8_t*>(t.data) : g_nothing;
  from_caller_[static_cast<int32_t>(i)] = 1;
  if (flow_ != nullptr) flow_->set_output(model_->output(static_cast<int32_t>(i)), data, d);
  if (buffers_[slot] == data && buffer_bytes_[slot] == d.bytes()) return Status::kOk;
  buffers_[slot] = data;
  buffer_bytes_[slot] = d.bytes();
  checked_ = false;
  if (bound_ != nullptr) bound_->set_buffer(slot, data);
  return Status::kOk;
}

Status Context::check_output(uint32_t i) const {
  const int32_t count = model_->output_count() - model_->state_count();
  if (i < static_cast<uint32_t>(count)) return Status::kOk;
  return fail(Status::kInvalidArgument, "output %u does not exist: the model has %d", i, count);
}

Status Context::data_dependent(uint32_t o) const {
  return fail(Status::kNeedsValue,
              "the shape of output '%s' depends on data: run the model with the output unbound, then ask for the output",
              model_->tensor(model_->output(static_cast<int32_t>(o))).name);
}

Status Context::output_shape(uint32_t i, pn_tensor* out) {
  PN_TRY(check_output(i));
  PN_TRY(bind_shapes());
  if (segmented_) return data_dependent(i);
  const TensorDesc& d = bound_->slots()[model_->input_count() + static_cast<int32_t>(i)].desc;
  from_desc(d, out);
  out->data = nullptr;
  out->bytes = static_cast<uint64_t>(d.bytes());
  return Status::kOk;
}

Status Context::output(uint32_t i, pn_tensor* out) {
  PN_TRY(check_output(i));
  if (finished_ && results_.size() > 0) {
    const Tensor& y = results_[static_cast<int32_t>(i)];
    from_desc(y.desc, out);
    out->data = y.data;
    out->bytes = static_cast<uint64_t>(y.desc.bytes());
    return Status::kOk;
  }
  if (!segmented_) {
    PN_TRY(output_shape(i, out));
    out->data = buffers_[model_->input_count() + static_cast<int32_t>(i)];
    return Status::kOk;
  }
  if (!finished_) return data_dependent(i);
  const Live& y = output_live(static_cast<int32_t>(i));
  from_desc(y.desc, out);
  out->data = y.data;
  out->bytes = static_cast<uint64_t>(y.desc.bytes());
  return Status::kOk;
}

// A dynamic model's outputs that the caller has not bound, or bound for other shapes, get memory of the context.
Status Context::place_outputs() {
  const int32_t inputs = model_->input_count();
  for (int32_t o = 0; o < model_->output_count(); ++o) {
    const int32_t s = inputs + o;
    const int64_t bytes = bound_->slots()[s].desc.bytes();
    if (from_caller_[o] && buffer_bytes_[s] == bytes) continue;
    Live& y = output_live(o);
    PN_TRY(y.own.grow(bytes, slot_tensor(s).name));
    from_caller_[o] = 0;
    flow_->set_output(model_->output(o), nullptr, TensorDesc{});
    buffers_[s] = y.own.data;
    buffer_bytes_[s] = bytes;
    bound_->set_buffer(s, y.own.data);
  }
  return Status::kOk;
}

// Every slot has a buffer, and no output lies on top of an input or of another output: a kernel could read
// what it wrote.
Status Context::check_buffers() {
  const int32_t inputs = model_->input_count(), count = slots();
  if (flow_ != nullptr && bound_ != nullptr) PN_TRY(place_outputs());
  for (int32_t s = 0; s < count; ++s) {
    if (buffers_[s] == nullptr && (s < inputs || !segmented_)) {
      return fail(Status::kInvalidArgument, "%s '%s' is not bound", s < inputs ? "input" : "output", slot_tensor(s).name);
    }
  }
  for (int32_t o = inputs; o < count; ++o) {
    if (segmented_ && !from_caller_[o - inputs]) continue;
    for (int32_t s = 0; s < o; ++s) {
      if (segmented_ && s >= inputs && !from_caller_[s - inputs]) continue;
      const bool apart = buffers_[o] + buffer_bytes_[o] <= buffers_[s] || buffers_[s] + buffer_bytes_[s] <= buffers_[o];
      if (!apart) {
        return fail(Status::kInvalidArgument, "the buffer of output '%s' overlaps that of '%s': give each its own memory",
                    slot_tensor(o).name, slot_tensor(s).name);
      }
    }
  }
  checked_ = true;
  return Status::kOk;
}

Status Context::run_model(bool profiled) {
  const bool stateful = model_->state_count() > 0;
  finished_ = false;
  if (stateful) PN_TRY(begin_state());
  if (bound_ == nullptr) PN_TRY(bind_shapes());
  if (!checked_) PN_TRY(check_buffers());
  PN_TRY(bound_ != nullptr ? run_steps(profiled) : run_flow(profiled));
  finished_ = true;
  return stateful ? keep_state() : Status::kOk;
}

Status Context::run_flow(bool profiled) {
  const int64_t nodes = model_->nodes().size();
  if (profiled) PN_TRY(node_times_.allocate(nodes));
  PN_TRY(flow_->run(profiled ? node_times_.data() : nullptr));
  if (!profiled) return Status::kOk;
  int64_t count = 0;
  for (int64_t i = 0; i < nodes; ++i) count += node_times_[i].start_ns != 0;
  PN_TRY(times_.allocate(count));
  for (int64_t i = 0, at = 0; i < nodes; ++i) {
    if (node_times_[i].start_ns != 0) times_[at++] = node_times_[i];
  }
  qsort(times_.data(), static_cast<size_t>(count), sizeof(StepTime), [](const void* a, const void* b) {
    const uint64_t x = static_cast<const StepTime*>(a)->start_ns, y = static_cast<const StepTime*>(b)->start_ns;
    return x < y ? -1 : x > y ? 1 : 0;
  });
  return Status::kOk;
}

Status Context::run_steps(bool profiled) {
  Array<Binding::Step>& steps = bound_->steps();
  if (profiled && times_.size() != steps.size()) PN_TRY(times_.allocate(steps.size()));
  const int64_t n = steps.size();
  for (int64_t i = 0; i < n; ++i) {
    Binding::Step& step = steps[i];
    if (__builtin_expect(profiled, 0)) times_[i] = StepTime{step.node, now_ns(), 0, 0, 0, 0};
    const Status s = step.call(step.state, step.run);
    if (__builtin_expect(profiled, 0)) {
      times_[i].duration_ns = now_ns() - times_[i].start_ns;
      times_[i].add_work(step.run);
    }
    if (__builtin_expect(s != Status::kOk, 0)) {
      const ModelNode& node = model_->nodes()[step.node];
      return fail_in(s, "node '%s' (%s)", node.name, node.op->name);
    }
  }
  return Status::kOk;
}

pn_context_memory Context::memory() {
  pn_context_memory m{};
  m.struct_size = sizeof(m);
  m.arena_bytes = static_cast<uint64_t>(memory_.arena.bytes() + (flow_ != nullptr ? flow_->live_bytes() : 0));
  for (int32_t k = 0; k < model_->state_count(); ++k) {
    const int32_t in = model_->input_count() - model_->state_count() + k, out = model_->output_count() - model_->state_count() + k;
    const int64_t held = flow_ == nullptr ? state_[2 * k].capacity + state_[2 * k + 1].capacity
                                          : flow_->live(model_->input(in)).own.capacity + flow_->live(model_->output(out)).own.capacity;
    m.state_bytes += static_cast<uint64_t>(held);
  }
  if (flow_ != nullptr) m.arena_bytes -= m.state_bytes;
  m.scratch_bytes = static_cast<uint64_t>(memory_.thread_scratch.bytes());
  int64_t overhead = model_->overhead_bytes() + static_cast<int64_t>(sizeof(Context));
  overhead += plan_ != nullptr ? plan_->overhead_bytes() : flow_ != nullptr ? flow_->overhead_bytes() : 0;
  m.overhead_bytes = static_cast<uint64_t>(overhead);
  return m;
}

}  // namespace pyneo
