// SPDX-License-Identifier: Apache-2.0
//
// Along one axis: ArgMax, ArgMin, CumSum, CumProd.
#include <cinttypes>
#include <cstring>

#include "ops/lanes.h"

namespace pyneo {
namespace {

// Floats are compared and accumulated in double, integers in 64 bits.
Cls wide_class(DType t) {
  const Cls cls = compute_class(t);
  return cls == Cls::kF32 ? Cls::kF64 : cls;
}

// --- ArgMax, ArgMin ---------------------------------------------------------------------------------

// The first NaN wins over every number, as in numpy.
template <typename T, bool maximum, bool last>
void arg_step(const void* row, int64_t n, int64_t index, void* best, int64_t* where) {
  const T* x = static_cast<const T*>(row);
  T* b = static_cast<T*>(best);
  for (int64_t i = 0; i < n; ++i) {
    const bool better = maximum ? x[i] > b[i] : x[i] < b[i];
    const bool nan = x[i] != x[i] && b[i] == b[i];
    if (index == 0 || better || nan || (last && x[i] == b[i])) {
      b[i] = x[i];
      where[i] = index;
    }
  }
}

using ArgStep = void (*)(const void*, int64_t, int64_t, void*, int64_t*);

template <bool maximum, bool last>
ArgStep arg_step_of(Cls cls) {
  return cls == Cls::kF64   ? arg_step<double, maximum, last>
         : cls == Cls::kU64 ? arg_step<uint64_t, maximum, last>
                            : arg_step<int64_t, maximum, last>;
}

Status infer_arg(InferContext& c) {
  PN_TRY(expect_types(c, 0, kNumericTypes));
  const Shape& x = c.shape(0);
  Shape y;
  if (x.rank > 0) {
    int axis = 0;
    PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", 0), x.rank, &axis));
    if (x[axis] == 0) return fail(Status::kInvalidModel, "%s: axis %d has no elements to choose from", c.op, axis);
    const bool keep = c.attrs.i64("keepdims", 1) != 0;
    for (int i = 0; i < x.rank; ++i) {
      if (i != axis) y.dims[y.rank++] = x[i];
      if (i == axis && keep) y.dims[y.rank++] = 1;
    }
  }
  c.set(0, DType::kI64, y);
  return Status::kOk;
}

template <bool maximum>
Status run_arg(RunContext& c) {
  const Tensor& x = *c.in[0];
  int64_t* y = c.out[0]->as<int64_t>();
  const DType t = x.desc.dtype;
  const Cls cls = wide_class(t);
  const int64_t size = static_cast<int64_t>(dtype_size(t));
  int axis = 0;
  if (x.rank() > 0) PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", 0), x.rank(), &axis));
  const ArgStep step = c.attrs.i64("select_last_index", 0) != 0 ? arg_step_of<maximum, true>(cls) : arg_step_of<maximum, false>(cls);
  const Lanes lanes(x.shape(), axis);
  lanes.each_group(c.pool, [&](int64_t first, int64_t n) {
    alignas(64) uint8_t row[kBlock * 8], best[kBlock * 8];
    int64_t where[kBlock];
    const uint8_t* at = x.as<const uint8_t>() + first * size;
    if (lanes.inner == 1) {  // one lane, contiguous: read in blocks, compared one by one
      for (int64_t k = 0; k < lanes.length; k += kBlock) {
        const int64_t m = lanes.length - k < kBlock ? lanes.length - k : kBlock;
        load_block(t, at + k * size, m, cls, row);
        for (int64_t j = 0; j < m; ++j) step(row + j * 8, 1, k + j, best, where);
      }
    } else {
      for (int64_t k = 0; k < lanes.length; ++k) {
        load_block(t, at + k * lanes.inner * size, n, cls, row);
        step(row, n, k, best, where);
      }
    }
    const int64_t outer = first / (lanes.length * lanes.inner);
    memcpy(y + outer * lanes.inner + first % lanes.inner, where, static_cast<size_t>(n) * sizeof(int64_t));
  });
  return Status::kOk;
}

// --- CumSum, CumProd ---------------------------------------------------------------------------------

constexpr uint32_t kScanTypes = kFloatTypes | dtype_bit(DType::kI32) | dtype_bit(DType::kI64) |
                                dtype_bit(DType::kU32) | dtype_bit(DType::kU64);

Status infer_scan(InferContext& c) {
  PN_TRY(expect_types(c, 0, kScanTypes));
  PN_TRY(expect_dtype(c, 1, {DType::kI32, DType::kI64}));
  if (c.shape(1).elements() != 1) return fail(Status::kInvalidModel, "%s: input 1 (axis) must be one number", c.op);
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

// total = total (+ or *) x; y = the total before (exclusive) or after. Integers wrap around.
template <typename T, bool product>
void scan_step(const void* row, int64_t n, bool exclusive, void* totals, void* out) {
  const T* x = static_cast<const T*>(row);
  T *total = static_cast<T*>(totals), *y = static_cast<T*>(out);
  for (int64_t i = 0; i < n; ++i) {
    const T before = total[i];
    total[i] = product ? before * x[i] : before + x[i];
    y[i] = exclusive ? before : total[i];
  }
}

// The same along one lane, from its end where `reverse`.
template <typename T, bool product>
void scan_lane(const void* lane, int64_t n, bool exclusive, bool reverse, void* total, void* out) {
  const T* x = static_cast<const T*>(lane);
  T sum = *static_cast<T*>(total), *y = static_cast<T*>(out);
  for (int64_t j = 0; j < n; ++j) {
    const int64_t i = reverse ? n - 1 - j : j;
    const T before = sum;
    sum = product ? before * x[i] : before + x[i];
    y[i] = exclusive ? before : sum;
  }
  *static_cast<T*>(total) = sum;
}

template <bool product>
Status run_scan(RunContext& c) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  const DType t = x.desc.dtype;
  const int64_t size = static_cast<int64_t>(dtype_size(t));
  const Cls cls = dtype_is_float(t) ? Cls::kF64 : Cls::kU64;
  const auto step = cls == Cls::kF64 ? scan_step<double, product> : scan_step<uint64_t, product>;
  const auto along = cls == Cls::kF64 ? scan_lane<double, product> : scan_lane<uint64_t, product>;
  int64_t given = 0;
  load_block(c.in[1]->desc.dtype, c.in[1]->data, 1, Cls::kI64, &given);
  int axis = 0;
  if (x.rank() > 0) {
    PN_TRY(normalize_axis(c.op, given, x.rank(), &axis));
  } else if (given != 0 && given != -1) {
    return fail(Status::kInvalidModel, "%s: axis %" PRId64 " of a scalar, expected 0 or -1", c.op, given);
  }
  const bool exclusive = c.attrs.i64("exclusive", 0) != 0, reverse = c.attrs.i64("reverse", 0) != 0;
  const double one_f = product ? 1 : 0;
  const uint64_t one_i = product ? 1 : 0;
  const Lanes lanes(x.shape(), axis);
  lanes.each_group(c.pool, [&](int64_t first, int64_t n) {
    alignas(64) uint8_t row[kBlock * 8], totals[kBlock * 8], result[kBlock * 8];
    for (int64_t i = 0; i < n; ++i) memcpy(totals + i * 8, cls == Cls::kF64 ? static_cast<const void*>(&one_f) : &one_i, 8);
    if (lanes.inner == 1) {
      for (int64_t k = 0; k < lanes.length; k += kBlock) {
        const int64_t m = lanes.length - k < kBlock ? lanes.length - k : kBlock;
        const int64_t at = (first + (reverse ? lanes.length - k - m : k)) * size;
        load_block(t, x.as<const uint8_t>() + at, m, cls, row);
        along(row, m, exclusive, reverse, totals, result);
        store_block(cls, result, m, t, y.as<uint8_t>() + at);
      }
    } else {
      for (int64_t k = 0; k < lanes.length; ++k) {
        const int64_t at = (first + (reverse ? lanes.length - 1 - k : k) * lanes.inner) * size;
        load_block(t, x.as<const uint8_t>() + at, n, cls, row);
        step(row, n, exclusive, totals, result);
        store_block(cls, result, n, t, y.as<uint8_t>() + at);
      }
    }
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_scan[] = {
    {"ArgMax", 1, 1, 1, 1, 0, infer_arg, run_arg<true>, nullptr},
    {"ArgMin", 1, 1, 1, 1, 0, infer_arg, run_arg<false>, nullptr},
    {"CumProd", 2, 2, 1, 1, kOpInPlace0, infer_scan, run_scan<true>, nullptr},
    {"CumSum", 2, 2, 1, 1, kOpInPlace0, infer_scan, run_scan<false>, nullptr},
};
extern const int pn_ops_scan_count = sizeof(pn_ops_scan) / sizeof(OpDef);

}  // namespace pyneo
