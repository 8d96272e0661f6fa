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

  int64_t block() const { return blocked_in ? kVec : 1; }             // channels side by side in x
  int64_t blocks() const { return ceil_div(channels, block()); }      // of a group
  bool padded() const { return pad_h > 0 || pad_w > 0 || end_h > 0 || end_w > 0; }
  int64_t depth() const { return channels * kernel_h * kernel_w; }
  // Weights of a group: a panel for each kPanel filters, the last one a vector narrower if that does.
  int64_t group_floats() const { return depth() * round_up(filters, kVec); }
  int64_t panels() const { return ceil_div(filters, kPanel); }
  double flops() const {
    return 2.0 * static_cast<double>(batch * groups * filters * out_h) * static_cast<double>(out_w * depth());
  }
};

// Only padding that a window reaches counts.
static inline void set_end_padding(Geometry* g) {
  g->end_h = (g->out_h - 1) * g->stride_h + (g->kernel_h - 1) * g->dilation_h + 1 - g->pad_h - g->in_h;
  g->end_w = (g->out_w - 1) * g->stride_w + (g->kernel_w - 1) * g->dilation_w + 1 - g->pad_w - g->in_w;
  if (g->end_h < 0) g->end_h = 0;
  if (g->end_w < 0) g->end_w = 0;
}

// One row where that is the same: of all pixels, or of the only column.
static inline void merge_rows(Geometry* g) {
  const bool pointwise = g->kernel_h == 1 && g->kernel_w == 1 && g->stride_h == 1 && g->stride_w == 1 && !g->padded();
  if (!pointwise && !(g->in_w == 1 && g->out_w == 1 && g->kernel_w == 1 && g->pad_w == 0)) return;
  if (pointwise) {
    g->in_w *= g->in_h;
    g->out_w *= g->out_h;
  } else {
    g->in_w = g->in_h;
    g->out_w = g->out_h;
    g->kernel_w = g->kernel_h;
    g->stride_w = g->stride_h;
    g->dilation_w = g->dilation_h;
    g->pad_w = g->pad_h;
    g->end_w = g->end_h;
  }
  g->in_h = g->out_h = g->kernel_h = g->stride_h = g->dilation_h = 1;
  g->pad_h = g->end_h = 0;
}

// The last two axes of a window, or the only one.
PN_COLD static inline Geometry plane_geometry(const KernelQuery& q, const Window& w, int64_t batch, int64_t groups, int64_t channels,
                                      int64_t filters) {
  const int x = w.spatial - 1, y = w.spatial - 2;
  const auto at = [&](const int64_t* dims, int64_t none) { return y < 0 ? none : dims[y]; };
  return Geometry{batch, groups, channels / groups, filters / groups,
                  at(w.in, 1), w.in[x], at(w.out, 1), w.out[x],
                  at(w.kernel, 1), w.kernel[x], at(w.stride, 1), w.stride[x],
                  at(w.dilation, 1), w.dilation[x], at(w.pad_begin, 0), w.pad_begin[x], 0, 0,
                  q.in[0]->layout == kBlocked, q.out[0]->layout == kBlocked, 1};
}

// Groups of fewer channels than a block become one that fills it: the filters of one have zeros for the channels of
// the others.
PN_COLD static inline void merge_groups(Geometry* g) {
  if (g->groups == 1 || !g->blocked_in || !g->blocked_out || g->channels >= kVec || kVec % g->channels != 0) return;
  const int64_t n = kVec / g->channels;
  if (g->groups % n != 0 || g->filters * n % kVec != 0) return;
  g->groups /= n;
  g->channels *= n;
  g->filters *= n;
  g->merged = n;
}

PN_COLD static inline bool read_geometry(const KernelQuery& q, Geometry* g) {
  ConvGeometry c;
  if (read_conv("Conv", q.attrs, q.in[0]->shape, q.in[1]->shape, &c) != Status::kOk) {
    clear_error();
    return false;
  }
  Window& w = c.window;
  if (w.spatial > 2) {  // a pointwise one has but one axis
    for (int i = 0; i < w.spatial; ++i) {
      if (w.kernel[i] != 1 || w.stride[i] != 1 || w.in[i] != w.out[i] || w.pad_begin[i] != 0) return false;
    }
    w.in[0] = w.out[0] = w.out_size();
    w.spatial = 1;
  }
  *g = plane_geometry(q, w, c.batch, c.groups, c.channels, c.filters);
  set_end_padding(g);
  merge_rows(g);
  merge_groups(g);
  return true;
}

// dtypes and layouts of the operands.
PN_COLD static inline bool accepts_operands(const KernelQuery& q, bool blocked_in, bool blocked_out) {
  const auto fits = [](const TensorDesc* t, bool blocked) {
    return t->dtype == DType::kF32 && t->layout == (blocked ? kBlocked : Layout::kPlain);
  };
  if (!fits(q.in[0], blocked_in) || !fits(q.out[0], blocked_out) || q.in[1]->dtype != DType::kF32) return false;
  if (q.has(2) && !fits(q.in[2], false)) return false;
  if (q.has(3) && !fits(q.in[3], blocked_out)) return false;
  if (q.in[0]->elements() == 0 || q.in[1]->elements() == 0 || q.out[0]->elements() == 0) return false;
  return true;
}
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
