// SPDX-License-Identifier: Apache-2.0
//
// Resize by whole factors with the nearest pixel, over channel blocks: a row of pixels is repeated along
// itself, then as a whole.
#include <cstring>

#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {


struct State {
  int64_t planes, height, width, up, across;  // of the input; factors
};

// Output o reads input o / factor: so do corners at 0 rounded down, and centres rounded to the nearest
// (by whole factors a centre never lies halfway).
bool reads_quotient(const Attrs& a) {
  const Str mode = a.str("coordinate_transformation_mode", "half_pixel"), rounding = a.str("nearest_mode", "round_prefer_floor");
  if (mode == "asymmetric") return rounding == "floor";
  return mode == "half_pixel" && (rounding == "round_prefer_floor" || rounding == "round_prefer_ceil");
}

PN_COLD bool fill(const KernelQuery& q, State* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  if (x.dtype != DType::kF32 || x.layout != kBlocked || y.layout != kBlocked || x.shape.rank != 4) return false;
  if (q.attrs.str("mode", "nearest") != "nearest" || !reads_quotient(q.attrs) || q.attrs.ints("axes").size > 0) return false;
  if (q.attrs.str("keep_aspect_ratio_policy", "stretch") != "stretch" || x.shape[0] != y.shape[0] || x.shape[1] != y.shape[1]) return false;
  int64_t factor[2];
  for (int i = 0; i < 2; ++i) {
    const int64_t in = x.shape[i + 2], out = y.shape[i + 2];
    if (in < 1 || out < in || out % in != 0) return false;
    factor[i] = out / in;
  }
  // Scales must be those factors exactly: 2.01 can give the same shape from other pixels.
  if (q.has(2) && q.in[2]->elements() > 0) {
    if (!q.values || !q.values[2] || q.in[2]->dtype != DType::kF32 || q.in[2]->elements() != 4) return false;
    const float* v = static_cast<const float*>(q.values[2]);
    if (v[0] != 1 || v[1] != 1 || v[2] != static_cast<float>(factor[0]) || v[3] != static_cast<float>(factor[1])) return false;
  }
  *s = {x.shape[0] * ceil_div(x.shape[1], kVec), x.shape[2], x.shape[3], factor[0], factor[1]};
  return true;
}

PN_COLD bool accepts(const KernelQuery& q) {
  State s;
  return fill(q, &s);
}
PN_COLD float cost(const KernelQuery& q) { return static_cast<float>(q.out[0]->bytes()) * 4e-5f + 0.1f; }
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Resize was prepared for operands it does not accept");
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
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
    {"f32_upsample_" PN_BLOCK, "Resize", PN_TIER::kBlocked, PN_TIER::kBlocked, -1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare, PN_TIER::run)},
};
PN_KERNEL_COUNT(upsample);

}  // namespace pyneo
