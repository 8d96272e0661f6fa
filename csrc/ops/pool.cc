// SPDX-License-Identifier: Apache-2.0
//
// Pools over 1 to 6 spatial axes: MaxPool, AveragePool, LpPool, their global forms, MaxUnpool.
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/conv_plane.h"
#include "ops/narrow.h"

namespace pyneo {
namespace {

constexpr std::initializer_list<DType> kFloats = {DType::kF32, DType::kF16, DType::kBF16,
                                                  DType::kF64};

int64_t scratch_f32(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  return size.bytes();
}

// f(offset, index) for every input of a plane under output position `at`, in row-major order.
template <typename F>
void visit(const Window& w, const int64_t* at, F&& f) {
  int64_t low[kMaxSpatial], high[kMaxSpatial], k[kMaxSpatial], index[kMaxSpatial];
  for (int d = 0; d < w.spatial; ++d) {
    const int64_t start = at[d] * w.stride[d] - w.pad_begin[d];
    inside(w.kernel[d], w.dilation[d], start, w.in[d], &low[d], &high[d]);
    if (low[d] >= high[d]) return;
    k[d] = low[d];
  }
  const int last = w.spatial - 1;
  for (;;) {
    int64_t offset = 0;
    for (int d = 0; d <= last; ++d) {
      index[d] = at[d] * w.stride[d] + k[d] * w.dilation[d] - w.pad_begin[d];
      offset = offset * w.in[d] + index[d];
    }
    for (; k[last] < high[last]; ++k[last]) {
      f(offset, index);
      offset += w.dilation[last];
      index[last] += w.dilation[last];
    }
    k[last] = low[last];
    int d = last - 1;
    for (; d >= 0; --d) {
      if (++k[d] < high[d]) break;
      k[d] = low[d];
    }
    if (d < 0) return;
  }
}

// body(plane, position in the plane, multi-index) for every output element, planes in parallel.
template <typename F>
void for_outputs(const RunContext& c, const Window& w, int64_t planes, F&& body) {
  const int64_t size = w.out_size();
  c.pool->run(planes, [&](int64_t plane, int) {
    int64_t at[kMaxSpatial] = {};
    for (int64_t i = 0; i < size; ++i, next_index(at, w.out, w.spatial)) body(plane, i, at);
  });
}

Shape pooled_shape(const Shape& x, const Window& w) {
  Shape y = x;
  for (int i = 0; i < w.spatial; ++i) y[i + 2] = w.out[i];
  return y;
}

int64_t planes_of(const RunContext& c) { return c.in[0]->dim(0) * c.in[0]->dim(1); }

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

template <typename T>
void max_pool(const RunContext& c, const Window& w, const T* x, T* y) {
  const bool column_major = c.attrs.i64("storage_order", 0) != 0;
  int64_t* indices = c.wants(1) ? c.out[1]->as<int64_t>() : nullptr;
  const int64_t in_size = w.in_size(), out_size = w.out_size();
  for_outputs(c, w, planes_of(c), [&](int64_t plane, int64_t i, const int64_t* at) {
    const T* in = x + plane * in_size;
    T best = std::numeric_limits<T>::lowest();
    int64_t where = 0;
    bool first = true;
    visit(w, at, [&](int64_t offset, const int64_t* index) {
      // The first of equal values counts; a NaN beats every number and stays.
      const T v = in[offset];
      if (!first && !(v > best) && (v == v || best != best)) return;
      first = false;
      best = v;
      where = offset;
      if (column_major && indices != nullptr) {
        where = 0;
        for (int d = w.spatial - 1; d >= 0; --d) where = where * w.in[d] + index[d];
      }
    });
    y[plane * out_size + i] = best;
    if (indices != nullptr) indices[plane * out_size + i] = plane * in_size + where;
  });
}

Status run_max_pool(RunContext& c) {
  Window w;
  PN_TRY(read_window(c.op, c.attrs, c.in[0]->shape(), nullptr, true, &w));
  const Tensor &x = *c.in[0], &y = *c.out[0];
  switch (x.desc.dtype) {
    case DType::kF64:
      max_pool(c, w, x.as<const double>(), y.as<double>());
      break;
    case DType::kI8:
      max_pool(c, w, x.as<const int8_t>(), y.as<int8_t>());
      break;
    case DType::kU8:
      max_pool(c, w, x.as<const uint8_t>(), y.as<uint8_t>());
      break;
    default: {
      Scratch scratch(c);
      F32Operands f(c, &scratch);
      const float* in = f.in(0);
      max_pool(c, w, in, f.out(0));
      f.flush();
    }
  }
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

template <typename T>
void average_pool(const RunContext& c, const Window& w, const T* x, T* y) {
  const bool include_pad = c.attrs.i64("count_include_pad", 0) != 0;
  const int64_t in_size = w.in_size(), out_size = w.out_size();
  for_outputs(c, w, planes_of(c), [&](int64_t plane, int64_t i, const int64_t* at) {
    T sum = 0;
    int64_t count = 0;
    visit(w, at, [&](int64_t offset, const int64_t*) {
      sum += x[plane * in_size + offset];
      ++count;
    });
    if (include_pad) count = padded_count(w, at);
    y[plane * out_size + i] = count > 0 ? sum / static_cast<T>(count) : T(0);
  });
}

// |v|^p summed, then the p-th root.
struct LpNorm {
  int64_t p;
  double sum = 0;
  void add(double v) {
    v = std::fabs(v);
    sum += p == 1 ? v : p == 2 ? v * v : std::pow(v, static_cast<double>(p));
  }
  double value() const {
    return p == 1 ? sum : p == 2 ? std::sqrt(sum) : std::pow(sum, 1 / static_cast<double>(p));
  }
};

Status check_p(const InferContext& c) {
  const int64_t p = c.attrs.i64("p", 2);
  if (p >= 1) return Status::kOk;
  return fail(Status::kInvalidModel, "%s: p is %" PRId64 ", expected at least 1", c.op, p);
}

Status infer_lp_pool(InferContext& c) {
  PN_TRY(check_p(c));
  return infer_average_pool(c);
}

template <typename T>
void lp_pool(const RunContext& c, const Window& w, const T* x, T* y) {
  const int64_t p = c.attrs.i64("p", 2), in_size = w.in_size(), out_size = w.out_size();
  for_outputs(c, w, planes_of(c), [&](int64_t plane, int64_t i, const int64_t* at) {
    LpNorm norm{p};
    visit(w, at, [&](int64_t offset, const int64_t*) {
      norm.add(static_cast<double>(x[plane * in_size + offset]));
    });
    y[plane * out_size + i] = static_cast<T>(norm.value());
  });
}

template <void (*f32)(const RunContext&, const Window&, const float*, float*),
          void (*f64)(const RunContext&, const Window&, const double*, double*)>
Status run_window(RunContext& c) {
  Window w;
  PN_TRY(read_window(c.op, c.attrs, c.in[0]->shape(), nullptr, true, &w));
  if (c.in[0]->desc.dtype == DType::kF64) {
    f64(c, w, c.in[0]->as<const double>(), c.out[0]->as<double>());
    return Status::kOk;
  }
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float* x = f.in(0);
  f32(c, w, x, f.out(0));
  f.flush();
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

// Sums run in f64: a plane may have millions of elements.
struct Mean {
  double sum = 0;
  int64_t n = 0;
  explicit Mean(int64_t) {}
  void add(double v) {
    sum += v;
    ++n;
  }
  double value() const { return sum / static_cast<double>(n); }
};

struct Max {
  double best = -INFINITY;
  explicit Max(int64_t) {}
  void add(double v) {
    if (v > best || v != v) best = v;
  }
  double value() const { return best; }
};

template <typename Fold, typename T>
void global_pool(const RunContext& c, const T* x, T* y) {
  const int64_t planes = planes_of(c), p = c.attrs.i64("p", 2);
  const int64_t size = c.in[0]->shape().product(2, c.in[0]->rank());
  c.pool->run(planes, [&](int64_t plane, int) {
    Fold fold{p};
    for (int64_t i = 0; i < size; ++i) fold.add(static_cast<double>(x[plane * size + i]));
    y[plane] = static_cast<T>(fold.value());
  });
}

template <typename Fold>
Status run_global(RunContext& c) {
  if (c.in[0]->desc.dtype == DType::kF64) {
    global_pool<Fold>(c, c.in[0]->as<const double>(), c.out[0]->as<double>());
    return Status::kOk;
  }
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float* x = f.in(0);
  global_pool<Fold>(c, x, f.out(0));
  f.flush();
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
    {"MaxPool", 1, 1, 1, 2, 0, infer_max_pool, run_max_pool, scratch_f32},
    {"AveragePool", 1, 1, 1, 1, 0, infer_average_pool,
     run_window<average_pool<float>, average_pool<double>>, scratch_f32},
    {"LpPool", 1, 1, 1, 1, 0, infer_lp_pool, run_window<lp_pool<float>, lp_pool<double>>,
     scratch_f32},
    {"GlobalAveragePool", 1, 1, 1, 1, 0, infer_global, run_global<Mean>, scratch_f32},
    {"GlobalMaxPool", 1, 1, 1, 1, 0, infer_global, run_global<Max>, scratch_f32},
    {"GlobalLpPool", 1, 1, 1, 1, 0, infer_global, run_global<LpNorm>, scratch_f32},
    {"MaxUnpool", 2, 3, 1, 1, 0, infer_max_unpool, run_max_unpool, nullptr},
};
extern const int pn_ops_pool_count = sizeof(pn_ops_pool) / sizeof(OpDef);

}  // namespace pyneo
