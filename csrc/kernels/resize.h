// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of Resize work out from shapes, compiled once for all tiers. kernels/move/resample.cc and upsample.cc
// run it.
#pragma once

#include "kernels/kernel.h"
#include "ops/resample.h"

namespace pyneo {

struct ResamplePlan {
  int64_t planes;    // blocks of channels, of all images
  int64_t channels;  // of an image whose result is plain; 0: it is in blocks
  Axis axis[2];  // rows, columns
  ResampleMode mode;
  int32_t taps[2];
};
static_assert(sizeof(ResamplePlan) <= kMaxKernelState, "the state of a kernel is bounded");

// Of the table of positions and weights of an axis.
static inline int64_t resample_table_bytes(const ResamplePlan& s, int i) {
  return round_up(s.axis[i].out * (8 + 4 * int64_t{s.taps[i]}), 64);
}

bool resample_accepts(const KernelQuery& q);
float resample_cost(const KernelQuery& q);
int64_t resample_scratch_bytes(const KernelQuery& q);
int64_t resample_thread_scratch_bytes(const KernelQuery& q);
Status resample_prepare(const KernelQuery& q, void* state);

struct UpsamplePlan {
  int64_t planes, height, width, up, across;  // of the input; factors
};

bool upsample_accepts(const KernelQuery& q);
float upsample_cost(const KernelQuery& q);
Status upsample_prepare(const KernelQuery& q, void* state);

}  // namespace pyneo
