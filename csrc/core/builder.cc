// SPDX-License-Identifier: Apache-2.0
#include "core/builder.h"

#include <cstring>

#include "planner/planner.h"

namespace pyneo {
namespace {

Status call_reference(const void* op, RunContext& c) { return static_cast<const OpDef*>(op)->run(c); }

// Values at binding time are shapes and the arithmetic on them: small. Larger ones are left to the run.
constexpr int64_t kMaxKnownBytes = 64 << 10;

bool needs_shape_only(const OpDef& op) { return strcmp(op.name, "Shape") == 0 || strcmp(op.name, "Size") == 0; }

Status no_memory() { return fail(Status::kOutOfMemory, "out of memory: binding shapes"); }

}  // namespace

Status Builder::init(const Model& model) {
  model_ = &model;
  PN_TRY(w_.allocate(model));
  return local_of_.allocate(model.tensors().size());
}

void Builder::start(Binding* out, int32_t begin) {
  out_ = out;
  begin_ = begin;
  for (int64_t i = 0; i < locals_.size(); ++i) local_of_[locals_[i].id] = 0;
  locals_.clear();
  nodes_.clear();
  operands_.clear();
  slots_.clear();
}

Status Builder::add_slot(int32_t id, const TensorDesc& desc, uint8_t* value, int32_t* slot) {
  *slot = static_cast<int32_t>(slots_.size());
  return slots_.push(Binding::Slot{id, desc, value}) ? Status::kOk : no_memory();
}

// The local of a tensor that a node names, made where the plan says it is if it is new.
Status Builder::local(int32_t id, int32_t* out) {
  *out = local_of_[id] - 1;
  if (*out >= 0) return Status::kOk;
  *out = static_cast<int32_t>(locals_.size());
  const ModelTensor& t = model_->tensor(id);
  const ModelTensor& root = model_->tensor(t.root);
  const int64_t inside = t.root == id ? 0 : t.offset;
  Local made{};
  made.tensor.desc = t.desc;
  made.id = id;
  made.root = *out;
  switch (t.storage) {
    case format::kStorageInput:
      made.place = Place{Place::kSlot, static_cast<int32_t>(root.offset), inside};
      break;
    case format::kStorageOutput:
      made.place = Place{Place::kSlot, model_->input_count() + static_cast<int32_t>(root.offset), inside};
      break;
    case format::kStorageConst:
      // Kernels never write a constant: validation has checked that no node lists one as an output.
      made.place = Place{Place::kFixed, 0, 0};
      made.tensor.data = const_cast<uint8_t*>(model_->weights()) + root.offset + inside;
      break;
    default:
      made.place = Place{Place::kArena, 0, root.offset + inside};
  }
  if (!locals_.push(made)) return no_memory();
  local_of_[id] = *out + 1;
  return Status::kOk;
}

Status Builder::add_operands(const ModelNode& n) {
  const Bound b{n.kernel, 0, static_cast<int32_t>(operands_.size()), true};
  for (int32_t k = 0; k < n.n_in + n.n_out; ++k) {
    int32_t at = -1;
    const int32_t id = n.inputs[k];
    if (id >= 0) {
      const int64_t before = locals_.size();
      PN_TRY(local(id, &at));
      if (live_ != nullptr && locals_.size() > before) {
        locals_[at].written = k >= n.n_in;
        if (k < n.n_in) PN_TRY(read_live(id, at));
      }
    }
    if (!operands_.push(at)) return no_memory();
  }
  return nodes_.push(b) ? Status::kOk : no_memory();
}

// Takes back the last node, which ends the segment before it. What only it read stays as a slot: harmless.
void Builder::drop_node(const ModelNode& n) {
  for (int32_t o = 0; o < n.n_out; ++o) {
    const int32_t id = n.outputs[o];
    if (id < 0) continue;
    Local& y = locals_[local_of_[id] - 1];
    y.written = false;
    y.place = Place{Place::kFixed, 0, 0};  // the plan's place for a model's output is no slot of this segment
  }
  if (!operands_.resize(nodes_[nodes_.size() - 1].operands) || !nodes_.resize(nodes_.size() - 1)) return;  // only shrinks
}

// A tensor that is there before the segment: constant, known, or in a slot.
Status Builder::read_live(int32_t id, int32_t at) {
  Local& x = locals_[at];
  if (x.place.kind == Place::kFixed) return Status::kOk;
  const Live& live = live_[id];
  x.tensor.desc = live.desc;
  int32_t slot = 0;
  if (!live.known) {
    PN_TRY(add_slot(id, live.desc, nullptr, &slot));
    x.place = Place{Place::kSlot, slot, 0};
    return Status::kOk;
  }
  const int64_t bytes = live.desc.bytes();
  void* value = aligned_alloc(64, static_cast<size_t>(round_up(bytes + 1, 64)));
  if (value == nullptr || !out_->values_.push(value)) {
    free(value);
    return no_memory();
  }
  memcpy(value, live.data, static_cast<size_t>(bytes));
  x.tensor.data = value;
  x.place = Place{Place::kFixed, 0, 0};
  return add_slot(id, live.desc, static_cast<uint8_t*>(value), &slot);
}

Status Builder::build_static(Binding* out) {
  start(out, 0);
  live_ = nullptr;
  int32_t slot = 0;
  for (int32_t i = 0; i < model_->input_count(); ++i) {
    PN_TRY(add_slot(model_->input(i), model_->tensor(model_->input(i)).desc, nullptr, &slot));
  }
  for (int32_t i = 0; i < model_->output_count(); ++i) {
    PN_TRY(add_slot(model_->output(i), model_->tensor(model_->output(i)).desc, nullptr, &slot));
  }
  out->slots_in_ = model_->input_count();
  for (int32_t i = 0; i < model_->nodes().size(); ++i) {
    const ModelNode& n = model_->nodes()[i];
    PN_TRY(add_operands(n));
    nodes_[i].scratch = n.scratch < 0 ? -1 : model_->tensor(n.scratch).offset;
  }
  out->arena_bytes_ = model_->arena_bytes();
  return finish();
}

Status Builder::build_segment(int32_t graph, int32_t begin, const Live* live, Binding* out) {
  start(out, begin);
  live_ = live;
  const ModelGraph& g = model_->graphs()[graph];
  if (begin == g.begin) {  // the graph's inputs have the first slots, used or not
    for (int32_t k = 0; k < g.n_in; ++k) {
      int32_t at = 0;
      PN_TRY(local(g.inputs[k], &at));
      PN_TRY(read_live(g.inputs[k], at));
    }
  }
  int32_t i = begin;
  for (; i < g.end; ++i) {
    const ModelNode& n = model_->nodes()[i];
    if (n.control != Control::kNone) break;
    PN_TRY(add_operands(n));
    const Status s = bind_node(graph, n);
    if (s == Status::kNeedsValue) {
      drop_node(n);
      break;
    }
    if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", n.name, n.op->name);
  }
  out->end_ = i;
  out->slots_in_ = static_cast<int32_t>(slots_.size());
  PN_TRY(leave_behind(graph));
  PN_TRY(plan());
  return finish();
}

// Shapes, kernel and, where everything it reads is known, the value of the last node added.
Status Builder::bind_node(int32_t graph, const ModelNode& n) {
  Bound& b = nodes_[nodes_.size() - 1];
  const int32_t* operands = operands_.data() + b.operands;
  bool known = !(n.op->flags & kOpRandom);
  const bool shape_only = needs_shape_only(*n.op);
  for (int32_t k = 0; k < n.n_in; ++k) {
    const Local* x = operands[k] < 0 ? nullptr : &locals_[operands[k]];
    w_.descs[k] = x ? &x->tensor.desc : nullptr;
    w_.values[k] = x && x->tensor.desc.layout == Layout::kPlain && x->place.kind == Place::kFixed ? x->tensor.data : nullptr;
    known &= x == nullptr || w_.values[k] != nullptr || shape_only;
  }
  PN_TRY(infer_node(n, w_));
  int64_t produced = 0;
  bool free_to_know = true;  // outputs of a graph are computed where they are wanted
  for (int32_t o = 0; o < n.n_out; ++o) {
    Local* y = operands[n.n_in + o] < 0 ? nullptr : &locals_[operands[n.n_in + o]];
    w_.descs[n.n_in + o] = y ? &y->tensor.desc : nullptr;
    if (y == nullptr) continue;
    PN_TRY(check_declared(model_->tensor(y->id), w_.inferred[o], "output", o));
    TensorDesc& d = y->tensor.desc;
    d.dtype = w_.inferred[o].dtype;
    d.shape = w_.inferred[o].shape;
    int64_t padded = 0;
    if (!checked_elements(d.shape, 16 * static_cast<int64_t>(dtype_size(d.dtype)), &padded)) {
      return fail(Status::kInvalidModel, "output %d does not fit in memory", o);
    }
    produced += d.bytes();
    y->place = Place{Place::kArena, 0, 0};
    free_to_know &= model_->last_use(y->id) < model_->graphs()[graph].end;
  }
  b.step = produced > 0;
  if (!b.step) return Status::kOk;
  if (known && free_to_know && produced <= kMaxKnownBytes && n.kernel == nullptr) return evaluate(n, produced);

  // The bytes of a reshape's input are its output's.
  if ((n.op->flags & kOpView) && operands[0] >= 0 && operands[n.n_in] >= 0) {
    Local &x = locals_[operands[0]], &y = locals_[operands[n.n_in]];
    const bool plain = x.tensor.desc.layout == Layout::kPlain && y.tensor.desc.layout == Layout::kPlain;
    if (plain && x.place.kind != Place::kFixed) {
      y.place = x.place;
      y.root = x.root;
      b.step = false;
      return Status::kOk;
    }
  }
  NodeNeeds needs;
  PN_TRY(pick_kernel(*model_, n, w_, &b.kernel, &needs));
  b.scratch = needs.scratch_bytes;
  return Status::kOk;
}

// A node whose value follows from shapes and constants runs now, once.
Status Builder::evaluate(const ModelNode& n, int64_t bytes) {
  Bound& b = nodes_[nodes_.size() - 1];
  const int32_t* operands = operands_.data() + b.operands;
  Array<Tensor*> tensors;
  PN_TRY(tensors.allocate(n.n_in + n.n_out));
  for (int32_t k = 0; k < n.n_in + n.n_out; ++k) {
    if (operands[k] < 0) continue;
    Local& x = locals_[operands[k]];
    tensors[k] = &x.tensor;
    if (k < n.n_in) continue;
    void* value = aligned_alloc(64, static_cast<size_t>(round_up(x.tensor.desc.bytes() + 1, 64)));
    if (value == nullptr || !out_->values_.push(value)) {
      free(value);
      return fail(Status::kOutOfMemory, "out of memory: %lld bytes", static_cast<long long>(bytes));
    }
    x.tensor.data = value;
    x.place = Place{Place::kFixed, 0, 0};
  }
  NodeNeeds needs;
  Block scratch;
  PN_TRY(check_kernel(n, nullptr, w_, 0, &needs));
  PN_TRY(scratch.allocate(needs.scratch_bytes, "scratch"));
  Pool pool = Pool::serial();
  RunContext run;
  set_operands(n, tensors.data(), &run);
  run.scratch = scratch.data();
  run.pool = &pool;
  b.step = false;
  return n.op->run(run);
}

// Gives a slot to one tensor that outlives the segment.
Status Builder::leave(int32_t at) {
  Local& y = locals_[at];
  int32_t slot = 0;
  if (y.place.kind == Place::kFixed) {
    return add_slot(y.id, y.tensor.desc, static_cast<uint8_t*>(y.tensor.data), &slot);
  }
  PN_TRY(add_slot(y.id, y.tensor.desc, nullptr, &slot));
  const Place place{Place::kSlot, slot, 0};
  Local& root = locals_[y.root];
  if (root.place.kind == Place::kArena) {
    root.place = place;  // its whole family lives there: what made the root writes to the slot
    return Status::kOk;
  }
  if (y.root != at) {  // the memory it is a view of is another slot
    copy_view(at, place);
  } else {  // a view of it has taken it to that view's slot
    copy_view(local_of_[slots_[y.place.slot].tensor] - 1, y.place);
    y.place = place;
  }
  return Status::kOk;
}

// Gives a view memory of its own, to which its node copies.
void Builder::copy_view(int32_t at, const Place& place) {
  locals_[at].place = place;
  locals_[at].root = at;
  for (int64_t i = 0; i < nodes_.size(); ++i) {
    const ModelNode& n = model_->nodes()[begin_ + i];
    if (operands_[nodes_[i].operands + n.n_in] == at) {
      nodes_[i].step = true;
      nodes_[i].kernel = nullptr;
    }
  }
}

// The graph's outputs first, then what else is read behind the segment; roots before views of them.
Status Builder::leave_behind(int32_t graph) {
  const ModelGraph& g = model_->graphs()[graph];
  for (int32_t k = 0; k < g.n_out; ++k) {
    const int32_t at = local_of_[g.outputs[k]] - 1;
    if (at >= 0 && locals_[at].written) PN_TRY(leave(at));
  }
  const int64_t count = locals_.size();
  for (int pass = 0; pass < 2; ++pass) {
    for (int32_t i = 0; i < count; ++i) {
      const int32_t last = model_->last_use(locals_[i].id);
      const bool mine = (locals_[i].root == i) == (pass == 0);
      if (mine && locals_[i].written && last >= out_->end_ && last < g.end) PN_TRY(leave(i));
    }
  }
  for (int32_t i = 0; i < count; ++i) {
    if (locals_[i].root != i) locals_[i].place = locals_[locals_[i].root].place;
  }
  return Status::kOk;
}

// Memory for the shapes bound: the same planner that the compiler calls.
Status Builder::plan() {
  const int64_t count = locals_.size(), nodes = nodes_.size();
  Array<PlanBuffer> buffers;
  Array<PlanNode> steps;
  Array<int32_t> scratch_at;
  PN_TRY(buffers.allocate(count + nodes));
  PN_TRY(steps.allocate(nodes));
  PN_TRY(scratch_at.allocate(nodes));
  for (int32_t i = 0; i < count; ++i) {
    const Local& x = locals_[i];
    const bool unused = x.place.kind == Place::kArena && !x.written;  // of a node that was taken back
    const int64_t bytes = x.tensor.desc.layout == Layout::kPacked || unused ? 0 : x.tensor.desc.bytes();
    buffers[i] = PlanBuffer{bytes, x.root != i ? x.root : -1, x.place.kind != Place::kArena || bytes == 0, 0, -1};
  }
  int32_t used = 0, extra = static_cast<int32_t>(count);
  for (int64_t i = 0; i < nodes; ++i) {
    scratch_at[i] = -1;
    if (!nodes_[i].step) continue;
    if (nodes_[i].scratch > 0) {
      buffers[extra] = PlanBuffer{nodes_[i].scratch, -1, 0, 0, -1};
      scratch_at[i] = extra++;
    }
    const ModelNode& n = model_->nodes()[begin_ + i];
    const int32_t* operands = operands_.data() + nodes_[i].operands;
    steps[used++] = PlanNode{operands, operands + n.n_in, n.n_in, n.n_out, scratch_at[i], n.op->flags & (kOpInPlace0 | kOpInPlace1)};
  }
  int64_t bound = 0;
  PN_TRY(plan_memory(buffers.data(), extra, steps.data(), used, nullptr, 0, &out_->arena_bytes_, &bound));
  for (int64_t i = 0; i < count; ++i) {
    if (locals_[i].place.kind == Place::kArena) locals_[i].place.offset = buffers[i].offset < 0 ? 0 : buffers[i].offset;
  }
  for (int64_t i = 0; i < nodes; ++i) nodes_[i].scratch = scratch_at[i] < 0 ? -1 : buffers[scratch_at[i]].offset;
  return Status::kOk;
}

// The binding's own arrays, with every kernel prepared.
Status Builder::finish() {
  Binding& out = *out_;
  int64_t operand_count = 0, step_count = 0, state_bytes = 0;
  for (int64_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].step) continue;
    ++step_count;
    operand_count += model_->nodes()[begin_ + i].n_in + model_->nodes()[begin_ + i].n_out;
    if (nodes_[i].kernel != nullptr) state_bytes += round_up(nodes_[i].kernel->code->state_bytes, 16);
  }
  PN_TRY(out.tensors_.allocate(locals_.size()));
  PN_TRY(out.places_.allocate(locals_.size()));
  PN_TRY(out.steps_.allocate(step_count));
  PN_TRY(out.operands_.allocate(operand_count));
  PN_TRY(out.states_.allocate(state_bytes, "kernel states"));
  for (int64_t i = 0; i < locals_.size(); ++i) {
    out.tensors_[i] = locals_[i].tensor;
    out.places_[i] = locals_[i].place;
  }
  int64_t operand_at = 0, state_at = 0, step_at = 0;
  for (int32_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].step) continue;
    const ModelNode& n = model_->nodes()[begin_ + i];
    const KernelDef* kernel = nodes_[i].kernel;
    Binding::Step& step = out.steps_[step_at++];
    step.node = begin_ + i;
    step.scratch = nodes_[i].scratch;
    set_operands(n, out.operands_.data() + operand_at, &step.run);
    for (int32_t k = 0; k < n.n_in + n.n_out; ++k) {
      const int32_t t = operands_[nodes_[i].operands + k];
      out.operands_[operand_at++] = t < 0 ? nullptr : &out.tensors_[t];
      w_.descs[k] = t < 0 ? nullptr : &out.tensors_[t].desc;
      if (k < n.n_in) {
        const bool fixed = t >= 0 && out.places_[t].kind == Place::kFixed && out.tensors_[t].desc.layout == Layout::kPlain;
        w_.values[k] = fixed ? out.tensors_[t].data : nullptr;
      }
    }
    if (kernel == nullptr) {
      step.call = call_reference;
      step.state = n.op;
      continue;
    }
    const KernelQuery q = kernel_query(n, kernel, w_);
    step.call = kernel->code->run;
    step.state = out.states_.data() + state_at;
    if (kernel->code->prepare != nullptr) {
      const Status s = kernel->code->prepare(q, out.states_.data() + state_at);
      if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", n.name, n.op->name);
    }
    state_at += round_up(kernel->code->state_bytes, 16);
    if (kernel->code->thread_scratch_bytes != nullptr) {
      const int64_t want = round_up(kernel->code->thread_scratch_bytes(q), 64);
      out.thread_stride_ = want > out.thread_stride_ ? want : out.thread_stride_;
    }
  }
  return index_slots();
}

Status Builder::index_slots() {
  Binding& out = *out_;
  const int64_t slots = slots_.size();
  PN_TRY(out.slots_.allocate(slots));
  PN_TRY(out.buffers_.allocate(slots));
  PN_TRY(out.bound_begin_.allocate(slots + 1));
  for (int64_t s = 0; s < slots; ++s) out.slots_[s] = slots_[s];
  for (int64_t i = 0; i < out.places_.size(); ++i) {
    if (out.places_[i].kind == Place::kSlot) ++out.bound_begin_[out.places_[i].slot + 1];
  }
  for (int64_t s = 0; s < slots; ++s) out.bound_begin_[s + 1] += out.bound_begin_[s];
  PN_TRY(out.bound_.allocate(out.bound_begin_[slots]));
  Array<int32_t> filled;
  PN_TRY(filled.allocate(slots));
  for (int64_t i = 0; i < out.places_.size(); ++i) {
    if (out.places_[i].kind != Place::kSlot) continue;
    const int32_t s = out.places_[i].slot;
    out.bound_[out.bound_begin_[s] + filled[s]++] = Binding::Bound{static_cast<int32_t>(i), out.places_[i].offset};
  }
  return Status::kOk;
}

}  // namespace pyneo
