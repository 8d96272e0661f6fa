// SPDX-License-Identifier: Apache-2.0
//
// 16-bit floats as storage: conversions between their bits and float or double. Nothing computes in
// them; rounding is to nearest, ties to even, whatever the target's instructions. IEEE 754-2019, 3.6.
#pragma once

#include <cstdint>
#include <cstring>

namespace pyneo {

namespace half_detail {
inline uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof(u));
  return u;
}
inline float of_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof(f));
  return f;
}
// A float with more bits than the 16-bit formats keep, rounded to odd: a second rounding of it is the
// single rounding of `d` (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
inline float round_to_odd(double d) {
  const float f = static_cast<float>(d);
  const double back = static_cast<double>(f);
  if (back == d || d != d) return f;
  uint32_t u = bits_of(f);
  if ((back < 0 ? -back : back) > (d < 0 ? -d : d)) --u;  // one step toward zero
  return of_bits(u | 1);
}
}  // namespace half_detail

inline float f16_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in a float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return half_detail::of_bits(half_detail::bits_of(magnitude) | sign);
  }
  if (exponent == 31) return half_detail::of_bits(sign | 0x7f800000u | (mantissa << 13));
  return half_detail::of_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

inline uint16_t float_to_f16(float f) {
  const uint32_t u = half_detail::bits_of(f);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000);
  const uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00 | ((a >> 13) & 0x3ff));  // NaN
  if (a >= 0x47800000u) return sign | 0x7c00;                                              // >= 2^16
  if (a >= 0x38800000u) {                                                                  // normal
    const uint32_t rounded = a + 0xfff + ((a >> 13) & 1);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
  // Subnormal: adding 2^23 leaves |f| * 2^24, rounded to an integer, in the low bits.
  const float shifted = half_detail::of_bits(a) * 0x1p24f + 0x1p23f;
  return static_cast<uint16_t>(sign | (half_detail::bits_of(shifted) - 0x4b000000u));
}

inline uint16_t double_to_f16(double d) { return float_to_f16(half_detail::round_to_odd(d)); }

inline float bf16_to_float(uint16_t h) { return half_detail::of_bits(static_cast<uint32_t>(h) << 16); }

inline uint16_t float_to_bf16(float f) {
  const uint32_t u = half_detail::bits_of(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40);  // NaN, quiet
  return static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

inline uint16_t double_to_bf16(double d) { return float_to_bf16(half_detail::round_to_odd(d)); }

}  // namespace pyneo
