// SPDX-License-Identifier: Apache-2.0
//
// Every activation on rows of floats: the switch outside, the loop inside. See simd/activate.h.
#include "simd/activate.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// Calls f with the function of one vector that `a` stands for.
template <typename F>
PN_INLINE void with_activation(const Activation& a, F&& f) {
  const float alpha = a.alpha, beta = a.beta;
  switch (a.kind) {
    case Act::kNone: return f([](VF x) { return x; });
    case Act::kRelu: return f([](VF x) { return vmax(x, VF{}); });
    case Act::kClip: return f([=](VF x) { return vclamp(x, alpha, beta); });
    case Act::kLeakyRelu: return f([=](VF x) { return select(x < 0.0f, x * alpha, x); });
    case Act::kSigmoid: return f([](VF x) { return vsigmoid(x); });
    case Act::kTanh: return f([](VF x) { return vtanh(x); });
    case Act::kSilu: return f([](VF x) { return x / (1.0f + vexp(-x)); });
    case Act::kHardSigmoid: return f([=](VF x) { return vclamp(x * alpha + beta, 0.0f, 1.0f); });
    case Act::kHardSwish:
      return f([](VF x) { return x * vclamp(x * (1.0f / 6) + 0.5f, 0.0f, 1.0f); });
    case Act::kGelu: return f([](VF x) { return x * 0.5f * (1.0f + verf(x * 0.70710678f)); });
    case Act::kGeluTanh:
      return f([](VF x) {
        return x * 0.5f * (1.0f + vtanh((x + x * x * x * 0.044715f) * 0.79788456f));
      });
    case Act::kElu: return f([=](VF x) { return select(x < 0.0f, vexpm1(x) * alpha, x); });
    case Act::kSoftplus:
      return f([](VF x) { return vmax(x, VF{}) + vlog1p01(vexp(-vabs(x))); });
    case Act::kMish:
      // tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2), which is 1 from e^20 on.
      return f([](VF x) {
        const VF e = vexp(vmin(x, splat(20.0f))), n = e * (e + 2.0f);
        return x * (n / (n + 2.0f));
      });
  }
}

}  // namespace

__attribute__((noinline)) void act_map(const Activation& a, const float* x, float* y, int64_t n) {
  with_activation(a, [=](auto f) {
    for (int64_t i = 0; i < n; i += kVec) {  // one body for whole vectors and the tail: code size
      const bool whole = n - i >= kVec;
      const int left = static_cast<int>(n - i);
      const VF v = f(whole ? load(x + i) : load_n(x + i, left));
      if (whole) {
        store(y + i, v);
      } else {
        store_n(y + i, v, left);
      }
    }
  });
}

void act_rows(const Activation& a, float* x, int64_t n) {
  if (a.kind != Act::kNone) act_map(a, x, x, n);
}

VF act_vector(const Activation& a, VF x) {
  act_rows(a, reinterpret_cast<float*>(&x), kVec);
  return x;
}

}  // namespace PN_TIER
}  // namespace pyneo
