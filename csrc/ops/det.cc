// SPDX-License-Identifier: Apache-2.0
//
// Det: determinants of square matrices, in f64.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/narrow.h"

namespace pyneo {
namespace {

constexpr int64_t kWorkers = 8;  // matrices are dealt to this many, each with scratch

Status infer_det(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  Shape y = c.shape(0);
  char s[160];
  if (y.rank < 2 || y[y.rank - 1] != y[y.rank - 2]) {
    return fail(Status::kInvalidModel, "Det: the input has shape %s, expected square matrices",
                format_shape(y, s, sizeof(s)));
  }
  y.rank -= 2;
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

int64_t scratch_det(const InferContext& c) {
  const Shape& x = c.shape(0);
  ScratchSize size;
  int64_t one = 0;
  if (!checked_mul(x[x.rank - 1] * kWorkers, x[x.rank - 1], &one)) one = INT64_MAX;
  size.add(one, 8);
  return size.bytes();
}

// Product of the pivots of an LU decomposition with row exchange. Overwrites a.
double determinant(double* a, int64_t n) {
  double det = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i) {
      if (fabs(a[i * n + k]) > fabs(a[pivot * n + k])) pivot = i;
    }
    const double p = a[pivot * n + k];
    if (p == 0) return 0;
    det *= pivot == k ? p : -p;
    for (int64_t j = k; j < n && pivot != k; ++j) {
      const double swap = a[k * n + j];
      a[k * n + j] = a[pivot * n + j];
      a[pivot * n + j] = swap;
    }
    for (int64_t i = k + 1; i < n; ++i) {
      const double factor = a[i * n + k] / p;
      for (int64_t j = k + 1; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
    }
  }
  return det;
}

Status run_det(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t n = x.dim(x.rank() - 1), count = y.desc.elements();
  const DType t = x.desc.dtype;
  Scratch scratch(c);
  double* space = scratch.take<double>(kWorkers * n * n);
  c.pool->run(count < kWorkers ? count : kWorkers, [&](int64_t worker, int) {
    double* a = space + worker * n * n;
    for (int64_t m = worker; m < count; m += kWorkers) {
      for (int64_t i = 0; i < n * n; ++i) a[i] = load_double(t, x.data, m * n * n + i);
      const double det = determinant(a, n);
      store_block(Cls::kF64, &det, 1, t, y.as<uint8_t>() + static_cast<size_t>(m) * dtype_size(t));
    }
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_det[] = {
    {"Det", 1, 1, 1, 1, 0, infer_det, run_det, scratch_det},
};
extern const int pn_ops_det_count = sizeof(pn_ops_det) / sizeof(OpDef);

}  // namespace pyneo
