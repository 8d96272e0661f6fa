// SPDX-License-Identifier: Apache-2.0
//
// What GridSample works out from shapes, compiled once for all tiers. kernels/move/sample.cc runs it.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

struct SamplePlan {
  int64_t images, channels, points, height, width;
  bool border, corners;
};

bool sample_accepts(const KernelQuery& q);
float sample_cost(const KernelQuery& q);
Status sample_prepare(const KernelQuery& q, void* state);

}  // namespace pyneo
