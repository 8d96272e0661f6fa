// SPDX-License-Identifier: Apache-2.0
//
// PairwiseProbability: class probabilities from the outcomes of duels between classes, as support
// vector machines with more than two classes need them. (samples, classes (classes - 1) / 2) of
// shares, the pairs in the order (0, 1), (0, 2), ..., (1, 2), ...; each is the first one's share.
//
// T.-F. Wu, C.-J. Lin, R. C. Weng, "Probability Estimates for Multi-class Classification by
// Pairwise Coupling", JMLR 5, 2004: the second method, its algorithm 2. The number of rounds and
// the tolerance are those of libsvm and ONNX Runtime, whose results are what is left then.
#include <cinttypes>
#include <cmath>

#include "ops/narrow.h"
#include "ops/op.h"

namespace pyneo {
namespace {

constexpr int64_t kMaxClasses = 1 << 12;  // so that a matrix of them is small

Status infer_pairwise(InferContext& c) {
  const int64_t n = c.attrs.i64("classes", 0);
  const Shape& x = c.shape(0);
  char s[160];
  PN_TRY(expect_dtype(c, 0, {DType::kF32}));
  if (n < 2 || n > kMaxClasses || x.rank != 2 || x[1] != n * (n - 1) / 2) {
    return fail(Status::kInvalidModel,
                "PairwiseProbability: the input has shape %s, expected (samples, pairs) of %" PRId64
                " classes (2 to %" PRId64 ")",
                format_shape(x, s, sizeof(s)), n, kMaxClasses);
  }
  Shape y = x;
  y[1] = n;
  c.set(0, DType::kF32, y);
  return Status::kOk;
}

int64_t scratch_pairwise(const InferContext& c) {
  const int64_t n = c.attrs.i64("classes", 0);
  ScratchSize size;
  size.add(n * (n + 2), 8);
  return size.bytes();
}

// Minimises p' q p over p that sum to one, one entry of p after another. qp: n entries of space.
void solve(const double* q, int64_t n, double* p, double* qp) {
  const double tolerance = 0.005 / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) p[i] = 1 / static_cast<double>(n);
  const int64_t rounds = n > 100 ? n : 100;
  for (int64_t round = 0; round < rounds; ++round) {
    double pqp = 0, error = 0;
    for (int64_t i = 0; i < n; ++i) {
      qp[i] = 0;
      for (int64_t j = 0; j < n; ++j) qp[i] += q[i * n + j] * p[j];
      pqp += p[i] * qp[i];
    }
    for (int64_t i = 0; i < n; ++i) {
      if (fabs(qp[i] - pqp) > error) error = fabs(qp[i] - pqp);
    }
    if (error < tolerance) return;
    for (int64_t i = 0; i < n; ++i) {
      // One step in entry i, and p scaled back to a sum of one.
      const double own = q[i * n + i], step = (pqp - qp[i]) / own, scale = 1 / (1 + step);
      pqp = (pqp + step * (step * own + 2 * qp[i])) * scale * scale;
      p[i] += step;
      for (int64_t j = 0; j < n; ++j) {
        qp[j] = (qp[j] + step * q[i * n + j]) * scale;
        p[j] *= scale;
      }
    }
  }
}

Status run_pairwise(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t n = y.dim(1), pairs = x.dim(1);
  Scratch scratch(c);
  double* q = scratch.take<double>(n * (n + 2));
  double *p = q + n * n, *qp = p + n;
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const float* share = x.as<const float>() + row * pairs;
    for (int64_t i = 0; i < n; ++i) q[i * n + i] = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i + 1; j < n; ++j) {
        const double first = *share++, second = 1 - first;
        q[i * n + i] += second * second;
        q[j * n + j] += first * first;
        q[i * n + j] = q[j * n + i] = -first * second;
      }
    }
    solve(q, n, p, qp);
    for (int64_t i = 0; i < n; ++i) y.as<float>()[row * n + i] = static_cast<float>(p[i]);
  }
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_pairwise[] = {
    {"PairwiseProbability", 1, 1, 1, 1, 0, infer_pairwise, run_pairwise, scratch_pairwise},
};
extern const int pn_ops_pairwise_count = sizeof(pn_ops_pairwise) / sizeof(OpDef);

}  // namespace pyneo
