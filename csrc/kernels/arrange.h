// SPDX-License-Identifier: Apache-2.0
//
// How nodes that put elements of 4 bytes into another order walk over them: the same for every tier but for the width
// of a channel block, so compiled once. kernels/move/arrange.cc runs what is planned here.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

constexpr int kNestAxes = kMaxRank + 1;

struct Nest {
  int64_t dims[kNestAxes] = {}, from[kNestAxes] = {}, to[kNestAxes] = {};  // outer axes first; steps in elements
  int32_t rank = 0;
  bool square = false;  // the last two axes: runs of the source, runs of the destination

  void add(int64_t dim, int64_t from_step, int64_t to_step) {
    dims[rank] = dim;
    from[rank] = from_step;
    to[rank++] = to_step;
  }
};

struct ArrangePlan {
  Nest whole, tail;                             // tail: the channels of the last, unfilled block; rank 0: none
  int32_t tail_from = 0, tail_to = 0;                   // where they begin, in blocks of V channels ...
  int64_t from_block = 0, to_block = 0;                 // ... of so many elements
  int64_t pad_images = 0, pad_step = 0, pad_at = 0, pad_n = 0;  // lanes of the destination that hold no channel: zeros
};
static_assert(sizeof(ArrangePlan) <= kMaxKernelState, "the state of a kernel is bounded");

bool arrange_accepts(const KernelQuery& q);
float arrange_cost(const KernelQuery& q);
Status arrange_prepare(const KernelQuery& q, void* plan);

}  // namespace pyneo
