// SPDX-License-Identifier: Apache-2.0
//
// Loads of a vector's lanes from where an index says. PN_GATHER is 1 where the tier has instructions for it.
#pragma once

#include "simd/vec.h"

#if defined(__AVX2__)
#define PN_GATHER 1
#else
#define PN_GATHER 0
#endif

namespace pyneo {
namespace PN_TIER {

#if PN_GATHER && PN_VEC == 16
PN_INLINE VF gather(const float* p, VI at) {  // into zeros: GCC 12 warns of the form that starts from anything
  return reinterpret_cast<VF>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, reinterpret_cast<__m512i>(at), p, 4));
}
#elif PN_GATHER
PN_INLINE VF gather(const float* p, VI at) { return reinterpret_cast<VF>(_mm256_i32gather_ps(p, reinterpret_cast<__m256i>(at), 4)); }
#else
PN_INLINE VF gather(const float* p, VI at) {
  VF v{};
  for (int i = 0; i < kVec; ++i) v[i] = p[at[i]];
  return v;
}
#endif
PN_INLINE VI gather_i(const int32_t* p, VI at) { return cast<VI>(gather(reinterpret_cast<const float*>(p), at)); }
// Whether every lane of a comparison is false.
PN_INLINE bool none(VI mask) {
#if PN_GATHER && PN_VEC == 16
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask), reinterpret_cast<__m512i>(mask)) == 0;
#elif PN_GATHER
  return _mm256_testz_si256(reinterpret_cast<__m256i>(mask), reinterpret_cast<__m256i>(mask)) != 0;
#else
  bool any = false;
  for (int i = 0; i < kVec; ++i) any |= mask[i] != 0;
  return !any;
#endif
}
// 0, 1, 2, ...
PN_INLINE VI lane_numbers() {
  VI v{};
  for (int i = 0; i < kVec; ++i) v[i] = i;
  return v;
}

}  // namespace PN_TIER
}  // namespace pyneo
