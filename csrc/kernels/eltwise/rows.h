// SPDX-License-Identifier: Apache-2.0
//
// One function over a row of floats: what element-wise kernels and epilogues are made of.
#pragma once

#include "ops/eltwise.h"
#include "simd/activate.h"

namespace pyneo {
namespace PN_TIER {

// An operand of a row: contiguous floats, or one vector repeated all along (step 0).
struct RowOperand {
  const float* data;
  int64_t step;  // kVec or 0
};

// y[i] = f(a[i]) or f(a[i], b[i]) for i in [0, n). y may be an operand's data.
void map_row(Fn f, float alpha, float beta, RowOperand a, RowOperand b, float* y, int64_t n);

}  // namespace PN_TIER
}  // namespace pyneo
