// SPDX-License-Identifier: Apache-2.0
//
// Reductions over one run of neighbouring axes: the input seen as [outer, length, inner]. inner == 1 is a
// row reduced across lanes; otherwise vectors along `inner` are folded over `length`. A blocked tensor
// reduced over all its pixels is [N * C/V, pixels, V]. ArgMax and ArgMin find the extreme value first, then
// where it stands first.
#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {
namespace {


enum class Kind : uint8_t { kSum, kMean, kMax, kMin, kSquares, kNorm };
enum class Axes : uint8_t { kOperand, kPixels, kOne };  // input 1; all but batch and channel; attribute `axis`

struct State {
  Kind kind;
  int64_t outer, length, inner;
  int64_t channels;  // of a blocked input whose output is plain; else 0
};

// The larger one; NaN wins and stays.
PN_INLINE VF larger(VF a, VF v) { return select((v > a) | (v != v), v, a); }

// Columns: lanes stay apart. Four running results hide the latency of the additions.
template <Kind kind>
PN_INLINE VF fold(VF a, VF v) {
  if (kind == Kind::kMax) return larger(a, v);
  if (kind == Kind::kMin) return larger(a, -v);
  return kind == Kind::kSquares ? a + v * v : a + v;
}
template <Kind kind>
PN_INLINE VF start() {
  return kind == Kind::kMax || kind == Kind::kMin ? splat(-INFINITY) : VF{};
}
template <Kind kind>
PN_INLINE VF merge(VF a, VF b) {
  return kind == Kind::kMax || kind == Kind::kMin ? larger(a, b) : a + b;
}

// `length` vectors, `step` floats apart, the last ones short by kVec - lanes. kMin: the maximum of -x.
template <Kind kind>
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

template <Kind kind>
__attribute__((noinline)) float row(const float* x, int64_t n) {
  constexpr bool extreme = kind == Kind::kMax || kind == Kind::kMin;
  const VF v = column<kind>(x, n / kVec, kVec, kVec);
  float r = v[0];
  for (int i = 1; i < kVec; ++i) {
    r = extreme ? (v[i] > r || v[i] != v[i] ? v[i] : r) : r + v[i];
  }
  for (int64_t i = n & -kVec; i < n; ++i) {
    const float e = kind == Kind::kMin ? -x[i] : kind == Kind::kSquares ? x[i] * x[i] : x[i];
    r = extreme ? (e > r || e != e ? e : r) : r + e;
  }
  return r;
}

// A mean is a sum, a norm a sum of squares, a minimum the maximum of -x; what is left is done to the result.
PN_INLINE VF column_of(Kind kind, const float* x, int64_t length, int64_t step, int lanes) {
  if (kind == Kind::kMax) return column<Kind::kMax>(x, length, step, lanes);
  if (kind == Kind::kMin) return -column<Kind::kMin>(x, length, step, lanes);
  if (kind == Kind::kSum || kind == Kind::kMean) return column<Kind::kSum>(x, length, step, lanes);
  return column<Kind::kSquares>(x, length, step, lanes);
}
PN_INLINE float row_of(Kind kind, const float* x, int64_t n) {
  if (kind == Kind::kMax) return row<Kind::kMax>(x, n);
  if (kind == Kind::kMin) return -row<Kind::kMin>(x, n);
  return kind == Kind::kSum || kind == Kind::kMean ? row<Kind::kSum>(x, n) : row<Kind::kSquares>(x, n);
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const float scale = s.kind == Kind::kMean ? 1.0f / static_cast<float>(s.length) : 1.0f;
  const bool root = s.kind == Kind::kNorm;
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
  const State& s = *static_cast<const State*>(state);
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
        arg_columns(s.kind == Kind::kMin, v, s.length, s.inner, lanes, best, at);
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

// Marks the axes to reduce; false where they are not known.
PN_COLD __attribute__((noinline)) bool read_axes(const KernelQuery& q, Axes axes, bool* reduced) {
  const Shape& x = q.in[0]->shape;
  for (int i = 0; i < x.rank; ++i) reduced[i] = axes == Axes::kPixels && i >= 2;
  if (axes == Axes::kPixels) return true;
  if (axes == Axes::kOne) {  // the last of equals is left to the reference
    const int64_t a = q.attrs.i64("axis", 0);
    if (a < -x.rank || a >= x.rank || q.attrs.i64("select_last_index", 0) != 0) return false;
    reduced[a < 0 ? a + x.rank : a] = true;
    return q.in[0]->layout == Layout::kPlain && x[static_cast<int>(a < 0 ? a + x.rank : a)] <= INT32_MAX;
  }
  int64_t n = 0;
  if (q.has(1)) {
    if (!q.values || !q.values[1] || q.in[1]->dtype != DType::kI64) return false;
    n = q.in[1]->elements();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t a = static_cast<const int64_t*>(q.values[1])[i];
      if (a < -x.rank || a >= x.rank) return false;
      reduced[a < 0 ? a + x.rank : a] = true;
    }
  }
  if (n == 0) {
    if (q.attrs.i64("noop_with_empty_axes", 0) != 0) return false;
    for (int i = 0; i < x.rank; ++i) reduced[i] = true;
  }
  return true;
}

PN_COLD __attribute__((noinline)) bool fill(const KernelQuery& q, Axes axes, State* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  bool reduced[kMaxRank];
  if (x.dtype != DType::kF32 || x.shape.rank < 1 || !read_axes(q, axes, reduced)) return false;
  int first = 0, end = x.shape.rank;
  while (first < end && !reduced[first]) ++first;
  while (end > first && !reduced[end - 1]) --end;
  for (int i = first; i < end; ++i) {
    if (!reduced[i] && x.shape[i] != 1) return false;
  }
  s->channels = 0;
  if (x.layout == Layout::kPlain) {
    s->outer = x.shape.product(0, first);
    s->length = x.shape.product(first, end);
    s->inner = x.shape.product(end, x.shape.rank);
    return s->length > 0 && y.layout == Layout::kPlain;
  }
  // Blocked: all pixels, no channel; the output is [N, C, 1...] or, plain, [N, C].
  if (x.layout != kBlocked || x.shape.rank < 3 || first < 2 || x.shape.product(2, x.shape.rank) != x.shape.product(first, end)) {
    return false;
  }
  s->outer = x.shape[0] * ceil_div(x.shape[1], kVec);
  s->length = x.shape.product(2, x.shape.rank);
  s->inner = kVec;
  if (y.layout == Layout::kPlain) s->channels = x.shape[1];
  return s->length > 0 && (y.layout == Layout::kPlain || (y.layout == kBlocked && y.shape.rank == x.shape.rank));
}

template <Axes axes>
PN_COLD bool accepts(const KernelQuery& q) {
  State s;
  return fill(q, axes, &s);
}
template <Axes axes, Kind kind>
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  static_cast<State*>(state)->kind = kind;
  if (fill(q, axes, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "a reduction was prepared for operands it does not accept");
}
PN_COLD float cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes()) * 2e-5f + 0.2f; }

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, axes, kind, run)                                                                             \
  {name, op, Layout::kAny, Layout::kAny, -1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts<PN_TIER::Axes::axes>, PN_TIER::cost, nullptr, nullptr,       \
   nullptr, nullptr, PN_TIER::prepare<PN_TIER::Axes::axes, PN_TIER::Kind::kind>, PN_TIER::run)}

PN_KERNEL_TABLE(reduce)
PN_KERNEL_ROWS(reduce) = {
    PN_ROW("f32_global_average_pool", "GlobalAveragePool", kPixels, kMean, run),
    PN_ROW("f32_global_max_pool", "GlobalMaxPool", kPixels, kMax, run),
    PN_ROW("f32_reduce_mean", "ReduceMean", kOperand, kMean, run),
    PN_ROW("f32_reduce_sum", "ReduceSum", kOperand, kSum, run),
    PN_ROW("f32_reduce_max", "ReduceMax", kOperand, kMax, run),
    PN_ROW("f32_reduce_min", "ReduceMin", kOperand, kMin, run),
    PN_ROW("f32_reduce_sum_square", "ReduceSumSquare", kOperand, kSquares, run),
    PN_ROW("f32_reduce_l2", "ReduceL2", kOperand, kNorm, run),
    PN_ROW("f32_arg_max", "ArgMax", kOne, kMax, run_arg),
    PN_ROW("f32_arg_min", "ArgMin", kOne, kMin, run_arg),
};
PN_KERNEL_COUNT(reduce);

}  // namespace pyneo
