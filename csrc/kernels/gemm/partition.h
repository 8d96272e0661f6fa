// SPDX-License-Identifier: Apache-2.0
//
// Static division of a grid of equal units among threads.
#pragma once

#include "core/tensor.h"
#include "kernels/gemm/tile.h"

namespace pyneo {
namespace PN_TIER {

struct Split {
  int64_t rows, cols;  // parts along each axis
};

// Parts of a rows x cols grid for `threads` threads: the factor pair whose largest part is smallest,
// dividing columns rather than rows when equal.
static inline Split split_grid(int64_t rows, int64_t cols, int64_t threads) {
  Split best{1, 1};
  int64_t least = rows * cols;
  for (int64_t across = threads; across >= 1; --across) {
    const int64_t down = threads / across;
    const int64_t c = across < cols ? across : cols, r = down < rows ? down : rows;
    const int64_t part = ceil_div(rows, r) * ceil_div(cols, c);
    if (part < least) {
      least = part;
      best = {r, c};
    }
  }
  return best;
}

// Share of the peak that tiles reach, for cost functions: chains of multiply-adds must be enough to hide
// their latency, and a smaller tile loads more for each of them.
static inline double tile_rate(int64_t width, const Tiling& t, int vecs) {
  const double mean = static_cast<double>(width * t.rows) / static_cast<double>(t.across);
  return vecs > kTileVecs ? 0.96 * mean / (mean + 0.4) : 0.93 * mean / (mean + 0.9);
}

// Work of fewer multiply-adds than this is done sooner by one thread than handed to others.
constexpr double kAloneFlops = 2e6;

}  // namespace PN_TIER
}  // namespace pyneo
