// SPDX-License-Identifier: Apache-2.0
//
// Rules that all quantised operators share.
#pragma once

#include <cmath>

#include "ops/op.h"

namespace pyneo {

// Range of an 8- or 16-bit integer dtype.
struct IntRange {
  float low, high;
};
IntRange int_range(DType t);

// round(v) + zero, to nearest even, saturated; NaN gives the low end.
inline float quantize_one(float v, float zero, IntRange r) {
  v = nearbyintf(v) + zero;
  if (!(v >= r.low)) return r.low;
  return v > r.high ? r.high : v;
}

// Error unless all n scales (f32, f16 or bf16) are finite and positive.
Status check_scales(const char* op, DType t, const void* data, int64_t n);
// The same for input i where its value is known already.
Status check_known_scales(const InferContext& c, int i);

// One scale or zero point as f32; index 0 for a scalar.
float load_param(const Tensor& t, int64_t index);

}  // namespace pyneo
