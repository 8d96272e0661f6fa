// SPDX-License-Identifier: Apache-2.0
//
// GridSample of images, linear, with zeros or the border around them: a vector of points at a time. Their four
// places and weights serve all channels.
#include "kernels/sample.h"
#include "kernels/spread.h"
#include "simd/gather.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// Two neighbouring positions along an axis, inside of it; with weight, and what reads nothing.
struct Taps {
  VF at[2], weight[2];
  VI live[2];
};

PN_INLINE Taps taps(const SamplePlan& s, VF t, int64_t n) {
  const float size = static_cast<float>(n), end = size - 1;
  VF v = s.corners ? (t + 1.0f) * 0.5f * end : ((t + 1.0f) * size - 1.0f) * 0.5f;
  if (s.border) {
    const float low = s.corners ? 0 : -0.5f;
    v = select(v < splat(low), VF{}, select(v > splat(end - low), splat(end), v));
  }
  const VF first = vfloor(v), d = v - first;
  Taps r;
  for (int k = 0; k < 2; ++k) {
    const VF at = first + static_cast<float>(k);
    r.live[k] = s.border ? VI{} == 0 : (at >= 0.0f) & (at <= splat(end));
    r.at[k] = select(at > 0.0f, vmin(at, splat(end)), VF{});  // NaN reads the first position
    r.weight[k] = k == 0 ? 1.0f - d : d;
  }
  return r;
}

Status run(const void* state, RunContext& c) {
  const SamplePlan& s = *static_cast<const SamplePlan*>(state);
  const float *x = c.in[0]->as<const float>(), *grid = c.in[1]->as<const float>();
  float* y = c.out[0]->as<float>();
  const int64_t strips = ceil_div(s.points, kVec), plane = s.height * s.width;
  spread(*c.pool, s.images * strips, kVec * (4 + 2 * s.channels), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / strips, first = i % strips * kVec;
      const int lanes = s.points - first < kVec ? static_cast<int>(s.points - first) : kVec;
      const float* g = grid + (image * s.points + first) * 2;
      VF across{}, down{};
      for (int l = 0; l < lanes; ++l) {
        across[l] = g[2 * l];
        down[l] = g[2 * l + 1];
      }
      const Taps columns = taps(s, across, s.width), rows = taps(s, down, s.height);
      VI at[2][2], live[2][2];
      for (int r = 0; r < 2; ++r) {
        for (int k = 0; k < 2; ++k) {
          at[r][k] = to_int(rows.at[r]) * splat_i(static_cast<int32_t>(s.width)) + to_int(columns.at[k]);
          live[r][k] = rows.live[r] & columns.live[k];
        }
      }
      const float* from = x + image * s.channels * plane;
      float* to = y + image * s.channels * s.points + first;
      for (int64_t ch = 0; ch < s.channels; ++ch, from += plane, to += s.points) {
        VF sum{};
        for (int r = 0; r < 2; ++r) {
          const VF left = select(live[r][0], gather(from, at[r][0]) * columns.weight[0], VF{});
          const VF right = select(live[r][1], gather(from, at[r][1]) * columns.weight[1], VF{});
          sum += select(rows.live[r], (left + right) * rows.weight[r], VF{});
        }
        store_n(to, sum, lanes);
      }
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(sample)
PN_KERNEL_ROWS(sample) = {
    {"f32_grid_sample", "GridSample", Layout::kPlain, Layout::kPlain, -1,
     PN_CODE(sizeof(SamplePlan), sample_accepts, sample_cost, nullptr, nullptr, nullptr, nullptr,
             PN_WIDE_RUN(sample_prepare, PN_TIER::run))},
};
PN_KERNEL_COUNT(sample);

}  // namespace pyneo
