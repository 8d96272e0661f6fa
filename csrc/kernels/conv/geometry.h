// SPDX-License-Identifier: Apache-2.0
//
// Shapes of a convolution over one or two spatial axes, as the convolution kernels share them.
#pragma once

#include "kernels/gemm/tile.h"
#include "kernels/kernel.h"
#include "ops/window.h"

namespace pyneo {
namespace PN_TIER {

// Spatial axes brought to two (a missing one has size 1),
// channels and filters of one group.
struct Geometry {
  int64_t batch, groups, channels, filters;  // a group's channels and filters
  int64_t in_h, in_w, out_h, out_w;
  int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_h, pad_w;
  int64_t end_h, end_w;                      // padding behind
  bool blocked_in, blocked_out;
  int64_t merged;                            // the model's groups in one of these
  // Slices of a kernel over three axes in one reduction, on a plain image. Each counts as channels of its own, behind
  // those of the slice before.
  int64_t taps;

  int64_t block() const { return blocked_in ? kVec : 1; }             // channels side by side in x
  int64_t blocks() const { return ceil_div(channels, block()); }      // of a group
  bool padded() const { return pad_h > 0 || pad_w > 0 || end_h > 0 || end_w > 0; }
  bool copied() const { return padded() || taps > 1; }
  int64_t depth() const { return channels * kernel_h * kernel_w; }
  int64_t group_floats() const { return depth() * round_up(filters, kVec); }  // weights of a group
  int64_t panels() const { return ceil_div(filters, kPanel); }  // of Winograd; direct ones have wider panels
  double flops() const {
    return 2.0 * static_cast<double>(batch * groups * filters * out_h) * static_cast<double>(out_w * depth());
  }
};

// The first of three spatial axes; of fewer, one slice.
struct Slices {
  int64_t in, out, kernel, stride, dilation, pad;

  // Slices [*first, *end) of the kernel meet the image for output slice d.
  void taps_of(int64_t d, int64_t* first, int64_t* end) const;
  // Whether each output slice meets the image; what is padding alone is left to the reference.
  bool met() const;
};

Slices slices_of(const Window& w);

// Only padding that a window reaches counts.
void set_end_padding(Geometry* g);
// One row where that is the same: of all pixels, or of the only column.
void merge_rows(Geometry* g);
// The last two axes of a window, or the only one.
Geometry plane_geometry(const KernelQuery& q, const Window& w, int64_t batch, int64_t groups, int64_t channels, int64_t filters);
// The geometry of a node Conv; false if it has none of one or two axes. With `slices`, that of a slice of three axes.
bool read_geometry(const KernelQuery& q, Geometry* g, Slices* slices = nullptr);

// dtypes and layouts of the operands.
bool accepts_operands(const KernelQuery& q, bool blocked_in, bool blocked_out);
// Groups begin where a block does.
static inline bool accepts_groups(const Geometry& g) {
  return g.groups == 1 || ((!g.blocked_in || g.channels % kVec == 0) && (!g.blocked_out || g.filters % kVec == 0));
}
// What the kernels over one or two spatial axes can run; fills `g`.
static inline bool accepts_conv(const KernelQuery& q, bool blocked_in, bool blocked_out, Geometry* g) {
  return accepts_operands(q, blocked_in, blocked_out) && read_geometry(q, g) && accepts_groups(*g);
}

}  // namespace PN_TIER
}  // namespace pyneo
