// SPDX-License-Identifier: Apache-2.0
#include "core/binding.h"

#include <cstring>

#include "core/node.h"
#include "planner/planner.h"

namespace pyneo {
namespace {

Status call_reference(const void* op, RunContext& c) { return static_cast<const OpDef*>(op)->run(c); }

// Values at binding time are shapes and the arithmetic on them: small. Larger ones are left to the run.
constexpr int64_t kMaxKnownBytes = 64 << 10;

bool needs_shape_only(const OpDef& op) { return strcmp(op.name, "Shape") == 0 || strcmp(op.name, "Size") == 0; }

}  // namespace

Binding::~Binding() {
  for (int64_t i = 0; i < values_.size(); ++i) free(values_[i]);
}

bool Binding::matches(const Shape* input_shapes) const {
  for (int64_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i] != input_shapes[i]) return false;
  }
  return true;
}

int64_t Binding::overhead_bytes() const {
  return static_cast<int64_t>(sizeof(Binding)) + states_.bytes() +
         tensors_.size() * static_cast<int64_t>(sizeof(Tensor) + sizeof(Place)) +
         operands_.size() * static_cast<int64_t>(sizeof(Tensor*)) + steps_.size() * static_cast<int64_t>(sizeof(Step)) +
         bound_.size() * static_cast<int64_t>(sizeof(Bound));
}

Status Binding::allocate(const Model& model) {
  PN_TRY(tensors_.allocate(model.tensors().size()));
  PN_TRY(places_.allocate(model.tensors().size()));
  PN_TRY(kernels_.allocate(model.nodes().size()));
  PN_TRY(skip_.allocate(model.nodes().size()));
  PN_TRY(inputs_.allocate(model.input_count()));
  for (int64_t i = 0; i < model.nodes().size(); ++i) kernels_[i] = model.nodes()[i].kernel;
  for (int64_t i = 0; i < model.tensors().size(); ++i) {
    const ModelTensor& t = model.tensor(i);
    const ModelTensor& root = model.tensor(t.root);
    const int64_t inside = t.root == i ? 0 : t.offset;
    tensors_[i].desc = t.desc;
    switch (t.storage) {
      case format::kStorageInput:
        places_[i] = Place{Place::kSlot, static_cast<int32_t>(root.offset), inside};
        break;
      case format::kStorageOutput:
        places_[i] = Place{Place::kSlot, model.input_count() + static_cast<int32_t>(root.offset), inside};
        break;
      case format::kStorageConst:
        // Kernels never write a constant: validate.cc has checked that no node lists one as an output.
        places_[i] = Place{Place::kFixed, 0, 0};
        tensors_[i].data = const_cast<uint8_t*>(model.weights()) + root.offset + inside;
        break;
      default:
        places_[i] = Place{Place::kArena, 0, root.offset + inside};
    }
  }
  return Status::kOk;
}

Status Binding::build_static(const Model& model) {
  PN_TRY(allocate(model));
  NodeWorkspace w;
  PN_TRY(w.allocate(model));
  PN_TRY(scratch_.allocate(model.nodes().size()));
  for (int64_t i = 0; i < model.nodes().size(); ++i) {
    const ModelNode& n = model.nodes()[i];
    scratch_[i] = n.scratch < 0 ? -1 : model.tensor(n.scratch).offset;
  }
  arena_bytes_ = model.arena_bytes();
  for (int32_t i = 0; i < model.input_count(); ++i) inputs_[i] = model.tensor(model.input(i)).desc.shape;
  PN_TRY(prepare_steps(model, w));
  return index_slots(model);
}

Status Binding::build_dynamic(const Model& model, const Shape* input_shapes) {
  PN_TRY(allocate(model));
  PN_TRY(roots_.allocate(tensors_.size()));
  PN_TRY(values_.allocate(tensors_.size()));
  PN_TRY(scratch_.allocate(model.nodes().size()));
  NodeWorkspace w;
  PN_TRY(w.allocate(model));
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    roots_[i] = static_cast<int32_t>(i);
    // Until its node is bound, and for ever if there is none, a tensor is empty, whatever the plan declares.
    if (places_[i].kind == Place::kFixed) continue;
    for (int k = 0; k < tensors_[i].desc.shape.rank; ++k) tensors_[i].desc.shape[k] = 0;
  }
  for (int32_t i = 0; i < model.input_count(); ++i) {
    inputs_[i] = input_shapes[i];
    tensors_[model.input(i)].desc.shape = input_shapes[i];
  }
  for (int32_t i = 0; i < model.nodes().size(); ++i) {
    bool is_step = true;
    const Status s = bind_node(model, i, w, &is_step);
    if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", model.nodes()[i].name, model.nodes()[i].op->name);
    skip_[i] = !is_step;
  }
  PN_TRY(plan(model));
  PN_TRY(prepare_steps(model, w));
  return index_slots(model);
}

// Shapes, kernel and, where everything it reads is known, the value of one node.
Status Binding::bind_node(const Model& model, int32_t i, NodeWorkspace& w, bool* is_step) {
  const ModelNode& n = model.nodes()[i];
  if (n.subgraphs != 0) return fail(Status::kNeedsValue, "control flow is decided while the model runs");
  bool known = !(n.op->flags & kOpRandom);
  const bool shape_only = needs_shape_only(*n.op);
  for (int32_t k = 0; k < n.n_in; ++k) {
    const int32_t t = n.inputs[k];
    w.descs[k] = t < 0 ? nullptr : &tensors_[t].desc;
    w.values[k] = t >= 0 && tensors_[t].desc.layout == Layout::kPlain && places_[t].kind == Place::kFixed ? tensors_[t].data : nullptr;
    known &= t < 0 || w.values[k] != nullptr || shape_only;
  }
  PN_TRY(infer_node(n, w));
  int64_t produced = 0;
  for (int32_t o = 0; o < n.n_out; ++o) {
    const int32_t t = n.outputs[o];
    w.descs[n.n_in + o] = t < 0 ? nullptr : &tensors_[t].desc;
    if (t < 0) continue;
    const TensorDesc& declared = model.tensor(t).desc;
    TensorDesc& d = tensors_[t].desc;
    bool fits = declared.dtype == w.inferred[o].dtype && declared.shape.rank == w.inferred[o].shape.rank;
    for (int k = 0; fits && k < declared.shape.rank; ++k) {
      fits = declared.shape[k] < 0 || declared.shape[k] == w.inferred[o].shape[k];
    }
    if (!fits) {
      char a[160], b[160];
      return fail(Status::kInvalidModel, "output %d is %s %s for these inputs, the plan was made for %s %s", o,
                  dtype_name(w.inferred[o].dtype), format_shape(w.inferred[o].shape, a, sizeof(a)),
                  dtype_name(declared.dtype), format_shape(declared.shape, b, sizeof(b)));
    }
    d.shape = w.inferred[o].shape;
    int64_t padded = 0;
    if (!checked_elements(d.shape, 16 * static_cast<int64_t>(dtype_size(d.dtype)), &padded)) {
      return fail(Status::kInvalidModel, "output %d does not fit in memory", o);
    }
    produced += d.bytes();
  }

  if (produced == 0) {  // nothing to compute
    *is_step = false;
    return Status::kOk;
  }

  // A node whose value follows from shapes and constants runs now, once.
  bool outputs_free = true;
  for (int32_t o = 0; o < n.n_out; ++o) outputs_free &= n.outputs[o] < 0 || places_[n.outputs[o]].kind == Place::kArena;
  if (known && outputs_free && produced <= kMaxKnownBytes && n.kernel == nullptr) {
    Array<const Tensor*> in;
    Array<Tensor*> out;
    PN_TRY(in.allocate(n.n_in));
    PN_TRY(out.allocate(n.n_out));
    for (int32_t k = 0; k < n.n_in; ++k) in[k] = n.inputs[k] < 0 ? nullptr : &tensors_[n.inputs[k]];
    for (int32_t o = 0; o < n.n_out; ++o) {
      const int32_t t = n.outputs[o];
      if (t < 0) continue;
      values_[t] = aligned_alloc(64, static_cast<size_t>(round_up(tensors_[t].desc.bytes() + 1, 64)));
      if (values_[t] == nullptr) return fail(Status::kOutOfMemory, "out of memory: %lld bytes", static_cast<long long>(produced));
      tensors_[t].data = values_[t];
      places_[t] = Place{Place::kFixed, 0, 0};
      out[o] = &tensors_[t];
    }
    NodeNeeds needs;
    Block scratch;
    PN_TRY(check_kernel(n, nullptr, w, 0, &needs));
    PN_TRY(scratch.allocate(needs.scratch_bytes, "scratch"));
    Pool pool = Pool::serial();
    RunContext run;
    run.op = n.op->name;
    run.attrs = n.attrs;
    run.n_in = n.n_in;
    run.n_out = n.n_out;
    run.in = in.data();
    run.out = out.data();
    run.scratch = scratch.data();
    run.pool = &pool;
    PN_TRY(n.op->run(run));
    *is_step = false;
    return Status::kOk;
  }

  // The bytes of a reshape's input are its output's.
  if ((n.op->flags & kOpView) && n.inputs[0] >= 0 && n.outputs[0] >= 0) {
    const int32_t x = n.inputs[0], y = n.outputs[0];
    const bool plain = tensors_[x].desc.layout == Layout::kPlain && tensors_[y].desc.layout == Layout::kPlain;
    if (plain && places_[y].kind == Place::kArena && places_[x].kind != Place::kFixed) {
      places_[y] = places_[x];
      roots_[y] = roots_[x];
      *is_step = false;
      return Status::kOk;
    }
  }

  // The plan's kernel where it takes these shapes; else, unless it alone can read its packed weights, the
  // cheapest that does, at last the reference.
  NodeNeeds needs;
  const int p = n.kernel ? n.kernel->packed_input : -1;
  if (n.kernel == nullptr || !n.kernel->accepts(kernel_query(n, w))) {
    kernels_[i] = nullptr;
    if (p < 0) {
      const KernelDef* found[8];
      const int count = list_kernels(n.op->name, kernel_query(n, w), found, 8);
      for (int k = 0; k < count && kernels_[i] == nullptr; ++k) {
        if (found[k]->packed_input < 0) kernels_[i] = found[k];
      }
    } else {
      return fail(Status::kUnsupported, "kernel '%s' does not take these shapes: compile the model with bounds that cover them", n.kernel->name);
    }
  }
  PN_TRY(check_kernel(n, kernels_[i], w, p >= 0 && p < n.n_in && n.inputs[p] >= 0 ? model.tensor(n.inputs[p]).bytes : 0, &needs));
  scratch_[i] = needs.scratch_bytes;
  return Status::kOk;
}

// Memory for the shapes bound: the same planner that the compiler calls.
Status Binding::plan(const Model& model) {
  const int64_t count = tensors_.size(), nodes = model.nodes().size();
  Array<PlanBuffer> buffers;
  Array<PlanNode> steps;
  PN_TRY(buffers.allocate(count + nodes));
  PN_TRY(steps.allocate(nodes));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bytes = tensors_[i].desc.layout == Layout::kPacked ? 0 : tensors_[i].desc.bytes();
    const bool alias = roots_[i] != i;
    buffers[i] = PlanBuffer{bytes, alias ? roots_[i] : -1, places_[i].kind != Place::kArena || bytes == 0, 0, -1};
  }
  int32_t used = 0, extra = static_cast<int32_t>(count);
  Array<int32_t> scratch_at;
  PN_TRY(scratch_at.allocate(nodes));
  for (int64_t i = 0; i < nodes; ++i) {
    scratch_at[i] = -1;
    if (skip_[i]) continue;
    const ModelNode& n = model.nodes()[i];
    if (scratch_[i] > 0) {
      buffers[extra] = PlanBuffer{scratch_[i], -1, 0, 0, -1};
      scratch_at[i] = extra++;
    }
    steps[used++] = PlanNode{n.inputs, n.outputs, n.n_in, n.n_out, scratch_at[i], n.op->flags & (kOpInPlace0 | kOpInPlace1)};
  }
  int64_t bound = 0;
  PN_TRY(plan_memory(buffers.data(), extra, steps.data(), used, nullptr, 0, &arena_bytes_, &bound));
  for (int64_t i = 0; i < count; ++i) {
    if (places_[i].kind == Place::kArena) places_[i].offset = buffers[i].offset < 0 ? 0 : buffers[i].offset;
  }
  for (int64_t i = 0; i < nodes; ++i) scratch_[i] = scratch_at[i] < 0 ? -1 : buffers[scratch_at[i]].offset;
  return Status::kOk;
}

Status Binding::prepare_steps(const Model& model, NodeWorkspace& w) {
  int64_t operand_count = 0, step_count = 0, state_bytes = 0;
  for (int64_t i = 0; i < model.nodes().size(); ++i) {
    if (skip_[i]) continue;
    ++step_count;
    operand_count += model.nodes()[i].n_in + model.nodes()[i].n_out;
    if (kernels_[i] != nullptr) state_bytes += round_up(kernels_[i]->state_bytes, 16);
  }
  PN_TRY(steps_.allocate(step_count));
  PN_TRY(operands_.allocate(operand_count));
  PN_TRY(states_.allocate(state_bytes, "kernel states"));
  int64_t operand_at = 0, state_at = 0, step_at = 0;
  for (int32_t i = 0; i < model.nodes().size(); ++i) {
    if (skip_[i]) continue;
    const ModelNode& n = model.nodes()[i];
    const KernelDef* kernel = kernels_[i];
    Step& step = steps_[step_at++];
    step.node = i;
    RunContext& run = step.run;
    run.op = n.op->name;
    run.attrs = n.attrs;
    run.n_in = n.n_in;
    run.n_out = n.n_out;
    run.in = const_cast<const Tensor* const*>(operands_.data() + operand_at);
    run.out = operands_.data() + operand_at + n.n_in;
    for (int32_t k = 0; k < n.n_in + n.n_out; ++k) {
      const int32_t t = n.inputs[k];
      operands_[operand_at++] = t < 0 ? nullptr : &tensors_[t];
      w.descs[k] = t < 0 ? nullptr : &tensors_[t].desc;
      if (k < n.n_in) {
        const bool fixed = t >= 0 && places_[t].kind == Place::kFixed && tensors_[t].desc.layout == Layout::kPlain;
        w.values[k] = fixed ? tensors_[t].data : nullptr;
      }
    }
    if (kernel == nullptr) {
      step.call = call_reference;
      step.state = n.op;
      continue;
    }
    const KernelQuery q = kernel_query(n, w);
    step.call = kernel->run;
    step.state = states_.data() + state_at;
    if (kernel->prepare != nullptr) {
      const Status s = kernel->prepare(q, states_.data() + state_at);
      if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", n.name, n.op->name);
    }
    state_at += round_up(kernel->state_bytes, 16);
    if (kernel->thread_scratch_bytes != nullptr) {
      const int64_t want = round_up(kernel->thread_scratch_bytes(q), 64);
      thread_stride_ = want > thread_stride_ ? want : thread_stride_;
    }
  }
  return Status::kOk;
}

Status Binding::index_slots(const Model& model) {
  const int32_t slots = model.input_count() + model.output_count();
  PN_TRY(bound_begin_.allocate(slots + 1));
  for (int64_t i = 0; i < places_.size(); ++i) {
    if (places_[i].kind == Place::kSlot) ++bound_begin_[places_[i].slot + 1];
  }
  for (int32_t s = 0; s < slots; ++s) bound_begin_[s + 1] += bound_begin_[s];
  PN_TRY(bound_.allocate(bound_begin_[slots]));
  Array<int32_t> filled;
  PN_TRY(filled.allocate(slots));
  for (int64_t i = 0; i < places_.size(); ++i) {
    if (places_[i].kind != Place::kSlot) continue;
    const int32_t s = places_[i].slot;
    bound_[bound_begin_[s] + filled[s]++] = Bound{static_cast<int32_t>(i), places_[i].offset};
  }
  return Status::kOk;
}

void Binding::attach(uint8_t* arena, uint8_t* thread_scratch, int64_t thread_stride, Pool* pool) {
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    if (places_[i].kind == Place::kArena) tensors_[i].data = arena + places_[i].offset;
  }
  for (int64_t i = 0; i < steps_.size(); ++i) {
    RunContext& run = steps_[i].run;
    const int64_t at = scratch_[steps_[i].node];
    run.scratch = at < 0 ? nullptr : arena + at;
    run.thread_scratch = thread_scratch;
    run.thread_stride = thread_stride;
    run.pool = pool;
  }
}

void Binding::set_buffer(int32_t slot, uint8_t* buffer) {
  for (int32_t k = bound_begin_[slot]; k < bound_begin_[slot + 1]; ++k) {
    tensors_[bound_[k].tensor].data = buffer + bound_[k].offset;
  }
}

}  // namespace pyneo
