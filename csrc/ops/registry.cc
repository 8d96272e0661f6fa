// SPDX-License-Identifier: Apache-2.0
#include <cinttypes>
#include <cstring>

#include "ops/op.h"

namespace pyneo {

struct OpTable {
  const OpDef* rows;
  int count;
};

#define PN_OPS(family)                  \
  extern const OpDef pn_ops_##family[]; \
  extern const int pn_ops_##family##_count;
#include "ops/ops.inc"
#undef PN_OPS

namespace {

struct Family {
  const OpDef* rows;
  const int* count;
};

const Family kFamilies[] = {
#define PN_OPS(family) {pn_ops_##family, &pn_ops_##family##_count},
#include "ops/ops.inc"
#undef PN_OPS
};

}  // namespace

int op_count() {
  int n = 0;
  for (const Family& f : kFamilies) n += *f.count;
  return n;
}

const OpDef* op_at(int i) {
  for (const Family& f : kFamilies) {
    if (i < *f.count) return f.rows + i;
    i -= *f.count;
  }
  return nullptr;
}

const OpDef* find_op(const char* name, size_t length) {
  for (const Family& f : kFamilies) {
    for (int i = 0; i < *f.count; ++i) {
      const char* row = f.rows[i].name;
      if (strncmp(row, name, length) == 0 && row[length] == 0) return f.rows + i;
    }
  }
  return nullptr;
}

Status infer_op(const OpDef& op, InferContext& c) {
  c.op = op.name;
  if (c.n_in < op.min_in || (op.max_in >= 0 && c.n_in > op.max_in)) {
    return fail(Status::kInvalidModel, "%s takes %d to %d inputs, found %d", op.name, op.min_in, op.max_in, c.n_in);
  }
  if (c.n_out < op.min_out || (op.max_out >= 0 && c.n_out > op.max_out)) {
    return fail(Status::kInvalidModel, "%s has %d to %d outputs, found %d", op.name, op.min_out, op.max_out, c.n_out);
  }
  for (int i = 0; i < op.min_in; ++i) {
    if (!c.has(i)) return fail(Status::kInvalidModel, "%s: required input %d is missing", op.name, i);
  }
  PN_TRY(op.infer(c));
  for (int o = 0; o < c.n_out; ++o) {
    int64_t n;
    const TensorDesc& d = c.out[o];
    if (!checked_elements(d.shape, static_cast<int64_t>(dtype_size(d.dtype)), &n)) {
      char text[160];
      return fail(Status::kInvalidModel, "%s: output %d of shape %s does not fit in memory", op.name, o,
                  format_shape(d.shape, text, sizeof(text)));
    }
  }
  return Status::kOk;
}

Status expect_dtype(const InferContext& c, int i, std::initializer_list<DType> allowed) {
  if (!c.has(i)) return fail(Status::kInvalidModel, "%s: input %d is missing", c.op, i);
  for (DType t : allowed) {
    if (c.dtype(i) == t) return Status::kOk;
  }
  return fail(Status::kUnsupported, "%s: input %d has dtype %s, expected %s%s", c.op, i, dtype_name(c.dtype(i)),
              dtype_name(*allowed.begin()), allowed.size() > 1 ? " or another that the operator lists" : "");
}

Status broadcast_shapes(const char* op, const Shape& a, const Shape& b, Shape* out) {
  Shape r;
  r.rank = a.rank > b.rank ? a.rank : b.rank;
  for (int i = 0; i < r.rank; ++i) {
    const int ia = i - (r.rank - a.rank), ib = i - (r.rank - b.rank);
    const int64_t da = ia < 0 ? 1 : a.dims[ia], db = ib < 0 ? 1 : b.dims[ib];
    if (da != db && da != 1 && db != 1) {
      char ta[160], tb[160];
      return fail(Status::kInvalidModel, "%s: shapes %s and %s do not broadcast", op, format_shape(a, ta, sizeof(ta)),
                  format_shape(b, tb, sizeof(tb)));
    }
    r.dims[i] = da == 1 ? db : da;
  }
  *out = r;
  return Status::kOk;
}

Status read_ints(const InferContext& c, int i, int64_t* out, int max, int* count) {
  PN_TRY(expect_dtype(c, i, {DType::kI64, DType::kI32}));
  const Shape& s = c.shape(i);
  if (s.rank > 1) return fail(Status::kInvalidModel, "%s: input %d must be 1-D, found rank %d", c.op, i, s.rank);
  const int64_t n = s.elements();
  if (n > max) return fail(Status::kInvalidModel, "%s: input %d has %" PRId64 " entries, at most %d are possible", c.op, i, n, max);
  const void* v = c.value(i);
  if (v == nullptr && n > 0) return fail(Status::kNeedsValue, "%s: the value of input %d is not known", c.op, i);
  for (int64_t k = 0; k < n; ++k) {
    out[k] = c.dtype(i) == DType::kI64 ? static_cast<const int64_t*>(v)[k] : static_cast<const int32_t*>(v)[k];
  }
  *count = static_cast<int>(n);
  return Status::kOk;
}

}  // namespace pyneo
