// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv/geometry.h"

namespace pyneo {
namespace PN_TIER {

PN_COLD void set_end_padding(Geometry* g) {
  g->end_h = (g->out_h - 1) * g->stride_h + (g->kernel_h - 1) * g->dilation_h + 1 - g->pad_h - g->in_h;
  g->end_w = (g->out_w - 1) * g->stride_w + (g->kernel_w - 1) * g->dilation_w + 1 - g->pad_w - g->in_w;
  if (g->end_h < 0) g->end_h = 0;
  if (g->end_w < 0) g->end_w = 0;
}

PN_COLD void merge_rows(Geometry* g) {
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

PN_COLD Geometry plane_geometry(const KernelQuery& q, const Window& w, int64_t batch, int64_t groups, int64_t channels,
                                int64_t filters) {
  const int x = w.spatial - 1, y = w.spatial - 2;
  const auto at = [&](const int64_t* dims, int64_t none) { return y < 0 ? none : dims[y]; };
  return Geometry{batch, groups, channels / groups, filters / groups,
                  at(w.in, 1), w.in[x], at(w.out, 1), w.out[x],
                  at(w.kernel, 1), w.kernel[x], at(w.stride, 1), w.stride[x],
                  at(w.dilation, 1), w.dilation[x], at(w.pad_begin, 0), w.pad_begin[x], 0, 0,
                  q.in[0]->layout == kBlocked, q.out[0]->layout == kBlocked, 1, 1};
}

// Groups of fewer channels than a block become one that fills it: the filters of one have zeros for the channels of
// the others.
static void merge_groups(Geometry* g) {
  if (g->groups == 1 || !g->blocked_in || !g->blocked_out || g->channels >= kVec || kVec % g->channels != 0) return;
  const int64_t n = kVec / g->channels;
  if (g->groups % n != 0 || g->filters * n % kVec != 0) return;
  g->groups /= n;
  g->channels *= n;
  g->filters *= n;
  g->merged = n;
}

__attribute__((noinline)) void Slices::taps_of(int64_t d, int64_t* first, int64_t* end) const {
  int64_t i = d * stride - pad, k = 0;
  for (; k < kernel && i < 0; ++k) i += dilation;
  *first = k;
  for (; k < kernel && i < in; ++k) i += dilation;
  *end = k;
}

PN_COLD Slices slices_of(const Window& w) {
  if (w.spatial != 3) return {1, 1, 1, 1, 1, 0};
  return {w.in[0], w.out[0], w.kernel[0], w.stride[0], w.dilation[0], w.pad_begin[0]};
}

PN_COLD bool Slices::met() const {
  if (out > 4096 || kernel > 4096) return false;
  for (int64_t d = 0; d < out; ++d) {
    int64_t first, end;
    taps_of(d, &first, &end);
    if (first == end) return false;
  }
  return true;
}

PN_COLD bool read_geometry(const KernelQuery& q, Geometry* g, Slices* slices) {
  ConvGeometry c;
  if (read_conv("Conv", q.attrs, q.in[0]->shape, q.in[1]->shape, &c) != Status::kOk) {
    clear_error();
    return false;
  }
  Window& w = c.window;
  if (slices != nullptr) *slices = slices_of(w);
  if (w.spatial > (slices != nullptr ? 3 : 2)) {  // a pointwise one has but one axis
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

PN_COLD bool accepts_operands(const KernelQuery& q, bool blocked_in, bool blocked_out) {
  const auto fits = [](const TensorDesc* t, bool blocked) {
    return t->dtype == DType::kF32 && t->layout == (blocked ? kBlocked : Layout::kPlain);
  };
  if (!fits(q.in[0], blocked_in) || !fits(q.out[0], blocked_out) || q.in[1]->dtype != DType::kF32) return false;
  if (q.has(2) && !fits(q.in[2], false)) return false;
  if (q.has(3) && !fits(q.in[3], blocked_out)) return false;
  if (q.in[0]->elements() == 0 || q.in[1]->elements() == 0 || q.out[0]->elements() == 0) return false;
  return true;
}

}  // namespace PN_TIER
}  // namespace pyneo
