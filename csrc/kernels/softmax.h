// SPDX-License-Identifier: Apache-2.0
//
// What Softmax and LogSoftmax work out from shapes, compiled once for all tiers. kernels/norm/softmax.cc runs it.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

// The tile of columns that are reduced side by side.
constexpr int64_t kSoftmaxTileFloats = 8192;
constexpr int kSoftmaxTileVectors = 16;

struct SoftmaxPlan {
  int64_t outer, length, inner;
  bool log, few;
  int64_t rows, step, wide;  // of a tile of columns: rows, their distance, and at most so many lanes
};

bool softmax_accepts(const KernelQuery& q);
float softmax_cost(const KernelQuery& q);
Status softmax_prepare(const KernelQuery& q, void* state);

}  // namespace pyneo
