// SPDX-License-Identifier: Apache-2.0
//
// Activations on vectors, for the epilogues of kernels.
//
// Epilogues in registers call apply_activation_v: the cheap kinds are inlined there, the others are
// a call. A kernel that has stored its tile calls act_rows on it instead, which switches once a row.
#pragma once

#include "ops/activation.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {

// x[0..n) in place; x needs no alignment. Defined in kernels/eltwise/rows.cc, once a tier.
void act_rows(const Activation& a, float* x, int64_t n);
// y[i] = act(x[i]); x may be y.
void act_map(const Activation& a, const float* x, float* y, int64_t n);
VF act_vector(const Activation& a, VF x);
// What follows stored sums: act, + z unless that is null, post. n is a multiple of kVec.
void finish_rows(const Activation& act, const float* z, const Activation& post, float* y, int64_t n);

PN_INLINE VF apply_activation_v(const Activation& a, VF x) {
  switch (a.kind) {
    case Act::kNone: return x;
    case Act::kRelu: return vmax(x, VF{});
    case Act::kClip: return vclamp(x, a.alpha, a.beta);
    case Act::kLeakyRelu: return select(x < 0.0f, x * a.alpha, x);
    default: return act_vector(a, x);
  }
}

}  // namespace PN_TIER
}  // namespace pyneo
