// SPDX-License-Identifier: Apache-2.0
//
// Transposing a square of kVec x kVec floats in registers: log2(kVec) rounds that swap ever larger
// off-diagonal squares (Eklundh, "A fast computer method for matrix transposing", 1972).
#pragma once

#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {

// Lanes with bit S clear of a, those with it set from b's lower neighbours; and the other halves.
#if PN_VEC == 16
#define PN_LANES(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)
#else
#define PN_LANES(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
#endif

#if PN_PAIRS
template <int S>
PN_INLINE void swap_squares(VF& a, VF& b) {
  if constexpr (S == 4) {
    const VF::Half h = a.hi;
    a.hi = b.lo;
    b.lo = h;
  } else {
    const auto swap = [](VF::Half& p, VF::Half& q) __attribute__((always_inline)) {
      const VF::Half low = S == 1 ? __builtin_shufflevector(p, q, 0, 4, 2, 6) : __builtin_shufflevector(p, q, 0, 1, 4, 5);
      q = S == 1 ? __builtin_shufflevector(p, q, 1, 5, 3, 7) : __builtin_shufflevector(p, q, 2, 3, 6, 7);
      p = low;
    };
    swap(a.lo, b.lo);
    swap(a.hi, b.hi);
  }
}
#else
template <int S>
PN_INLINE void swap_squares(VF& a, VF& b) {
#define PN_LOW(l) ((l) & S ? kVec + (l)-S : (l))
#define PN_HIGH(l) ((l) & S ? kVec + (l) : (l) + S)
  const VF low = __builtin_shufflevector(a, b, PN_LANES(PN_LOW));
  const VF high = __builtin_shufflevector(a, b, PN_LANES(PN_HIGH));
#undef PN_LOW
#undef PN_HIGH
  a = low;
  b = high;
}
#endif

template <int S>
PN_INLINE void swap_round(VF* r) {
#pragma GCC unroll 16
  for (int i = 0; i < kVec; ++i) {
    if (!(i & S)) swap_squares<S>(r[i], r[i + S]);
  }
}

PN_INLINE void transpose_square(VF* r) {
  swap_round<1>(r);
  swap_round<2>(r);
  swap_round<4>(r);
#if PN_VEC == 16
  swap_round<8>(r);
#endif
}
#undef PN_LANES

// to[c * to_step + r] = from[r * from_step + c] for rows x columns, each at most kVec. Reads and writes
// nothing beyond them.
PN_INLINE void transpose_part(const float* from, int64_t from_step, float* to, int64_t to_step, int rows, int columns) {
  if (rows == kVec && columns == kVec) {
    VF r[kVec];
#pragma GCC unroll 16
    for (int i = 0; i < kVec; ++i) r[i] = load(from + i * from_step);
    transpose_square(r);
#pragma GCC unroll 16
    for (int i = 0; i < kVec; ++i) store(to + i * to_step, r[i]);
    return;
  }
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c) to[c * to_step + r] = from[r * from_step + c];
  }
}

}  // namespace PN_TIER
}  // namespace pyneo
