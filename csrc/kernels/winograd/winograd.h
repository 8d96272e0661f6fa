// SPDX-License-Identifier: Apache-2.0
//
// What the Winograd kernels of a tier share: the plan, packed weights, tiles in and out, and the
// division of the work among threads.
#pragma once

#include "kernels/conv/geometry.h"

namespace pyneo {
namespace PN_TIER {
namespace winograd {

constexpr int64_t kTaps = 9;

constexpr int kSlots =
    kTilePixels;  // tiles that lie together: of a block of channels, all positions
// Floats from one position to the next. On AVX-512 there is room for a tile of AMX, and cache lines
// of all positions fall into different sets of L1.
constexpr int kStep = (PN_VEC == 16 ? 17 : kSlots) * kVec;

struct Operands {
  const float *x, *w, *bias, *z;
  float* y;
  int64_t first = 0, end = 1;  // slices of the output
};

struct State;
// Tiles [t0, t1) of the slices, panels [p0, p1).
using BlockFn = void (*)(const State& s, const Operands& o, int64_t t0, int64_t t1, int64_t p0,
                         int64_t p1, char* scratch);

struct State {
  Geometry g;              // of a slice
  Slices depth;
  int64_t across, squares;  // of 3x3 that the kernel consists of: side by side, all
  int64_t in_plane, out_plane;  // pixels of all slices of a channel block
  int64_t out;             // outputs of a tile: 4 x 4 or 2 x 2
  int64_t tiles_w, tiles;  // of a slice
  int64_t unit;            // tiles that are multiplied together
  int64_t units;           // of the slice
  int64_t block;           // most units of a block, of each of its slices
  int64_t span;            // most slices of the output in a block
  int64_t group_weights;   // floats, of a group
  Epilogue epilogue;
  BlockFn run_block;
  void (*transform_tile)(const State&, const float*, int64_t, int64_t, float*);  // for `out`
  void (*finish_tiles)(const State&, const Operands&, int64_t, int64_t, int64_t, const float*);

  int64_t positions() const { return (out + 2) * (out + 2); }
  int64_t spans() const { return ceil_div(depth.out, span); }
};

bool accepts(const KernelQuery& q);  // over two axes or three
// Everything but `block`, `span`, `group_weights` and the functions.
void plan(const KernelQuery& q, int64_t out, int64_t unit, State* s);
// Blocks of `bytes` at most, if a unit takes that many.
void plan_block(int64_t bytes, int64_t unit_bytes, State* s);
int64_t block_tiles(const State& s);

// Transforms tile t of a channel block of the image x. Position p goes to `to` + p * kStep.
template <int kOut>
void transform_tile(const State& s, const float* x, int64_t block, int64_t t, float* to);
// Transforms the products of tiles [t0, t1) by the vector of filters that starts at `filter`, side
// by side at `m`, into the output.
template <int kOut>
void finish_tiles(const State& s, const Operands& o, int64_t filter, int64_t t0, int64_t t1,
                  const float* m);

Status run(const void* state, RunContext& c);
// Vector operations a microsecond, as the cost functions count them.
constexpr double kVectorRate = kPeakFlops / (2 * kVec);
// Microseconds of everything but products and weights.
double transform_cost(const KernelQuery& q, const State& s);

}  // namespace winograd
}  // namespace PN_TIER
}  // namespace pyneo
