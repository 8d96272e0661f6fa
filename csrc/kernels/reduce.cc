// SPDX-License-Identifier: Apache-2.0
#include "kernels/reduce.h"

#include <cstring>

namespace pyneo {
namespace {

enum class Axes : uint8_t { kOperand, kPixels, kOne };  // input 1; all but batch and channel; attribute `axis`

struct Form {
  const char* op;
  Axes axes;
  Fold kind;
};
constexpr Form kForms[] = {
    {"GlobalAveragePool", Axes::kPixels, Fold::kMean}, {"GlobalMaxPool", Axes::kPixels, Fold::kMax},
    {"ReduceMean", Axes::kOperand, Fold::kMean},       {"ReduceSum", Axes::kOperand, Fold::kSum},
    {"ReduceMax", Axes::kOperand, Fold::kMax},         {"ReduceMin", Axes::kOperand, Fold::kMin},
    {"ReduceSumSquare", Axes::kOperand, Fold::kSquares}, {"ReduceL2", Axes::kOperand, Fold::kNorm},
    {"ArgMax", Axes::kOne, Fold::kMax},                {"ArgMin", Axes::kOne, Fold::kMin},
};

// Marks the axes to reduce; false where they are not known.
bool read_axes(const KernelQuery& q, Axes axes, bool* reduced) {
  const Shape& x = q.in[0]->shape;
  for (int i = 0; i < x.rank; ++i) reduced[i] = axes == Axes::kPixels && i >= 2;
  if (axes == Axes::kPixels) return true;
  if (axes == Axes::kOne) {  // the last of equals is left to the reference
    const int64_t a = q.attrs.i64("axis", 0);
    if (a < -x.rank || a >= x.rank || q.attrs.i64("select_last_index", 0) != 0) return false;
    reduced[a < 0 ? a + x.rank : a] = true;
    return q.in[0]->layout == Layout::kPlain && x[static_cast<int>(a < 0 ? a + x.rank : a)] <= INT32_MAX;
  }
  int64_t n = 0;
  if (q.has(1)) {
    if (!q.values || !q.values[1] || q.in[1]->dtype != DType::kI64) return false;
    n = q.in[1]->elements();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t a = static_cast<const int64_t*>(q.values[1])[i];
      if (a < -x.rank || a >= x.rank) return false;
      reduced[a < 0 ? a + x.rank : a] = true;
    }
  }
  if (n == 0) {
    if (q.attrs.i64("noop_with_empty_axes", 0) != 0) return false;
    for (int i = 0; i < x.rank; ++i) reduced[i] = true;
  }
  return true;
}

bool fill(const KernelQuery& q, Reduction* s) {
  const Form* form = kForms;
  while (strcmp(form->op, q.op()) != 0) ++form;  // the kernels' rows name these operators only
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  bool reduced[kMaxRank];
  if (x.dtype != DType::kF32 || x.shape.rank < 1 || !read_axes(q, form->axes, reduced)) return false;
  int first = 0, end = x.shape.rank;
  while (first < end && !reduced[first]) ++first;
  while (end > first && !reduced[end - 1]) --end;
  for (int i = first; i < end; ++i) {
    if (!reduced[i] && x.shape[i] != 1) return false;
  }
  const int vec = q.vec();
  s->kind = form->kind;
  s->channels = 0;
  if (x.layout == Layout::kPlain) {
    s->outer = x.shape.product(0, first);
    s->length = x.shape.product(first, end);
    s->inner = x.shape.product(end, x.shape.rank);
    return s->length > 0 && y.layout == Layout::kPlain;
  }
  // Blocked: all pixels, no channel; the output is [N, C, 1...] or, plain, [N, C].
  if (x.layout != q.blocked() || x.shape.rank < 3 || first < 2 || x.shape.product(2, x.shape.rank) != x.shape.product(first, end)) {
    return false;
  }
  s->outer = x.shape[0] * ceil_div(x.shape[1], vec);
  s->length = x.shape.product(2, x.shape.rank);
  s->inner = vec;
  if (y.layout == Layout::kPlain) s->channels = x.shape[1];
  return s->length > 0 && (y.layout == Layout::kPlain || (y.layout == q.blocked() && y.shape.rank == x.shape.rank));
}

}  // namespace

bool reduce_accepts(const KernelQuery& q) {
  Reduction s;
  return fill(q, &s);
}
Status reduce_prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<Reduction*>(state))) return Status::kOk;
  return fail(Status::kInternal, "a reduction was prepared for operands it does not accept");
}
float reduce_cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes()) * 2e-5f + 0.2f; }

}  // namespace pyneo
