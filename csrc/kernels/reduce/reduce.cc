// SPDX-License-Identifier: Apache-2.0
//
// Reductions over one run of neighbouring axes: the input seen as [outer, length, inner]. inner == 1 is a
// row reduced across lanes; otherwise vectors along `inner` are folded over `length`. A blocked tensor
// reduced over all its pixels is [N * C/V, pixels, V]. ArgMax and ArgMin find the extreme value first, then
// where it stands first.
#include "kernels/reduce.h"
#include "kernels/spread.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// The larger one; NaN wins and stays.
PN_INLINE VF larger(VF a, VF v) { return select((v > a) | (v != v), v, a); }

// Columns: lanes stay apart. Four running results hide the latency of the additions.
template <Fold kind>
PN_INLINE VF fold(VF a, VF v) {
  if (kind == Fold::kMax) return larger(a, v);
  if (kind == Fold::kMin) return larger(a, -v);
  return kind == Fold::kSquares ? a + v * v : a + v;
}
template <Fold kind>
PN_INLINE VF start() {
  return kind == Fold::kMax || kind == Fold::kMin ? splat(-INFINITY) : VF{};
}
template <Fold kind>
PN_INLINE VF merge(VF a, VF b) {
  return kind == Fold::kMax || kind == Fold::kMin ? larger(a, b) : a + b;
}

// `length` vectors, `step` floats apart, the last ones short by kVec - lanes. kMin: the maximum of -x.
template <Fold kind>
__attribute__((noinline)) VF column(const float* x, int64_t length, int64_t step, int lanes) {
  VF a = start<kind>();
  if (lanes < kVec) {  // apart, lest the sums below be kept in memory for the calls in here
    for (int64_t k = 0; k < length; ++k, x += step) a = fold<kind>(a, load_n(x, lanes));
    return a;
  }
  VF b = a, c = a, d = a;
  int64_t k = 0;
  for (; k + 4 <= length; k += 4, x += 4 * step) {
    a = fold<kind>(a, load(x));
    b = fold<kind>(b, load(x + step));
    c = fold<kind>(c, load(x + 2 * step));
    d = fold<kind>(d, load(x + 3 * step));
  }
  for (; k < length; ++k, x += step) a = fold<kind>(a, load(x));
  return merge<kind>(merge<kind>(a, b), merge<kind>(c, d));
}

template <Fold kind>
__attribute__((noinline)) float row(const float* x, int64_t n) {
  const int64_t whole = n & -kVec;
  VF v = whole > 0 ? column<kind>(x, n / kVec, kVec, kVec) : start<kind>();
  if (whole < n) {
    const VF none = kind == Fold::kMin ? -start<kind>() : start<kind>();
    v = fold<kind>(v, load_n(x + whole, static_cast<int>(n - whole), none));
  }
  if (kind != Fold::kMax && kind != Fold::kMin) return reduce_add(v);
  return reduce_max(v) + reduce_add(select(v != v, v, VF{}));  // NaN wins
}

// A mean is a sum, a norm a sum of squares, a minimum the maximum of -x; what is left is done to the result.
PN_INLINE VF column_of(Fold kind, const float* x, int64_t length, int64_t step, int lanes) {
  if (kind == Fold::kMax) return column<Fold::kMax>(x, length, step, lanes);
  if (kind == Fold::kMin) return -column<Fold::kMin>(x, length, step, lanes);
  if (kind == Fold::kSum || kind == Fold::kMean) return column<Fold::kSum>(x, length, step, lanes);
  return column<Fold::kSquares>(x, length, step, lanes);
}
PN_INLINE float row_of(Fold kind, const float* x, int64_t n) {
  if (kind == Fold::kMax) return row<Fold::kMax>(x, n);
  if (kind == Fold::kMin) return -row<Fold::kMin>(x, n);
  return kind == Fold::kSum || kind == Fold::kMean ? row<Fold::kSum>(x, n) : row<Fold::kSquares>(x, n);
}

Status run(const void* state, RunContext& c) {
  const Reduction& s = *static_cast<const Reduction*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const float scale = s.kind == Fold::kMean ? 1.0f / static_cast<float>(s.length) : 1.0f;
  const bool root = s.kind == Fold::kNorm;
  if (s.inner == 1) {
    spread(*c.pool, s.outer, s.length, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const float v = row_of(s.kind, x + i * s.length, s.length) * scale;
        y[i] = root ? __builtin_sqrtf(v) : v;
      }
    });
    return Status::kOk;
  }
  const int64_t strips = ceil_div(s.inner, kVec);
  spread(*c.pool, s.outer * strips, s.length * kVec, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t o = i / strips, at = i % strips * kVec;
      const int lanes = s.inner - at < kVec ? static_cast<int>(s.inner - at) : kVec;
      VF v = column_of(s.kind, x + o * s.length * s.inner + at, s.length, s.inner, lanes) * scale;
      if (root) v = vsqrt(v);
      if (s.channels == 0) {
        float* to = y + o * s.inner + at;
        lanes == kVec ? store(to, v) : store_n(to, v, lanes);
        continue;
      }
      const int64_t blocks = ceil_div(s.channels, kVec), n = o / blocks, c0 = o % blocks * kVec;
      const int64_t live = s.channels - c0;
      store_n(y + n * s.channels + c0, v, live < kVec ? static_cast<int>(live) : kVec);
    }
  });
  return Status::kOk;
}

// The first vector that holds `best` (or the first NaN, where that is the best), lane by lane; `length` if none does.
__attribute__((noinline)) VI first_of(const float* x, int64_t length, VF best) {
  VI at = splat_i(static_cast<int32_t>(length)), k = at;
  for (const float* p = x + length * kVec; p != x;) {
    p -= kVec;
    k -= 1;
    const VF v = load(p);
    at = select((v == best) | (v != v), k, at);
  }
  return at;
}

// Where, along `length` vectors, the largest number (kMin: the smallest) or the first NaN stands first, lane by lane, for
// `lanes` columns side by side: in runs as long as the lanes, as columns may lie a large power of two apart.
constexpr int kArgVectors = 16;
__attribute__((noinline)) void arg_columns(bool smallest, const float* x, int64_t length, int64_t step, int64_t lanes, VF* best,
                                           VI* at) {
  for (int64_t k = 0; k < length; ++k, x += step) {
    for (int64_t l = 0; l < lanes; l += kVec) {
      VF v = lanes - l >= kVec ? load(x + l) : load_n(x + l, static_cast<int>(lanes - l));
      if (smallest) v = -v;
      VF& most = best[l / kVec];
      const VI better = k == 0 ? splat_i(-1) : (v > most) | ((v != v) & (most == most));
      most = select(better, v, most);
      at[l / kVec] = select(better, splat_i(static_cast<int32_t>(k)), at[l / kVec]);
    }
  }
}

Status run_arg(const void* state, RunContext& c) {
  const Reduction& s = *static_cast<const Reduction*>(state);
  const float* x = c.in[0]->as<const float>();
  int64_t* y = c.out[0]->as<int64_t>();
  constexpr int64_t kLanes = kArgVectors * kVec;
  const int64_t strips = ceil_div(s.inner, kLanes), work = 2 * s.length * (s.inner < kLanes ? s.inner : kLanes);
  spread(*c.pool, s.outer * strips, work, [&](int64_t begin, int64_t end, int) {
    VF best[kArgVectors];
    VI at[kArgVectors];
    const int32_t* where = reinterpret_cast<const int32_t*>(at);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t outer = i / strips, lane = i % strips * kLanes, left = s.inner - lane, lanes = left < kLanes ? left : kLanes;
      const float* v = x + outer * s.inner * s.length + lane;
      int64_t* to = y + outer * s.inner + lane;
      if (s.inner > 1) {
        arg_columns(s.kind == Fold::kMin, v, s.length, s.inner, lanes, best, at);
        for (int64_t l = 0; l < lanes; ++l) to[l] = where[l];
        continue;
      }
      const float found = row_of(s.kind, v, s.length);
      const int64_t whole = s.length / kVec;
      at[0] = first_of(v, whole, splat(found));
      int64_t first = whole * kVec;  // of the tail, unless a whole vector has one
      while (first < s.length && v[first] != found && v[first] == v[first]) ++first;
      for (int l = 0; l < kVec; ++l) {
        const int64_t here = where[l] * int64_t{kVec} + l;
        if (where[l] < whole && here < first) first = here;
      }
      *to = first;
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, run)                    \
  {name, op, Layout::kAny, Layout::kAny, -1,     \
   PN_CODE(sizeof(Reduction), reduce_accepts, reduce_cost, nullptr, nullptr, nullptr, nullptr, reduce_prepare, PN_TIER::run)}

PN_KERNEL_TABLE(reduce)
PN_KERNEL_ROWS(reduce) = {
    PN_ROW("f32_global_average_pool", "GlobalAveragePool", run),
    PN_ROW("f32_global_max_pool", "GlobalMaxPool", run),
    PN_ROW("f32_reduce_mean", "ReduceMean", run),
    PN_ROW("f32_reduce_sum", "ReduceSum", run),
    PN_ROW("f32_reduce_max", "ReduceMax", run),
    PN_ROW("f32_reduce_min", "ReduceMin", run),
    PN_ROW("f32_reduce_sum_square", "ReduceSumSquare", run),
    PN_ROW("f32_reduce_l2", "ReduceL2", run),
    PN_ROW("f32_arg_max", "ArgMax", run_arg),
    PN_ROW("f32_arg_min", "ArgMin", run_arg),
};
PN_KERNEL_COUNT(reduce);

}  // namespace pyneo
