// SPDX-License-Identifier: Apache-2.0
#include "kernels/sample.h"

namespace pyneo {
namespace {

bool fill(const KernelQuery& q, SamplePlan* s) {
  const TensorDesc &x = *q.in[0], &grid = *q.in[1], &y = *q.out[0];
  for (const TensorDesc* t : {&x, &grid, &y}) {
    if (t->dtype != DType::kF32 || t->layout != Layout::kPlain || t->shape.rank != 4 || t->elements() == 0) return false;
  }
  const Str mode = q.attrs.str("mode", "linear"), padding = q.attrs.str("padding_mode", "zeros");
  if ((mode != "linear" && mode != "bilinear") || (padding != "zeros" && padding != "border")) return false;
  *s = {x.shape[0], x.shape[1], y.shape.product(2, 4), x.shape[2], x.shape[3], padding == "border",
        q.attrs.i64("align_corners", 0) != 0};
  return s->height * s->width < INT32_MAX / 2;
}

}  // namespace

bool sample_accepts(const KernelQuery& q) {
  SamplePlan s;
  return fill(q, &s);
}
float sample_cost(const KernelQuery& q) { return static_cast<float>(q.out[0]->bytes()) * 6e-4f + 0.3f; }
Status sample_prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<SamplePlan*>(state))) return Status::kOk;
  return fail(Status::kInternal, "GridSample was prepared for operands it does not accept");
}

}  // namespace pyneo
