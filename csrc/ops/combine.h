// SPDX-License-Identifier: Apache-2.0
//
// y = f(y, x) on runs of one dtype, for operators that gather several values in one place.
#pragma once

#include "ops/op.h"

namespace pyneo {

enum class Combine { kReplace, kAdd, kMul, kMax, kMin };

// Integers wrap around; bool adds by "or" and multiplies by "and"; max and min pass NaN on.
void combine(Combine f, DType t, void* y, const void* x, int64_t n);

}  // namespace pyneo
