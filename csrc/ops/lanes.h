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
  void each_group(const Pool* pool, F&& f) const {
    if (outer == 0 || inner == 0) return;
    const int64_t groups = ceil_div(inner, kBlock);
    const Pool serial = Pool::serial();
    const Pool& p = outer * length * inner > kTaskElements ? *pool : serial;
    // Several short lanes a task, so that a task is worth waking a thread for.
    const int64_t cost = length * (inner < kBlock ? inner : kBlock) + 1;
    const int64_t each = cost < kTaskElements / 4 ? kTaskElements / 4 / cost : 1;
    const int64_t total = outer * groups;
    p.run(ceil_div(total, each), [&](int64_t task, int) {
      const int64_t end = (task + 1) * each < total ? (task + 1) * each : total;
      for (int64_t g = task * each; g < end; ++g) {
        const int64_t at = g % groups * kBlock;
        f(g / groups * length * inner + at, inner - at < kBlock ? inner - at : kBlock);
      }
    });
  }
};

}  // namespace pyneo
