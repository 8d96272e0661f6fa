// SPDX-License-Identifier: Apache-2.0
//
// What Concat and Split work out from shapes, compiled once for all tiers. kernels/move/move.cc and lanes.cc run it.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

// Each part is so many runs of bytes of the whole.
struct Runs {
  int64_t outer;  // runs of each part
  int64_t unit;   // bytes of a run for one step along the axis (a block of channels where blocked)
  int32_t axis;
  int32_t divide; // steps of the axis per unit: channels of a block, or 1
};

bool runs_accepts(const KernelQuery& q);
float runs_cost(const KernelQuery& q);
Status runs_prepare(const KernelQuery& q, void* state);

// Blocked tensors whose parts are not whole blocks.
struct Lanes {
  int64_t images, pixels;
};

bool lanes_accepts(const KernelQuery& q);
float lanes_cost(const KernelQuery& q);
Status lanes_prepare(const KernelQuery& q, void* state);

}  // namespace pyneo
