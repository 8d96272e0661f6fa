// SPDX-License-Identifier: Apache-2.0
//
// Direct convolution as the tile microkernel runs it: what Conv, the slices of Conv over three axes and the phases
// of ConvTranspose share.
//
// The output is cut into bands whose input fits in L2; a band that touches padding is copied, padded,
// into the thread's scratch. Within a band a panel of weights is the outer loop and pixels are the
// inner one, so that a panel is read from memory once and from cache for every other tile.
#pragma once

#include "kernels/conv/geometry.h"

namespace pyneo {
namespace PN_TIER {

struct Direct {
  Geometry g;
  Epilogue epilogue;
  int64_t in_plane;        // pixels from one channel or block of x to the next
  int64_t tap_plane;       // pixels from what one tap meets to what the next does
  // Where outputs lie, in pixels: size of an output plane, steps between output rows and columns, the first.
  int64_t out_plane, out_row, out_step, out_first;
  // Set by plan_direct.
  Walk walk;               // strides of x are set for each task: they depend on the copy
  int vecs;                // of a panel: kTileVecs or kWideVecs
  Tiling tiles;            // of such panels
  int64_t band;            // most units of a band: rows of tiles, or tiles where there is one row
  int64_t units;           // of the image
};

struct DirectOperands {
  const float *x, *w, *bias, *z;
  float* y;
  int64_t first_tap = 0, end_tap = 1;  // those that meet the image; x is what the first meets
};

// Dense planes of the geometry's size.
static inline void set_dense(Direct* d) {
  d->in_plane = d->g.in_h * d->g.in_w;
  d->tap_plane = 0;
  d->out_plane = d->g.out_h * d->g.out_w;
  d->out_row = d->g.out_w;
  d->out_step = 1;
  d->out_first = 0;
}
// From geometry, for caches of that size, with panels of kTileVecs or kWideVecs vectors.
void plan_direct(int64_t l2_bytes, int vecs, Direct* d);
int64_t direct_scratch_bytes(const Direct& d);  // for each thread
// Weights of all groups into `to` (zeroed), each group [panel][channel block][kernel row][kernel
// column][channel][filter], channels one by one if the input is plain: the order in which Walk reduces. `w` has
// filter f, channel c, slice k, tap (i, j) of a group at w[f * filter + c * channel + k * tap + i * row + j * col].
struct FilterSteps {
  int64_t group, filter, channel, row, col, tap = 0;
};
void pack_direct(const Geometry& g, int vecs, const float* w, const FilterSteps& steps, float* to);
void run_direct(const Direct& d, const DirectOperands& o, RunContext& c);
// Microseconds: multiply-adds at the rate that the tiles' shape allows, and the bytes that pass.
double direct_cost(const Direct& d);

}  // namespace PN_TIER
}  // namespace pyneo
