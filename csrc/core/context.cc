// SPDX-License-Identifier: Apache-2.0
#include "core/context.h"

#include <new>

#include "core/abi.h"
#include "core/clock.h"

namespace pyneo {
namespace {

uint8_t g_nothing[64];  // stands for the buffer of a tensor without elements

Binding* new_binding() {
  void* memory = calloc(1, sizeof(Binding));
  return memory ? new (memory) Binding() : nullptr;
}

void delete_binding(Binding* b) {
  if (b == nullptr) return;
  b->~Binding();
  free(b);
}

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
  for (Binding* b : bindings_) delete_binding(b);
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
  dynamic_ = model->dynamic();
  PN_TRY(buffers_.allocate(slots()));
  PN_TRY(buffer_bytes_.allocate(slots()));
  PN_TRY(input_shapes_.allocate(model->input_count()));
  PN_TRY(own_outputs_.allocate(model->output_count()));
  for (int32_t i = 0; i < model->input_count(); ++i) input_shapes_[i] = slot_tensor(i).desc.shape;
  if (dynamic_) return Status::kOk;
  bindings_[0] = new_binding();
  if (bindings_[0] == nullptr) return fail(Status::kOutOfMemory, "out of memory: a binding");
  PN_TRY(bindings_[0]->build_static(*model));
  PN_TRY(reserve(*bindings_[0]));
  bound_ = bindings_[0];
  bound_->attach(arena_.data(), thread_scratch_.data(), thread_stride_, &pool_);
  return Status::kOk;
}

const ModelTensor& Context::slot_tensor(int32_t slot) const {
  const int32_t inputs = model_->input_count();
  return model_->tensor(slot < inputs ? model_->input(slot) : model_->output(slot - inputs));
}

// Grows arena and per-thread scratch to what a binding needs. Other bindings are attached anew when used.
Status Context::reserve(const Binding& b) {
  if (arena_.data() == nullptr || b.arena_bytes() > arena_.bytes()) PN_TRY(arena_.allocate(b.arena_bytes(), "the arena"));
  if (b.thread_bytes() > thread_stride_) {
    // An odd number of cache lines apart, so that threads do not meet in the same sets.
    thread_stride_ = b.thread_bytes() + 64;
    PN_TRY(thread_scratch_.allocate(thread_stride_ * pool_.size(), "per-thread scratch"));
  }
  return Status::kOk;
}

Status Context::bind_shapes() {
  if (bound_ != nullptr) return Status::kOk;
  int found = 0;
  while (found < kMaxBindings && bindings_[found] != nullptr && !bindings_[found]->matches(input_shapes_.data())) ++found;
  Binding* b = found < kMaxBindings ? bindings_[found] : nullptr;
  if (b == nullptr) {
    b = new_binding();
    if (b == nullptr) return fail(Status::kOutOfMemory, "out of memory: a binding");
    const Status s = b->build_dynamic(*model_, input_shapes_.data());
    if (s != Status::kOk) {
      delete_binding(b);
      return s;
    }
    if (found == kMaxBindings) delete_binding(bindings_[--found]);
  }
  for (int k = found; k > 0; --k) bindings_[k] = bindings_[k - 1];
  bindings_[0] = b;
  PN_TRY(reserve(*b));
  b->attach(arena_.data(), thread_scratch_.data(), thread_stride_, &pool_);
  for (int32_t s = 0; s < slots(); ++s) {
    if (buffers_[s] != nullptr) b->set_buffer(s, buffers_[s]);
  }
  bound_ = b;
  checked_ = false;
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
  if (i >= static_cast<uint32_t>(model_->input_count())) {
    return fail(Status::kInvalidArgument, "input %u does not exist: the model has %d", i, model_->input_count());
  }
  const int32_t slot = static_cast<int32_t>(i);
  const ModelTensor& expected = slot_tensor(slot);
  Shape shape = input_shapes_[slot];
  if (!same_shape(t, expected.desc, shape)) {
    char text[160];
    if (!dynamic_) return mismatch("input", expected, format_shape(shape, text, sizeof(text)), t);
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
    bound_ = nullptr;
  }
  uint8_t* data = t.data ? static_cast<uint8_t*>(t.data) : g_nothing;
  if (buffers_[slot] == data && buffer_bytes_[slot] == bytes) return Status::kOk;
  buffers_[slot] = data;
  buffer_bytes_[slot] = bytes;
  checked_ = false;
  if (bound_ != nullptr) bound_->set_buffer(slot, data);
  return Status::kOk;
}

Status Context::bind_output(uint32_t i, const pn_tensor& t) {
  if (i >= static_cast<uint32_t>(model_->output_count())) {
    return fail(Status::kInvalidArgument, "output %u does not exist: the model has %d", i, model_->output_count());
  }
  PN_TRY(bind_shapes());
  const int32_t slot = model_->input_count() + static_cast<int32_t>(i);
  const ModelTensor& expected = slot_tensor(slot);
  const TensorDesc& d = bound_->desc(model_->output(static_cast<int32_t>(i)));
  if (!same_shape(t, d, d.shape)) {
    char text[160];
    return mismatch("output", expected, format_shape(d.shape, text, sizeof(text)), t);
  }
  PN_TRY(check_buffer("output", expected, d.bytes(), t));
  uint8_t* data = t.data ? static_cast<uint8_t*>(t.data) : g_nothing;
  if (buffers_[slot] == data && buffer_bytes_[slot] == d.bytes()) return Status::kOk;
  buffers_[slot] = data;
  buffer_bytes_[slot] = d.bytes();
  checked_ = false;
  bound_->set_buffer(slot, data);
  return Status::kOk;
}

Status Context::output_shape(uint32_t i, pn_tensor* out) {
  if (i >= static_cast<uint32_t>(model_->output_count())) {
    return fail(Status::kInvalidArgument, "output %u does not exist: the model has %d", i, model_->output_count());
  }
  PN_TRY(bind_shapes());
  const TensorDesc& d = bound_->desc(model_->output(static_cast<int32_t>(i)));
  from_desc(d, out);
  out->data = nullptr;
  out->bytes = static_cast<uint64_t>(d.bytes());
  return Status::kOk;
}

Status Context::output(uint32_t i, pn_tensor* out) {
  PN_TRY(output_shape(i, out));
  out->data = buffers_[model_->input_count() + static_cast<int32_t>(i)];
  return Status::kOk;
}

// Every slot has a buffer, and no output lies on top of an input or of another output: a kernel could read
// what it wrote. A dynamic model's unbound outputs get memory of the context.
Status Context::check_buffers() {
  const int32_t inputs = model_->input_count(), count = slots();
  for (int32_t s = 0; s < count; ++s) {
    const int64_t bytes = s < inputs ? buffer_bytes_[s] : bound_->desc(model_->output(s - inputs)).bytes();
    if (dynamic_ && s >= inputs) {
      Block& own = own_outputs_[s - inputs];
      if (buffers_[s] == nullptr || buffers_[s] == own.data() || buffer_bytes_[s] != bytes) {
        if (own.data() == nullptr || own.bytes() < bytes) PN_TRY(own.allocate(bytes > 0 ? bytes : 1, "an output"));
        buffers_[s] = own.data();
        buffer_bytes_[s] = bytes;
        bound_->set_buffer(s, own.data());
      }
    }
    if (buffers_[s] == nullptr) {
      return fail(Status::kInvalidArgument, "%s '%s' is not bound", s < inputs ? "input" : "output", slot_tensor(s).name);
    }
  }
  for (int32_t o = inputs; o < count; ++o) {
    for (int32_t s = 0; s < o; ++s) {
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

Status Context::run_steps(bool profiled) {
  if (bound_ == nullptr) PN_TRY(bind_shapes());
  if (!checked_) PN_TRY(check_buffers());
  Array<Binding::Step>& steps = bound_->steps();
  if (profiled && times_.size() != steps.size()) PN_TRY(times_.allocate(steps.size()));
  const int64_t n = steps.size();
  for (int64_t i = 0; i < n; ++i) {
    Binding::Step& step = steps[i];
    if (__builtin_expect(profiled, 0)) times_[i] = StepTime{step.node, now_ns(), 0};
    const Status s = step.call(step.state, step.run);
    if (__builtin_expect(profiled, 0)) times_[i].duration_ns = now_ns() - times_[i].start_ns;
    if (__builtin_expect(s != Status::kOk, 0)) {
      const ModelNode& node = model_->nodes()[step.node];
      return fail_in(s, "node '%s' (%s)", node.name, node.op->name);
    }
  }
  return Status::kOk;
}

pn_context_memory Context::memory() const {
  pn_context_memory m{};
  m.struct_size = sizeof(m);
  m.arena_bytes = static_cast<uint64_t>(arena_.bytes());
  m.scratch_bytes = static_cast<uint64_t>(thread_scratch_.bytes());
  int64_t overhead = model_->overhead_bytes() + static_cast<int64_t>(sizeof(Context));
  for (const Binding* b : bindings_) overhead += b != nullptr ? b->overhead_bytes() : 0;
  m.overhead_bytes = static_cast<uint64_t>(overhead);
  return m;
}

}  // namespace pyneo
