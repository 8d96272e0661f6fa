// SPDX-License-Identifier: Apache-2.0
//
// Splitting a kernel's rows, blocks or vectors over the pool without paying for threads on small tensors.
#pragma once

#include "threads/pool.h"

namespace pyneo {
namespace PN_TIER {

// Work below this stays on the calling thread: waking another costs about as much. The unit is an
// element read, computed and written once; kernels that do more for an element say so in `work`.
constexpr int64_t kGrain = 16384;

// Calls f(begin, end, thread) for ranges that cover [0, n); `work` is the cost of one item. The ranges
// depend on the pool's size only, and f must not let results depend on where a range ends.
template <typename F>
static inline void spread(const Pool& pool, int64_t n, int64_t work, F&& f) {
  if (n <= 0) return;
  const int64_t threads = pool.size();
  if (work < 1) work = 1;
  int64_t parts = n > (int64_t{1} << 40) / work ? threads * 4 : n * work / kGrain;
  if (parts > threads * 4) parts = threads * 4;
  if (parts > n) parts = n;
  if (threads == 1 || parts <= 1) return f(int64_t{0}, n, 0);
  pool.run(parts, [&](int64_t part, int thread) { f(n * part / parts, n * (part + 1) / parts, thread); });
}

}  // namespace PN_TIER
}  // namespace pyneo
