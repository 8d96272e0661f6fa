// SPDX-License-Identifier: Apache-2.0
//
// What makes a plan safe to run, checked before anything of it runs: every tensor inside its memory, every
// node's shapes as the operator infers them, every kernel accepting its operands, every read preceded
// by the write it expects. A valid signature does not replace this: trusted publishers ship broken files too.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/model.h"
#include "core/node.h"
#include "planner/planner.h"

namespace pyneo {
namespace {

using format::kStorageAlias;
using format::kStorageArena;
using format::kStorageConst;
using format::kStorageInput;
using format::kStorageOutput;

__attribute__((format(printf, 2, 3))) Status bad(const char* name, const char* format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  return fail(Status::kInvalidPackage, "plan: tensor '%s': %s", name, text);
}

bool is_layout(Layout l) {
  return l == Layout::kPlain || l == Layout::kC8 || l == Layout::kC16 || l == Layout::kPacked;
}

struct Range {
  int64_t begin, end;
};

// Optional outputs may be absent; an operator writes its others without asking.
Status check_outputs(const ModelNode& n) {
  for (int32_t o = 0; o < n.n_out && o < n.op->min_out; ++o) {
    if (n.outputs[o] < 0) return fail(Status::kInvalidPackage, "its required output %d is missing", o);
  }
  return Status::kOk;
}

int compare_ranges(const void* a, const void* b) {
  const Range *x = static_cast<const Range*>(a), *y = static_cast<const Range*>(b);
  return x->begin < y->begin ? -1 : x->begin > y->begin;
}

}  // namespace

// What can be said of a dynamic plan's tensor before its shape is known.
Status Model::check_open_tensor(int64_t i) const {
  const ModelTensor& t = tensors_[i];
  if (t.storage != kStorageArena && t.storage != kStorageInput && t.storage != kStorageOutput) {
    return bad(t.name, "only inputs, outputs and intermediate results may have open dims");
  }
  if (t.offset < 0) return bad(t.name, "impossible offset");
  if (t.open_rank && t.storage == kStorageInput) return bad(t.name, "an input's rank may not be open");
  Shape known = t.desc.shape;
  for (int k = 0; k < t.desc.shape.rank; ++k) {
    const int64_t d = t.desc.shape[k];
    if (d < 0) known[k] = 1;
    if (d < 0 && d != INT64_MIN && -1 - d >= plan_.symbol_count()) return bad(t.name, "it names a symbol that is not there");
  }
  int64_t elements = 0;
  if (!checked_elements(known, 8 * 16, &elements)) return bad(t.name, "its shape overflows");
  if (t.storage == kStorageInput ? t.offset >= input_count() || input(static_cast<int32_t>(t.offset)) != i
                                 : t.storage == kStorageOutput && (t.offset >= output_count() || output(static_cast<int32_t>(t.offset)) != i)) {
    return bad(t.name, "the graph's list of inputs and outputs names another tensor");
  }
  if (t.storage != kStorageArena && t.desc.layout != Layout::kPlain) return bad(t.name, "inputs and outputs are row-major");
  const bool blocked = t.desc.layout != Layout::kPlain;
  if (blocked && (t.desc.shape.rank < 2 || t.desc.dtype != DType::kF32)) return bad(t.name, "a blocked layout needs float32 and rank >= 2");
  return Status::kOk;
}

Status Model::check_open_node(const ModelNode& n) const {
  if (n.n_in < n.op->min_in || (n.op->max_in >= 0 && n.n_in > n.op->max_in) || n.n_out < n.op->min_out ||
      (n.op->max_out >= 0 && n.n_out > n.op->max_out)) {
    return fail(Status::kInvalidPackage, "%d inputs and %d outputs do not fit the operator", n.n_in, n.n_out);
  }
  PN_TRY(check_outputs(n));
  for (int32_t k = 0; k < n.n_in; ++k) {
    const bool packed = n.inputs[k] >= 0 && tensors_[n.inputs[k]].desc.layout == Layout::kPacked;
    if (packed && (n.kernel == nullptr || !n.kernel->takes_packed(k))) return fail(Status::kInvalidPackage, "operand %d is packed for another kernel", k);
  }
  return Status::kOk;
}

// A tensor of known shape: its size, and that it lies where its storage says.
Status Model::check_tensor(int64_t i) const {
  const ModelTensor& t = tensors_[i];
  int64_t elements = 0;
  const int64_t size = static_cast<int64_t>(dtype_size(t.desc.dtype));
  // Blocked layouts pad the channels to at most 16 times as many.
  if (!checked_elements(t.desc.shape, size * 16, &elements)) return bad(t.name, "its shape is negative somewhere or overflows");
  const bool blocked = t.desc.layout == Layout::kC8 || t.desc.layout == Layout::kC16;
  if (blocked && (t.desc.shape.rank < 2 || t.desc.dtype != DType::kF32)) return bad(t.name, "a blocked layout needs float32 and rank >= 2");
  if (t.desc.layout == Layout::kPacked ? t.storage != kStorageConst : t.bytes != t.desc.bytes()) {
    return bad(t.name, "its size does not follow from its shape");
  }
  if (t.bytes < 0 || t.bytes > int64_t{1} << 46 || t.offset < 0 || t.offset > int64_t{1} << 46) return bad(t.name, "impossible size or offset");
  switch (t.storage) {
    case kStorageArena:
      if (t.offset % kArenaAlignment != 0) return bad(t.name, "its offset is not 64-byte aligned");
      if (t.offset + t.bytes > arena_bytes()) return bad(t.name, "it reaches past the end of the arena");
      break;
    case kStorageConst:
      if (t.offset % 64 != 0) return bad(t.name, "its offset is not 64-byte aligned");
      if (t.offset + t.bytes > weights_bytes()) return bad(t.name, "it reaches past the end of the weights");
      break;
    case kStorageInput:
    case kStorageOutput: {
      const bool input = t.storage == kStorageInput;
      if (t.offset >= (input ? input_count() : output_count())) return bad(t.name, "no such input or output");
      if ((input ? this->input(static_cast<int32_t>(t.offset)) : output(static_cast<int32_t>(t.offset))) != i) {
        return bad(t.name, "the graph's list of inputs and outputs names another tensor");
      }
      if (t.desc.layout != Layout::kPlain) return bad(t.name, "inputs and outputs are row-major");
      break;
    }
    case kStorageAlias:
      break;
    case format::kStorageState:
      return bad(t.name, "state tensors need a newer pyneo");
  }
  return Status::kOk;
}

// No byte of the weights belongs to two constants.
Status Model::check_constants() const {
  Array<Range> constants;
  PN_TRY(constants.allocate(tensors_.size()));
  int64_t count = 0;
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    const ModelTensor& t = tensors_[i];
    if (t.storage == kStorageConst && t.bytes > 0) constants[count++] = Range{t.offset, t.offset + t.bytes};
  }
  qsort(constants.data(), static_cast<size_t>(count), sizeof(Range), compare_ranges);
  for (int64_t i = 1; i < count; ++i) {
    if (constants[i].begin < constants[i - 1].end) return fail(Status::kInvalidPackage, "plan: two constants share bytes of the weights");
  }
  return Status::kOk;
}

// Follows each chain of views to its root.
Status Model::resolve_views() {
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    ModelTensor& t = tensors_[i];
    if (t.storage != kStorageAlias) continue;
    int64_t offset = t.offset, at = plan_.tensor(i).alias_of, steps = 0;
    while (plan_.tensor(at).storage == kStorageAlias) {
      if (++steps > 64) return bad(t.name, "its chain of views is longer than 64 or circular");
      offset += static_cast<int64_t>(plan_.tensor(at).offset);
      if (offset > int64_t{1} << 46) return bad(t.name, "impossible offset");
      at = plan_.tensor(at).alias_of;
    }
    const ModelTensor& root = tensors_[at];
    if (offset + t.bytes > root.bytes) return bad(t.name, "the view reaches past the end of '%s'", root.name);
    if (offset % static_cast<int64_t>(dtype_size(t.desc.dtype)) != 0) return bad(t.name, "the view is misaligned");
    if (t.desc.layout != Layout::kPlain && (offset % (4 * static_cast<int64_t>(t.desc.layout)) != 0 || root.storage != kStorageArena)) {
      return bad(t.name, "a blocked view must start at a whole block");
    }
    t.root = static_cast<int32_t>(at);
    t.offset = offset;
  }
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].storage == kStorageAlias) tensors_[i].storage = tensors_[tensors_[i].root].storage;
  }
  return Status::kOk;
}

// The graph's lists of inputs and outputs name tensors that are such.
Status Model::check_ends() const {
  for (int32_t i = 0; i < input_count(); ++i) {
    const int32_t t = input(i);
    if (t < 0 || plan_.tensor(t).storage != kStorageInput || tensors_[t].offset != i) {
      return fail(Status::kInvalidPackage, "plan: input %d is not an input tensor", i);
    }
  }
  for (int32_t i = 0; i < output_count(); ++i) {
    const int32_t t = output(i);
    if (t < 0 || plan_.tensor(t).storage != kStorageOutput || tensors_[t].offset != i) {
      return fail(Status::kInvalidPackage, "plan: output %d is not an output tensor", i);
    }
  }
  return Status::kOk;
}

Status Model::check_tensors() {
  const format::PlanHeader& h = plan_.header();
  if (h.weights_bytes != package_.weights.bytes) {
    return fail(Status::kInvalidPackage, "plan: it was made for %llu bytes of weights, the package has %llu",
                static_cast<unsigned long long>(h.weights_bytes), static_cast<unsigned long long>(package_.weights.bytes));
  }
  if (h.arena_bytes > uint64_t{1} << 46) return fail(Status::kInvalidPackage, "plan: the arena is impossibly large");
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    const ModelTensor& t = tensors_[i];
    const bool open_dtype = dynamic() && t.desc.dtype == DType::kNone && t.storage == kStorageArena;
    if (dtype_size(t.desc.dtype) == 0 && !open_dtype) return bad(t.name, "unknown dtype %d", static_cast<int>(t.desc.dtype));
    if (!is_layout(t.desc.layout)) return bad(t.name, "unknown layout %d", static_cast<int>(t.desc.layout));
    if (t.open_rank && t.storage == kStorageConst) return bad(t.name, "a constant's rank may not be open");
    PN_TRY(dynamic() && t.storage != kStorageConst ? check_open_tensor(i) : check_tensor(i));
  }
  PN_TRY(check_constants());
  PN_TRY(resolve_views());
  PN_TRY(check_ends());
  return check_states();
}

// State: the last inputs say which output each follows, and those are the last outputs in the same order.
Status Model::check_states() {
  const int32_t in = input_count(), out = output_count();
  while (states_ < in && states_ < out && plan_.tensor(input(in - 1 - states_)).flags != 0) ++states_;
  for (int32_t i = 0; i < in; ++i) {
    const uint32_t flags = plan_.tensor(input(i)).flags;
    const int32_t tied = i - (in - states_);  // negative: no state
    if (flags != (tied < 0 ? 0 : static_cast<uint32_t>(1 + out - states_ + tied))) {
      return fail(Status::kInvalidPackage, "plan: input '%s' is tied to another output than its place says", tensors_[input(i)].name);
    }
    if (tied < 0) continue;
    const ModelTensor &x = tensors_[input(i)], &y = tensors_[output(out - states_ + tied)];
    const bool same = x.desc.dtype == y.desc.dtype && (x.desc.shape.rank == y.desc.shape.rank || y.open_rank);
    if (!same || (!dynamic() && x.desc.shape != y.desc.shape)) {
      return fail(Status::kInvalidPackage, "plan: state '%s' and output '%s' differ in dtype or shape", x.name, y.name);
    }
  }
  return Status::kOk;
}

// Packed data that addresses memory, as its kernel wants it.
Status Model::check_packed(const ModelNode& n) const {
  if (n.kernel == nullptr || n.kernel->code->check == nullptr) return Status::kOk;
  const int p = n.kernel->packed_input;
  const ModelTensor* t = p < n.n_in && n.inputs[p] >= 0 ? &tensors_[n.inputs[p]] : nullptr;
  if (t == nullptr || t->storage != kStorageConst || t->desc.layout != Layout::kPacked || t->root != n.inputs[p]) {
    return fail(Status::kInvalidPackage, "operand %d is not the packed constant that kernel '%s' reads", p, n.kernel->name);
  }
  return n.kernel->code->check(n.attrs, weights() + t->offset, t->bytes);
}

Status Model::check_node(int32_t index, NodeWorkspace& w) {
  const ModelNode& n = nodes_[index];
  if (n.control != Control::kNone) return fail(Status::kInvalidPackage, "control flow needs a dynamic plan");
  for (int32_t k = 0; k < n.n_in + n.n_out; ++k) {
    const int32_t t = n.inputs[k];
    w.descs[k] = t < 0 ? nullptr : &tensors_[t].desc;
    if (k >= n.n_in) continue;
    const bool plain_const = t >= 0 && tensors_[t].storage == kStorageConst && tensors_[t].desc.layout == Layout::kPlain;
    const int64_t inside = plain_const && tensors_[t].root != t ? tensors_[t].offset : 0;
    w.values[k] = plain_const ? weights() + tensors_[tensors_[t].root].offset + inside : nullptr;
  }
  PN_TRY(infer_node(n, w));
  PN_TRY(check_outputs(n));
  for (int32_t o = 0; o < n.n_out; ++o) {
    const TensorDesc* d = w.descs[n.n_in + o];
    if (d == nullptr) continue;
    if (d->dtype != w.inferred[o].dtype || d->shape != w.inferred[o].shape) {
      char a[160], b[160];
      return fail(Status::kInvalidPackage, "output %d is declared %s %s, the operator gives %s %s", o, dtype_name(d->dtype),
                  format_shape(d->shape, a, sizeof(a)), dtype_name(w.inferred[o].dtype),
                  format_shape(w.inferred[o].shape, b, sizeof(b)));
    }
  }
  const int p = n.kernel ? n.kernel->packed_input : -1;
  NodeNeeds needs;
  PN_TRY(check_kernel(n, n.kernel, w, p >= 0 && p < n.n_in && n.inputs[p] >= 0 ? tensors_[n.inputs[p]].bytes : 0, &needs));
  if (needs.scratch_bytes > 0 && (n.scratch < 0 || tensors_[n.scratch].bytes < needs.scratch_bytes)) {
    return fail(Status::kInvalidPackage, "%lld bytes of scratch are needed, the plan has fewer", static_cast<long long>(needs.scratch_bytes));
  }
  if (n.scratch >= 0 && (tensors_[n.scratch].storage != kStorageArena || tensors_[n.scratch].root != n.scratch)) {
    return fail(Status::kInvalidPackage, "its scratch is not in the arena");
  }
  return Status::kOk;
}

Status Model::check_nodes() {
  if (dynamic()) {  // shapes are checked when they are bound (core/builder.cc)
    for (int32_t i = 0; i < nodes_.size(); ++i) {
      Status s = check_open_node(nodes_[i]);
      if (s == Status::kOk) s = check_packed(nodes_[i]);
      if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", nodes_[i].name, nodes_[i].op->name);
    }
    return check_graphs();
  }
  // written[root]: 1 + index of the tensor of the family that a node wrote, 0 = none yet. Families in the arena
  // may be written in parts (concat in place); check_memory proves those byte by byte.
  Array<int32_t> written;
  Array<uint8_t> produced;
  PN_TRY(written.allocate(tensors_.size()));
  PN_TRY(produced.allocate(tensors_.size()));
  NodeWorkspace w;
  PN_TRY(w.allocate(*this));
  for (int32_t i = 0; i < nodes_.size(); ++i) {
    const ModelNode& n = nodes_[i];
    Status s = check_packed(n);
    if (s == Status::kOk) s = check_node(i, w);
    for (int32_t k = 0; s == Status::kOk && k < n.n_in; ++k) {
      const int32_t t = n.inputs[k];
      if (t < 0) continue;
      const ModelTensor& x = tensors_[t];
      if (x.storage == kStorageOutput && written[x.root] == 0) {  // check_memory proves it for the arena
        s = fail(Status::kInvalidPackage, "it reads '%s' before any node has written it", x.name);
      }
    }
    for (int32_t k = 0; s == Status::kOk && k < n.n_out; ++k) {
      const int32_t t = n.outputs[k];
      if (t < 0) continue;
      const ModelTensor& y = tensors_[t];
      if (y.storage == kStorageConst || y.storage == kStorageInput) {
        s = fail(Status::kInvalidPackage, "it writes '%s', which is constant or an input", y.name);
      } else if (produced[t] || (y.storage == kStorageOutput && written[y.root] != 0)) {
        s = fail(Status::kInvalidPackage, "it writes '%s' a second time", y.name);
      } else if (y.storage == kStorageOutput && (y.offset != 0 && y.root != t)) {
        s = fail(Status::kInvalidPackage, "it writes a part of output '%s'", y.name);
      } else if (y.storage == kStorageOutput && y.bytes != tensors_[y.root].bytes) {
        s = fail(Status::kInvalidPackage, "it writes a part of output '%s'", y.name);
      }
      produced[t] = 1;
      written[y.root] = t + 1;
    }
    if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", n.name, n.op->name);
  }
  for (int32_t i = 0; i < output_count(); ++i) {
    if (written[output(i)] == 0) return fail(Status::kInvalidPackage, "plan: output '%s' is never written", tensors_[output(i)].name);
  }
  return Status::kOk;
}

Status Model::check_memory() {
  Array<PlanBuffer> buffers;
  Array<PlanNode> nodes;
  PN_TRY(buffers.allocate(tensors_.size()));
  PN_TRY(nodes.allocate(nodes_.size()));
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    const ModelTensor& t = tensors_[i];
    const bool alias = t.root != i, fixed = t.storage != kStorageArena || t.bytes == 0;
    buffers[i] = PlanBuffer{t.bytes, alias ? t.root : -1, fixed, alias ? t.offset : 0,
                            fixed ? -1 : alias ? tensors_[t.root].offset + t.offset : t.offset};
  }
  for (int64_t i = 0; i < nodes_.size(); ++i) {
    const ModelNode& n = nodes_[i];
    nodes[i] = PlanNode{n.inputs, n.outputs, n.n_in, n.n_out, n.scratch,
                        n.op->flags & (kOpInPlace0 | kOpInPlace1)};
  }
  return check_plan(buffers.data(), static_cast<int32_t>(buffers.size()), nodes.data(), static_cast<int32_t>(nodes.size()),
                    nullptr, 0, arena_bytes());
}

}  // namespace pyneo
