// SPDX-License-Identifier: Apache-2.0
#include <cinttypes>

#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

// --- Concat -------------------------------------------------------------------------------------

Status infer_concat(InferContext& c) {
  const Shape& x = c.shape(0);
  if (!c.attrs.has("axis"))
    return fail(Status::kInvalidModel, "Concat: the attribute axis is missing");
  int axis = 0;
  PN_TRY(normalize_axis("Concat", c.attrs.i64("axis", 0), x.rank, &axis));
  Shape y = x;
  for (int i = 1; i < c.n_in; ++i) {
    if (!c.has(i)) return fail(Status::kInvalidModel, "Concat: input %d is missing", i);
    const Shape& s = c.shape(i);
    if (c.dtype(i) != c.dtype(0)) {
      return fail(Status::kInvalidModel, "Concat: input %d is %s, input 0 is %s", i,
                  dtype_name(c.dtype(i)), dtype_name(c.dtype(0)));
    }
    bool same = s.rank == x.rank;
    for (int k = 0; same && k < x.rank; ++k) same = k == axis || s[k] == x[k];
    if (!same) {
      char a[160], b[160];
      return fail(Status::kInvalidModel,
                  "Concat: inputs 0 and %d of shapes %s and %s differ outside axis %d", i,
                  format_shape(x, a, sizeof(a)), format_shape(s, b, sizeof(b)), axis);
    }
    if (!checked_add(y[axis], s[axis], &y[axis]))
      return fail(Status::kInvalidModel, "Concat: axis %d overflows", axis);
  }
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

// Copies `outer` runs of `part` elements between tensors whose runs start every src_rows, dst_rows.
void copy_slab(const Pool& pool, int64_t outer, int64_t part, int64_t src_rows, int64_t dst_rows,
               size_t size, const void* src, void* dst) {
  StridedCopy copy;
  copy.add(outer, src_rows, dst_rows);
  copy.add(part, 1, 1);
  copy.run(pool, size, src, dst);
}

Status run_concat(RunContext& c) {
  Tensor& y = *c.out[0];
  int axis = 0;
  PN_TRY(normalize_axis("Concat", c.attrs.i64("axis", 0), y.rank(), &axis));
  const size_t size = dtype_size(y.desc.dtype);
  const int64_t outer = y.shape().product(0, axis), whole = y.shape().product(axis, y.rank());
  uint8_t* to = y.as<uint8_t>();
  for (int i = 0; i < c.n_in; ++i) {
    const Tensor& x = *c.in[i];
    const int64_t part = x.shape().product(axis, x.rank());
    copy_slab(*c.pool, outer, part, part, whole, size, x.data, to);
    to += part * static_cast<int64_t>(size);
  }
  return Status::kOk;
}

// --- Split --------------------------------------------------------------------------------------

Status infer_split(InferContext& c) {
  const Shape& x = c.shape(0);
  int axis = 0;
  PN_TRY(normalize_axis("Split", c.attrs.i64("axis", 0), x.rank, &axis));
  const int64_t rows = x[axis], parts = c.n_out;
  const int64_t num_outputs = c.attrs.i64("num_outputs", parts);
  if (num_outputs != parts) {
    return fail(Status::kInvalidModel,
                "Split: num_outputs is %" PRId64 ", the node has %" PRId64 " outputs", num_outputs,
                parts);
  }
  const bool given = c.has(1);
  if (given) {
    PN_TRY(expect_dtype(c, 1, {DType::kI64, DType::kI32}));
    if (c.shape(1).rank > 1 || c.shape(1).elements() != parts) {
      char text[160];
      return fail(Status::kInvalidModel,
                  "Split: input 1 of shape %s must hold one size for each of %" PRId64 " outputs",
                  format_shape(c.shape(1), text, sizeof(text)), parts);
    }
    PN_TRY(need_value(c, 1));
  }
  const int64_t even = ceil_div(rows, parts);
  int64_t left = rows;
  for (int o = 0; o < c.n_out; ++o) {
    const int64_t part =
        given ? int_at(c.dtype(1), c.value(1), o) : (o + 1 < c.n_out ? even : left);
    if (part < 0 || part > left) {
      return fail(Status::kInvalidModel,
                  "Split: output %d takes %" PRId64 " rows where %" PRId64 " of %" PRId64
                  " are left",
                  o, part, left, rows);
    }
    left -= part;
    Shape y = x;
    y[axis] = part;
    c.set(o, c.dtype(0), y);
  }
  if (left != 0) {
    return fail(Status::kInvalidModel, "Split: the sizes sum to %" PRId64 ", axis %d has %" PRId64,
                rows - left, axis, rows);
  }
  return Status::kOk;
}

Status run_split(RunContext& c) {
  const Tensor& x = *c.in[0];
  int axis = 0;
  PN_TRY(normalize_axis("Split", c.attrs.i64("axis", 0), x.rank(), &axis));
  const size_t size = dtype_size(x.desc.dtype);
  const int64_t outer = x.shape().product(0, axis), whole = x.shape().product(axis, x.rank());
  const int64_t inner = x.shape().product(axis + 1, x.rank());
  const int64_t even = ceil_div(x.dim(axis), c.n_out);
  int64_t row = 0;
  for (int o = 0; o < c.n_out; ++o) {
    // An output that nobody reads has no desc: its rows come from the sizes again.
    int64_t rows = c.has(1) ? int_at(*c.in[1], o) : even;
    if (c.out[o] != nullptr) rows = c.out[o]->dim(axis);
    if (rows < 0 || rows > x.dim(axis) - row) {
      return fail(Status::kInvalidModel,
                  "Split: output %d takes %" PRId64 " rows where %" PRId64 " are left", o, rows,
                  x.dim(axis) - row);
    }
    if (c.out[o] != nullptr) {
      const uint8_t* from = x.as<uint8_t>() + row * inner * static_cast<int64_t>(size);
      copy_slab(*c.pool, outer, rows * inner, whole, rows * inner, size, from, c.out[o]->data);
    }
    row += rows;
  }
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_concat[] = {
    {"Concat", 1, -1, 1, 1, 0, infer_concat, run_concat, nullptr},
    {"Split", 1, 2, 1, -1, 0, infer_split, run_split, nullptr},
};
extern const int pn_ops_concat_count = sizeof(pn_ops_concat) / sizeof(OpDef);

}  // namespace pyneo
