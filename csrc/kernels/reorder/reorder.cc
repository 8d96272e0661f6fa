// SPDX-License-Identifier: Apache-2.0
//
// Reorder between plain and channel-blocked layouts, float32: the block is PN_VEC channels.
#include "kernels/kernel.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr Layout kBlocked = PN_VEC == 16 ? Layout::kC16 : Layout::kC8;

struct State {
  int64_t batch, channels, plane;
};

bool shapes_fit(const KernelQuery& q) {
  return q.in[0]->dtype == DType::kF32 && q.in[0]->shape.rank >= 3 && q.in[0]->shape == q.out[0]->shape;
}
bool accepts_pack(const KernelQuery& q) {
  return shapes_fit(q) && q.in[0]->layout == Layout::kPlain && q.out[0]->layout == kBlocked;
}
bool accepts_unpack(const KernelQuery& q) {
  return shapes_fit(q) && q.in[0]->layout == kBlocked && q.out[0]->layout == Layout::kPlain;
}

float cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes()) * 2e-4f; }

Status prepare(const KernelQuery& q, void* state) {
  const Shape& s = q.in[0]->shape;
  *static_cast<State*>(state) = {s[0], s[1], s.product(2, s.rank)};
  return Status::kOk;
}

// Pixels of one task: a strip that stays in L1 on both sides.
constexpr int64_t kStrip = 128;

Status run_pack(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const int64_t blocks = ceil_div(s.channels, kVec), strips = ceil_div(s.plane, kStrip);
  c.pool->run(s.batch * blocks * strips, [&](int64_t task, int) {
    const int64_t strip = task % strips, nb = task / strips, b = nb % blocks, n = nb / blocks;
    const int64_t p0 = strip * kStrip, p1 = p0 + kStrip < s.plane ? p0 + kStrip : s.plane;
    const int64_t c0 = b * kVec, live = s.channels - c0 < kVec ? s.channels - c0 : kVec;
    const float* src = x + (n * s.channels + c0) * s.plane;
    float* dst = y + nb * s.plane * kVec;
    for (int64_t p = p0; p < p1; ++p) {
      VF v{};
      if (live == kVec) {
        for (int k = 0; k < kVec; ++k) v[k] = src[k * s.plane + p];
      } else {
        for (int64_t k = 0; k < live; ++k) v[k] = src[k * s.plane + p];
      }
      store(dst + p * kVec, v);
    }
  });
  return Status::kOk;
}

Status run_unpack(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const int64_t blocks = ceil_div(s.channels, kVec), strips = ceil_div(s.plane, kStrip);
  c.pool->run(s.batch * blocks * strips, [&](int64_t task, int) {
    const int64_t strip = task % strips, nb = task / strips, b = nb % blocks, n = nb / blocks;
    const int64_t p0 = strip * kStrip, p1 = p0 + kStrip < s.plane ? p0 + kStrip : s.plane;
    const int64_t c0 = b * kVec, live = s.channels - c0 < kVec ? s.channels - c0 : kVec;
    const float* src = x + nb * s.plane * kVec;
    float* dst = y + (n * s.channels + c0) * s.plane;
    for (int64_t k = 0; k < live; ++k) {
      for (int64_t p = p0; p < p1; ++p) dst[k * s.plane + p] = src[p * kVec + k];
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(reorder)
PN_KERNEL_ROWS(reorder) = {
#if PN_VEC == 16
#define PN_BLOCK "c16"
#else
#define PN_BLOCK "c8"
#endif
    {"f32_reorder_plain_" PN_BLOCK, "Reorder", Layout::kPlain, PN_TIER::kBlocked, -1, sizeof(PN_TIER::State),
     PN_TIER::accepts_pack, PN_TIER::cost, nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare, PN_TIER::run_pack},
    {"f32_reorder_" PN_BLOCK "_plain", "Reorder", PN_TIER::kBlocked, Layout::kPlain, -1, sizeof(PN_TIER::State),
     PN_TIER::accepts_unpack, PN_TIER::cost, nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare, PN_TIER::run_unpack},
};
PN_KERNEL_COUNT(reorder);

}  // namespace pyneo
