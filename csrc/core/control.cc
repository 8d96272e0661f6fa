// SPDX-License-Identifier: Apache-2.0
//
// If, Loop and Scan. Values move between a node and its subgraphs by handing buffers over, not by copying:
// a body's result becomes its next iteration's input, and that one's memory takes the next result.
#include <cstring>

#include "core/flow.h"

namespace pyneo {
namespace {

bool is_own(const Live& x) { return x.own.data != nullptr && x.data == x.own.data; }

void swap(Buffer* a, Buffer* b) {
  const Buffer was = *a;
  *a = *b;
  *b = was;
}

void copy(uint8_t* to, const uint8_t* from, int64_t bytes) {
  if (bytes > 0) memcpy(to, from, static_cast<size_t>(bytes));
}

// A slice's shape with `length` of them along `axis`.
Status stacked(const TensorDesc& slice, int64_t axis, int64_t length, TensorDesc* out) {
  if (slice.shape.rank >= kMaxRank) return fail(Status::kUnsupported, "stacked values would have more than %d dims", kMaxRank);
  int at = 0;
  PN_TRY(normalize_axis("stacked values", axis, slice.shape.rank + 1, &at));
  *out = slice;
  ++out->shape.rank;
  for (int k = slice.shape.rank; k > at; --k) out->shape[k] = slice.shape[k - 1];
  out->shape[at] = length;
  return Status::kOk;
}

// A tensor seen along one axis: `outer` runs of `length` pieces of `inner` bytes.
struct Along {
  int64_t outer, length, inner;
  Along(const TensorDesc& d, int axis)
      : outer(d.shape.product(0, axis)),
        length(d.shape[axis]),
        inner(d.shape.product(axis + 1, d.shape.rank) * static_cast<int64_t>(dtype_size(d.dtype))) {}
};

int64_t entry(const Ints& list, int64_t i) { return i < list.size ? list[i] : 0; }

}  // namespace

Status Flow::run_control(const ModelNode& n) {
  switch (n.control) {
    case Control::kIf: return run_if(n);
    case Control::kLoop: return run_loop(n);
    default: return run_scan(n);
  }
}

Status Flow::read_flag(int32_t tensor, const char* what, bool* out) const {
  const Live& x = live_[tensor];
  if (x.desc.dtype != DType::kBool || x.desc.elements() != 1) {
    char s[160];
    return fail(Status::kInvalidModel, "%s is %s %s, expected one bool", what, dtype_name(x.desc.dtype),
                format_shape(x.desc.shape, s, sizeof(s)));
  }
  *out = x.data[0] != 0;
  return Status::kOk;
}

// A subgraph's value becomes the node's output.
Status Flow::hand_over(const ModelNode& n, int32_t from, int32_t output) {
  const int32_t to = n.outputs[output];
  if (to < 0) return Status::kOk;
  Live &x = live_[from], &y = live_[to];
  const ModelTensor& t = model_->tensor(to);
  PN_TRY(check_declared(t, x.desc, "output", output));
  y.desc = x.desc;
  y.known = false;
  if (is_own(x) && !(t.storage == format::kStorageOutput && output_buffers_[t.offset] != nullptr)) {
    swap(&x.own, &y.own);
    y.data = y.own.data;
    return Status::kOk;
  }
  PN_TRY(place(to, y));
  copy(y.data, x.data, x.desc.bytes());
  return Status::kOk;
}

// Gives a subgraph's input the memory of another value, which must stay until the subgraph has run.
Status Flow::set_input(int32_t tensor, const TensorDesc& desc, uint8_t* data) {
  PN_TRY(check_declared(model_->tensor(tensor), desc, "value of the subgraph's input", 0));
  Live& x = live_[tensor];
  x.desc = desc;
  x.data = data;
  x.known = false;
  return Status::kOk;
}

// What an iteration made is what the next one gets.
Status Flow::carry(int32_t from, int32_t to) {
  Live &x = live_[from], &next = live_[to];
  PN_TRY(check_declared(model_->tensor(to), x.desc, "value of the subgraph's input", 0));
  next.desc = x.desc;
  if (is_own(x)) {
    swap(&x.own, &next.own);
  } else {
    PN_TRY(next.own.grow(x.desc.bytes(), model_->tensor(to).name));
    copy(next.own.data, x.data, x.desc.bytes());
  }
  next.data = next.own.data;
  return Status::kOk;
}

Status Flow::run_if(const ModelNode& n) {
  bool yes = false;
  PN_TRY(read_flag(n.inputs[0], "the condition", &yes));
  const int32_t branch = n.subgraph + (yes ? 0 : 1);
  PN_TRY(run_graph(branch));
  const ModelGraph& g = model_->graphs()[branch];
  for (int32_t o = 0; o < n.n_out; ++o) PN_TRY(hand_over(n, g.outputs[o], o));
  return Status::kOk;
}

// The output of a loop in which nothing ran: no slices of what the plan says of one; open dims are empty.
Status Flow::no_slices(const ModelNode& n, int32_t from, int32_t output, int64_t axis) {
  const int32_t to = n.outputs[output];
  if (to < 0) return Status::kOk;
  TensorDesc slice = model_->tensor(from).desc;
  if (slice.dtype == DType::kNone) slice.dtype = model_->tensor(to).desc.dtype;
  if (slice.dtype == DType::kNone) return fail(Status::kInvalidModel, "output %d has no dtype: no iteration ran", output);
  for (int k = 0; k < slice.shape.rank; ++k) slice.shape[k] = slice.shape[k] < 0 ? 0 : slice.shape[k];
  Live& y = live_[to];
  PN_TRY(stacked(slice, axis, 0, &y.desc));
  PN_TRY(check_declared(model_->tensor(to), y.desc, "output", output));
  return place(to, y);
}

// Puts iteration i's value behind those before it. How many there will be is not known: the memory grows.
Status Flow::append(const ModelNode& n, int32_t from, int32_t output, int64_t i) {
  const int32_t to = n.outputs[output];
  if (to < 0) return Status::kOk;
  const Live& x = live_[from];
  Live& y = live_[to];
  TensorDesc so_far;
  PN_TRY(stacked(x.desc, 0, i, &so_far));
  if (i > 0 && (so_far.dtype != y.desc.dtype || so_far.shape != y.desc.shape)) {
    char a[160];
    return fail(Status::kInvalidModel, "output %d: iteration %lld gives a slice of shape %s, those before it had another",
                output, static_cast<long long>(i), format_shape(x.desc.shape, a, sizeof(a)));
  }
  const int64_t bytes = x.desc.bytes();
  int64_t all = 0;
  if (!checked_mul(bytes, i + 1, &all) || all > int64_t{1} << 60) {
    return fail(Status::kOutOfMemory, "output %d: %lld slices do not fit in memory", output, static_cast<long long>(i + 1));
  }
  PN_TRY(y.own.grow(all, model_->tensor(to).name, all - bytes));
  copy(y.own.data + all - bytes, x.data, bytes);
  y.desc = so_far;
  y.desc.shape[0] = i + 1;
  return Status::kOk;
}

Status Flow::run_loop(const ModelNode& n) {
  const int32_t body = n.subgraph, carried = n.n_in - 2;
  const ModelGraph& g = model_->graphs()[body];
  int64_t trips = INT64_MAX;
  if (n.inputs[0] >= 0) {
    const Live& m = live_[n.inputs[0]];
    if (m.desc.dtype != DType::kI64 || m.desc.elements() != 1) return fail(Status::kInvalidModel, "the trip count is not one int64");
    memcpy(&trips, m.data, sizeof(trips));
  }
  bool again = true;
  if (n.inputs[1] >= 0) PN_TRY(read_flag(n.inputs[1], "the condition", &again));
  for (int32_t k = 0; k < 2; ++k) {  // iteration number and condition: scalars, or of one element where declared so
    const ModelTensor& t = model_->tensor(g.inputs[k]);
    TensorDesc one;
    one.dtype = k == 0 ? DType::kI64 : DType::kBool;
    one.shape.rank = t.desc.shape.rank == 1 ? 1 : 0;
    one.shape[0] = 1;
    Live& x = live_[g.inputs[k]];
    PN_TRY(x.own.grow(8, t.name));
    PN_TRY(set_input(g.inputs[k], one, x.own.data));
  }
  uint8_t* const iteration = live_[g.inputs[0]].own.data;
  live_[g.inputs[1]].own.data[0] = 1;
  for (int32_t k = 0; k < carried; ++k) {
    const Live& v = live_[n.inputs[2 + k]];
    PN_TRY(set_input(g.inputs[2 + k], v.desc, v.data));
  }
  int64_t i = 0;
  for (; again && i < trips; ++i) {
    PN_TRY(poll());
    memcpy(iteration, &i, sizeof(i));
    PN_TRY(run_graph(body));
    PN_TRY(read_flag(g.outputs[0], "the condition that the body gives", &again));
    for (int32_t o = carried; o < n.n_out; ++o) PN_TRY(append(n, g.outputs[1 + o], o, i));
    for (int32_t k = 0; k < carried; ++k) PN_TRY(carry(g.outputs[1 + k], g.inputs[2 + k]));
  }
  for (int32_t k = 0; k < carried; ++k) PN_TRY(hand_over(n, g.inputs[2 + k], k));
  for (int32_t o = carried; o < n.n_out; ++o) {
    if (i == 0) {
      PN_TRY(no_slices(n, g.outputs[1 + o], o, 0));
      continue;
    }
    const int32_t to = n.outputs[o];
    if (to < 0) continue;
    Live& y = live_[to];
    PN_TRY(check_declared(model_->tensor(to), y.desc, "output", o));
    PN_TRY(place(to, y));
    if (!is_own(y)) copy(y.data, y.own.data, y.desc.bytes());
  }
  return Status::kOk;
}

// Slice i of a Scan's sequence: in place where its bytes are together.
Status Flow::set_slice(int32_t to, const Live& x, int axis, int64_t i) {
  TensorDesc slice = x.desc;
  --slice.shape.rank;
  for (int k = axis; k < slice.shape.rank; ++k) slice.shape[k] = x.desc.shape[k + 1];
  const Along along(x.desc, axis);
  if (along.outer == 1) return set_input(to, slice, x.data + i * along.inner);
  Live& y = live_[to];
  PN_TRY(y.own.grow(along.outer * along.inner, model_->tensor(to).name));
  for (int64_t o = 0; o < along.outer; ++o) {
    copy(y.own.data + o * along.inner, x.data + (o * along.length + i) * along.inner, along.inner);
  }
  return set_input(to, slice, y.own.data);
}

Status Flow::put_slice(const ModelNode& n, int32_t from, int32_t output, int64_t axis, int64_t length, int64_t i, bool first) {
  const int32_t to = n.outputs[output];
  if (to < 0) return Status::kOk;
  const Live& x = live_[from];
  Live& y = live_[to];
  TensorDesc whole;
  PN_TRY(stacked(x.desc, axis, length, &whole));
  if (first) {
    y.desc = whole;
    PN_TRY(check_declared(model_->tensor(to), whole, "output", output));
    PN_TRY(place(to, y));
  } else if (whole.dtype != y.desc.dtype || whole.shape != y.desc.shape) {
    char a[160];
    return fail(Status::kInvalidModel, "output %d: a step gives a slice of shape %s, those before it had another", output,
                format_shape(x.desc.shape, a, sizeof(a)));
  }
  const Along along(whole, static_cast<int>(axis < 0 ? axis + whole.shape.rank : axis));
  for (int64_t o = 0; o < along.outer; ++o) {
    copy(y.data + (o * length + i) * along.inner, x.data + o * along.inner, along.inner);
  }
  return Status::kOk;
}

Status Flow::run_scan(const ModelNode& n) {
  const int32_t body = n.subgraph;
  const ModelGraph& g = model_->graphs()[body];
  const int32_t scans = static_cast<int32_t>(n.attrs.i64("num_scan_inputs", 0)), carried = n.n_in - scans;
  const Ints in_axes = n.attrs.ints("scan_input_axes"), in_back = n.attrs.ints("scan_input_directions");
  const Ints out_axes = n.attrs.ints("scan_output_axes"), out_back = n.attrs.ints("scan_output_directions");
  int64_t length = -1;
  for (int32_t k = 0; k < scans; ++k) {
    const Live& x = live_[n.inputs[carried + k]];
    int axis = 0;
    PN_TRY(normalize_axis("the sequence", entry(in_axes, k), x.desc.shape.rank, &axis));
    if (length >= 0 && x.desc.shape[axis] != length) {
      return fail(Status::kInvalidModel, "sequence %d has %lld slices, those before it %lld", k,
                  static_cast<long long>(x.desc.shape[axis]), static_cast<long long>(length));
    }
    length = x.desc.shape[axis];
  }
  for (int32_t k = 0; k < carried; ++k) {
    const Live& v = live_[n.inputs[k]];
    PN_TRY(set_input(g.inputs[k], v.desc, v.data));
  }
  for (int64_t i = 0; i < length; ++i) {
    PN_TRY(poll());
    for (int32_t k = 0; k < scans; ++k) {
      const Live& x = live_[n.inputs[carried + k]];
      const int64_t axis = entry(in_axes, k);
      PN_TRY(set_slice(g.inputs[carried + k], x, static_cast<int>(axis < 0 ? axis + x.desc.shape.rank : axis),
                       entry(in_back, k) == 1 ? length - 1 - i : i));
    }
    PN_TRY(run_graph(body));
    for (int32_t o = carried; o < n.n_out; ++o) {
      PN_TRY(put_slice(n, g.outputs[o], o, entry(out_axes, o - carried), length,
                       entry(out_back, o - carried) == 1 ? length - 1 - i : i, i == 0));
    }
    for (int32_t k = 0; k < carried; ++k) PN_TRY(carry(g.outputs[k], g.inputs[k]));
  }
  for (int32_t k = 0; k < carried; ++k) PN_TRY(hand_over(n, g.inputs[k], k));
  for (int32_t o = carried; length == 0 && o < n.n_out; ++o) {
    PN_TRY(no_slices(n, g.outputs[o], o, entry(out_axes, o - carried)));
  }
  return Status::kOk;
}

}  // namespace pyneo
