// SPDX-License-Identifier: Apache-2.0
//
// The microkernel of matrix products: a tile of rows of A x a panel of columns of B, in registers.
//
// Few rows and many vectors: 6 x 64 loads 10 values for 24 multiply-adds where 14 x 32 loads 16 for 28, which
// counts when the core's other thread competes for load ports and L1, and six rows a power of two apart
// still find room in one set of L1. On AVX2 4 x 24 loads 7 for 12, and 6 x 16 8; panels of two vectors are for
// what 24 does not divide.
//
// Every element is one chain of multiply-adds that starts at the bias and runs through k in order. A
// reduction cut into blocks keeps its sums in y between them, which changes no bit of it.
#pragma once

#include "core/tensor.h"
#include "kernels/gemm/tile.h"

namespace pyneo {
namespace PN_TIER {

#if defined(__AVX512F__)
constexpr int kRowTile = 6, kRowVecs = 4;
#elif defined(__AVX2__)
constexpr int kRowTile = 4, kRowVecs = 3;
#elif defined(__aarch64__)
constexpr int kRowTile = 6, kRowVecs = 2;
#else
constexpr int kRowTile = 2, kRowVecs = 2;
#endif
constexpr int64_t kRowPanel = kRowVecs * kVec;  // columns of a panel
constexpr int64_t kRowDepth = 768;              // most k of a block: its panel stays in L2 beside A

// Most rows of a tile on a panel of so many vectors.
constexpr int row_tile(int vecs) { return kRowVecs == 3 && vecs < 3 ? 6 : kRowTile; }

// Vectors that a panel with `live` columns takes: 1, 2 or kRowVecs.
constexpr int panel_vecs(int64_t live) { return live <= kVec ? 1 : live <= 2 * kVec ? 2 : kRowVecs; }

// `rows` rows of A by one panel of B over a block of k. Steps in floats.
struct PanelRun {
  const float *a, *w;   // w: panel_vecs(live) vectors for each k, one behind the other
  int64_t a_step, rows, k;
  // From one k of A to the next: 1, or A's row length where A is used transposed. Panels of three vectors: always 1.
  int64_t a_depth = 1;
  int64_t live;         // columns of y that exist
  const float* bias;    // panel_vecs(live) vectors
  bool first, last;     // whether the block begins and ends the reduction
  const Epilogue* epilogue;
  const float* z;       // residual, laid out as y; nullptr: none
  float* y;
  int64_t y_step;
  const float* ahead;   // what will be wanted next, fetched into L2 meanwhile: `ahead_bytes` of it
  int64_t ahead_bytes;
};
void run_panel(const PanelRun& run);

// One row by kRowTile whole panels of B that follow each other in memory, over all of k; `bias` has as many vectors. The
// panels are read side by side: hardware fetches ahead in each page of its own, and one page at a time is 2/3 as fast.
void run_panels_of_row(const PanelRun& run);

// Share of the peak that `rows` rows reach, for cost functions.
PN_INLINE double row_rate(int64_t rows) {
  const int64_t tiles = ceil_div(rows, int64_t{kRowTile});
  const double mean = static_cast<double>(rows) / static_cast<double>(tiles);
  return 0.97 * mean / (mean + 0.35);
}

}  // namespace PN_TIER
}  // namespace pyneo
