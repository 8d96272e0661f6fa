// SPDX-License-Identifier: Apache-2.0
#include "core/context.h"

#include <time.h>

#include <new>

#include "core/abi.h"

namespace pyneo {
namespace {

Status call_reference(const void* op, RunContext& c) { return static_cast<const OpDef*>(op)->run(c); }

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
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
  const Array<ModelTensor>& tensors = model->tensors();
  const Array<ModelNode>& nodes = model->nodes();

  // Memory: the arena, and the largest per-thread scratch of any kernel.
  int64_t operand_count = 0, state_bytes = 0, thread_stride = 0;
  Array<const TensorDesc*> descs;
  int64_t widest = 0;
  for (int64_t i = 0; i < nodes.size(); ++i) {
    const int64_t total = nodes[i].n_in + nodes[i].n_out;
    operand_count += total;
    widest = total > widest ? total : widest;
    if (nodes[i].kernel != nullptr) state_bytes += round_up(nodes[i].kernel->state_bytes, 16);
  }
  PN_TRY(descs.allocate(widest));
  PN_TRY(tensors_.allocate(tensors.size()));
  PN_TRY(operands_.allocate(operand_count));
  PN_TRY(steps_.allocate(nodes.size()));
  PN_TRY(states_.allocate(state_bytes, "kernel states"));
  PN_TRY(arena_.allocate(model->arena_bytes(), "the arena"));

  for (int64_t i = 0; i < tensors.size(); ++i) {
    const ModelTensor& t = tensors[i];
    tensors_[i].desc = t.desc;
    const int64_t at = t.root == i ? t.offset : tensors[t.root].offset + t.offset;
    if (t.storage == format::kStorageArena) tensors_[i].data = arena_.data() + at;
    // Kernels never write a constant: validate.cc has checked that no node lists one as an output.
    if (t.storage == format::kStorageConst) tensors_[i].data = const_cast<uint8_t*>(model->weights()) + at;
  }

  int64_t operand_at = 0, state_at = 0;
  for (int64_t i = 0; i < nodes.size(); ++i) {
    const ModelNode& n = nodes[i];
    Step& step = steps_[i];
    RunContext& run = step.run;
    run.op = n.op->name;
    run.attrs = n.attrs;
    run.n_in = n.n_in;
    run.n_out = n.n_out;
    run.pool = &pool_;
    run.in = const_cast<const Tensor* const*>(operands_.data() + operand_at);
    run.out = operands_.data() + operand_at + n.n_in;
    for (int32_t k = 0; k < n.n_in + n.n_out; ++k) {
      const int32_t t = n.inputs[k];
      operands_[operand_at++] = t < 0 ? nullptr : &tensors_[t];
      descs[k] = t < 0 ? nullptr : &tensors[t].desc;
    }
    if (n.scratch >= 0) run.scratch = tensors_[n.scratch].data;
    if (n.kernel == nullptr) {
      step.call = call_reference;
      step.state = n.op;
      continue;
    }
    KernelQuery q;
    q.attrs = n.attrs;
    q.n_in = n.n_in;
    q.n_out = n.n_out;
    q.in = descs.data();
    q.out = descs.data() + n.n_in;
    q.target = &host_target();
    step.call = n.kernel->run;
    step.state = states_.data() + state_at;
    if (n.kernel->prepare != nullptr) {
      const Status s = n.kernel->prepare(q, states_.data() + state_at);
      if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", n.name, n.op->name);
    }
    state_at += round_up(n.kernel->state_bytes, 16);
    if (n.kernel->thread_scratch_bytes != nullptr) {
      const int64_t want = round_up(n.kernel->thread_scratch_bytes(q), 64);
      thread_stride = want > thread_stride ? want : thread_stride;
    }
  }
  if (thread_stride > 0) {
    // An odd number of cache lines apart, so that threads do not meet in the same sets.
    thread_stride += 64;
    PN_TRY(thread_scratch_.allocate(thread_stride * pool_.size(), "per-thread scratch"));
    for (int64_t i = 0; i < steps_.size(); ++i) {
      steps_[i].run.thread_scratch = thread_scratch_.data();
      steps_[i].run.thread_stride = thread_stride;
    }
  }

  // Which tensors follow a caller's buffer.
  const int32_t slots = model->input_count() + model->output_count();
  PN_TRY(bound_begin_.allocate(slots + 1));
  PN_TRY(buffers_.allocate(slots));
  auto slot_of = [&](int64_t i) -> int32_t {
    const ModelTensor& t = tensors[i];
    const int32_t index = static_cast<int32_t>(tensors[t.root].offset);
    if (t.storage == format::kStorageInput) return index;
    if (t.storage == format::kStorageOutput) return model->input_count() + index;
    return -1;
  };
  for (int64_t i = 0; i < tensors.size(); ++i) {
    if (const int32_t s = slot_of(i); s >= 0) ++bound_begin_[s + 1];
  }
  for (int32_t s = 0; s < slots; ++s) bound_begin_[s + 1] += bound_begin_[s];
  PN_TRY(bound_.allocate(bound_begin_[slots]));
  Array<int32_t> filled;
  PN_TRY(filled.allocate(slots));
  for (int64_t i = 0; i < tensors.size(); ++i) {
    const int32_t s = slot_of(i);
    if (s < 0) continue;
    bound_[bound_begin_[s] + filled[s]++] = Bound{static_cast<int32_t>(i), tensors[i].root == i ? 0 : tensors[i].offset};
  }
  return Status::kOk;
}

Status Context::bind(bool input, uint32_t i, const pn_tensor& t) {
  const char* what = input ? "input" : "output";
  const uint32_t count = static_cast<uint32_t>(input ? model_->input_count() : model_->output_count());
  if (i >= count) return fail(Status::kInvalidArgument, "%s %u does not exist: the model has %u", what, i, count);
  const ModelTensor& expected = model_->tensor(input ? model_->input(static_cast<int32_t>(i)) : model_->output(static_cast<int32_t>(i)));
  const TensorDesc& d = expected.desc;
  bool same = t.dtype == static_cast<uint8_t>(d.dtype) && t.layout == 0 && t.rank == d.shape.rank;
  for (int k = 0; same && k < d.shape.rank; ++k) same = t.dims[k] == d.shape[k];
  if (!same) {
    TensorDesc given;
    PN_TRY(to_desc(t, what, &given));
    char a[160], b[160];
    return fail(Status::kInvalidArgument, "%s '%s' expects %s %s, found %s %s", what, expected.name, dtype_name(d.dtype),
                format_shape(d.shape, a, sizeof(a)), dtype_name(given.dtype), format_shape(given.shape, b, sizeof(b)));
  }
  if (expected.bytes > 0 && (t.data == nullptr || t.bytes < static_cast<uint64_t>(expected.bytes))) {
    return fail(Status::kInvalidArgument, "%s '%s' needs a buffer of %lld bytes, found %llu", what, expected.name,
                static_cast<long long>(expected.bytes), static_cast<unsigned long long>(t.data ? t.bytes : 0));
  }
  if (reinterpret_cast<uintptr_t>(t.data) % dtype_size(d.dtype) != 0) {
    return fail(Status::kInvalidArgument, "%s '%s': the buffer is not aligned to its element size of %zu bytes", what,
                expected.name, dtype_size(d.dtype));
  }
  const int32_t slot = static_cast<int32_t>(i) + (input ? 0 : model_->input_count());
  static uint8_t nothing[64];  // stands for the buffer of a tensor without elements
  uint8_t* data = t.data ? static_cast<uint8_t*>(t.data) : nothing;
  if (buffers_[slot] == data) return Status::kOk;
  buffers_[slot] = data;
  checked_ = false;
  for (int32_t k = bound_begin_[slot]; k < bound_begin_[slot + 1]; ++k) {
    tensors_[bound_[k].tensor].data = data + bound_[k].offset;
  }
  return Status::kOk;
}

// Every slot bound, and no output on top of an input or of another output: a kernel could read what it wrote.
Status Context::check_bound() {
  const int32_t inputs = model_->input_count(), slots = inputs + model_->output_count();
  auto tensor_of = [&](int32_t s) -> const ModelTensor& {
    return model_->tensor(s < inputs ? model_->input(s) : model_->output(s - inputs));
  };
  for (int32_t s = 0; s < slots; ++s) {
    if (buffers_[s] == nullptr) {
      return fail(Status::kInvalidArgument, "%s '%s' is not bound", s < inputs ? "input" : "output", tensor_of(s).name);
    }
  }
  for (int32_t o = inputs; o < slots; ++o) {
    for (int32_t s = 0; s < o; ++s) {
      const bool apart = buffers_[o] + tensor_of(o).bytes <= buffers_[s] || buffers_[s] + tensor_of(s).bytes <= buffers_[o];
      if (!apart) {
        return fail(Status::kInvalidArgument, "the buffer of output '%s' overlaps that of '%s': give each its own memory",
                    tensor_of(o).name, tensor_of(s).name);
      }
    }
  }
  checked_ = true;
  return Status::kOk;
}

Status Context::failed_step(int64_t i, Status s) const {
  const ModelNode& n = model_->nodes()[i];
  return fail_in(s, "node '%s' (%s)", n.name, n.op->name);
}

Status Context::run() {
  if (!checked_) PN_TRY(check_bound());
  const int64_t n = steps_.size();
  for (int64_t i = 0; i < n; ++i) {
    Step& step = steps_[i];
    const Status s = step.call(step.state, step.run);
    if (__builtin_expect(s != Status::kOk, 0)) return failed_step(i, s);
  }
  return Status::kOk;
}

Status Context::run_profiled() {
  if (!checked_) PN_TRY(check_bound());
  if (times_.size() != steps_.size()) PN_TRY(times_.allocate(steps_.size()));
  for (int64_t i = 0; i < steps_.size(); ++i) {
    Step& step = steps_[i];
    times_[i].start_ns = now_ns();
    const Status s = step.call(step.state, step.run);
    times_[i].duration_ns = now_ns() - times_[i].start_ns;
    if (s != Status::kOk) return failed_step(i, s);
  }
  return Status::kOk;
}

pn_context_memory Context::memory() const {
  pn_context_memory m{};
  m.struct_size = sizeof(m);
  m.arena_bytes = static_cast<uint64_t>(arena_.bytes());
  m.scratch_bytes = static_cast<uint64_t>(thread_scratch_.bytes());
  m.overhead_bytes = static_cast<uint64_t>(
      model_->overhead_bytes() + states_.bytes() + static_cast<int64_t>(sizeof(Context)) +
      tensors_.size() * static_cast<int64_t>(sizeof(Tensor)) + operands_.size() * static_cast<int64_t>(sizeof(Tensor*)) +
      steps_.size() * static_cast<int64_t>(sizeof(Step)) + bound_.size() * static_cast<int64_t>(sizeof(Bound)));
  return m;
}

}  // namespace pyneo
