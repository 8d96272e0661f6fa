// SPDX-License-Identifier: Apache-2.0
//
// Elementary functions on vectors. Errors are the largest found against double precision over a dense
// sweep of the float range, in units in the last place (tests/kernels/test_eltwise.py holds the kernels to it).
//
//   function   ULP   remarks
//   exp        2     whole range: overflows to inf, underflows through the denormals to 0
//   expm1      3     for x <= 80, what tanh and elu need
//   log        2     denormals included; 0 -> -inf, negative -> NaN
//   log1p01    3     log(1 + x) for x in [0, 1]
//   tanh       4
//   sigmoid    5     4 from -40 on; results below 1e-37 keep their magnitude only, below 5e-39 they are 0
//   erf        6
//
// NaN goes in, NaN comes out. Coefficients are relative minimax fits (Lawson's iteration, made for these
// intervals and rounded to float); range reduction follows Cody and Waite, "Software Manual for the
// Elementary Functions", 1980.
#pragma once

#include <cmath>

#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {

PN_INLINE VU as_bits(VF v) { return cast<VU>(v); }
PN_INLINE VF as_float(VU v) { return cast<VF>(v); }

PN_INLINE VF vabs(VF x) { return as_float(as_bits(x) & 0x7fffffffu); }
// The sign of `s` on the magnitude of `x`.
PN_INLINE VF with_sign(VF x, VF s) {
  return as_float((as_bits(x) & 0x7fffffffu) | (as_bits(s) & 0x80000000u));
}
// Clamps and lets NaN through.
PN_INLINE VF vclamp(VF x, float lo, float hi) { return vmin(vmax(x, splat(lo)), splat(hi)); }

// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
constexpr float kRoundMagic = 12582912.0f;
constexpr uint32_t kRoundMagicBits = 0x4b400000u;

struct Reduced {
  VF n;  // the integer nearest to x / ln 2
  VU i;  // the same, two's complement
  VF q;  // expm1(x - n ln 2)
};

PN_INLINE Reduced reduce_exp(VF x) {
  const VF t = x * 1.44269504f + kRoundMagic;
  Reduced r;
  r.n = t - kRoundMagic;
  r.i = as_bits(t) - kRoundMagicBits;
  VF f = x - r.n * 0.693359375f;
  f = f + r.n * 2.12194440e-4f;
  VF p = f * 0.00139517174f + 0.00836959854f;
  p = p * f + 0.0416661873f;
  p = p * f + 0.166665122f;
  p = p * f + 0.5f;
  r.q = f + f * f * p;
  return r;
}

PN_INLINE VF vexp(VF x) {
  x = vclamp(x, -104.0f, 89.0f);
  const Reduced r = reduce_exp(x);
#if defined(__AVX512F__)
  return reinterpret_cast<VF>(_mm512_maskz_scalef_ps(
      0xffff, reinterpret_cast<__m512>(1.0f + r.q), reinterpret_cast<__m512>(r.n)));
#else
  // 2^n in two factors, as one would leave the exponent's range at both ends.
  const VU half = cast<VU>(cast<VI>(r.i) >> 1);
  return (1.0f + r.q) * as_float((half + 127u) << 23) * as_float((r.i - half + 127u) << 23);
#endif
}

// exp for the weights of a softmax, x <= 0: what were a denormal, exp(-inf) among them, is 0. One denormal costs
// as much as ten whole vectors.
PN_INLINE VF vexp_weight(VF x) {
#if defined(__AVX512F__)
  const Reduced r = reduce_exp(x);
  const __mmask16 counts = _mm512_cmp_ps_mask(reinterpret_cast<__m512>(x), reinterpret_cast<__m512>(splat(-87.0f)), _CMP_NLT_UQ);
  return reinterpret_cast<VF>(_mm512_maskz_scalef_ps(counts, reinterpret_cast<__m512>(1.0f + r.q), reinterpret_cast<__m512>(r.n)));
#else
  return select(x < -87.0f, VF{}, vexp(vmax(x, splat(-87.0f))));
#endif
}

// The same for n vectors that go from step to step together: one after the other, their chains of multiply-adds fill the
// scheduler before the units are busy.
template <int n>
PN_INLINE void vexp_weights(VF* x) {
#define PN_EACH PN_UNROLL for (int v = 0; v < n; ++v)
  VF t[n], p[n];
#if defined(__AVX512F__)
  __mmask16 counts[n];
  PN_EACH counts[v] = _mm512_cmp_ps_mask(reinterpret_cast<__m512>(x[v]), reinterpret_cast<__m512>(splat(-87.0f)), _CMP_NLT_UQ);
#else
  VI none[n];
  PN_EACH none[v] = x[v] < -87.0f;
  PN_EACH x[v] = vmax(x[v], splat(-87.0f));
#endif
  PN_EACH t[v] = x[v] * 1.44269504f + kRoundMagic;
#if !defined(__AVX512F__)
  VU power[n];
  PN_EACH power[v] = (as_bits(t[v]) - kRoundMagicBits + 127u) << 23;
#endif
  PN_EACH t[v] = t[v] - kRoundMagic;
  PN_EACH x[v] = x[v] - t[v] * 0.693359375f;
  PN_EACH x[v] = x[v] + t[v] * 2.12194440e-4f;
  PN_EACH p[v] = x[v] * 0.00139517174f + 0.00836959854f;
  PN_EACH p[v] = p[v] * x[v] + 0.0416661873f;
  PN_EACH p[v] = p[v] * x[v] + 0.166665122f;
  PN_EACH p[v] = p[v] * x[v] + 0.5f;
  PN_EACH p[v] = p[v] * x[v] + 1.0f;
  PN_EACH p[v] = p[v] * x[v] + 1.0f;
#if defined(__AVX512F__)
  PN_EACH x[v] = reinterpret_cast<VF>(_mm512_maskz_scalef_ps(counts[v], reinterpret_cast<__m512>(p[v]), reinterpret_cast<__m512>(t[v])));
#else
  PN_EACH x[v] = cast<VF>(cast<VI>(p[v] * as_float(power[v])) & ~none[v]);
#endif
#undef PN_EACH
}

PN_INLINE VF vexpm1(VF x) {
  const Reduced r = reduce_exp(vclamp(x, -30.0f, 80.0f));
  const VF scale = as_float((r.i + 127u) << 23);
  return r.q * scale + (scale - 1.0f);
}

PN_INLINE VF vlog(VF x) {
  const VI tiny = x < 1.17549435e-38f;
  const VF y = select(tiny, x * 8388608.0f, x);
  const VU bits = as_bits(y) - 0x3f3504f3u;  // exponent steps at sqrt(1/2)
  const VI exponent = cast<VI>(bits) >> 23;
  const VF e = to_float(exponent + (tiny & -23));
  const VF f = as_float(as_bits(y) - (cast<VU>(exponent) << 23)) - 1.0f;
  VF p = f * -0.076230295f + 0.129139155f;
  p = p * f - 0.132471025f;
  p = p * f + 0.141806692f;
  p = p * f - 0.166084871f;
  p = p * f + 0.200020134f;
  p = p * f - 0.250016063f;
  p = p * f + 0.333333254f;
  p = p * f - 0.499999881f;
  VF r = f * f * p + e * -2.12194440e-4f;
  r = f + r;
  r = r + e * 0.693359375f;
  r = select(x > 0.0f, r, select(x == 0.0f, splat(-INFINITY), splat(NAN)));
  return select(x == INFINITY, x, r);
}

PN_INLINE VF vlog1p01(VF x) {
  const VF s = x / (x + 2.0f), t = s * s;  // log(1 + x) = 2 atanh(x / (2 + x))
  VF p = t * 0.281783253f + 0.279606044f;
  p = p * t + 0.400249094f;
  p = p * t + 0.66666317f;
  return s * 2.0f + s * t * p;
}

PN_INLINE VF vtanh(VF x) {
  const VF e = vexpm1(vclamp(x + x, -18.5f, 18.5f));
  return e / (e + 2.0f);
}

// 1 + exp(-x), for quotients: where exp(-x) leaves the range of floats it is infinity, where it adds
// nothing it stays anywhere below.
PN_INLINE VF vone_plus_exp_neg(VF x) {
  x = vclamp(x, -89.0f, 87.0f);
  const VF t = x * -1.44269504f + kRoundMagic, n = t - kRoundMagic;
#if defined(__FMA__) || defined(__aarch64__)
  const VF f = x + n * 0.693147181f;  // the product is exact, and the constant is off by 2e-9
#else
  const VF f = x + n * 0.693359375f + n * -2.12194440e-4f;
#endif
  VF p = f * 0.00138145411f - 0.00836874539f;  // exp(-f)
  p = p * f + 0.0416683908f;
  p = p * f - 0.166665204f;
  p = p * f + 0.499999934f;
  p = p * f - 1.0f;
  p = p * f + 1.0f;
#if defined(__AVX512F__)
  return 1.0f + reinterpret_cast<VF>(_mm512_maskz_scalef_ps(0xffff, reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(n)));
#else
  return 1.0f + p * as_float((as_bits(t) - kRoundMagicBits + 127u) << 23);  // 128 makes infinity
#endif
}

PN_INLINE VF vsigmoid(VF x) { return 1.0f / vone_plus_exp_neg(x); }
PN_INLINE VF vsilu(VF x) { return x / vone_plus_exp_neg(x); }

PN_INLINE VF verf(VF x) {
  const VF c = vclamp(x, -3.925f, 3.925f), t = c * c;
  VF p = t * 2.04659182e-06f + 0.000284850772f;
  p = p * t + 0.00377163873f;
  p = p * t + 0.0527666062f;
  p = p * t + 0.190568849f;
  p = p * t + 1.12837911f;
  VF q = t * 3.8053975e-05f + 0.00116368779f;
  q = q * t + 0.0149813602f;
  q = q * t + 0.114172973f;
  q = q * t + 0.502219975f;
  q = q * t + 1.0f;
  return vclamp(c * p / q, -1.0f, 1.0f);
}

PN_INLINE VF vsqrt(VF x) {
#if defined(__AVX512F__)
  return reinterpret_cast<VF>(_mm512_maskz_sqrt_ps(0xffff, reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
  return reinterpret_cast<VF>(_mm256_sqrt_ps(reinterpret_cast<__m256>(x)));
#else
  for (int i = 0; i < kVec; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// Half to even. From 2^23 on a float has no fraction.
PN_INLINE VF vround(VF x) {
  const VF a = vabs(x);
  return select(a < 8388608.0f, with_sign((a + 8388608.0f) - 8388608.0f, x), x);
}
PN_INLINE VF vfloor(VF x) {
  const VF r = vround(x);
  return select(r > x, r - 1.0f, r);
}
PN_INLINE VF vceil(VF x) { return -vfloor(-x); }

}  // namespace PN_TIER
}  // namespace pyneo
