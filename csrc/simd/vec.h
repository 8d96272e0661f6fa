// SPDX-License-Identifier: Apache-2.0
//
// Portable vectors: GCC/Clang vector extensions, PN_VEC floats wide, in the tier's own namespace.
//
// The same source serves AVX-512 (16 floats), AVX2 (8), SSE2 and NEON (8 as two registers of 4, pair.h). With
// -ffp-contract=fast `acc += x * w` becomes a fused multiply-add where the tier has one.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef PN_TIER
#error "simd/vec.h belongs to sources that are compiled once per tier"
#endif

#define PN_INLINE static inline __attribute__((always_inline))
// Before a loop over a small array of vectors that must become registers: its bounds are constants.
#define PN_UNROLL _Pragma("GCC unroll 16")

#if PN_VEC == 8 && !defined(__AVX2__)
#include "simd/pair.h"
#endif

namespace pyneo {
namespace PN_TIER {

constexpr int kVec = PN_VEC;

#if PN_VEC == 16 || defined(__AVX2__)
#define PN_PAIRS 0
typedef float VF __attribute__((vector_size(PN_VEC * 4)));                          // aligned value
typedef float VFu __attribute__((vector_size(PN_VEC * 4), aligned(4), may_alias));  // unaligned memory
typedef int32_t VI __attribute__((vector_size(PN_VEC * 4)));
typedef int32_t VIu __attribute__((vector_size(PN_VEC * 4), aligned(4), may_alias));
typedef uint32_t VU __attribute__((vector_size(PN_VEC * 4)));

PN_INLINE VF load(const float* p) { return *reinterpret_cast<const VFu*>(p); }
PN_INLINE void store(float* p, VF v) { *reinterpret_cast<VFu*>(p) = v; }
// The same bits as lanes of another type.
template <typename To, typename From>
PN_INLINE To cast(From v) { return reinterpret_cast<To>(v); }
PN_INLINE VF to_float(VI v) { return __builtin_convertvector(v, VF); }
PN_INLINE VI to_int(VF v) { return __builtin_convertvector(v, VI); }  // truncates
#else
#define PN_PAIRS 1
typedef Pair<float> VF;
typedef Pair<int32_t> VI;
typedef Pair<uint32_t> VU;
typedef float VHalf __attribute__((vector_size(16), aligned(4), may_alias));  // unaligned memory

PN_INLINE VF load(const float* p) { return {reinterpret_cast<const VHalf*>(p)[0], reinterpret_cast<const VHalf*>(p)[1]}; }
PN_INLINE void store(float* p, VF v) {
  reinterpret_cast<VHalf*>(p)[0] = v.lo;
  reinterpret_cast<VHalf*>(p)[1] = v.hi;
}
template <typename To, typename From>
PN_INLINE To cast(From v) {
  return {reinterpret_cast<typename To::Half>(v.lo), reinterpret_cast<typename To::Half>(v.hi)};
}
PN_INLINE VF to_float(VI v) { return {__builtin_convertvector(v.lo, VF::Half), __builtin_convertvector(v.hi, VF::Half)}; }
PN_INLINE VI to_int(VF v) { return {__builtin_convertvector(v.lo, VI::Half), __builtin_convertvector(v.hi, VI::Half)}; }
#endif
// A scalar in every lane. `x - V{}` and not `x + V{}`: only the first is an identity for -0.
PN_INLINE VF splat(float x) { return x - VF{}; }
PN_INLINE VI splat_i(int32_t x) { return x - VI{}; }
PN_INLINE VI select(VI mask, VI a, VI b) { return (a & mask) | (b & ~mask); }
PN_INLINE VF select(VI mask, VF a, VF b) { return cast<VF>(select(mask, cast<VI>(a), cast<VI>(b))); }
// NaN in `a` passes through both (as in `x < lo ? lo : x`).
// One instruction where the tier has it; compilers make two of the expression.
#if defined(__AVX512F__)
PN_INLINE VF vmax(VF a, VF b) { return reinterpret_cast<VF>(_mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(a))); }
PN_INLINE VF vmin(VF a, VF b) { return reinterpret_cast<VF>(_mm512_maskz_min_ps(0xffff, reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(a))); }
#elif defined(__AVX2__)
PN_INLINE VF vmax(VF a, VF b) { return reinterpret_cast<VF>(_mm256_max_ps(reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(a))); }
PN_INLINE VF vmin(VF a, VF b) { return reinterpret_cast<VF>(_mm256_min_ps(reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(a))); }
#else
PN_INLINE VF::Half half_max(VF::Half a, VF::Half b) { return a < b ? b : a; }
PN_INLINE VF::Half half_min(VF::Half a, VF::Half b) { return a > b ? b : a; }
PN_INLINE VF vmax(VF a, VF b) { return {half_max(a.lo, b.lo), half_max(a.hi, b.hi)}; }
PN_INLINE VF vmin(VF a, VF b) { return {half_min(a.lo, b.lo), half_min(a.hi, b.hi)}; }
#endif

// The first n (0..kVec) lanes of p or v, the others zero or those of `rest`; and the matching store. Never touches p[n...].
// Masks, where the tier has them: a copy of n floats is a call, and its result waits in the store buffer.
#if defined(__AVX512F__)
PN_INLINE __mmask16 first_n(int n) { return static_cast<__mmask16>((1u << n) - 1); }
PN_INLINE VF load_n(const float* p, int n) { return reinterpret_cast<VF>(_mm512_maskz_loadu_ps(first_n(n), p)); }
PN_INLINE VF load_n(const float* p, int n, VF rest) { return reinterpret_cast<VF>(_mm512_mask_loadu_ps(reinterpret_cast<__m512>(rest), first_n(n), p)); }
PN_INLINE VF keep_n(VF v, int n) { return reinterpret_cast<VF>(_mm512_maskz_mov_ps(first_n(n), reinterpret_cast<__m512>(v))); }
PN_INLINE void store_n(float* p, VF v, int n) { _mm512_mask_storeu_ps(p, first_n(n), reinterpret_cast<__m512>(v)); }
#elif defined(__AVX2__)
PN_INLINE __m256i first_n(int n) { return reinterpret_cast<__m256i>(VI{0, 1, 2, 3, 4, 5, 6, 7} < splat_i(n)); }
PN_INLINE VF load_n(const float* p, int n) { return reinterpret_cast<VF>(_mm256_maskload_ps(p, first_n(n))); }
PN_INLINE VF load_n(const float* p, int n, VF rest) { return select(reinterpret_cast<VI>(first_n(n)), load_n(p, n), rest); }
PN_INLINE VF keep_n(VF v, int n) { return reinterpret_cast<VF>(reinterpret_cast<__m256i>(v) & first_n(n)); }
PN_INLINE void store_n(float* p, VF v, int n) { _mm256_maskstore_ps(p, first_n(n), reinterpret_cast<__m256>(v)); }
#else
PN_INLINE VF load_n(const float* p, int n, VF rest) {
  __builtin_memcpy(&rest, p, static_cast<size_t>(n) * sizeof(float));
  return rest;
}
PN_INLINE VF load_n(const float* p, int n) { return load_n(p, n, VF{}); }
PN_INLINE VF keep_n(VF v, int n) { return load_n(reinterpret_cast<const float*>(&v), n); }
PN_INLINE void store_n(float* p, VF v, int n) { __builtin_memcpy(p, &v, static_cast<size_t>(n) * sizeof(float)); }
#endif

// Across lanes, in a tree of log2(kVec) exchanges: the same order on every call.
#if PN_PAIRS
#define PN_FOLD(both, v)                                         \
  VF::Half h = both(v.lo, v.hi);                                 \
  h = both(h, VF::Half(__builtin_shufflevector(h, h, 2, 3, 0, 1))); \
  h = both(h, VF::Half(__builtin_shufflevector(h, h, 1, 0, 3, 2)));
PN_INLINE VF::Half half_sum(VF::Half a, VF::Half b) { return a + b; }
PN_INLINE float reduce_add(VF v) {
  PN_FOLD(half_sum, v)
  return h[0];
}
PN_INLINE float reduce_max(VF v) {
  PN_FOLD(half_max, v)
  return h[0];
}
#undef PN_FOLD
#else
#if PN_VEC == 16
#define PN_EXCHANGE(v, s)                                                                             \
  __builtin_shufflevector(v, v, 0 ^ (s), 1 ^ (s), 2 ^ (s), 3 ^ (s), 4 ^ (s), 5 ^ (s), 6 ^ (s), 7 ^ (s), \
                          8 ^ (s), 9 ^ (s), 10 ^ (s), 11 ^ (s), 12 ^ (s), 13 ^ (s), 14 ^ (s), 15 ^ (s))
#else
#define PN_EXCHANGE(v, s) \
  __builtin_shufflevector(v, v, 0 ^ (s), 1 ^ (s), 2 ^ (s), 3 ^ (s), 4 ^ (s), 5 ^ (s), 6 ^ (s), 7 ^ (s))
#endif
PN_INLINE float reduce_add(VF v) {
#if PN_VEC == 16
  v += PN_EXCHANGE(v, 8);
#endif
  v += PN_EXCHANGE(v, 4);
  v += PN_EXCHANGE(v, 2);
  v += PN_EXCHANGE(v, 1);
  return v[0];
}
PN_INLINE float reduce_max(VF v) {
#if PN_VEC == 16
  v = vmax(v, PN_EXCHANGE(v, 8));
#endif
  v = vmax(v, PN_EXCHANGE(v, 4));
  v = vmax(v, PN_EXCHANGE(v, 2));
  v = vmax(v, PN_EXCHANGE(v, 1));
  return v[0];
}
#undef PN_EXCHANGE
#endif

}  // namespace PN_TIER
}  // namespace pyneo
