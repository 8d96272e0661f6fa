// SPDX-License-Identifier: Apache-2.0
//
// Winograd's minimal filtering F(4x4, 3x3) and F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2016), on vectors of channels.
//
// Interpolation points of F(4x4) are 0, +-5/8, +-3/2 and infinity: their squares are exact in binary, and the
// result is within two or three times the rounding error of direct convolution, where the usual 0, +-1, +-2 lose
// another factor of three. Those of F(2x2) are 0, +-1 and infinity.
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

// d -> B^T d
PN_INLINE void input_1d(const VF d[6], VF out[6]) {
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
template <int kOut>
PN_INLINE void output_1d(const VF* m, VF* out) {
  if (kOut == 2) {
    out[0] = m[0] + m[1] + m[2];
    out[1] = m[1] - m[2] + m[3];
    return;
  }
  const VF ea = m[1] + m[2], oa = m[1] - m[2], eb = m[3] + m[4], ob = m[3] - m[4];
  out[0] = m[0] + ea + eb;
  out[1] = kA * oa + kB * ob;
  out[2] = kA2 * ea + kB2 * eb;
  out[3] = (kA * kA2) * oa + ((kB * kB2) * ob + m[5]);
}
// One row or column of a filter, G g, in double precision.
static inline void filter_1d(int out_size, const double g[3], double u[6]) {
  const double a = kA, b = kB, na = 2 * a * a * (a * a - b * b), nb = 2 * b * b * (b * b - a * a);
  const auto pair = [&](int i, double t, double norm) {
    u[i] = (g[0] + t * g[1] + t * t * g[2]) / norm;
    u[i + 1] = (g[0] - t * g[1] + t * t * g[2]) / norm;
  };
  if (out_size == 4) {
    u[0] = g[0] / (a * a * b * b);
    pair(1, a, na);
    pair(3, b, nb);
  } else {
    u[0] = g[0];
    pair(1, 1, 2);
  }
  u[out_size + 1] = g[2];
}

// One 3x3 filter, G g G^T: (out_size + 2)^2 positions.
static inline void transform_filter(int out_size, const float g[9], float* u) {
  const int n = out_size + 2;
  double half[3][6];
  for (int r = 0; r < 3; ++r) {
    const double row[3] = {g[r * 3], g[r * 3 + 1], g[r * 3 + 2]};
    filter_1d(out_size, row, half[r]);
  }
  for (int c = 0; c < n; ++c) {
    const double col[3] = {half[0][c], half[1][c], half[2][c]};
    double out[6];
    filter_1d(out_size, col, out);
    for (int r = 0; r < n; ++r) u[r * n + c] = static_cast<float>(out[r]);
  }
}

// One tile of one channel block, with kOut x kOut outputs: x at the tile's first input pixel, all of which are
// readable. Position p goes to v + p * kStep. Rows of B^T d come one or two at a time, so that everything stays in
// registers.
PN_INLINE void transform_input_4(const float* x, int64_t pitch, float* v) {
  constexpr int kIn = 6;
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

PN_INLINE void transform_input_2(const float* x, int64_t pitch, float* v) {
  constexpr int kIn = 4;
  // A row of B^T d, from a sum or difference of two rows of d.
  const auto put = [&](int r, int first, int second, bool add) __attribute__((always_inline)) {
    VF d[kIn];
    PN_TRANSFORM_UNROLL for (int c = 0; c < kIn; ++c) {
      const VF a = load(x + first * pitch + c * kVec), b = load(x + second * pitch + c * kVec);
      d[c] = add ? a + b : a - b;
    }
    float* to = v + r * kIn * kStep;
    store(to, d[0] - d[2]);
    store(to + kStep, d[1] + d[2]);
    store(to + 2 * kStep, d[2] - d[1]);
    store(to + 3 * kStep, d[3] - d[1]);
  };
  put(0, 0, 2, false);
  put(1, 1, 2, true);
  put(2, 2, 1, false);
  put(3, 3, 1, false);
}

// One tile of one vector of filters: position p at m + p * kStep; y gets the kOut x kOut outputs, bias added.
template <int kOut>
PN_INLINE void transform_output(const float* m, VF bias, VF y[kOut][kOut]) {
  constexpr int kIn = kOut + 2;
  VF half[kOut][kIn];
  PN_TRANSFORM_UNROLL for (int c = 0; c < kIn; ++c) {
    VF in[kIn], out[kOut];
    PN_TRANSFORM_UNROLL for (int r = 0; r < kIn; ++r) in[r] = load(m + (r * kIn + c) * kStep);
    output_1d<kOut>(in, out);
    PN_TRANSFORM_UNROLL for (int r = 0; r < kOut; ++r) half[r][c] = out[r];
  }
  PN_TRANSFORM_UNROLL for (int r = 0; r < kOut; ++r) {
    output_1d<kOut>(half[r], y[r]);
    PN_TRANSFORM_UNROLL for (int c = 0; c < kOut; ++c) y[r][c] += bias;
  }
}

}  // namespace winograd
}  // namespace PN_TIER
}  // namespace pyneo
