// SPDX-License-Identifier: Apache-2.0
//
// Pad over channel blocks: pixels around an image (constant, reflect, edge), and channels behind the last
// one (constant).
#include <cstring>

#include "kernels/frame.h"
#include "kernels/spread.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {

PN_INLINE int64_t source(Edge mode, int64_t i, int64_t n) {
  if (mode == Edge::kReflect) return i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
  return i < 0 ? 0 : i >= n ? n - 1 : i;
}
PN_INLINE void fill_pixels(float* y, VF v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store(y + i * kVec, v);
}

Status run(const void* state, RunContext& c) {
  const FramePlan& s = *static_cast<const FramePlan*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const float number = c.has(2) ? *c.in[2]->as<const float>() : 0.0f;
  const VF value = splat(number);
  spread(*c.pool, s.images * s.blocks_out * s.rows, s.columns * kVec, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i % s.rows, plane = i / s.rows, block = plane % s.blocks_out, image = plane / s.blocks_out;
      const int64_t r = row - s.top, live = s.channels - block * kVec;
      float* to = y + i * s.columns * kVec;
      const bool outside = s.mode == Edge::kConstant && (r < 0 || r >= s.height);
      if (outside || live <= 0) {
        fill_pixels(to, value, s.columns);
        continue;
      }
      const float* from = x + ((image * s.blocks_in + block) * s.height + source(s.mode, r, s.height)) * s.width * kVec;
      float* middle = to + s.left * kVec;
      memcpy(middle, from, static_cast<size_t>(s.width * kVec) * sizeof(float));
      if (live < kVec) {  // lanes that held no channel may be channels of the output
        for (int64_t k = 0; k < s.width; ++k) {
          for (int64_t l = live; l < kVec; ++l) middle[k * kVec + l] = number;
        }
      }
      const int64_t right = s.columns - s.left - s.width;
      if (s.mode == Edge::kConstant) {
        fill_pixels(to, value, s.left);
        fill_pixels(middle + s.width * kVec, value, right);
        continue;
      }
      for (int64_t k = 0; k < s.left; ++k) store(to + k * kVec, load(middle + source(s.mode, k - s.left, s.width) * kVec));
      for (int64_t k = s.width; k < s.width + right; ++k) store(middle + k * kVec, load(middle + source(s.mode, k, s.width) * kVec));
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(frame)
PN_KERNEL_ROWS(frame) = {
    {"f32_pad_" PN_BLOCK, "Pad", PN_TIER::kBlocked, PN_TIER::kBlocked, -1,
     PN_CODE(sizeof(FramePlan), frame_accepts, frame_cost, nullptr, nullptr, nullptr, nullptr,
             PN_WIDE_RUN(frame_prepare, PN_TIER::run))},
};
PN_KERNEL_COUNT(frame);

}  // namespace pyneo
