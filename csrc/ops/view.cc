// SPDX-License-Identifier: Apache-2.0
//
// Operators whose output has the input's bytes under another shape. The compiler turns them into
// views where it can; these kernels copy.
#include <cinttypes>
#include <cstring>

#include "ops/op.h"

namespace pyneo {
namespace {

Status run_copy(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  if (x.data != y.data) memmove(y.data, x.data, static_cast<size_t>(x.desc.bytes()));
  return Status::kOk;
}

Status infer_identity(InferContext& c) {
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

// Reshape (ONNX 5..25): 0 copies the input's dim unless allowzero, one -1 takes what is left.
Status infer_reshape(InferContext& c) {
  int64_t want[kMaxRank];
  int n = 0;
  PN_TRY(read_ints(c, 1, want, kMaxRank, &n));
  const bool allow_zero = c.attrs.i64("allowzero", 0) != 0;
  const Shape& x = c.shape(0);
  Shape y;
  y.rank = n;
  int wild = -1;
  int64_t known = 1;
  for (int i = 0; i < n; ++i) {
    int64_t d = want[i];
    if (d == 0 && !allow_zero) {
      if (i >= x.rank) return fail(Status::kInvalidModel, "Reshape: dim %d copies a dim the input of rank %d lacks", i, x.rank);
      d = x[i];
    }
    if (d == -1) {
      if (wild >= 0) return fail(Status::kInvalidModel, "Reshape: more than one dim is -1");
      wild = i;
      continue;
    }
    if (d < 0) return fail(Status::kInvalidModel, "Reshape: dim %d is %" PRId64, i, d);
    y[i] = d;
    if (!checked_mul(known, d, &known)) return fail(Status::kInvalidModel, "Reshape: the target shape overflows");
  }
  const int64_t total = x.elements();
  if (wild >= 0) {
    if (known == 0 ? total != 0 : total % known != 0) {
      return fail(Status::kInvalidModel, "Reshape: %" PRId64 " elements do not divide by %" PRId64, total, known);
    }
    y[wild] = known == 0 ? 0 : total / known;
  } else if (known != total) {
    char a[160], b[160];
    return fail(Status::kInvalidModel, "Reshape: %s cannot take the shape %s", format_shape(x, a, sizeof(a)),
                format_shape(y, b, sizeof(b)));
  }
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status infer_flatten(InferContext& c) {
  const Shape& x = c.shape(0);
  const int64_t axis = c.attrs.i64("axis", 1);
  if (axis < -x.rank || axis > x.rank) {
    return fail(Status::kInvalidModel, "Flatten: axis %" PRId64 " is outside [%d, %d]", axis, -x.rank, x.rank);
  }
  const int at = static_cast<int>(axis < 0 ? axis + x.rank : axis);
  Shape y;
  y.rank = 2;
  y[0] = x.product(0, at);
  y[1] = x.product(at, x.rank);
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

// Squeeze and Unsqueeze take axes as input 1 (opset 13 form; the frontend turns older ones into it).
Status infer_squeeze(InferContext& c) {
  const Shape& x = c.shape(0);
  bool drop[kMaxRank] = {};
  if (c.has(1)) {
    int64_t axes[kMaxRank];
    int n = 0;
    PN_TRY(read_ints(c, 1, axes, kMaxRank, &n));
    for (int i = 0; i < n; ++i) {
      int a = 0;
      PN_TRY(normalize_axis("Squeeze", axes[i], x.rank, &a));
      if (x[a] != 1) return fail(Status::kInvalidModel, "Squeeze: dim %d is %" PRId64 ", not 1", a, x[a]);
      drop[a] = true;
    }
  } else {
    for (int i = 0; i < x.rank; ++i) drop[i] = x[i] == 1;
  }
  Shape y;
  for (int i = 0; i < x.rank; ++i) {
    if (!drop[i]) y.dims[y.rank++] = x[i];
  }
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status infer_unsqueeze(InferContext& c) {
  const Shape& x = c.shape(0);
  int64_t axes[kMaxRank];
  int n = 0;
  PN_TRY(read_ints(c, 1, axes, kMaxRank, &n));
  Shape y;
  y.rank = x.rank + n;
  if (y.rank > kMaxRank) return fail(Status::kUnsupported, "Unsqueeze: rank %d, at most %d is supported", y.rank, kMaxRank);
  bool one[kMaxRank] = {};
  for (int i = 0; i < n; ++i) {
    int a = 0;
    PN_TRY(normalize_axis("Unsqueeze", axes[i], y.rank, &a));
    if (one[a]) return fail(Status::kInvalidModel, "Unsqueeze: axis %d is named twice", a);
    one[a] = true;
  }
  for (int i = 0, k = 0; i < y.rank; ++i) y[i] = one[i] ? 1 : x[k++];
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_view[] = {
    {"Identity", 1, 1, 1, 1, kOpView | kOpInPlace0, infer_identity, run_copy, nullptr},
    {"Reshape", 2, 2, 1, 1, kOpView | kOpInPlace0, infer_reshape, run_copy, nullptr},
    {"Flatten", 1, 1, 1, 1, kOpView | kOpInPlace0, infer_flatten, run_copy, nullptr},
    {"Squeeze", 1, 2, 1, 1, kOpView | kOpInPlace0, infer_squeeze, run_copy, nullptr},
    {"Unsqueeze", 2, 2, 1, 1, kOpView | kOpInPlace0, infer_unsqueeze, run_copy, nullptr},
};
extern const int pn_ops_view_count = sizeof(pn_ops_view) / sizeof(OpDef);

}  // namespace pyneo
