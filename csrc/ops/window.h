// SPDX-License-Identifier: Apache-2.0
//
// Sliding windows: the geometry that convolutions and pools share, resolved and checked once.
#pragma once

#include "core/attrs.h"
#include "core/tensor.h"

namespace pyneo {

constexpr int kMaxSpatial = kMaxRank - 2;
// Strides, dilations, kernel extents and pads are at most this, so that sums and products of two of
// them with a dim never overflow.
constexpr int64_t kMaxWindow = int64_t{1} << 24;

// Spatial geometry of an operator on X = (N, C, in[0], .., in[spatial - 1]). Output position o of
// an axis reads input positions o * stride + k * dilation - pad_begin for k in [0, kernel), those
// outside [0, in) being padding.
struct Window {
  int32_t spatial = 0;  // number of spatial axes, 1..kMaxSpatial
  int64_t in[kMaxSpatial] = {};
  int64_t out[kMaxSpatial] = {};
  int64_t kernel[kMaxSpatial] = {};
  int64_t stride[kMaxSpatial] = {};
  int64_t dilation[kMaxSpatial] = {};
  int64_t pad_begin[kMaxSpatial] = {};
  int64_t pad_end[kMaxSpatial] = {};

  int64_t extent(int i) const { return (kernel[i] - 1) * dilation[i] + 1; }  // dilated kernel
  int64_t in_size() const { return product(in); }
  int64_t out_size() const { return product(out); }
  int64_t kernel_size() const { return product(kernel); }

 private:
  int64_t product(const int64_t* dims) const {
    int64_t n = 1;
    for (int i = 0; i < spatial; ++i) n *= dims[i];
    return n;
  }
};

// Reads strides, dilations, pads, auto_pad and kernel_shape for an operator on x (rank 3..kMaxRank)
// and computes `out`. `kernel` points at x.rank - 2 dims of the weights; nullptr: kernel_shape must
// be there. ceil_mode (pools only) is read from the attributes when `pool` is set; windows that
// would start in the end padding are dropped. kInvalidModel names what is wrong.
Status read_window(const char* op, const Attrs& attrs, const Shape& x, const int64_t* kernel,
                   bool pool, Window* w);

// The same for ConvTranspose and MaxUnpool, where `out` grows: x is the small side. Reads
// output_padding and output_shape as well. Input position i adds to output positions i * stride + k
// * dilation - pad_begin.
Status read_transposed_window(const char* op, const Attrs& attrs, const Shape& x,
                              const int64_t* kernel, Window* w);

// Geometry of Conv, QLinearConv and ConvInteger: shapes of X (N, C, ...) and W (M, C / group, ...).
struct ConvGeometry {
  Window window;
  int64_t batch = 0, channels = 0, filters = 0, groups = 1;
  Shape y;  // (N, M, out...)
};
Status read_conv(const char* op, const Attrs& attrs, const Shape& x, const Shape& w,
                 ConvGeometry* g);

}  // namespace pyneo
