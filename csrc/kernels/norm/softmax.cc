// SPDX-License-Identifier: Apache-2.0
//
// Softmax and LogSoftmax along one axis. The last axis is reduced across lanes; any other has its lanes
// side by side. Three passes: maximum, exponentials and their sum, scaling; a row stays in L1.
#include "kernels/softmax.h"
#include "kernels/spread.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {
namespace {

PN_INLINE VF larger(VF a, VF v) { return vmax(v, a); }

// n floats, those beyond the end -inf: neither a maximum nor a sum of exponentials sees them.
PN_INLINE VF load_row(const float* p, int64_t n) {
  return n >= kVec ? load(p) : load_n(p, static_cast<int>(n), splat(-INFINITY));
}
PN_INLINE void store_row(float* p, VF v, int64_t n) {
  if (n >= kVec) {
    store(p, v);
  } else {
    store_n(p, v, static_cast<int>(n));
  }
}

void row(const float* x, float* y, int64_t n, bool log) {
  VF a = splat(-INFINITY), b = a;
  int64_t i = 0;
  for (; i + 2 * kVec <= n; i += 2 * kVec) {
    a = larger(a, load(x + i));
    b = larger(b, load(x + i + kVec));
  }
  for (; i < n; i += kVec) a = larger(a, load_row(x + i, n - i));
  const VF top = splat(reduce_max(larger(a, b)));
  VF sum{};
  for (i = 0; i < n; i += kVec) {
    const VF e = vexp_weight(load_row(x + i, n - i) - top);
    sum += e;
    if (!log) store_row(y + i, e, n - i);
  }
  const float total = reduce_add(sum);
  if (log) {
    const VF shift = vlog(splat(total));
    for (i = 0; i < n; i += kVec) store_row(y + i, load_row(x + i, n - i) - top - shift, n - i);
    return;
  }
  const VF scale = splat(1.0f / total);
  for (i = 0; i < n; i += kVec) store_row(y + i, load_row(y + i, n - i) * scale, n - i);
}


// One result for all lanes that are `inner` apart.
template <typename F>
PN_INLINE void across(VF* v, int64_t vectors, int64_t inner, F f) {
  float* lane = reinterpret_cast<float*>(v);
  for (int64_t l = inner; l < vectors * kVec; ++l) lane[l % inner] = f(lane[l % inner], lane[l]);
  for (int64_t l = inner; l < vectors * kVec; ++l) lane[l] = lane[l - inner];
}

// n rows of `lanes` columns, rows `step` floats apart, the last one ends at `end`. Columns `inner` apart are parts of one.
// All are read and written once, in runs as long as the tile bears: vector by vector, a large power of two apart, they
// would push each other out of the caches.
__attribute__((noinline)) void columns(const float* x, float* y, int64_t n, int64_t step, int64_t lanes, int64_t end, int64_t inner, bool log) {
  alignas(64) float tile[kSoftmaxTileFloats];
  VF top[kSoftmaxTileVectors], sum[kSoftmaxTileVectors];
  const int64_t vectors = ceil_div(lanes, kVec);
  const bool fits = n * vectors * kVec <= kSoftmaxTileFloats;
  float* t = fits ? tile : y;
  const int64_t wide = fits ? vectors * kVec : step;
  auto floats = [=](int64_t k) { return lanes < end - k * step ? lanes : end - k * step; };  // of row k
  // f(row, lane, floats from there on) for vectors of lanes, whole ones apart.
  auto each = [=](auto&& f) {
    for (int64_t k = 0; k < n; ++k) {
      const int64_t left = floats(k);
      int64_t l = 0;
      for (; l + kVec <= left; l += kVec) f(k, l, int64_t{kVec});
      for (; l < lanes; l += kVec) f(k, l, left < l ? 0 : left - l);
    }
  };
  for (int64_t v = 0; v < vectors; ++v) top[v] = splat(-INFINITY);
  each([&](int64_t k, int64_t l, int64_t live) {
    const VF e = load_row(x + k * step + l, live);
    top[l / kVec] = larger(top[l / kVec], e);
    if (fits) store(t + k * wide + l, e);
  });
  if (inner < lanes) across(top, vectors, inner, [](float a, float b) { return a < b ? b : a; });
  const float* from = fits ? t : x;
  for (int64_t l = 0; l < lanes; l += kVec) {
    const VF highest = top[l / kVec];
    VF total{};
    for (int64_t k = 0; k < n; ++k) {
      const int64_t left = floats(k) - l, live = fits ? kVec : left < 0 ? 0 : left;
      const VF e = vexp_weight(load_row(from + k * wide + l, live) - highest);
      total += e;
      if (!log) store_row(t + k * wide + l, e, live);
    }
    sum[l / kVec] = total;
  }
  if (inner < lanes) across(sum, vectors, inner, [](float a, float b) { return a + b; });
  for (int64_t v = 0; v < vectors; ++v) sum[v] = log ? vlog(sum[v]) : 1.0f / sum[v];
  if (!log) from = t;
  each([&](int64_t k, int64_t l, int64_t live) {
    const VF e = load_row(from + k * wide + l, live), total = sum[l / kVec];
    store_row(y + k * step + l, log ? e - top[l / kVec] - total : e * total, live);
  });
}

Status run(const void* state, RunContext& c) {
  const SoftmaxPlan& s = *static_cast<const SoftmaxPlan*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const int64_t n = s.length * s.inner, strips = ceil_div(s.step, s.wide);
  spread(*c.pool, s.outer * strips, s.length * (s.inner < s.wide ? s.inner : s.wide) * 6, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t lane = i % strips * s.wide, at = i / strips * n + lane;
      const int64_t lanes = s.step - lane < s.wide ? s.step - lane : s.wide;
      if (s.inner == 1) {
        row(x + at, y + at, s.length, s.log);
      } else {
        columns(x + at, y + at, s.rows, s.step, lanes, n - lane, s.few ? s.inner : lanes, s.log);
      }
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op)                             \
  {name, op, Layout::kPlain, Layout::kPlain, -1,     \
   PN_CODE(sizeof(SoftmaxPlan), softmax_accepts, softmax_cost, nullptr, nullptr, nullptr, nullptr, softmax_prepare, PN_TIER::run)}

PN_KERNEL_TABLE(softmax)
PN_KERNEL_ROWS(softmax) = {
    PN_ROW("f32_softmax", "Softmax"),
    PN_ROW("f32_log_softmax", "LogSoftmax"),
};
PN_KERNEL_COUNT(softmax);

}  // namespace pyneo
