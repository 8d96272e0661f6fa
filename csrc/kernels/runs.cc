// SPDX-License-Identifier: Apache-2.0
#include "kernels/runs.h"

namespace pyneo {
namespace {

struct Operands {
  const TensorDesc* whole;
  const TensorDesc* const* parts;
  int count;
};
Operands whole_and_parts(const KernelQuery& q) {
  if (*q.op() == 'C') return {q.out[0], q.in, q.n_in};  // Concat
  return {q.in[0], q.out, q.n_out};
}

float move_cost(const TensorDesc* const* parts, int count, float fixed) {
  int64_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i] ? parts[i]->bytes() : 0;
  return static_cast<float>(bytes) * 8e-5f + fixed;
}

// The whole tensor and its parts along `axis`, all in one layout.
bool fill_runs(const KernelQuery& q, Runs* r) {
  const auto [whole, parts, count] = whole_and_parts(q);
  const Shape& s = whole->shape;
  int64_t axis = q.attrs.i64("axis", 0);
  if (axis < 0) axis += s.rank;
  if (axis < 0 || axis >= s.rank || count < 1) return false;
  const int a = static_cast<int>(axis);
  for (int i = 0; i < count; ++i) {
    if (parts[i] == nullptr || parts[i]->layout != whole->layout || parts[i]->dtype != whole->dtype) return false;
  }
  const int64_t size = static_cast<int64_t>(dtype_size(whole->dtype));
  const int vec = q.vec();
  r->axis = a;
  r->divide = 1;
  if (whole->layout == Layout::kPlain) {
    r->outer = s.product(0, a);
    r->unit = s.product(a + 1, s.rank) * size;
    return true;
  }
  if (whole->layout != q.blocked() || whole->dtype != DType::kF32 || s.rank < 3) return false;
  if (a == 1) {
    for (int i = 0; i + 1 < count; ++i) {  // the last part's padding is the whole's
      if (parts[i]->shape[1] % vec != 0) return false;
    }
    r->outer = s[0];
    r->unit = s.product(2, s.rank) * vec * size;
    r->divide = vec;
    return true;
  }
  const int64_t blocks = ceil_div(s[1], vec);
  r->outer = a == 0 ? 1 : s[0] * blocks * s.product(2, a);
  r->unit = (a == 0 ? blocks * s.product(2, s.rank) : s.product(a + 1, s.rank)) * vec * size;
  return true;
}

bool fill_lanes(const KernelQuery& q, Lanes* s) {
  const auto [whole, parts, count] = whole_and_parts(q);
  const Shape& shape = whole->shape;
  const int64_t axis = q.attrs.i64("axis", 0);
  if (count < 1 || shape.rank < 3 || (axis != 1 && axis != 1 - shape.rank)) return false;
  if (whole->dtype != DType::kF32 || whole->layout != q.blocked()) return false;
  for (int i = 0; i < count; ++i) {
    if (parts[i] == nullptr || parts[i]->layout != q.blocked()) return false;
  }
  *s = {shape[0], shape.product(2, shape.rank)};
  return true;
}
}  // namespace

bool runs_accepts(const KernelQuery& q) {
  Runs r;
  return fill_runs(q, &r);
}
float runs_cost(const KernelQuery& q) { return move_cost(q.in, q.n_in, 0.1f); }
Status runs_prepare(const KernelQuery& q, void* state) {
  if (fill_runs(q, static_cast<Runs*>(state))) return Status::kOk;
  return fail(Status::kInternal, "%s was prepared for operands it does not accept", q.op());
}

bool lanes_accepts(const KernelQuery& q) {
  Lanes s;
  return fill_lanes(q, &s);
}
float lanes_cost(const KernelQuery& q) { return move_cost(q.out, q.n_out, 0.2f); }
Status lanes_prepare(const KernelQuery& q, void* state) {
  if (fill_lanes(q, static_cast<Lanes*>(state))) return Status::kOk;
  return fail(Status::kInternal, "%s of lanes was prepared for operands it does not accept", q.op());
}

}  // namespace pyneo
