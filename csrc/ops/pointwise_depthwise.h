// SPDX-License-Identifier: Apache-2.0
//
// `PointwiseDepthwise`: a 1x1 convolution and the depthwise one behind it as one node.
//
//   X        (N, C, H, W)
//   weights  E * C + E * kh * kw numbers: the 1x1 filters (E, C), then the depthwise ones (E, kh, kw)
//   biases   2 E numbers: of the one, of the other
//   Y        (N, E, oh, ow): act(depthwise(inner_act(X * filters + bias)) + bias)
//   mean     (N, E, 1, 1): of each of Y's planes, if wanted
//
// Attributes: `group` is E, `kernel_shape`, strides, pads and dilations those of the depthwise
// convolution; `inner_act` and `act` as in ops/activation.h.
#pragma once

#include "core/attrs.h"
#include "ops/window.h"

namespace pyneo {

struct PointwiseDepthwise {
  int64_t channels = 0;     // C
  ConvGeometry depthwise;   // E in, E out
};
// Shapes of X, weights and biases; kInvalidModel names what does not fit.
Status read_pointwise_depthwise(const Attrs& attrs, const Shape& x, const Shape& weights, const Shape& biases,
                                PointwiseDepthwise* p);

}  // namespace pyneo
