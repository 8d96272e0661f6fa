// SPDX-License-Identifier: Apache-2.0
//
// What a profiled run notes of a node: when, how long, and how much work that was.
#pragma once

#include "ops/op.h"

namespace pyneo {

struct StepTime {
  int32_t node;
  uint64_t start_ns, duration_ns;
  uint64_t flops;                       // multiply-adds count as two; 0 where the operator's work is not arithmetic
  uint64_t bytes_read, bytes_written;   // of its operands, each once

  void add_work(const RunContext& run);
};

}  // namespace pyneo
