// SPDX-License-Identifier: Apache-2.0
//
// Operators that write elements or slices at places given by indices, in order: a later update of
// the same place meets what an earlier one left.
#include <cinttypes>
#include <cstring>

#include "ops/combine.h"
#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

Status read_reduction(const InferContext& c, Combine* f) {
  const Str name = c.attrs.str("reduction", "none");
  if (name == "none") {
    *f = Combine::kReplace;
  } else if (name == "add") {
    *f = Combine::kAdd;
  } else if (name == "mul") {
    *f = Combine::kMul;
  } else if (name == "max") {
    *f = Combine::kMax;
  } else if (name == "min") {
    *f = Combine::kMin;
  } else {
    return fail(Status::kInvalidModel,
                "%s: reduction '%.*s' is not one of none, add, mul, max, min", c.op,
                static_cast<int>(name.size < 32 ? name.size : 32), name.data);
  }
  return Status::kOk;
}

Status same_dtype(const InferContext& c, int i) {
  if (c.dtype(i) == c.dtype(0)) return Status::kOk;
  return fail(Status::kInvalidModel, "%s: input %d is %s, the data is %s", c.op, i,
              dtype_name(c.dtype(i)), dtype_name(c.dtype(0)));
}

void start_from_data(const RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  if (x.data != y.data) copy_bytes(*c.pool, y.data, x.data, x.desc.bytes());
}

// --- ScatterElements, Scatter: out[indices[i, j], j] = updates[i, j] for axis 0
// --------------------

Status infer_scatter_elements(InferContext& c) {
  PN_TRY(expect_dtype(c, 1, {DType::kI64, DType::kI32}));
  PN_TRY(same_dtype(c, 2));
  Combine f;
  PN_TRY(read_reduction(c, &f));
  const Shape &x = c.shape(0), &j = c.shape(1);
  int axis = 0;
  PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", 0), x.rank, &axis));
  bool fits = j.rank == x.rank && j == c.shape(2);
  for (int i = 0; fits && i < x.rank; ++i) fits = i == axis || j[i] <= x[i];
  if (!fits) {
    char a[160], b[160], d[160];
    return fail(Status::kInvalidModel,
                "%s: indices %s and updates %s do not fit data %s along axis %d", c.op,
                format_shape(j, a, sizeof(a)), format_shape(c.shape(2), b, sizeof(b)),
                format_shape(x, d, sizeof(d)), axis);
  }
  c.set(0, c.dtype(0), x);
  return Status::kOk;
}

Status run_scatter_elements(RunContext& c) {
  const Tensor &x = *c.in[0], &j = *c.in[1], &u = *c.in[2], &y = *c.out[0];
  const AsInfer again(c);
  Combine f;
  int axis = 0;
  PN_TRY(read_reduction(again.context(), &f));
  PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", 0), x.rank(), &axis));
  start_from_data(c);
  const DType t = x.desc.dtype;
  const int64_t size = static_cast<int64_t>(dtype_size(t)), n = j.desc.elements();
  int64_t steps[kMaxRank], at[kMaxRank] = {};
  dense_steps(x.shape(), steps);
  for (int64_t i = 0; i < n; ++i) {
    int64_t index = int_at(j, i);
    if (!wrap_index(&index, x.dim(axis))) return bad_index(c.op, int_at(j, i), i, x.dim(axis));
    int64_t place = index * steps[axis];
    for (int k = 0; k < x.rank(); ++k) place += k == axis ? 0 : at[k] * steps[k];
    combine(f, t, y.as<uint8_t>() + place * size, u.as<uint8_t>() + i * size, 1);
    for (int k = x.rank() - 1; k >= 0 && ++at[k] == j.dim(k); --k) at[k] = 0;
  }
  return Status::kOk;
}

// --- ScatterND: the last axis of indices holds tuples that address slices of data
// -----------------

Status infer_scatter_nd(InferContext& c) {
  PN_TRY(expect_dtype(c, 1, {DType::kI64, DType::kI32}));
  PN_TRY(same_dtype(c, 2));
  Combine f;
  PN_TRY(read_reduction(c, &f));
  const Shape &x = c.shape(0), &j = c.shape(1), &u = c.shape(2);
  const int64_t tuple = j.rank > 0 ? j[j.rank - 1] : 0;
  bool fits = x.rank >= 1 && tuple >= 1 && tuple <= x.rank && u.rank == j.rank - 1 + x.rank - tuple;
  for (int i = 0; fits && i < j.rank - 1; ++i) fits = u[i] == j[i];
  for (int i = static_cast<int>(tuple), k = j.rank - 1; fits && i < x.rank; ++i, ++k)
    fits = u[k] == x[i];
  if (!fits) {
    char a[160], b[160], d[160];
    return fail(Status::kInvalidModel, "ScatterND: indices %s and updates %s do not fit data %s",
                format_shape(j, a, sizeof(a)), format_shape(u, b, sizeof(b)),
                format_shape(x, d, sizeof(d)));
  }
  c.set(0, c.dtype(0), x);
  return Status::kOk;
}

Status run_scatter_nd(RunContext& c) {
  const Tensor &x = *c.in[0], &j = *c.in[1], &u = *c.in[2], &y = *c.out[0];
  const AsInfer again(c);
  Combine f;
  PN_TRY(read_reduction(again.context(), &f));
  start_from_data(c);
  const DType t = x.desc.dtype;
  const int64_t size = static_cast<int64_t>(dtype_size(t));
  const int tuple = static_cast<int>(j.dim(j.rank() - 1));
  const int64_t count = j.shape().product(0, j.rank() - 1),
                slice = x.shape().product(tuple, x.rank());
  int64_t steps[kMaxRank];
  dense_steps(x.shape(), steps);
  for (int64_t i = 0; i < count; ++i) {
    int64_t place = 0;
    for (int k = 0; k < tuple; ++k) {
      int64_t index = int_at(j, i * tuple + k);
      if (!wrap_index(&index, x.dim(k)))
        return bad_index(c.op, int_at(j, i * tuple + k), i * tuple + k, x.dim(k));
      place += index * steps[k];
    }
    combine(f, t, y.as<uint8_t>() + place * size, u.as<uint8_t>() + i * slice * size, slice);
  }
  return Status::kOk;
}

// --- TensorScatter: rows written into a cache from a place that each sample of the batch gives
// ------

Status infer_tensor_scatter(InferContext& c) {
  PN_TRY(same_dtype(c, 1));
  const Shape &x = c.shape(0), &u = c.shape(1);
  int axis = 0;
  PN_TRY(normalize_axis("TensorScatter", c.attrs.i64("axis", -2), x.rank, &axis));
  if (axis == 0)
    return fail(Status::kInvalidModel,
                "TensorScatter: axis 0 is the batch and cannot be written along");
  bool fits = u.rank == x.rank;
  for (int i = 0; fits && i < x.rank; ++i) fits = i == axis ? u[i] <= x[i] : u[i] == x[i];
  if (!fits) {
    char a[160], b[160];
    return fail(Status::kInvalidModel,
                "TensorScatter: an update %s does not fit the cache %s along axis %d",
                format_shape(u, a, sizeof(a)), format_shape(x, b, sizeof(b)), axis);
  }
  const Str mode = c.attrs.str("mode", "linear");
  if (mode != "linear" && mode != "circular")
    return fail(Status::kInvalidModel, "TensorScatter: mode is neither linear nor circular");
  if (c.has(2)) {
    PN_TRY(expect_dtype(c, 2, {DType::kI64, DType::kI32}));
    if (c.shape(2).rank != 1 || c.shape(2)[0] != x[0]) {
      char a[160];
      return fail(Status::kInvalidModel,
                  "TensorScatter: write_indices %s must hold one index for each of %" PRId64
                  " samples",
                  format_shape(c.shape(2), a, sizeof(a)), x[0]);
    }
  }
  c.set(0, c.dtype(0), x);
  return Status::kOk;
}

Status run_tensor_scatter(RunContext& c) {
  const Tensor &x = *c.in[0], &u = *c.in[1], &y = *c.out[0];
  int axis = 0;
  PN_TRY(normalize_axis("TensorScatter", c.attrs.i64("axis", -2), x.rank(), &axis));
  const bool circular = c.attrs.str("mode", "linear") == "circular";
  start_from_data(c);
  if (u.desc.elements() == 0) return Status::kOk;
  const int64_t room = x.dim(axis), rows = u.dim(axis);
  const int64_t bytes =
      x.shape().product(axis + 1, x.rank()) * static_cast<int64_t>(dtype_size(x.desc.dtype));
  const int64_t outer = x.shape().product(0, axis), per_sample = x.shape().product(1, axis);
  for (int64_t o = 0; o < outer; ++o) {
    const int64_t sample = o / per_sample;
    int64_t at = c.has(2) ? int_at(*c.in[2], sample) : 0;
    if (circular) {
      at %= room;
      at += at < 0 ? room : 0;
    } else if (at < 0 || at > room - rows) {
      return fail(Status::kInvalidModel,
                  "TensorScatter: sample %" PRId64 " writes %" PRId64 " rows from %" PRId64
                  " on into a cache of %" PRId64,
                  sample, rows, at, room);
    }
    const uint8_t* from = u.as<uint8_t>() + o * rows * bytes;
    uint8_t* cache = y.as<uint8_t>() + o * room * bytes;
    const int64_t first = rows < room - at ? rows : room - at;  // the rest wraps around
    memcpy(cache + at * bytes, from, static_cast<size_t>(first * bytes));
    memcpy(cache, from + first * bytes, static_cast<size_t>((rows - first) * bytes));
  }
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_scatter[] = {
    {"ScatterElements", 3, 3, 1, 1, kOpInPlace0, infer_scatter_elements, run_scatter_elements,
     nullptr},
    {"Scatter", 3, 3, 1, 1, kOpInPlace0, infer_scatter_elements, run_scatter_elements, nullptr},
    {"ScatterND", 3, 3, 1, 1, kOpInPlace0, infer_scatter_nd, run_scatter_nd, nullptr},
    {"TensorScatter", 2, 3, 1, 1, kOpInPlace0, infer_tensor_scatter, run_tensor_scatter, nullptr},
};
extern const int pn_ops_scatter_count = sizeof(pn_ops_scatter) / sizeof(OpDef);

}  // namespace pyneo
