// SPDX-License-Identifier: Apache-2.0
//
// Vectors of 8 where registers hold 4 (SSE2, NEON): two of 4 side by side. GCC keeps a vector that is wider than
// the registers in memory, and compares it lane by lane; two that fit it treats as it should.
#pragma once

#include <cstdint>

namespace pyneo {
namespace PN_TIER {

#define PN_MEMBER inline __attribute__((always_inline))
#define PN_PAIR_OP(op)                                                                      \
  friend PN_MEMBER Pair operator op(Pair x, Pair y) { return {x.lo op y.lo, x.hi op y.hi}; } \
  friend PN_MEMBER Pair operator op(Pair x, T y) { return {x.lo op y, x.hi op y}; }          \
  friend PN_MEMBER Pair operator op(T x, Pair y) { return {x op y.lo, x op y.hi}; }          \
  PN_MEMBER Pair& operator op##=(Pair y) { return *this = *this op y; }                      \
  PN_MEMBER Pair& operator op##=(T y) { return *this = *this op y; }
#define PN_PAIR_COMPARE(op)                                                                          \
  friend PN_MEMBER Pair<int32_t> operator op(Pair x, Pair y) { return {x.lo op y.lo, x.hi op y.hi}; } \
  friend PN_MEMBER Pair<int32_t> operator op(Pair x, T y) { return {x.lo op y, x.hi op y}; }

template <typename T>
struct Pair {
  typedef T Half __attribute__((vector_size(16)));
  typedef T Lane __attribute__((may_alias));
  Half lo, hi;

  PN_MEMBER Lane& operator[](int i) { return reinterpret_cast<Lane*>(this)[i]; }
  PN_MEMBER T operator[](int i) const { return reinterpret_cast<const Lane*>(this)[i]; }
  friend PN_MEMBER Pair operator-(Pair x) { return {-x.lo, -x.hi}; }
  friend PN_MEMBER Pair operator~(Pair x) { return {~x.lo, ~x.hi}; }
  PN_PAIR_OP(+) PN_PAIR_OP(-) PN_PAIR_OP(*) PN_PAIR_OP(/)
  PN_PAIR_OP(&) PN_PAIR_OP(|) PN_PAIR_OP(<<) PN_PAIR_OP(>>)
  PN_PAIR_COMPARE(<) PN_PAIR_COMPARE(>) PN_PAIR_COMPARE(<=) PN_PAIR_COMPARE(>=)
  PN_PAIR_COMPARE(==) PN_PAIR_COMPARE(!=)
};
#undef PN_PAIR_OP
#undef PN_PAIR_COMPARE
#undef PN_MEMBER

}  // namespace PN_TIER
}  // namespace pyneo
