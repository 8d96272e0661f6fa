// SPDX-License-Identifier: Apache-2.0
#include "ops/values.h"

#include <cinttypes>

namespace pyneo {

Status bad_index(const char* op, int64_t index, int64_t position, int64_t size) {
  if (size == 0) {
    return fail(Status::kInvalidModel,
                "%s: index %" PRId64 " at position %" PRId64 " addresses an axis of size 0", op,
                index, position);
  }
  return fail(Status::kInvalidModel,
              "%s: index %" PRId64 " at position %" PRId64 " is outside [%" PRId64 ", %" PRId64 "]",
              op, index, position, -size, size - 1);
}

Status read_int_scalar(const InferContext& c, int i, int64_t fallback, int64_t* out) {
  *out = fallback;
  if (!c.has(i)) return Status::kOk;
  PN_TRY(expect_dtype(c, i, {DType::kI64, DType::kI32}));
  if (c.shape(i).elements() != 1) {
    char text[160];
    return fail(Status::kInvalidModel, "%s: input %d must hold one integer, found shape %s", c.op,
                i, format_shape(c.shape(i), text, sizeof(text)));
  }
  PN_TRY(need_value(c, i));
  *out = int_at(c.dtype(i), c.value(i), 0);
  return Status::kOk;
}

Status resolve_axes(const char* op, const int64_t* given, int64_t count, int rank, int* axes) {
  bool seen[kMaxRank] = {};
  for (int64_t k = 0; k < count; ++k) {
    int a = 0;
    PN_TRY(normalize_axis(op, given[k], rank, &a));
    if (seen[a]) return fail(Status::kInvalidModel, "%s: axis %d is named twice", op, a);
    seen[a] = true;
    axes[k] = a;
  }
  return Status::kOk;
}

AsInfer::AsInfer(const RunContext& r) {
  for (int i = 0; i < r.n_in && i < kMaxInputs; ++i) {
    descs_[i] = r.has(i) ? &r.in[i]->desc : nullptr;
    values_[i] = r.has(i) ? r.in[i]->data : nullptr;
  }
  c_.op = r.op;
  c_.attrs = r.attrs;
  c_.n_in = r.n_in < kMaxInputs ? r.n_in : kMaxInputs;
  c_.in = descs_;
  c_.values = values_;
}

Status expect_shape(const RunContext& c, int o, const Shape& s) {
  if (c.out[o]->shape() == s) return Status::kOk;
  char now[160], planned[160];
  return fail(Status::kInvalidModel, "%s: input values give the shape %s, the plan has %s", c.op,
              format_shape(s, now, sizeof(now)),
              format_shape(c.out[o]->shape(), planned, sizeof(planned)));
}

}  // namespace pyneo
