// SPDX-License-Identifier: Apache-2.0
//
// What happens to finished sums in a buffer: act, + z, post_act, and where they go.
#pragma once

#include "kernels/gemm/tile.h"

namespace pyneo {
namespace PN_TIER {

class Finisher {
 public:
  explicit Finisher(const Epilogue& e) : epilogue_(e) {
    e.clamps(&f_);
    act_ = e.act.kind > Act::kClip;
    post_ = e.post.kind > Act::kClip;
    if (act_ || !f_.clamp_act) f_.act_lo = -__builtin_inff(), f_.act_hi = __builtin_inff();
    if (post_ || !f_.clamp_post) f_.post_lo = -__builtin_inff(), f_.post_hi = __builtin_inff();
  }

  // An act that is no clamp, over a whole buffer at once.
  void activate(float* buffer, int64_t n) const {
    if (act_) act_rows(epilogue_.act, buffer, n);
  }
  // n vectors from the buffer to y; z: residual or nullptr.
  void vectors(const float* x, const float* z, float* y, int64_t n) const {
    const VF act_lo = splat(f_.act_lo), act_hi = splat(f_.act_hi), lo = splat(f_.post_lo), hi = splat(f_.post_hi);
    if (z == nullptr) {
      for (int64_t i = 0; i < n * kVec; i += kVec) store(y + i, vmin(vmax(vmin(vmax(load(x + i), act_lo), act_hi), lo), hi));
    } else {
      for (int64_t i = 0; i < n * kVec; i += kVec) store(y + i, vmin(vmax(vmin(vmax(load(x + i), act_lo), act_hi) + load(z + i), lo), hi));
    }
    if (post_) act_rows(epilogue_.post, y, n * kVec);
  }
  // n floats, fewer than a vector.
  void tail(const float* x, const float* z, float* y, int n) const {
    VF v = vmin(vmax(load_n(x, n), splat(f_.act_lo)), splat(f_.act_hi));
    if (z != nullptr) v += load_n(z, n);
    store_n(y, vmin(vmax(v, splat(f_.post_lo)), splat(f_.post_hi)), n);
    if (post_) act_rows(epilogue_.post, y, n);
  }

 private:
  const Epilogue& epilogue_;
  Finish f_;
  bool act_, post_;
};

}  // namespace PN_TIER
}  // namespace pyneo
