// SPDX-License-Identifier: Apache-2.0
#include <cinttypes>

#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

// Output shape, and where in the input each axis starts and how far it steps.
struct Window {
  Shape shape;
  int64_t start[kMaxRank];
  int64_t step[kMaxRank];
};

Status plan_slice(const InferContext& c, Window* w) {
  const Shape& x = c.shape(0);
  int64_t starts[kMaxRank], ends[kMaxRank], axes[kMaxRank], steps[kMaxRank];
  int n = 0, n_ends = 0, n_axes = 0, n_steps = 0;
  PN_TRY(read_ints(c, 1, starts, kMaxRank, &n));
  PN_TRY(read_ints(c, 2, ends, kMaxRank, &n_ends));
  for (int i = 0; i < kMaxRank; ++i) axes[i] = i, steps[i] = 1;
  n_axes = n_steps = n;
  if (c.has(3)) PN_TRY(read_ints(c, 3, axes, kMaxRank, &n_axes));
  if (c.has(4)) PN_TRY(read_ints(c, 4, steps, kMaxRank, &n_steps));
  if (n_ends != n || n_axes != n || n_steps != n) {
    return fail(Status::kInvalidModel,
                "Slice: %d starts, %d ends, %d axes and %d steps; the counts must agree", n, n_ends,
                n_axes, n_steps);
  }
  int at[kMaxRank];
  PN_TRY(resolve_axes("Slice", axes, n, x.rank, at));
  w->shape = x;
  for (int i = 0; i < x.rank; ++i) w->start[i] = 0, w->step[i] = 1;
  for (int i = 0; i < n; ++i) {
    const int64_t dim = x[at[i]], step = steps[i];
    if (step == 0) return fail(Status::kInvalidModel, "Slice: the step of axis %d is 0", at[i]);
    // Clamped before anything is added, so that INT64_MIN and INT64_MAX mean "to the end".
    auto clamp = [dim](int64_t v, int64_t low, int64_t high) {
      v = v < -dim ? low : v < 0 ? v + dim : v;
      return v < low ? low : v > high ? high : v;
    };
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? dim : dim - 1;
    const int64_t start =
        step > 0 ? clamp(starts[i], 0, dim) : clamp(starts[i], dim > 0 ? 0 : -1, high);
    const int64_t end = clamp(ends[i], low, high);
    const int64_t span = step > 0 ? end - start : start - end;
    // |step| as unsigned: the magnitude of INT64_MIN does not fit in int64.
    const uint64_t stride =
        step > 0 ? static_cast<uint64_t>(step) : ~static_cast<uint64_t>(step) + 1;
    const int64_t count =
        span <= 0 ? 0 : 1 + static_cast<int64_t>(static_cast<uint64_t>(span - 1) / stride);
    w->shape[at[i]] = count;
    w->start[at[i]] = count > 0 ? start : 0;
    w->step[at[i]] = count > 1 ? step : 1;
  }
  return Status::kOk;
}

Status infer_slice(InferContext& c) {
  Window w;
  PN_TRY(plan_slice(c, &w));
  c.set(0, c.dtype(0), w.shape);
  return Status::kOk;
}

Status run_slice(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const AsInfer again(c);
  Window w;
  PN_TRY(plan_slice(again.context(), &w));
  PN_TRY(expect_shape(c, 0, w.shape));
  int64_t from[kMaxRank], to[kMaxRank];
  dense_steps(x.shape(), from);
  dense_steps(y.shape(), to);
  const int64_t size = static_cast<int64_t>(dtype_size(x.desc.dtype));
  int64_t offset = 0;
  StridedCopy copy;
  for (int i = 0; i < x.rank(); ++i) {
    offset += w.start[i] * from[i];
    copy.add(y.dim(i), w.step[i] * from[i], to[i]);
  }
  if (y.desc.elements() > 0)
    copy.run(*c.pool, static_cast<size_t>(size), x.as<uint8_t>() + offset * size, y.data);
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_slice[] = {
    {"Slice", 3, 5, 1, 1, 0, infer_slice, run_slice, nullptr},
};
extern const int pn_ops_slice_count = sizeof(pn_ops_slice) / sizeof(OpDef);

}  // namespace pyneo
