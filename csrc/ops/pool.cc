// SPDX-License-Identifier: Apache-2.0
//
// Pools over 1 to 6 spatial axes: MaxPool, AveragePool, LpPool, their global forms, MaxUnpool.
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/conv_plane.h"
#include "ops/elementwise.h"

namespace pyneo {
namespace {

constexpr std::initializer_list<DType> kFloats = {DType::kF32, DType::kF16, DType::kBF16,
                                                  DType::kF64};

// What a window or a plane comes to: its largest value, the mean, or the p-th root of the sum of
// |v|^p. Sums run in f64: a plane may have millions of elements.
enum class Kind { kMax, kMean, kLp };

// MaxPool, AveragePool, LpPool and their global forms, by the first letter behind "Global".
Kind kind_of(const char* op) {
  if (op[0] == 'G') op += 6;
  return op[0] == 'M' ? Kind::kMax : op[0] == 'A' ? Kind::kMean : Kind::kLp;
}

struct Fold {
  Kind kind;
  int64_t p;
  double sum = 0;
  int64_t count = 0;

  // Whether a maximum is a new one. The first of equal values counts; a NaN beats every number.
  bool add(double v) {
    ++count;
    if (kind == Kind::kMax) {
      if (count > 1 && !(v > sum) && (v == v || sum != sum)) return false;
      sum = v;
      return true;
    }
    if (kind == Kind::kMean) {
      sum += v;
    } else {
      v = std::fabs(v);
      sum += p == 1 ? v : p == 2 ? v * v : std::pow(v, static_cast<double>(p));
    }
    return false;
  }
  double value(int64_t n) const {
    if (kind == Kind::kMax) return sum;
    if (kind == Kind::kMean) return sum / static_cast<double>(n);
    return p == 1 ? sum : p == 2 ? std::sqrt(sum) : std::pow(sum, 1 / static_cast<double>(p));
  }
};

// The smallest number of a type, which is the maximum of a window that lies in the padding.
double lowest(DType t) {
  return t == DType::kU8    ? 0
         : t == DType::kI8  ? -128
         : t == DType::kF64 ? std::numeric_limits<double>::lowest()
                            : static_cast<double>(std::numeric_limits<float>::lowest());
}

void store(DType t, void* y, int64_t at, double v) {
  store_block(Cls::kF64, &v, 1, t, static_cast<uint8_t*>(y) + static_cast<size_t>(at) * dtype_size(t));
}

Shape pooled_shape(const Shape& x, const Window& w) {
  Shape y = x;
  for (int i = 0; i < w.spatial; ++i) y[i + 2] = w.out[i];
  return y;
}

// --- MaxPool ---------------------------------------------------------------------------------

Status infer_max_pool(InferContext& c) {
  PN_TRY(expect_dtype(
      c, 0, {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kU8}));
  Window w;
  PN_TRY(read_window(c.op, c.attrs, c.shape(0), nullptr, true, &w));
  const int64_t order = c.attrs.i64("storage_order", 0);
  if (order != 0 && order != 1) {
    return fail(Status::kInvalidModel, "MaxPool: storage_order is %" PRId64 ", expected 0 or 1",
                order);
  }
  const Shape y = pooled_shape(c.shape(0), w);
  c.set(0, c.dtype(0), y);
  c.set(1, DType::kI64, y);
  return Status::kOk;
}

// --- AveragePool and LpPool ------------------------------------------------------------------

Status infer_average_pool(InferContext& c) {
  PN_TRY(expect_dtype(c, 0, kFloats));
  Window w;
  PN_TRY(read_window(c.op, c.attrs, c.shape(0), nullptr, true, &w));
  c.set(0, c.dtype(0), pooled_shape(c.shape(0), w));
  return Status::kOk;
}

// Taps of the window that lie in the input or its padding: what hangs over the end padding
// (ceil_mode) is not counted.
int64_t padded_count(const Window& w, const int64_t* at) {
  int64_t n = 1;
  for (int d = 0; d < w.spatial; ++d) {
    int64_t low, high;
    inside(w.kernel[d], w.dilation[d], at[d] * w.stride[d], w.in[d] + w.pad_begin[d] + w.pad_end[d],
           &low, &high);
    n *= high - low;
  }
  return n;
}

Status check_p(const InferContext& c) {
  const int64_t p = c.attrs.i64("p", 2);
  if (p >= 1) return Status::kOk;
  return fail(Status::kInvalidModel, "%s: p is %" PRId64 ", expected at least 1", c.op, p);
}

Status infer_lp_pool(InferContext& c) {
  PN_TRY(check_p(c));
  return infer_average_pool(c);
}

// One window of a plane that begins at element `from`: the fold of what lies in it, and the place of
// the largest.
Fold fold_window(const Tensor& x, int64_t from, const Window& w, const int64_t* at, Fold fold,
                 bool column_major, int64_t* where) {
  int64_t low[kMaxSpatial], high[kMaxSpatial], k[kMaxSpatial];
  for (int d = 0; d < w.spatial; ++d) {
    inside(w.kernel[d], w.dilation[d], at[d] * w.stride[d] - w.pad_begin[d], w.in[d], &low[d],
           &high[d]);
    if (low[d] >= high[d]) return fold;
    k[d] = low[d];
  }
  for (;;) {
    int64_t index[kMaxSpatial], offset = 0;
    for (int d = 0; d < w.spatial; ++d) {
      index[d] = at[d] * w.stride[d] + k[d] * w.dilation[d] - w.pad_begin[d];
      offset = offset * w.in[d] + index[d];
    }
    if (fold.add(load_double(x.desc.dtype, x.data, from + offset)) && where != nullptr) {
      *where = offset;
      if (column_major) {
        *where = 0;
        for (int d = w.spatial - 1; d >= 0; --d) *where = *where * w.in[d] + index[d];
      }
    }
    int d = w.spatial - 1;
    for (; d >= 0; --d) {
      if (++k[d] < high[d]) break;
      k[d] = low[d];
    }
    if (d < 0) return fold;
  }
}

Status run_window(RunContext& c) {
  Window w;
  const Tensor &x = *c.in[0], &y = *c.out[0];
  PN_TRY(read_window(c.op, c.attrs, x.shape(), nullptr, true, &w));
  const Fold empty{kind_of(c.op), c.attrs.i64("p", 2)};
  const bool column_major = c.attrs.i64("storage_order", 0) != 0;
  const bool include_pad = c.attrs.i64("count_include_pad", 0) != 0;
  int64_t* indices = c.n_out > 1 && c.wants(1) ? c.out[1]->as<int64_t>() : nullptr;
  const int64_t in_size = w.in_size(), size = w.out_size();
  const DType t = x.desc.dtype;
  c.pool->run(x.dim(0) * x.dim(1), [&](int64_t plane, int) {
    int64_t at[kMaxSpatial] = {};
    for (int64_t i = 0; i < size; ++i, next_index(at, w.out, w.spatial)) {
      int64_t where = 0;
      const Fold fold = fold_window(x, plane * in_size, w, at, empty, column_major, &where);
      double v = fold.kind == Kind::kMax ? lowest(t) : 0;
      if (fold.count > 0) v = fold.value(include_pad ? padded_count(w, at) : fold.count);
      store(t, y.data, plane * size + i, v);
      if (indices != nullptr) indices[plane * size + i] = plane * in_size + where;
    }
  });
  return Status::kOk;
}

// --- Global pools ----------------------------------------------------------------------------

Status infer_global(InferContext& c) {
  PN_TRY(expect_dtype(c, 0, kFloats));
  PN_TRY(check_p(c));
  Shape y = c.shape(0);
  if (y.rank < 2) {
    return fail(Status::kInvalidModel, "%s: the input has rank %d, expected batch, channels, ...",
                c.op, y.rank);
  }
  for (int i = 2; i < y.rank; ++i) y[i] = 1;
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_global(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t size = x.shape().product(2, x.rank());
  c.pool->run(x.dim(0) * x.dim(1), [&](int64_t plane, int) {
    Fold fold{kind_of(c.op), c.attrs.i64("p", 2)};
    for (int64_t i = 0; i < size; ++i) fold.add(load_double(x.desc.dtype, x.data, plane * size + i));
    if (fold.kind == Kind::kMax && size == 0) fold.sum = -INFINITY;
    store(y.desc.dtype, y.data, plane, fold.value(fold.count));
  });
  return Status::kOk;
}

// --- MaxUnpool -------------------------------------------------------------------------------

// Without output_shape: the smallest input that MaxPool would have pooled to X.
Status unpooled_shape(const char* op, const Attrs& attrs, const Shape& x, Shape* y) {
  Window w;
  PN_TRY(read_transposed_window(op, attrs, x, nullptr, &w));
  *y = pooled_shape(x, w);
  return Status::kOk;
}

Status infer_max_unpool(InferContext& c) {
  PN_TRY(expect_dtype(c, 0, kFloats));
  PN_TRY(expect_dtype(c, 1, {DType::kI64}));
  Shape y;
  PN_TRY(unpooled_shape(c.op, c.attrs, c.shape(0), &y));
  char a[160], b[160];
  if (c.shape(1) != c.shape(0)) {
    return fail(Status::kInvalidModel, "MaxUnpool: indices of shape %s for an input of shape %s",
                format_shape(c.shape(1), a, sizeof(a)), format_shape(c.shape(0), b, sizeof(b)));
  }
  if (c.has(2)) {
    int64_t dims[kMaxRank];
    int n = 0;
    PN_TRY(read_ints(c, 2, dims, kMaxRank, &n));
    const Shape least = y;
    y.rank = n;
    bool fits = n == least.rank;
    for (int i = 0; i < n; ++i) {
      y[i] = dims[i];
      fits = fits && dims[i] >= (i < 2 ? least[i] : 0) && (i >= 2 || dims[i] == least[i]);
    }
    if (!fits) {
      return fail(Status::kInvalidModel,
                  "MaxUnpool: output_shape %s does not fit an input of shape %s",
                  format_shape(y, a, sizeof(a)), format_shape(c.shape(0), b, sizeof(b)));
    }
  }
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

// Elements are moved, never computed with: their size is all that matters.
Status run_max_unpool(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t *at = c.in[1]->as<const int64_t>(), n = x.desc.elements(),
                total = y.desc.elements();
  const size_t size = dtype_size(x.desc.dtype);
  if (total > 0) memset(y.data, 0, static_cast<size_t>(y.desc.bytes()));
  for (int64_t i = 0; i < n; ++i) {
    if (at[i] < 0 || at[i] >= total) {
      return fail(Status::kInvalidModel,
                  "MaxUnpool: index %" PRId64 " at %" PRId64 " is outside the output's %" PRId64
                  " elements",
                  at[i], i, total);
    }
    memcpy(y.as<uint8_t>() + static_cast<size_t>(at[i]) * size,
           x.as<const uint8_t>() + static_cast<size_t>(i) * size, size);
  }
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_pool[] = {
    {"MaxPool", 1, 1, 1, 2, 0, infer_max_pool, run_window, nullptr},
    {"AveragePool", 1, 1, 1, 1, 0, infer_average_pool, run_window, nullptr},
    {"LpPool", 1, 1, 1, 1, 0, infer_lp_pool, run_window, nullptr},
    {"GlobalAveragePool", 1, 1, 1, 1, 0, infer_global, run_global, nullptr},
    {"GlobalMaxPool", 1, 1, 1, 1, 0, infer_global, run_global, nullptr},
    {"GlobalLpPool", 1, 1, 1, 1, 0, infer_global, run_global, nullptr},
    {"MaxUnpool", 2, 3, 1, 1, 0, infer_max_unpool, run_max_unpool, nullptr},
};
extern const int pn_ops_pool_count = sizeof(pn_ops_pool) / sizeof(OpDef);

}  // namespace pyneo
