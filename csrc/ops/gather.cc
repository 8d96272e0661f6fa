// SPDX-License-Identifier: Apache-2.0
//
// Operators that read elements or slices by index. Elements are moved whole, so every dtype is
// served.
#include <cinttypes>
#include <cstring>

#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

Status too_deep(const char* op, int rank) {
  return fail(Status::kUnsupported, "%s: the output has rank %d, at most %d is supported", op, rank,
              kMaxRank);
}

// --- Gather: out[.., j.., ..] = data[.., indices[j..], ..]
// ----------------------------------------

Status infer_gather(InferContext& c) {
  PN_TRY(expect_dtype(c, 1, {DType::kI64, DType::kI32}));
  const Shape &x = c.shape(0), &j = c.shape(1);
  int axis = 0;
  PN_TRY(normalize_axis("Gather", c.attrs.i64("axis", 0), x.rank, &axis));
  if (x.rank - 1 + j.rank > kMaxRank) return too_deep("Gather", x.rank - 1 + j.rank);
  Shape y;
  for (int i = 0; i < axis; ++i) y.dims[y.rank++] = x[i];
  for (int i = 0; i < j.rank; ++i) y.dims[y.rank++] = j[i];
  for (int i = axis + 1; i < x.rank; ++i) y.dims[y.rank++] = x[i];
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

// Copies rows of `bytes` from index positions of one axis: shared by Gather and
// ArrayFeatureExtractor.
Status gather_rows(const RunContext& c, const Tensor& x, int axis) {
  const Tensor &j = *c.in[1], &y = *c.out[0];
  const int64_t size = x.dim(axis), count = j.desc.elements();
  for (int64_t i = 0; i < count; ++i) {
    int64_t at = int_at(j, i);
    if (!wrap_index(&at, size)) return bad_index(c.op, int_at(j, i), i, size);
  }
  if (y.desc.elements() == 0) return Status::kOk;
  const int64_t outer = x.shape().product(0, axis);
  const int64_t bytes =
      x.shape().product(axis + 1, x.rank()) * static_cast<int64_t>(dtype_size(x.desc.dtype));
  const bool apart = outer > 1;  // threads share the outer axes, or the indices of the only one
  split_range(*c.pool, apart ? outer : count, outer * count * bytes, [&](int64_t from, int64_t to) {
    const int64_t o0 = apart ? from : 0, o1 = apart ? to : 1, end = apart ? count : to;
    for (int64_t k = apart ? 0 : from, run = 1; k < end; k += run) {
      int64_t at = int_at(j, k);
      at += at < 0 ? size : 0;
      // Neighbours move together: windows of a sequence are runs of indices.
      for (run = 1; k + run < end && int_at(j, k + run) == at + run;) ++run;
      const uint8_t* in = x.as<uint8_t>() + (o0 * size + at) * bytes;
      uint8_t* out = y.as<uint8_t>() + (o0 * count + k) * bytes;
      for (int64_t o = o0; o < o1; ++o, in += size * bytes, out += count * bytes) {
        if (bytes * run == 4) {
          memcpy(out, in, 4);
        } else {
          memcpy(out, in, static_cast<size_t>(bytes * run));
        }
      }
    }
  });
  return Status::kOk;
}

Status run_gather(RunContext& c) {
  int axis = 0;
  PN_TRY(normalize_axis("Gather", c.attrs.i64("axis", 0), c.in[0]->rank(), &axis));
  return gather_rows(c, *c.in[0], axis);
}

// --- ai.onnx.ml.ArrayFeatureExtractor: columns of the last axis
// -----------------------------------

Status infer_feature_extractor(InferContext& c) {
  PN_TRY(expect_dtype(c, 1, {DType::kI64}));
  const Shape& x = c.shape(0);
  if (x.rank == 0)
    return fail(Status::kInvalidModel, "%s: input 0 must have at least one axis", c.op);
  const int64_t count = c.shape(1).elements();
  if (count == 0) return fail(Status::kInvalidModel, "%s: no feature is named", c.op);
  Shape y = x;
  if (x.rank == 1) {  // a vector counts as one row
    y.rank = 2;
    y[0] = 1;
  }
  y[y.rank - 1] = count;
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_feature_extractor(RunContext& c) {
  return gather_rows(c, *c.in[0], c.in[0]->rank() - 1);
}

// --- GatherElements: out[i, j] = data[indices[i, j], j] for axis 0
// ---------------------------------

Status infer_gather_elements(InferContext& c) {
  PN_TRY(expect_dtype(c, 1, {DType::kI64, DType::kI32}));
  const Shape &x = c.shape(0), &j = c.shape(1);
  int axis = 0;
  PN_TRY(normalize_axis("GatherElements", c.attrs.i64("axis", 0), x.rank, &axis));
  bool fits = j.rank == x.rank;
  for (int i = 0; fits && i < x.rank; ++i) fits = i == axis || j[i] <= x[i];
  if (!fits) {
    char a[160], b[160];
    return fail(Status::kInvalidModel,
                "GatherElements: indices of shape %s do not fit data of shape %s along axis %d",
                format_shape(j, a, sizeof(a)), format_shape(x, b, sizeof(b)), axis);
  }
  c.set(0, c.dtype(0), j);
  return Status::kOk;
}

template <typename T>
Status gather_elements(const Tensor& x, const Tensor& j, const Tensor& y, int axis) {
  const int rank = x.rank(), last = rank - 1;
  int64_t steps[kMaxRank], at[kMaxRank] = {};
  dense_steps(x.shape(), steps);
  const int64_t size = x.dim(axis), n = j.desc.elements(), line = j.dim(last);
  for (int64_t i = 0; i < n; i += line) {
    int64_t base = 0;
    for (int k = 0; k < last; ++k) base += k == axis ? 0 : at[k] * steps[k];
    for (int64_t k = 0; k < line; ++k) {
      int64_t index = int_at(j, i + k);
      if (!wrap_index(&index, size))
        return bad_index("GatherElements", int_at(j, i + k), i + k, size);
      y.as<T>()[i + k] = x.as<T>()[base + index * steps[axis] + (axis == last ? 0 : k)];
    }
    for (int k = last - 1; k >= 0 && ++at[k] == j.dim(k); --k) at[k] = 0;
  }
  return Status::kOk;
}

Status run_gather_elements(RunContext& c) {
  const Tensor &x = *c.in[0], &j = *c.in[1], &y = *c.out[0];
  if (y.desc.elements() == 0) return Status::kOk;
  int axis = 0;
  PN_TRY(normalize_axis("GatherElements", c.attrs.i64("axis", 0), x.rank(), &axis));
  switch (dtype_size(x.desc.dtype)) {
    case 1:
      return gather_elements<uint8_t>(x, j, y, axis);
    case 2:
      return gather_elements<uint16_t>(x, j, y, axis);
    case 4:
      return gather_elements<uint32_t>(x, j, y, axis);
    default:
      return gather_elements<uint64_t>(x, j, y, axis);
  }
}

// --- GatherND: the last axis of indices holds tuples that address slices of data
// ------------------

Status infer_gather_nd(InferContext& c) {
  PN_TRY(expect_dtype(c, 1, {DType::kI64, DType::kI32}));
  const Shape &x = c.shape(0), &j = c.shape(1);
  const int64_t batch = c.attrs.i64("batch_dims", 0);
  char a[160], b[160];
  if (x.rank < 1 || j.rank < 1)
    return fail(Status::kInvalidModel, "GatherND: data and indices must have at least one axis");
  if (batch < 0 || batch >= x.rank || batch >= j.rank) {
    return fail(Status::kInvalidModel, "GatherND: batch_dims %" PRId64 " is outside [0, %d)", batch,
                x.rank < j.rank ? x.rank : j.rank);
  }
  const int nb = static_cast<int>(batch);
  const int64_t tuple = j[j.rank - 1];
  bool fits = tuple >= 1 && tuple <= x.rank - nb;
  for (int i = 0; fits && i < nb; ++i) fits = x[i] == j[i];
  if (!fits) {
    return fail(Status::kInvalidModel,
                "GatherND: indices of shape %s do not address data of shape %s with %d batch axes",
                format_shape(j, a, sizeof(a)), format_shape(x, b, sizeof(b)), nb);
  }
  const int sliced = nb + static_cast<int>(tuple);
  if (j.rank - 1 + x.rank - sliced > kMaxRank)
    return too_deep("GatherND", j.rank - 1 + x.rank - sliced);
  Shape y;
  for (int i = 0; i < j.rank - 1; ++i) y.dims[y.rank++] = j[i];
  for (int i = sliced; i < x.rank; ++i) y.dims[y.rank++] = x[i];
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_gather_nd(RunContext& c) {
  const Tensor &x = *c.in[0], &j = *c.in[1], &y = *c.out[0];
  if (y.desc.elements() == 0) return Status::kOk;
  const int nb = static_cast<int>(c.attrs.i64("batch_dims", 0));
  const int tuple = static_cast<int>(j.dim(j.rank() - 1));
  int64_t steps[kMaxRank];
  dense_steps(x.shape(), steps);
  const int64_t size = static_cast<int64_t>(dtype_size(x.desc.dtype));
  const int64_t slice = x.shape().product(nb + tuple, x.rank()) * size;
  const int64_t count = j.shape().product(0, j.rank() - 1);
  const int64_t per_batch = j.shape().product(nb, j.rank() - 1);
  const int64_t batch_step = x.shape().product(nb, x.rank());
  uint8_t* out = y.as<uint8_t>();
  for (int64_t i = 0; i < count; ++i, out += slice) {
    int64_t at = i / per_batch * batch_step;
    for (int k = 0; k < tuple; ++k) {
      int64_t index = int_at(j, i * tuple + k);
      if (!wrap_index(&index, x.dim(nb + k))) {
        return bad_index("GatherND", int_at(j, i * tuple + k), i * tuple + k, x.dim(nb + k));
      }
      at += index * steps[nb + k];
    }
    memcpy(out, x.as<uint8_t>() + at * size, static_cast<size_t>(slice));
  }
  return Status::kOk;
}

// --- Compress: slices of an axis (or elements) where a condition holds
// ----------------------------

struct Selection {
  int64_t outer, rows, inner;  // the input as [outer, rows, inner]; rows are chosen from
  int64_t checked;             // conditions looked at: the rest of rows is dropped
  Shape shape;
};

Status plan_compress(const InferContext& c, Selection* s) {
  PN_TRY(expect_dtype(c, 1, {DType::kBool}));
  const Shape &x = c.shape(0), &cond = c.shape(1);
  if (cond.rank != 1)
    return fail(Status::kInvalidModel, "Compress: the condition must be 1-D, found rank %d",
                cond.rank);
  const bool flat = !c.attrs.has("axis");
  int axis = 0;
  if (!flat) PN_TRY(normalize_axis("Compress", c.attrs.i64("axis", 0), x.rank, &axis));
  s->outer = flat ? 1 : x.product(0, axis);
  s->rows = flat ? x.elements() : x[axis];
  s->inner = flat ? 1 : x.product(axis + 1, x.rank);
  s->checked = cond[0] < s->rows ? cond[0] : s->rows;
  PN_TRY(need_value(c, 1));
  int64_t kept = 0;
  for (int64_t i = 0; i < s->checked; ++i) kept += static_cast<const uint8_t*>(c.value(1))[i] != 0;
  s->shape = x;
  if (flat) s->shape.rank = 1;
  s->shape[flat ? 0 : axis] = kept;
  return Status::kOk;
}

Status infer_compress(InferContext& c) {
  Selection s;
  PN_TRY(plan_compress(c, &s));
  c.set(0, c.dtype(0), s.shape);
  return Status::kOk;
}

Status run_compress(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const AsInfer again(c);
  Selection s;
  PN_TRY(plan_compress(again.context(), &s));
  PN_TRY(expect_shape(c, 0, s.shape));
  if (y.desc.elements() == 0) return Status::kOk;
  const int64_t bytes = s.inner * static_cast<int64_t>(dtype_size(x.desc.dtype));
  const uint8_t* cond = c.in[1]->as<uint8_t>();
  uint8_t* out = y.as<uint8_t>();
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t i = 0; i < s.checked; ++i) {
      if (cond[i] == 0) continue;
      memcpy(out, x.as<uint8_t>() + (o * s.rows + i) * bytes, static_cast<size_t>(bytes));
      out += bytes;
    }
  }
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_gather[] = {
    {"Gather", 2, 2, 1, 1, 0, infer_gather, run_gather, nullptr},
    {"GatherElements", 2, 2, 1, 1, 0, infer_gather_elements, run_gather_elements, nullptr},
    {"GatherND", 2, 2, 1, 1, 0, infer_gather_nd, run_gather_nd, nullptr},
    {"Compress", 2, 2, 1, 1, 0, infer_compress, run_compress, nullptr},
    {"ai.onnx.ml.ArrayFeatureExtractor", 2, 2, 1, 1, 0, infer_feature_extractor,
     run_feature_extractor, nullptr},
};
extern const int pn_ops_gather_count = sizeof(pn_ops_gather) / sizeof(OpDef);

}  // namespace pyneo
