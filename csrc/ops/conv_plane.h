// SPDX-License-Identifier: Apache-2.0
//
// One output channel of a convolution, by loops whose innermost runs along the last spatial axis.
#pragma once

#include "ops/window.h"

namespace pyneo {

// Steps a row-major multi-index; false once it has wrapped to zero.
inline bool next_index(int64_t* at, const int64_t* dims, int n) {
  for (int i = n - 1; i >= 0; --i) {
    if (++at[i] < dims[i]) return true;
    at[i] = 0;
  }
  return false;
}

// Positions o in [lo, hi) of an axis for which o * stride + shift lies in [0, limit); hi <= count.
inline void inside(int64_t count, int64_t stride, int64_t shift, int64_t limit, int64_t* lo,
                   int64_t* hi) {
  *lo = shift >= 0 ? 0 : ceil_div(-shift, stride);
  *hi = shift >= limit ? 0 : (limit - 1 - shift) / stride + 1;
  if (*hi > count) *hi = count;
}

// y[filter m of image n] += W[m] * X[n]; padding adds nothing (integers come with their zero point
// subtracted). x, w: the whole tensors; y: the plane.
template <typename In, typename Acc>
void conv_plane(const ConvGeometry& g, const In* x, const In* w, int64_t n, int64_t m, Acc* y) {
  const Window& v = g.window;
  const int last = v.spatial - 1;
  const int64_t per_group = g.channels / g.groups, group = m / (g.filters / g.groups);
  const int64_t in_size = v.in_size(), width = v.in[last], out_width = v.out[last],
                taps = v.kernel[last];
  const int64_t rows = out_width > 0 ? v.out_size() / out_width : 0;
  x += (n * g.channels + group * per_group) * in_size;
  w += m * per_group * v.kernel_size();
  int64_t at[kMaxSpatial] = {};
  for (int64_t row = 0; row < rows; ++row, next_index(at, v.out, last)) {
    Acc* out = y + row * out_width;
    const In* tap = w;
    for (int64_t c = 0; c < per_group; ++c) {
      int64_t k[kMaxSpatial] = {};
      do {
        int64_t offset = 0;
        bool padding = false;
        for (int d = 0; d < last && !padding; ++d) {
          const int64_t i = at[d] * v.stride[d] + k[d] * v.dilation[d] - v.pad_begin[d];
          padding = i < 0 || i >= v.in[d];
          offset = offset * v.in[d] + (padding ? 0 : i);
        }
        if (!padding) {
          const In* in = x + c * in_size + offset * width;
          for (int64_t q = 0; q < taps; ++q) {
            const int64_t shift = q * v.dilation[last] - v.pad_begin[last], stride = v.stride[last];
            const Acc f = tap[q];
            int64_t lo, hi;
            inside(out_width, stride, shift, width, &lo, &hi);
            if (stride == 1) {
              for (int64_t o = lo; o < hi; ++o) out[o] += f * static_cast<Acc>(in[o + shift]);
            } else {
              for (int64_t o = lo; o < hi; ++o)
                out[o] += f * static_cast<Acc>(in[o * stride + shift]);
            }
          }
        }
        tap += taps;
      } while (next_index(k, v.kernel, last));
    }
  }
}

}  // namespace pyneo
