// SPDX-License-Identifier: Apache-2.0
//
// What reductions work out from shapes, compiled once for all tiers. kernels/reduce/reduce.cc runs it.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

enum class Fold : uint8_t { kSum, kMean, kMax, kMin, kSquares, kNorm };

struct Reduction {
  Fold kind;
  int64_t outer, length, inner;
  int64_t channels;  // of a blocked input whose output is plain; else 0
};

bool reduce_accepts(const KernelQuery& q);
float reduce_cost(const KernelQuery& q);
Status reduce_prepare(const KernelQuery& q, void* state);

}  // namespace pyneo
