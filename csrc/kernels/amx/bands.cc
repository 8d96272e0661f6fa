// SPDX-License-Identifier: Apache-2.0
#include "kernels/amx/bands.h"

namespace pyneo {
namespace PN_TIER {

void run_bands(const BandJob& j, const Pool& pool, const RunContext& c) {
  constexpr int64_t kTasksPerThread = 4, kTaskPanels = 4;
  const int64_t threads = pool.size(), tasks = kTasksPerThread * threads;
  const auto slices = [&](int64_t thread) { return reinterpret_cast<char*>(c.thread_scratch + thread * c.thread_stride); };
  if (threads == 1 || j.bands >= 2 * threads) {
    return pool.run(j.bands, [&](int64_t band, int thread) {
      for (int64_t part = band * j.chunks; part < (band + 1) * j.chunks; ++part) {
        const BandJob::Size size = j.size(j.self, part);
        if (j.scan != nullptr) j.scan(j.self, part, 0, size.units, slices(thread));
        j.cut(j.self, part, 0, size.units, slices(thread));
        j.multiply(j.self, part, 0, size.rows, 0, j.panels, slices(thread));
      }
    });
  }
  for (int64_t part = 0; part < j.bands * j.chunks; ++part) {
    const BandJob::Size size = j.size(j.self, part);
    const int64_t cuts = min64(size.units, tasks);
    void (*const steps[])(const void*, int64_t, int64_t, int64_t, char*) = {j.scan, j.cut};
    for (const auto step : steps) {
      if (step == nullptr) continue;
      pool.run(cuts, [&](int64_t i, int) {
        step(j.self, part, tile_begin(size.units, cuts, i), tile_begin(size.units, cuts, i + 1), slices(0));
      });
    }
    const int64_t tiles = ceil_div(size.rows, int64_t{kTileRows}), across = max64(1, min64(tasks, j.panels / kTaskPanels));
    const int64_t down = min64(tiles, ceil_div(tasks, across));
    pool.run(across * down, [&](int64_t i, int) {
      const int64_t col = i / down, row = i % down;
      j.multiply(j.self, part, tile_begin(tiles, down, row) * kTileRows,
                 min64(tile_begin(tiles, down, row + 1) * kTileRows, size.rows), tile_begin(j.panels, across, col),
                 tile_begin(j.panels, across, col + 1), slices(0));
    });
  }
}

}  // namespace PN_TIER
}  // namespace pyneo
