// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.h"

#include <cstring>

namespace pyneo {
namespace {

constexpr NormForm kForms[] = {
    {"LayerNormalization", true, 1e-5f, -1, -1, 1, 2, -1},
    {"RMSNormalization", false, 1e-5f, -1, -1, 1, -1, -1},
    {"SimplifiedLayerNormalization", false, 1e-5f, -1, -1, 1, -1, -1},
    {"com.microsoft.SkipLayerNormalization", true, 1e-12f, 1, 4, 2, 3, 3},
    {"com.microsoft.SkipSimplifiedLayerNormalization", false, 1e-12f, 1, 3, 2, -1, 3},
};

bool plain_f32(const TensorDesc* t) { return t->dtype == DType::kF32 && t->layout == Layout::kPlain; }

bool fill_rows(const KernelQuery& q, NormRows* s) {
  const NormForm* form = kForms;
  while (strcmp(form->op, q.op()) != 0) ++form;  // the kernels' rows name these operators only
  const NormForm& f = *form;
  const Shape& x = q.in[0]->shape;
  for (int i = 0; i < q.n_in; ++i) {
    if (q.has(i) && !plain_f32(q.in[i])) return false;
  }
  for (int o = 0; o < q.n_out; ++o) {
    if (q.out[o] && (o == 0 || o == f.sum) ? !plain_f32(q.out[o]) : q.out[o] && q.out[o]->dtype != DType::kNone) return false;
  }
  int64_t axis = q.attrs.i64("axis", -1);
  if (axis < 0) axis += x.rank;
  if (axis < 0 || axis >= x.rank) return false;
  *s = {x.product(0, static_cast<int>(axis)), x.product(static_cast<int>(axis), x.rank), q.attrs.f32("epsilon", f.epsilon), form};
  // Parameters are whole rows: the shape of the normalised axes.
  for (int i : {f.scale, f.bias, f.extra}) {
    if (i < 0 || !q.has(i)) continue;
    const Shape& p = q.in[i]->shape;
    if (p.elements() != s->width || p.rank > x.rank) return false;
  }
  return f.skip < 0 || (q.has(f.skip) && q.in[f.skip]->shape == x);
}

bool fill_planes(const KernelQuery& q, NormPlanes* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  const Shape& n = x.shape;
  if (x.dtype != DType::kF32 || n.rank < 2 || x.layout != y.layout || q.n_out != 1) return false;
  const bool blocked = x.layout == q.blocked() && n.rank >= 3;
  if (x.layout != Layout::kPlain && !blocked) return false;
  for (int i = 1; i < q.n_in; ++i) {
    if (!q.has(i) || !plain_f32(q.in[i])) return false;
  }
  const char first = *q.op();  // Batch-, Instance- or GroupNormalization
  const NormBy by = first == 'B' ? NormBy::kBatch : first == 'I' ? NormBy::kInstance : NormBy::kGroup;
  if (by == NormBy::kBatch && q.attrs.i64("training_mode", 0) != 0) return false;
  *s = {n[0], n[1], n.product(2, n.rank), by == NormBy::kGroup ? q.attrs.i64("num_groups", 0) : n[1],
        q.attrs.f32("epsilon", 1e-5f), by, blocked};
  return s->groups > 0 && s->plane > 0 && s->channels % s->groups == 0;
}

}  // namespace

bool norm_rows_accepts(const KernelQuery& q) {
  NormRows s;
  return fill_rows(q, &s);
}
Status norm_rows_prepare(const KernelQuery& q, void* state) {
  if (fill_rows(q, static_cast<NormRows*>(state))) return Status::kOk;
  return fail(Status::kInternal, "%s was prepared for operands it does not accept", q.op());
}

bool norm_planes_accepts(const KernelQuery& q) {
  NormPlanes s;
  return fill_planes(q, &s);
}
int64_t norm_planes_scratch_bytes(const KernelQuery& q) {
  return q.in[0]->layout == Layout::kPlain ? 0 : q.in[0]->shape[0] * round_up(q.in[0]->shape[1], q.vec()) * 2 * static_cast<int64_t>(sizeof(float));
}

Status norm_planes_prepare(const KernelQuery& q, void* state) {
  if (fill_planes(q, static_cast<NormPlanes*>(state))) return Status::kOk;
  return fail(Status::kInternal, "%s was prepared for operands it does not accept", q.op());
}

float norm_cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes()) * 1e-4f + 0.1f; }

}  // namespace pyneo
