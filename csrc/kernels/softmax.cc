// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax.h"

namespace pyneo {

bool softmax_accepts(const KernelQuery& q) {
  return q.in[0]->dtype == DType::kF32 && q.in[0]->layout == Layout::kPlain && q.out[0]->layout == Layout::kPlain;
}
float softmax_cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes()) * 2e-4f + 0.1f; }

Status softmax_prepare(const KernelQuery& q, void* state) {
  const Shape& x = q.in[0]->shape;
  int axis = 0;
  if (x.rank > 0) PN_TRY(normalize_axis("Softmax", q.attrs.i64("axis", -1), x.rank, &axis));
  const bool log = *q.op() == 'L';
  const int vec = q.vec();
  SoftmaxPlan& s = *static_cast<SoftmaxPlan*>(state);
  s.outer = x.product(0, axis);
  s.length = x.rank > 0 ? x[axis] : 1;
  s.inner = x.product(axis + 1, x.rank);
  s.log = log;
  if (s.length * s.inner == 0) s = {0, 1, 1, log, false, 0, 0, 0};
  s.rows = s.length;
  s.step = s.inner;
  s.wide = kSoftmaxTileFloats / s.length & -vec;
  s.wide = s.wide < vec ? vec : s.wide > kSoftmaxTileVectors * vec ? kSoftmaxTileVectors * vec : s.wide;
  // Few columns: whole vectors of the rows as they lie, in as many as it takes until columns meet the same lanes again.
  const int64_t period = s.inner / (s.inner & -s.inner) * vec;
  s.few = s.length * (vec - s.inner) >= 8 * period;
  if (s.few) {
    s.rows = ceil_div(s.length * s.inner, period);
    s.step = s.wide = period;
  }
  return Status::kOk;
}

}  // namespace pyneo
