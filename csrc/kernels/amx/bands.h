// SPDX-License-Identifier: Apache-2.0
//
// How products on AMX are divided among threads.
#pragma once

#include "kernels/amx/slices.h"

namespace pyneo {
namespace PN_TIER {

// Tasks of a product for the threads of a pool. Its A comes in parts (bands of rows, and of each the chunks of k one
// after the other), each cut into slices before it is used. Where bands are enough, each is one thread's; where not,
// all threads cut a part, into the scratch of the first, then share its products.
struct BandJob {
  struct Size {
    int64_t units, rows;        // what it is cut in, and rows of its sums
  };
  int64_t bands, chunks, panels;
  const void* self;
  Size (*size)(const void* self, int64_t part);
  // What is to be known of all units of a part before any is cut; nullptr: nothing.
  void (*scan)(const void* self, int64_t part, int64_t from, int64_t to, char* a);
  void (*cut)(const void* self, int64_t part, int64_t from, int64_t to, char* a);
  // Rows [r0, r1), r0 a multiple of kTileRows, by panels [p0, p1).
  void (*multiply)(const void* self, int64_t part, int64_t r0, int64_t r1, int64_t p0, int64_t p1, const char* a);
};
void run_bands(const BandJob& job, const Pool& pool, const RunContext& c);

}  // namespace PN_TIER
}  // namespace pyneo
