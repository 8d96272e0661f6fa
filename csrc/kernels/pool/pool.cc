// SPDX-License-Identifier: Apache-2.0
//
// MaxPool and AveragePool over channel blocks, 1 to 3 spatial axes: a pixel of a block is one vector. Where windows lie
// inside the image, every column under a run of them is folded once, then the columns of each.
#include "kernels/pool.h"
#include "kernels/spread.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int kColumns = 64, kGroup = 4;  // most columns of a run, and those in registers

// Taps of the window at output position `at` that lie inside: [*lo, *hi).
inline void inside(const PoolAxis& a, int64_t at, int64_t* lo, int64_t* hi) {
  const int64_t first = at * a.stride - a.begin;
  *lo = first < 0 ? ceil_div(-first, a.dilation) : 0;
  *hi = first >= a.in ? 0 : ceil_div(a.in - first, a.dilation);
  if (*hi > a.kernel) *hi = a.kernel;
  if (*lo > *hi) *lo = *hi;
}
// Taps inside the input or its padding.
inline int64_t padded(const PoolAxis& a, int64_t at) {
  const int64_t left = ceil_div(a.in + a.begin + a.end - at * a.stride, a.dilation);
  return left < a.kernel ? left : a.kernel;
}

struct Max {
  static constexpr bool kMean = false;
  static VF start() { return splat(-INFINITY); }
  // A NaN beats every number and stays: with one, the two maxima differ, and the bits of a NaN and a number are a NaN's.
  static VF fold(VF a, VF v) { return cast<VF>(cast<VI>(vmax(a, v)) | cast<VI>(vmax(v, a))); }
};
struct Mean {
  static constexpr bool kMean = true;
  static VF start() { return VF{}; }
  static VF fold(VF a, VF v) { return a + v; }
};

// Rows of taps: f(the first tap's row of pixels) for each one inside the image.
template <typename F>
PN_INLINE void each_row(const PoolPlan& s, const float* x, const int64_t* id, const int64_t* ih, F&& f) {
  const int64_t line = s.w.in * kVec;
  for (int64_t d = id[0]; d < id[1]; d += s.d.dilation) {
    for (int64_t h = ih[0]; h < ih[1]; h += s.h.dilation) f(x + (d * s.h.in + h) * line);
  }
}

template <typename Op>
void row(const PoolPlan& s, const float* x, float* y, int64_t od, int64_t oh) {
  int64_t kd[2], kh[2];
  inside(s.d, od, &kd[0], &kd[1]);
  inside(s.h, oh, &kh[0], &kh[1]);
  const int64_t rows = (kd[1] - kd[0]) * (kh[1] - kh[0]);
  const int64_t first_d = od * s.d.stride - s.d.begin, first_h = oh * s.h.stride - s.h.begin;
  const int64_t id[2] = {first_d + kd[0] * s.d.dilation, first_d + kd[1] * s.d.dilation};
  const int64_t ih[2] = {first_h + kh[0] * s.h.dilation, first_h + kh[1] * s.h.dilation};
  const int64_t step = s.w.dilation * kVec, window = (s.w.kernel - 1) * s.w.dilation + 1;
  auto finish = [&](VF v, int64_t ow, int64_t taps) {
    if (Op::kMean) {
      if (s.include_pad) taps = padded(s.d, od) * padded(s.h, oh) * padded(s.w, ow);
      v = taps > 0 ? v / static_cast<float>(taps) : VF{};
    } else if (taps == 0) {
      v = splat(-__FLT_MAX__);
    }
    store(y + ow * kVec, v);
  };
  for (int64_t ow = 0; ow < s.w.out;) {
    const int64_t iw = ow * s.w.stride - s.w.begin, most = (kColumns - window) / s.w.stride + 1;
    int64_t n = iw >= 0 && iw + window <= s.w.in ? (s.w.in - iw - window) / s.w.stride + 1 : 0;  // outputs of a run
    if (n > s.w.out - ow) n = s.w.out - ow;
    if (n > most) n = most;
    const int64_t span = (n - 1) * s.w.stride + window;
    if (n > 1 && span >= kGroup) {
      alignas(64) float columns[kColumns * kVec];
      for (int64_t i = 0; i < span; i += kGroup) {
        const int64_t c = i + kGroup <= span ? i : span - kGroup;
        VF acc[kGroup];
        bool begun = false;
        PN_UNROLL for (int t = 0; t < kGroup; ++t) acc[t] = Op::start();
        each_row(s, x, id, ih, [&](const float* p) __attribute__((always_inline)) {
          p += (iw + c) * kVec;
          if (begun) {
            PN_UNROLL for (int t = 0; t < kGroup; ++t) acc[t] = Op::fold(acc[t], load(p + t * kVec));
          } else {
            PN_UNROLL for (int t = 0; t < kGroup; ++t) acc[t] = load(p + t * kVec);
          }
          begun = true;
        });
        PN_UNROLL for (int t = 0; t < kGroup; ++t) store(columns + (c + t) * kVec, acc[t]);
      }
      for (int64_t t = 0; t < n; ++t) {
        const float* p = columns + t * s.w.stride * kVec;
        VF v = load(p);
        for (int64_t q = 1; q < s.w.kernel; ++q) v = Op::fold(v, load(p + q * step));
        finish(v, ow + t, rows * s.w.kernel);
      }
      ow += n;
      continue;
    }
    int64_t kw0, kw1;
    inside(s.w, ow, &kw0, &kw1);
    VF acc = Op::start();
    each_row(s, x, id, ih, [&](const float* p) {
      p += (iw + kw0 * s.w.dilation) * kVec;
      for (int64_t q = kw0; q < kw1; ++q, p += step) acc = Op::fold(acc, load(p));
    });
    finish(acc, ow, rows * (kw1 - kw0));
    ++ow;
  }
}

template <typename Op>
Status run(const void* state, RunContext& c) {
  const PoolPlan& s = *static_cast<const PoolPlan*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const int64_t work = s.w.out * kVec * (1 + s.d.kernel * s.h.kernel * s.w.kernel / 2), rows = s.d.out * s.h.out;
  spread(*c.pool, s.planes * rows, work, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* from = x + i / rows * s.d.in * s.h.in * s.w.in * kVec;
      row<Op>(s, from, y + i * s.w.out * kVec, i % rows / s.h.out, i % s.h.out);
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, fold)                                 \
  {name, op, PN_TIER::kBlocked, PN_TIER::kBlocked, -1,         \
   PN_CODE(sizeof(PoolPlan), pool_accepts, pool_cost, nullptr, nullptr, nullptr, nullptr, pool_prepare, PN_TIER::run<PN_TIER::fold>)}

PN_KERNEL_TABLE(pool)
PN_KERNEL_ROWS(pool) = {
    PN_ROW("f32_max_pool_" PN_BLOCK, "MaxPool", Max),
    PN_ROW("f32_average_pool_" PN_BLOCK, "AveragePool", Mean),
};
PN_KERNEL_COUNT(pool);

}  // namespace pyneo
