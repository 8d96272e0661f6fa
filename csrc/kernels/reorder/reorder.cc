// SPDX-License-Identifier: Apache-2.0
//
// Reorder between plain and channel-blocked layouts, float32: the block is PN_VEC channels.
#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "simd/transpose.h"

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

// Microseconds: every byte is read once and written once.
float cost(const KernelQuery& q) { return 0.3f + static_cast<float>(q.in[0]->bytes() + q.out[0]->bytes()) * 6e-5f; }

Status prepare(const KernelQuery& q, void* state) {
  const Shape& s = q.in[0]->shape;
  *static_cast<State*>(state) = {s[0], s[1], s.product(2, s.rank)};
  return Status::kOk;
}

// Pixels of one task.
constexpr int64_t kStrip = 8 * kVec;

// Squares of kVec channels x kVec pixels are turned in registers, exact at the ends of both.
template <bool kPack>
Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float* from = c.in[0]->as<const float>();
  float* to = c.out[0]->as<float>();
  const int64_t blocks = ceil_div(s.channels, kVec), strips = ceil_div(s.plane, kStrip);
  spread(*c.pool, s.batch * blocks * strips, kStrip * kVec, [&](int64_t begin, int64_t end, int) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t strip = task % strips, nb = task / strips, b = nb % blocks, n = nb / blocks;
      const int64_t p1 = (strip + 1) * kStrip < s.plane ? (strip + 1) * kStrip : s.plane, c0 = b * kVec;
      const int live = static_cast<int>(s.channels - c0 < kVec ? s.channels - c0 : kVec);
      const int64_t plain = (n * s.channels + c0) * s.plane, blocked = nb * s.plane * kVec;
      for (int64_t p = strip * kStrip; p < p1; p += kVec) {
        const int pixels = static_cast<int>(p1 - p < kVec ? p1 - p : kVec);
        const int rows = kPack ? live : pixels, columns = kPack ? pixels : live;
        const int64_t from_step = kPack ? s.plane : kVec, to_step = kPack ? kVec : s.plane;
        const float* x = from + (kPack ? plain + p : blocked + p * kVec);
        float* y = to + (kPack ? blocked + p * kVec : plain + p);
        VF r[kVec];
        // A blocked pixel is a whole vector, whose padding is zero; of a plain row only what is there is touched.
        PN_UNROLL for (int i = 0; i < kVec; ++i) {
          r[i] = VF{};
          if (i < rows) r[i] = !kPack || columns == kVec ? load(x + i * from_step) : load_n(x + i * from_step, columns);
        }
        transpose_square(r);
        PN_UNROLL for (int i = 0; i < kVec; ++i) {
          if (i >= columns) break;
          if (kPack || rows == kVec) {
            store(y + i * to_step, r[i]);
          } else {
            store_n(y + i * to_step, r[i], rows);
          }
        }
      }
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
     PN_TIER::accepts_pack, PN_TIER::cost, nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare, PN_TIER::run<true>},
    {"f32_reorder_" PN_BLOCK "_plain", "Reorder", PN_TIER::kBlocked, Layout::kPlain, -1, sizeof(PN_TIER::State),
     PN_TIER::accepts_unpack, PN_TIER::cost, nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare, PN_TIER::run<false>},
};
PN_KERNEL_COUNT(reorder);

}  // namespace pyneo
