// SPDX-License-Identifier: Apache-2.0
//
// A tensor seen along one axis: outer x length x inner, the shape of softmax, argmax, scans and norms.
//
// Elements of one lane (fixed outer and inner index) are `inner` apart. Lanes of one outer index are
// neighbours, so kernels take up to kBlock of them at a time, or one lane by itself where inner is 1.
#pragma once

#include "ops/elementwise.h"

namespace pyneo {

struct Lanes {
  int64_t outer = 1, length = 1, inner = 1;

  Lanes() = default;
  Lanes(const Shape& s, int axis)
      : outer(s.product(0, axis)), length(s.rank > 0 ? s[axis] : 1), inner(s.rank > 0 ? s.product(axis + 1, s.rank) : 1) {}

  // f(first, count): `count` <= kBlock neighbouring lanes whose first elements are at flat offsets
  // first .. first + count. Split over the pool when the tensor is large.
  template <typename F>
  void each_group(Pool* pool, F&& f) const {
    if (outer == 0 || inner == 0) return;
    const int64_t groups = ceil_div(inner, kBlock);
    const int64_t cost = length * (inner < kBlock ? inner : kBlock);
    for_groups(pool, outer * groups, cost, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) {
        const int64_t at = g % groups * kBlock;
        f(g / groups * length * inner + at, inner - at < kBlock ? inner - at : kBlock);
      }
    });
  }
};

}  // namespace pyneo
