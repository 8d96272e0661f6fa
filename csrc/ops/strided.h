// SPDX-License-Identifier: Apache-2.0
//
// The one loop nest behind operators that only move elements: Transpose, Slice, Concat, Split,
// Expand, Tile, SpaceToDepth... Each of them is a strided copy; this file makes strided copies
// fast.
#pragma once

#include "ops/op.h"

namespace pyneo {

constexpr int kMaxCopyRank = 2 * kMaxRank;  // Tile splits every axis in two

// dst[sum i_k * dst_step[k]] = src[sum i_k * src_step[k]] for all 0 <= i_k < dims[k]; steps count
// elements. A src step may be zero or negative; no two iterations may write the same dst element.
struct StridedCopy {
  int rank = 0;
  int64_t dims[kMaxCopyRank];
  int64_t src_step[kMaxCopyRank];
  int64_t dst_step[kMaxCopyRank];

  void add(int64_t dim, int64_t from_step, int64_t to_step) {
    dims[rank] = dim;
    src_step[rank] = from_step;
    dst_step[rank] = to_step;
    ++rank;
  }
  // Elements are `size` (1, 2, 4 or 8) bytes. src and dst must not overlap.
  void run(const Pool& pool, size_t size, const void* src, void* dst) const;
};

// Row-major steps of a dense tensor.
void dense_steps(const Shape& s, int64_t* steps);

// Writes the element at `value` n times. `size` is 1, 2, 4 or 8.
void fill_elements(void* dst, size_t size, const void* value, int64_t n);

// Copies bytes, over threads when there are many.
void copy_bytes(const Pool& pool, void* dst, const void* src, int64_t bytes);

constexpr int64_t kParallelBytes = 64 * 1024;  // below this a copy stays on the calling thread

// How many tasks to cut `n` equal pieces of `bytes` in all into: 1 for small work.
inline int64_t copy_tasks(const Pool& pool, int64_t n, int64_t bytes) {
  if (bytes <= kParallelBytes || pool.size() == 1) return n > 0 ? 1 : 0;
  int64_t tasks = 4 * static_cast<int64_t>(pool.size());
  if (tasks > bytes / (kParallelBytes / 4)) tasks = bytes / (kParallelBytes / 4);
  return tasks < n ? tasks : n;
}

// Calls body(from, to) on even ranges that cover [0, n): `bytes` is what all of them move together.
template <typename F>
void split_range(const Pool& pool, int64_t n, int64_t bytes, F&& body) {
  const int64_t tasks = copy_tasks(pool, n, bytes);
  if (tasks <= 0) return;
  pool.run(tasks, [&](int64_t t, int) {
    const int64_t each = n / tasks, rest = n % tasks;
    const int64_t from = t * each + (t < rest ? t : rest);
    body(from, from + each + (t < rest ? 1 : 0));
  });
}

}  // namespace pyneo
