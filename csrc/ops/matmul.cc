// SPDX-License-Identifier: Apache-2.0
#include "ops/matmul.h"

#include "ops/op.h"

namespace pyneo {

Status read_matmul(const char* op, const Shape& a, const Shape& b, MatMulGeometry* g) {
  *g = MatMulGeometry{};
  char ta[160], tb[160];
  const int64_t inner_b = b.rank == 1 ? b[0] : b.rank > 1 ? b[b.rank - 2] : 0;
  if (a.rank < 1 || b.rank < 1 || a[a.rank - 1] != inner_b) {
    return fail(Status::kInvalidModel,
                "%s: %s x %s: the last dim of the left must be the last but one of the right", op,
                format_shape(a, ta, sizeof(ta)), format_shape(b, tb, sizeof(tb)));
  }
  g->k = inner_b;
  if (a.rank > 1) g->m = a[a.rank - 2];
  if (b.rank > 1) g->n = b[b.rank - 1];
  Shape batch_a, batch_b, batch;
  batch_a.rank = a.rank > 2 ? a.rank - 2 : 0;
  batch_b.rank = b.rank > 2 ? b.rank - 2 : 0;
  for (int i = 0; i < batch_a.rank; ++i) batch_a[i] = a[i];
  for (int i = 0; i < batch_b.rank; ++i) batch_b[i] = b[i];
  PN_TRY(broadcast_shapes(op, batch_a, batch_b, &batch));
  g->batch_rank = batch.rank;
  int64_t left = 1, right = 1;
  for (int i = batch.rank - 1; i >= 0; --i) {
    const int ia = i - (batch.rank - batch_a.rank), ib = i - (batch.rank - batch_b.rank);
    g->batch_dims[i] = batch[i];
    if (ia >= 0 && batch_a[ia] != 1) g->left_step[i] = left;
    if (ib >= 0 && batch_b[ib] != 1) g->right_step[i] = right;
    if (ia >= 0) left *= batch_a[ia];
    if (ib >= 0) right *= batch_b[ib];
  }
  g->y = batch;
  if (a.rank > 1) g->y[g->y.rank++] = g->m;
  if (b.rank > 1) g->y[g->y.rank++] = g->n;
  int64_t total;
  if (!checked_elements(batch, 1, &g->batches) || !checked_elements(g->y, 1, &total)) {
    return fail(Status::kInvalidModel, "%s: %s x %s: the product does not fit in memory", op,
                format_shape(a, ta, sizeof(ta)), format_shape(b, tb, sizeof(tb)));
  }
  return Status::kOk;
}

void MatMulGeometry::matrices(int64_t b, int64_t* left, int64_t* right) const {
  *left = *right = 0;
  for (int i = batch_rank - 1; i >= 0; --i) {
    const int64_t at = b % batch_dims[i];
    b /= batch_dims[i];
    *left += at * left_step[i];
    *right += at * right_step[i];
  }
}

}  // namespace pyneo
