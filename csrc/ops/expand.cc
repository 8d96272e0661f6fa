// SPDX-License-Identifier: Apache-2.0
//
// Operators that repeat elements: Expand (broadcast), Tile, ConstantOfShape.
#include <cinttypes>

#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

Status read_shape(const InferContext& c, int i, Shape* s) {
  PN_TRY(read_ints(c, i, s->dims, kMaxRank, &s->rank));
  for (int k = 0; k < s->rank; ++k) {
    if ((*s)[k] < 0)
      return fail(Status::kInvalidModel, "%s: dim %d of the shape is %" PRId64, c.op, k, (*s)[k]);
  }
  return Status::kOk;
}

Status plan_expand(const InferContext& c, Shape* y) {
  Shape want;
  PN_TRY(read_shape(c, 1, &want));
  return broadcast_shapes("Expand", c.shape(0), want, y);
}

Status infer_expand(InferContext& c) {
  Shape y;
  PN_TRY(plan_expand(c, &y));
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_expand(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const AsInfer again(c);
  Shape shape;
  PN_TRY(plan_expand(again.context(), &shape));
  PN_TRY(expect_shape(c, 0, shape));
  int64_t from[kMaxRank], to[kMaxRank];
  dense_steps(x.shape(), from);
  dense_steps(shape, to);
  StridedCopy copy;
  for (int i = 0, k = x.rank() - shape.rank; i < shape.rank; ++i, ++k) {
    copy.add(shape[i], k < 0 || x.dim(k) == 1 ? 0 : from[k], to[i]);
  }
  copy.run(*c.pool, dtype_size(x.desc.dtype), x.data, y.data);
  return Status::kOk;
}

Status plan_tile(const InferContext& c, Shape* y) {
  const Shape& x = c.shape(0);
  Shape repeats;
  PN_TRY(read_shape(c, 1, &repeats));
  if (repeats.rank != x.rank) {
    return fail(Status::kInvalidModel, "Tile: %d repeats for a tensor of rank %d", repeats.rank,
                x.rank);
  }
  *y = x;
  for (int i = 0; i < x.rank; ++i) {
    if (!checked_mul(x[i], repeats[i], &(*y)[i])) {
      return fail(Status::kInvalidModel, "Tile: axis %d of %" PRId64 " times %" PRId64 " overflows",
                  i, x[i], repeats[i]);
    }
  }
  return Status::kOk;
}

Status infer_tile(InferContext& c) {
  Shape y;
  PN_TRY(plan_tile(c, &y));
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_tile(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const AsInfer again(c);
  Shape shape;
  PN_TRY(plan_tile(again.context(), &shape));
  PN_TRY(expect_shape(c, 0, shape));
  if (y.desc.elements() == 0) return Status::kOk;
  int64_t from[kMaxRank], to[kMaxRank];
  dense_steps(x.shape(), from);
  dense_steps(shape, to);
  StridedCopy copy;
  for (int i = 0; i < x.rank(); ++i) {
    copy.add(shape[i] / x.dim(i), 0, x.dim(i) * to[i]);
    copy.add(x.dim(i), from[i], to[i]);
  }
  copy.run(*c.pool, dtype_size(x.desc.dtype), x.data, y.data);
  return Status::kOk;
}

// The value attribute comes as optional input 1, one element; float32 zero without it.
Status infer_constant_of_shape(InferContext& c) {
  Shape y;
  PN_TRY(read_shape(c, 0, &y));
  if (c.has(1) && c.shape(1).elements() != 1) {
    char text[160];
    return fail(Status::kInvalidModel,
                "ConstantOfShape: the value must be one element, found shape %s",
                format_shape(c.shape(1), text, sizeof(text)));
  }
  c.set(0, c.has(1) ? c.dtype(1) : DType::kF32, y);
  return Status::kOk;
}

Status run_constant_of_shape(RunContext& c) {
  Tensor& y = *c.out[0];
  const size_t size = dtype_size(y.desc.dtype);
  const uint64_t zero = 0;
  const void* value = c.has(1) ? c.in[1]->data : &zero;
  split_range(*c.pool, y.desc.elements(), y.desc.bytes(), [&](int64_t from, int64_t to) {
    fill_elements(y.as<uint8_t>() + from * static_cast<int64_t>(size), size, value, to - from);
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_expand[] = {
    {"Expand", 2, 2, 1, 1, 0, infer_expand, run_expand, nullptr},
    {"Tile", 2, 2, 1, 1, 0, infer_tile, run_tile, nullptr},
    {"ConstantOfShape", 1, 2, 1, 1, 0, infer_constant_of_shape, run_constant_of_shape, nullptr},
};
extern const int pn_ops_expand_count = sizeof(pn_ops_expand) / sizeof(OpDef);

}  // namespace pyneo
