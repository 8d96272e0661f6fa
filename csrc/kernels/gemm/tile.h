// SPDX-License-Identifier: Apache-2.0
//
// The microkernel of convolutions (matrix products: rows.h): a tile of output pixels (rows of a matrix) x one,
// two or four vectors of output channels, all in registers, reduced over everything else.
//
// Every element is one chain of multiply-adds that starts at the bias and runs through the reduction in
// the order of the packed weights. Neither the tile's shape nor the number of threads changes it.
#pragma once

#include "core/tensor.h"
#include "simd/activate.h"

namespace pyneo {
namespace PN_TIER {

// Pixels of the largest tile, by the registers there are: kTileVecs accumulators a pixel, and the
// weights and one broadcast beside them. Where registers are many, a tile of fewer pixels and kWideVecs vectors loads
// less for each multiply-add.
constexpr int kTileVecs = 2;
#if defined(__AVX512F__)
constexpr int kTilePixels = 14, kWideVecs = 4, kWidePixels = 6;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int kTilePixels = 6, kWideVecs = kTileVecs, kWidePixels = kTilePixels;
#else
constexpr int kTilePixels = 2, kWideVecs = kTileVecs, kWidePixels = kTilePixels;
#endif
// Multiply-add operations of one core in a microsecond, as the cost functions assume them.
#if defined(__AVX512F__)
constexpr double kPeakFlops = 175e3;
#elif defined(__AVX2__)
constexpr double kPeakFlops = 95e3;
#else
constexpr double kPeakFlops = 20e3;
#endif
constexpr int kPanel = kTileVecs * kVec, kWidePanel = kWideVecs * kVec;  // output channels of a panel of weights

// How a tile walks its operands. The reduction index is (a, b, c, lane), the input element of tile
// row r, pixel q at x + r*row + q*pixel + a*a_step + b*b_step + c*c_step + lane, all in floats. The weights
// of each index lie behind those of the one before, the tile's vectors side by side. The last `a` has `last` lanes,
// the others `lanes`.
//   blocked channels  a = channel block, (b, c) = (kernel row, column), lanes = channels of the block
//   plain image       a = channel, b = kernel row, c = 1, lanes = kernel columns
struct Walk {
  int64_t a_count, a_step, b_count, b_step, c_count, c_step, lanes, last;
  int64_t pixel, row;

  int64_t depth() const { return ((a_count - 1) * lanes + last) * b_count * c_count; }
};

// What happens to a finished tile: z is added and clamped by post, or without z it is clamped by act.
// Strides in floats.
struct Finish {
  const float* bias;  // a vector for each vector of the tile
  uint8_t clamp_act, clamp_post;  // 0: not at all, 1: from below, 2: from both sides
  float act_lo, act_hi, post_lo, post_hi;
  int64_t out_vec, out_pixel, out_row;  // strides of y and z
  // What will be wanted soon: every reduction index fetches the line there into L2 and goes `ahead_step` floats on.
  // Never dereferenced; w itself does where there is nothing to fetch.
  const float* ahead;
  int64_t ahead_step = 8;
};

using TileFn = void (*)(const Walk&, const float* x, const float* w, const Finish&, float* y, const float* z);

// The microkernel of rows x cols pixels and vecs (1, 2 or kWideVecs) vectors, of a shape that tiling() gives.
TileFn tile_fn(int rows, int cols, int vecs);

constexpr int tile_pixels(int vecs) { return vecs > kTileVecs ? kWidePixels : kTilePixels; }

// How an image of `width` columns is cut: tiles of `rows` rows, `across` of them side by side (tile_begin). Two rows
// where that makes tiles larger.
struct Tiling {
  int rows;
  int64_t across;
};
static inline Tiling tiling(int64_t width, int vecs) {
  const int most = tile_pixels(vecs);
  const int64_t one = ceil_div(width, most), two = ceil_div(width, most / 2);
  return two < one * 2 && width > most / 4 ? Tiling{2, two} : Tiling{1, one};
}
// The same for a single row.
static inline Tiling row_tiling(int64_t width, int vecs) {
  return {1, ceil_div(width, tile_pixels(vecs))};
}

// Bias, activations and residual of a node as tiles apply them.
struct Epilogue {
  Activation act, post;
  bool direct;  // both are clamps

  // From `act` and `post_act`, which the operator's infer has checked.
  void read(const Attrs& attrs, const char* op, const char* act_name = "act");
  // Fills everything of `f` but bias and strides.
  void clamps(Finish* f) const;
  // Whether tiles do it all: clamps, and nothing on the side of the residual that they do not do.
  bool in_registers(bool residual) const;
};

// Where tiles go when their vectors cannot be stored as they are: an activation that is no clamp, a tail
// of channels, or channels that are not adjacent in memory (`lane` != 1).
struct Scatter {
  int64_t lane, out_vec, out_pixel, out_row;
  int live;  // channels to store, of vecs * kVec
};
// Runs the tile into a buffer in L1, then act, + z, post_act there, and stores what is live.
void run_buffered(TileFn fn, int rows, int cols, int vecs, const Walk& walk, const float* x, const float* w,
                  const float* bias, const float* ahead, const Epilogue& e, const Scatter& s, float* y, const float* z);

// Columns of tile i when `width` pixels are cut into `count` tiles of nearly equal size.
PN_INLINE int64_t tile_begin(int64_t width, int64_t count, int64_t i) {
  const int64_t small = width / count, larger = width % count;
  return i * small + (i < larger ? i : larger);
}

}  // namespace PN_TIER
}  // namespace pyneo
