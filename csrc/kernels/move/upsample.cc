// SPDX-License-Identifier: Apache-2.0
//
// Resize by whole factors with the nearest pixel, over channel blocks: a row of pixels is repeated along
// itself, then as a whole.
#include <cstring>

#include "kernels/resize.h"
#include "kernels/spread.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {

Status run(const void* state, RunContext& c) {
  const UpsamplePlan& s = *static_cast<const UpsamplePlan*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const int64_t line = s.width * kVec, wide = line * s.across;
  spread(*c.pool, s.planes * s.height, wide * s.up, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      float* to = y + i * s.up * wide;
      for (int64_t w = 0; w < line; w += kVec) {
        const VF v = load(x + i * line + w);
        for (int64_t k = 0; k < s.across; ++k) store(to + w * s.across + k * kVec, v);
      }
      for (int64_t k = 1; k < s.up; ++k) memcpy(to + k * wide, to, static_cast<size_t>(wide) * sizeof(float));
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(upsample)
PN_KERNEL_ROWS(upsample) = {
    {"f32_upsample_" PN_BLOCK, "Resize", PN_TIER::kBlocked, PN_TIER::kBlocked, -1,
     PN_CODE(sizeof(UpsamplePlan), upsample_accepts, upsample_cost, nullptr, nullptr, nullptr, nullptr, upsample_prepare,
             PN_TIER::run)},
};
PN_KERNEL_COUNT(upsample);

}  // namespace pyneo
