// SPDX-License-Identifier: Apache-2.0
#include <cinttypes>

#include "ops/strided.h"

namespace pyneo {
namespace {

// perm[i] = the input axis that becomes output axis i; the default reverses them.
Status read_perm(const Attrs& attrs, int rank, int* perm) {
  const Ints given = attrs.ints("perm");
  if (given.data == nullptr) {
    for (int i = 0; i < rank; ++i) perm[i] = rank - 1 - i;
    return Status::kOk;
  }
  if (given.size != rank) {
    return fail(Status::kInvalidModel,
                "Transpose: perm has %" PRId64 " entries for a tensor of rank %d", given.size,
                rank);
  }
  bool seen[kMaxRank] = {};
  for (int i = 0; i < rank; ++i) {
    PN_TRY(normalize_axis("Transpose", given[i], rank, &perm[i]));
    if (seen[perm[i]])
      return fail(Status::kInvalidModel, "Transpose: perm names axis %d twice", perm[i]);
    seen[perm[i]] = true;
  }
  return Status::kOk;
}

Status infer_transpose(InferContext& c) {
  const Shape& x = c.shape(0);
  int perm[kMaxRank];
  PN_TRY(read_perm(c.attrs, x.rank, perm));
  Shape y;
  y.rank = x.rank;
  for (int i = 0; i < x.rank; ++i) y[i] = x[perm[i]];
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_transpose(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  int perm[kMaxRank];
  PN_TRY(read_perm(c.attrs, x.rank(), perm));
  int64_t from[kMaxRank], to[kMaxRank];
  dense_steps(x.shape(), from);
  dense_steps(y.shape(), to);
  StridedCopy copy;
  for (int i = 0; i < x.rank(); ++i) copy.add(y.dim(i), from[perm[i]], to[i]);
  copy.run(*c.pool, dtype_size(x.desc.dtype), x.data, y.data);
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_transpose[] = {
    {"Transpose", 1, 1, 1, 1, 0, infer_transpose, run_transpose, nullptr},
};
extern const int pn_ops_transpose_count = sizeof(pn_ops_transpose) / sizeof(OpDef);

}  // namespace pyneo
