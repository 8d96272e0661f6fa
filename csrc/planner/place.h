// SPDX-License-Identifier: Apache-2.0
//
// The packing problem inside the memory planner: blocks with a size and a life, offsets wanted.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace pyneo {

struct PlanBlock {
  int64_t bytes;        // >= 0; the sum over all blocks must fit in 62 bits
  int32_t first, last;  // alive at steps first..last inclusive
  int64_t offset;       // out
};

// Gives every block an offset such that blocks alive at the same step do not overlap, and the end
// of the highest block in `total`. `bound`: no packing can be smaller; the search stops when it is
// met.
Status place_blocks(PlanBlock* blocks, int32_t count, int64_t bound, int64_t* total);

}  // namespace pyneo
