// SPDX-License-Identifier: Apache-2.0
//
// Operators that choose or combine elements of several tensors: Where, Clip, and the variadic Min, Max,
// Sum, Mean.
#include <cstring>

#include "ops/elementwise.h"

namespace pyneo {
namespace {

// --- Where: bytes are moved, never converted -------------------------------------------------------

template <typename T>
bool where_loop(const void* const* in, void* out, int64_t n, const void*) {
  const uint8_t* condition = static_cast<const uint8_t*>(in[0]);
  const T *a = static_cast<const T*>(in[1]), *b = static_cast<const T*>(in[2]);
  T* y = static_cast<T*>(out);
  for (int64_t i = 0; i < n; ++i) {  // without a branch, which data would mislead
    const T mask = static_cast<T>(-static_cast<T>(condition[i] != 0));
    y[i] = static_cast<T>((a[i] & mask) | (b[i] & ~mask));
  }
  return true;
}

Status infer_where(InferContext& c) {
  PN_TRY(expect_types(c, 0, kBoolType));
  PN_TRY(expect_types(c, 1, kAllTypes));
  PN_TRY(expect_same_dtype(c, 1, 2));
  Shape y;
  PN_TRY(broadcast_shapes(c.op, c.shape(1), c.shape(2), &y));
  PN_TRY(broadcast_shapes(c.op, c.shape(0), y, &y));
  c.set(0, c.dtype(1), y);
  return Status::kOk;
}

Status run_where(RunContext& c) {
  Elementwise e;
  e.inputs = 3;
  switch (dtype_size(c.out[0]->desc.dtype)) {
    case 1: e.loop = where_loop<uint8_t>; break;
    case 2: e.loop = where_loop<uint16_t>; break;
    case 4: e.loop = where_loop<uint32_t>; break;
    default: e.loop = where_loop<uint64_t>; break;
  }
  return run_elementwise(c, e);
}

// --- Clip: min(max(x, low), high), NaN passes through ------------------------------------------------

struct Bounds {
  alignas(8) uint8_t value[2][8];  // low, high, in the compute class
  bool has[2];
};

template <typename T>
bool clip_loop(const void* const* in, void* out, int64_t n, const void* params) {
  const Bounds& bounds = *static_cast<const Bounds*>(params);
  const T* x = static_cast<const T*>(in[0]);
  T* y = static_cast<T*>(out);
  T low, high;
  memcpy(&low, bounds.value[0], sizeof(T));
  memcpy(&high, bounds.value[1], sizeof(T));
  const bool has_low = bounds.has[0], has_high = bounds.has[1];
  for (int64_t i = 0; i < n; ++i) {
    T v = x[i];
    if (has_low && v < low) v = low;
    if (has_high && v > high) v = high;
    y[i] = v;
  }
  return true;
}

constexpr Loops kClip = {clip_loop<float>, clip_loop<double>, clip_loop<int64_t>, clip_loop<uint64_t>};

Status infer_clip(InferContext& c) {
  PN_TRY(expect_types(c, 0, kNumericTypes));
  for (int i = 1; i < 3; ++i) {
    if (!c.has(i)) continue;
    PN_TRY(expect_same_dtype(c, 0, i));
    if (c.shape(i).elements() != 1) {
      char s[160];
      return fail(Status::kInvalidModel, "Clip: input %d ('%s') must be one element, found shape %s", i,
                  i == 1 ? "min" : "max", format_shape(c.shape(i), s, sizeof(s)));
    }
  }
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_clip(RunContext& c) {
  const Cls cls = compute_class(c.in[0]->desc.dtype);
  Bounds bounds{};
  for (int i = 0; i < 2; ++i) {
    bounds.has[i] = c.has(i + 1);
    if (bounds.has[i]) load_block(c.in[i + 1]->desc.dtype, c.in[i + 1]->data, 1, cls, bounds.value[i]);
  }
  Elementwise e;
  e.in[0] = e.out = cls;
  e.loop = kClip.of(cls);
  e.params = &bounds;
  return run_elementwise(c, e);
}

// --- variadic --------------------------------------------------------------------------------------

struct Max {  // numpy's maximum: NaN of either side wins
  template <typename T>
  static T f(T a, T b, const float*) {
    return b > a || b != b ? b : a;
  }
};
struct Min {
  template <typename T>
  static T f(T a, T b, const float*) {
    return b < a || b != b ? b : a;
  }
};
struct Sum {
  template <typename T>
  static T f(T a, T b, const float*) {
    return a + b;
  }
};

struct Row {
  uint32_t types;
  Loops loops;
  bool mean;
};
constexpr Row kMax = {
    kNumericTypes, {binary_loop<Max, float>, binary_loop<Max, double>, binary_loop<Max, int64_t>, binary_loop<Max, uint64_t>}, false};
constexpr Row kMin = {
    kNumericTypes, {binary_loop<Min, float>, binary_loop<Min, double>, binary_loop<Min, int64_t>, binary_loop<Min, uint64_t>}, false};
constexpr Row kSum = {kFloatTypes, {binary_loop<Sum, float>, binary_loop<Sum, double>, nullptr, nullptr}, false};
constexpr Row kMean = {kFloatTypes, {binary_loop<Sum, float>, binary_loop<Sum, double>, nullptr, nullptr}, true};

template <const Row& row>
Status infer_variadic(InferContext& c) {
  PN_TRY(expect_types(c, 0, row.types));
  Shape y = c.shape(0);
  for (int i = 1; i < c.n_in; ++i) {
    PN_TRY(expect_same_dtype(c, 0, i));
    PN_TRY(broadcast_shapes(c.op, y, c.shape(i), &y));
  }
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

void divide(Cls cls, void* data, int64_t n, int by) {
  if (cls == Cls::kF32) {
    for (int64_t i = 0; i < n; ++i) static_cast<float*>(data)[i] /= static_cast<float>(by);
  } else {
    for (int64_t i = 0; i < n; ++i) static_cast<double*>(data)[i] /= by;
  }
}

// A block at a time through all inputs: intermediate results are never rounded to a narrow dtype, and
// the output is written when every input's block has been read.
template <const Row& row>
Status run_variadic(RunContext& c) {
  Tensor& y = *c.out[0];
  const DType t = y.desc.dtype;
  const Cls cls = compute_class(t);
  const Loop loop = row.loops.of(cls);
  const int64_t size = static_cast<int64_t>(dtype_size(t));
  for_ranges(c.pool, y.desc.elements(), [&](int64_t begin, int64_t end) {
    BlockBuffer space;
    alignas(64) uint8_t total[kBlock * 8];
    const size_t cls_size = cls == Cls::kF32 ? 4 : 8;
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = end - at < kBlock ? end - at : kBlock;
      for (int i = 0; i < c.n_in; ++i) {
        Operand operand;
        operand.bind(*c.in[i], y.shape(), cls);
        const void* in[2] = {total, operand.fetch(at, n, &space)};
        if (i == 0) {
          memcpy(total, in[1], static_cast<size_t>(n) * cls_size);
        } else {
          loop(in, total, n, nullptr);
        }
      }
      if (row.mean) divide(cls, total, n, c.n_in);
      store_block(cls, total, n, t, y.as<uint8_t>() + at * size);
    }
  });
  return Status::kOk;
}

constexpr uint32_t kInPlace = kOpInPlace0 | kOpInPlace1;

}  // namespace

extern const OpDef pn_ops_select[] = {
    {"Clip", 1, 3, 1, 1, kOpInPlace0, infer_clip, run_clip, nullptr},
    {"Max", 1, -1, 1, 1, kInPlace, infer_variadic<kMax>, run_variadic<kMax>, nullptr},
    {"Mean", 1, -1, 1, 1, kInPlace, infer_variadic<kMean>, run_variadic<kMean>, nullptr},
    {"Min", 1, -1, 1, 1, kInPlace, infer_variadic<kMin>, run_variadic<kMin>, nullptr},
    {"Sum", 1, -1, 1, 1, kInPlace, infer_variadic<kSum>, run_variadic<kSum>, nullptr},
    {"Where", 3, 3, 1, 1, kOpInPlace1, infer_where, run_where, nullptr},
};
extern const int pn_ops_select_count = sizeof(pn_ops_select) / sizeof(OpDef);

}  // namespace pyneo
