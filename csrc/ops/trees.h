// SPDX-License-Identifier: Apache-2.0
//
// What the reference of Trees shares with its packed form and its kernel.
#pragma once

#include "ops/op.h"

namespace pyneo {

enum class TreeAggregate : int32_t { kSum, kAverage, kMin, kMax };
enum class TreePost : int32_t { kNone, kSoftmax, kLogistic, kSoftmaxZero, kProbit };

struct TreeSettings {
  int64_t targets = 1;
  TreeAggregate aggregate = TreeAggregate::kSum;
  TreePost post = TreePost::kNone;

  Status read(const Attrs& attrs);
};

// The post transform of one row's n aggregates, in place.
void tree_transform(TreePost post, double* y, int64_t n);

}  // namespace pyneo
