// SPDX-License-Identifier: Apache-2.0
//
// What Pad over channel blocks works out from shapes, compiled once for all tiers. kernels/move/frame.cc runs it.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

enum class Edge : uint8_t { kConstant, kReflect, kEdge };

struct FramePlan {
  int64_t images, blocks_in, blocks_out, channels;  // channels of the input
  int64_t height, width, rows, columns;             // of input and output; one row where there is no height
  int64_t top, left;
  Edge mode;
};

bool frame_accepts(const KernelQuery& q);
float frame_cost(const KernelQuery& q);
Status frame_prepare(const KernelQuery& q, void* state);

}  // namespace pyneo
