// SPDX-License-Identifier: Apache-2.0
//
// What MaxPool and AveragePool work out from shapes, compiled once for all tiers. kernels/pool/pool.cc runs it.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

struct PoolAxis {
  int64_t in, out, kernel, stride, dilation, begin, end;
};

struct PoolPlan {
  int64_t planes;
  PoolAxis d, h, w;
  bool include_pad;
};

bool pool_accepts(const KernelQuery& q);
float pool_cost(const KernelQuery& q);
Status pool_prepare(const KernelQuery& q, void* state);

}  // namespace pyneo
