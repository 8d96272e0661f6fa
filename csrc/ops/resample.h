// SPDX-License-Identifier: Apache-2.0
//
// Resampling along one axis: where an output position lies in the input, and the weights of the
// input positions around it. Resize applies it axis by axis: all of ONNX's modes are separable.
#pragma once

#include "ops/op.h"

namespace pyneo {

enum class Coordinates {
  kHalfPixel,
  kHalfPixelSymmetric,
  kPytorchHalfPixel,
  kAlignCorners,
  kAsymmetric,
  kCrop
};
enum class Filter { kNearest, kLinear, kCubic };
enum class Rounding { kPreferFloor, kPreferCeil, kFloor, kCeil };

struct ResampleMode {
  Coordinates coordinates = Coordinates::kHalfPixel;
  Filter filter = Filter::kNearest;
  Rounding rounding = Rounding::kPreferFloor;
  bool antialias = false;
  bool exclude_outside = false;  // positions outside get no weight instead of the edge's value
  float cubic_a = -0.75f;
  float extrapolation = 0;
};

struct Axis {
  int64_t in = 1, out = 1;
  double scale = 1;           // out / in as the model says it, before rounding
  double begin = 0, end = 1;  // the region to resample, kCrop only
  bool identity = true;

  int64_t taps(const ResampleMode& mode) const;  // input positions that have weight, at most `in`
};

constexpr int64_t kOutside = -1;  // kCrop: the output position takes the extrapolation value

// first[j] = the nearest input position of output j.
void nearest_table(const Axis& axis, const ResampleMode& mode, int64_t* first);

// Output j = sum over t < taps of weights[j * taps + t] * input[first[j] + t].
void weight_table(const Axis& axis, const ResampleMode& mode, int64_t* first, float* weights);

}  // namespace pyneo
