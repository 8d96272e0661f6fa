// SPDX-License-Identifier: Apache-2.0
//
// Products with a constant right operand, MatMul and Gemm, as the kernels that pack it share them: float32, row-major.
#pragma once

#include "kernels/gemm/tile.h"
#include "kernels/kernel.h"
#include "ops/matmul.h"

namespace pyneo {
namespace PN_TIER {

struct Product {
  int64_t m, n, k;
  bool one_bias;         // the same bias for every column
  float bias_scale;
  Epilogue epilogue;

  double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n * k); }
};

// Shapes of an accepted query, without what is not packed.
PN_COLD static inline bool read_product_shape(const KernelQuery& q, bool gemm, Product* s) {
  const Shape &a = q.in[0]->shape, &b = q.in[1]->shape;
  const bool transposed = gemm && q.attrs.i64("transB", 0) != 0;
  if (b.rank != 2 || a.rank < 1) return false;
  s->k = b[transposed ? 1 : 0];
  s->n = b[transposed ? 0 : 1];
  s->m = a.product(0, a.rank - 1);
  return a[a.rank - 1] == s->k;
}

PN_COLD static inline void read_product(const KernelQuery& q, bool gemm, Product* s) {
  read_product_shape(q, gemm, s);
  s->epilogue.read(q.attrs, gemm ? "Gemm" : "MatMul");
  s->bias_scale = gemm ? q.attrs.f32("beta", 1) : 1;
  s->one_bias = q.has(2) && q.in[2]->shape.elements() == 1;
}

PN_COLD static inline bool accepts_product(const KernelQuery& q, bool gemm) {
  const auto plain = [](const TensorDesc* t) { return t->dtype == DType::kF32 && t->layout == Layout::kPlain; };
  for (int i = 0; i < q.n_in; ++i) {
    if (q.has(i) && (i == 1 ? q.in[1]->dtype != DType::kF32 : !plain(q.in[i]))) return false;
  }
  Product s;
  if (!plain(q.out[0]) || !read_product_shape(q, gemm, &s) || s.m <= 0 || s.n <= 0 || s.k <= 0) return false;
  if (!gemm) return true;
  if (q.attrs.i64("transA", 0) != 0) return false;
  if (!q.has(2)) return true;
  const Shape& c = q.in[2]->shape;  // one row, or one number
  return c.rank < 2 || c[0] == 1;
}

// B as its element (k, column) = factor * b[k * row + column * col]; Gemm's alpha goes into it.
struct ConstantB {
  const float* b;
  int64_t row, col;
  float factor;
  float at(int64_t k, int64_t column) const { return factor * b[k * row + column * col]; }
};
PN_COLD static inline ConstantB constant_b(const KernelQuery& q, bool gemm, const Product& s, const void* plain) {
  const bool transposed = gemm && q.attrs.i64("transB", 0) != 0;
  return {static_cast<const float*>(plain), transposed ? 1 : s.n, transposed ? s.k : 1, gemm ? q.attrs.f32("alpha", 1) : 1};
}

}  // namespace PN_TIER
}  // namespace pyneo
