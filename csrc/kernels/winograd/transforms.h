// SPDX-License-Identifier: Apache-2.0
//
// Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural
// Networks", 2016), on vectors of channels.
//
// Interpolation points are 0, +-5/8, +-3/2 and infinity: their squares are exact in binary, and the result is
// within two or three times the rounding error of direct convolution, where the usual 0, +-1, +-2 lose
// another factor of three.
#pragma once

#include "kernels/winograd/winograd.h"

// Where a vector is several registers, unrolling costs more code than it saves time.
#if defined(__AVX__)
#define PN_TRANSFORM_UNROLL PN_UNROLL
#else
#define PN_TRANSFORM_UNROLL
#endif

namespace pyneo {
namespace PN_TIER {
namespace winograd {

constexpr float kA = 0.625f, kB = 1.5f;                    // the points
constexpr float kA2 = kA * kA, kB2 = kB * kB;
constexpr float kInv0 = 1 / (kA2 * kB2);                   // 1 / product of distances to the other points
constexpr float kInvA = 1 / (2 * kA2 * (kA2 - kB2)), kInvB = 1 / (2 * kB2 * (kB2 - kA2));

// d -> B^T d
PN_INLINE void input_1d(const VF d[kIn], VF out[kIn]) {
  const VF ea = d[4] - kB2 * d[2], oa = kA * (d[3] - kB2 * d[1]);
  const VF eb = d[4] - kA2 * d[2], ob = kB * (d[3] - kA2 * d[1]);
  out[0] = (kA2 * kB2) * d[0] + (d[4] - (kA2 + kB2) * d[2]);
  out[1] = ea + oa;
  out[2] = ea - oa;
  out[3] = eb + ob;
  out[4] = eb - ob;
  out[5] = (kA2 * kB2) * d[1] + (d[5] - (kA2 + kB2) * d[3]);
}

// m -> A^T m
PN_INLINE void output_1d(const VF m[kIn], VF out[kOut]) {
  const VF ea = m[1] + m[2], oa = m[1] - m[2], eb = m[3] + m[4], ob = m[3] - m[4];
  out[0] = m[0] + ea + eb;
  out[1] = kA * oa + kB * ob;
  out[2] = kA2 * ea + kB2 * eb;
  out[3] = (kA * kA2) * oa + ((kB * kB2) * ob + m[5]);
}

// g -> G g
PN_INLINE void weights_1d(VF g0, VF g1, VF g2, VF out[kIn]) {
  const VF ea = kInvA * g0 + (kA2 * kInvA) * g2, oa = (kA * kInvA) * g1;
  const VF eb = kInvB * g0 + (kB2 * kInvB) * g2, ob = (kB * kInvB) * g1;
  out[0] = kInv0 * g0;
  out[1] = ea + oa;
  out[2] = ea - oa;
  out[3] = eb + ob;
  out[4] = eb - ob;
  out[5] = g2;
}

// One 3x3 filter, G g G^T, in double precision.
static inline void transform_filter(const float g[9], float u[kPositions]) {
  const auto one_d = [](const double in[3], double out[kIn]) {
    const double a = kA, b = kB, na = 2 * a * a * (a * a - b * b), nb = 2 * b * b * (b * b - a * a);
    out[0] = in[0] / (a * a * b * b);
    out[1] = (in[0] + a * in[1] + a * a * in[2]) / na;
    out[2] = (in[0] - a * in[1] + a * a * in[2]) / na;
    out[3] = (in[0] + b * in[1] + b * b * in[2]) / nb;
    out[4] = (in[0] - b * in[1] + b * b * in[2]) / nb;
    out[5] = in[2];
  };
  double half[3][kIn];
  for (int r = 0; r < 3; ++r) {
    const double row[3] = {g[r * 3], g[r * 3 + 1], g[r * 3 + 2]};
    one_d(row, half[r]);
  }
  for (int c = 0; c < kIn; ++c) {
    const double col[3] = {half[0][c], half[1][c], half[2][c]};
    double out[kIn];
    one_d(col, out);
    for (int r = 0; r < kIn; ++r) u[r * kIn + c] = static_cast<float>(out[r]);
  }
}

// Rows of G g G^T come in three passes of two: (0, 5), (1, 2), (3, 4).
constexpr int kPasses = 3, kPassPositions = kPositions / kPasses;
PN_INLINE int pass_row(int pass, int half) { return pass == 0 ? half * 5 : pass * 2 - 1 + half; }

template <bool kEnds>  // the points 0 and infinity, and not a pair +-t
PN_INLINE void transform_weights_pass(const VF factor[3], const float* raw, int64_t channels, int64_t width, float* u,
                                      int64_t step) {
  for (int64_t c = 0; c < channels; ++c, raw += 9 * width) {
    for (int64_t v = 0; v < width; v += kVec) {
      VF p[3], m[3], out[kIn];
      PN_TRANSFORM_UNROLL for (int j = 0; j < 3; ++j) {
        const VF g0 = load(raw + j * width + v), g2 = load(raw + (6 + j) * width + v);
        if (kEnds) {
          p[j] = factor[0] * g0;
          m[j] = g2;
        } else {
          const VF e = factor[0] * g0 + factor[2] * g2, o = factor[1] * load(raw + (3 + j) * width + v);
          p[j] = e + o;
          m[j] = e - o;
        }
      }
      float* to = u + c * width + v;
      weights_1d(p[0], p[1], p[2], out);
      PN_TRANSFORM_UNROLL for (int j = 0; j < kIn; ++j) store(to + j * step, out[j]);
      to += kIn * step;
      weights_1d(m[0], m[1], m[2], out);
      PN_TRANSFORM_UNROLL for (int j = 0; j < kIn; ++j) store(to + j * step, out[j]);
    }
  }
}

// The rows of a pass for a panel: raw [c][3][3][width] -> u [c][width] for each of
// 2 * 6 positions, `step` floats apart.
static inline void transform_weights(int pass, const float* raw, int64_t channels, int64_t width, float* u, int64_t step) {
  if (pass == 0) {
    const VF factor[3] = {splat(kInv0)};
    transform_weights_pass<true>(factor, raw, channels, width, u, step);
  } else {
    const float inv = pass == 1 ? kInvA : kInvB, t = pass == 1 ? kA : kB;
    const VF factor[3] = {splat(inv), splat(inv * t), splat(inv * t * t)};
    transform_weights_pass<false>(factor, raw, channels, width, u, step);
  }
}

// One tile of one channel block: x at the tile's first input pixel, all 36 of which are readable. Position p
// goes to v + p * kStep. Rows of B^T d come one or two at a time, so that everything stays in registers.
PN_INLINE void transform_input(const float* x, int64_t pitch, float* v) {
  const auto at = [&](int r, int c) __attribute__((always_inline)) { return load(x + r * pitch + c * kVec); };
  const auto put = [&](int r, const VF d[kIn]) __attribute__((always_inline)) {
    VF out[kIn];
    input_1d(d, out);
    PN_TRANSFORM_UNROLL for (int c = 0; c < kIn; ++c) store(v + (r * kIn + c) * kStep, out[c]);
  };
  VF d[kIn], e[kIn];
  PN_TRANSFORM_UNROLL for (int c = 0; c < kIn; ++c) {
    d[c] = (kA2 * kB2) * at(0, c) + (at(4, c) - (kA2 + kB2) * at(2, c));
  }
  put(0, d);
  PN_TRANSFORM_UNROLL for (int c = 0; c < kIn; ++c) {
    const VF even = at(4, c) - kB2 * at(2, c), odd = kA * (at(3, c) - kB2 * at(1, c));
    d[c] = even + odd;
    e[c] = even - odd;
  }
  put(1, d);
  put(2, e);
  PN_TRANSFORM_UNROLL for (int c = 0; c < kIn; ++c) {
    const VF even = at(4, c) - kA2 * at(2, c), odd = kB * (at(3, c) - kA2 * at(1, c));
    d[c] = even + odd;
    e[c] = even - odd;
  }
  put(3, d);
  put(4, e);
  PN_TRANSFORM_UNROLL for (int c = 0; c < kIn; ++c) {
    d[c] = (kA2 * kB2) * at(1, c) + (at(5, c) - (kA2 + kB2) * at(3, c));
  }
  put(5, d);
}

// One tile of one vector of filters: position p at m + p * kStep; y gets the 4 x 4 outputs, bias added.
PN_INLINE void transform_output(const float* m, VF bias, VF y[kOut][kOut]) {
  VF half[kOut][kIn];
  PN_TRANSFORM_UNROLL for (int c = 0; c < kIn; ++c) {
    VF in[kIn], out[kOut];
    PN_TRANSFORM_UNROLL for (int r = 0; r < kIn; ++r) in[r] = load(m + (r * kIn + c) * kStep);
    output_1d(in, out);
    PN_TRANSFORM_UNROLL for (int r = 0; r < kOut; ++r) half[r][c] = out[r];
  }
  PN_TRANSFORM_UNROLL for (int r = 0; r < kOut; ++r) {
    output_1d(half[r], y[r]);
    PN_TRANSFORM_UNROLL for (int c = 0; c < kOut; ++c) y[r][c] += bias;
  }
}

}  // namespace winograd
}  // namespace PN_TIER
}  // namespace pyneo
