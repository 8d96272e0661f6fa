// SPDX-License-Identifier: Apache-2.0
#include "kernels/depthwise/window.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// Outputs in registers beside five weights and an input: 13 of 16 registers with AVX2; with SSE2 every
// vector is two of 16. Planes of image networks are multiples of seven more often than of eight.
#if defined(__AVX2__) || defined(__aarch64__)
constexpr int kTile = 7;
#else
constexpr int kTile = 4;
#endif
#if defined(__AVX512F__)
constexpr int kWideTile = 14;
#else
constexpr int kWideTile = kTile;
#endif

// One output row: `taps` rows of the window, the first in ring row `first`. K > 0: kernel width and stride
// known, no dilation. K == 0: as the window says.
template <int K, int S, int T>
void row(const DepthwiseWindow& s, const float* ring, int64_t first, int64_t taps, const float* w, VF bias, float* y) {
  const int64_t sw = K > 0 ? S : s.sw;
  const VF lo = splat(s.lo), hi = splat(s.hi);
  for (int64_t ow = 0; ow < s.ow; ow += T) {
    const int64_t at = ow + T <= s.ow || s.ow < T ? ow : s.ow - T, live = s.ow - at;
    VF acc[T];
    PN_UNROLL for (int t = 0; t < T; ++t) acc[t] = bias;
    int64_t slot = first;
    const float* wk = w;
    for (int64_t k = 0; k < taps; ++k, wk += s.kw * kVec) {
      const float* x = ring + slot * s.pitch + at * sw * kVec;
      slot += s.dh;
      if (slot >= s.ring) slot -= s.ring;
      if constexpr (K > 0) {
        VF tap[K];
        PN_UNROLL for (int q = 0; q < K; ++q) tap[q] = load(wk + q * kVec);
#pragma GCC unroll 32
        for (int j = 0; j < (T - 1) * S + K; ++j) {
          const VF v = load(x + j * kVec);
          PN_UNROLL for (int t = 0; t < T; ++t) {
            const int q = j - t * S;
            if (q >= 0 && q < K) acc[t] += v * tap[q];
          }
        }
      } else {
        for (int64_t q = 0; q < s.kw; ++q) {
          const VF tap = load(wk + q * kVec);
          PN_UNROLL for (int t = 0; t < T; ++t) acc[t] += load(x + (t * sw + q * s.dw) * kVec) * tap;
        }
      }
    }
    float* to = y + at * kVec;
    if (live >= T) {
      PN_UNROLL for (int t = 0; t < T; ++t) store(to + t * kVec, vmin(vmax(acc[t], lo), hi));
    } else {
      PN_UNROLL for (int t = 0; t < T; ++t) {
        if (t < live) store(to + t * kVec, vmin(vmax(acc[t], lo), hi));
      }
    }
  }
}

using RowFn = void (*)(const DepthwiseWindow&, const float*, int64_t, int64_t, const float*, VF, float*);

template <int T>
RowFn row_fn(const DepthwiseWindow& s) {
  return s.sw > 2                 ? row<0, 0, kTile>
         : s.kw == 3 && s.dw == 1 ? (s.sw == 1 ? row<3, 1, T> : row<3, 2, T>)
         : s.kw == 5 && s.dw == 1 ? (s.sw == 1 ? row<5, 1, T> : row<5, 2, T>)
                                  : row<0, 0, kTile>;
}

constexpr int64_t kMinBand = 24;  // columns: neighbouring bands compute the columns between them twice

int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace

PN_COLD Plane plane_of(const Window& w) {
  const int x = w.spatial - 1, y = w.spatial - 2;
  const auto at = [&](const int64_t* dims, int64_t none) { return y < 0 ? none : dims[y]; };
  return {at(w.in, 1), w.in[x], at(w.out, 1), w.out[x], at(w.kernel, 1), w.kernel[x], at(w.stride, 1), w.stride[x],
          at(w.dilation, 1), w.dilation[x], at(w.pad_begin, 0), w.pad_begin[x]};
}

PN_COLD void take_clamp(Activation* a, float* lo, float* hi) {
  *lo = -INFINITY;
  *hi = INFINITY;
  if (a->kind == Act::kRelu) *lo = 0;
  if (a->kind == Act::kClip) *lo = a->alpha, *hi = a->beta;
  if (a->kind <= Act::kClip) a->kind = Act::kNone;
}

PN_COLD Status read_window_rows(const Attrs& attrs, const char* op, const Window& v, int64_t ring_bytes, int64_t blocks,
                        DepthwiseWindow* s, int64_t* bands) {
  PN_TRY(read_activation(attrs, op, "act", &s->act));
  take_clamp(&s->act, &s->lo, &s->hi);
  static_cast<Plane&>(*s) = plane_of(v);
  s->first = 0;
  s->y_step = s->ow * kVec;
  // Every column that a tile may read.
  const auto reach = [&](int64_t ow) { return ((larger(ow, kTile) - 1) * s->sw + (s->kw - 1) * s->dw + 1) * kVec; };
  const int64_t most = ring_bytes / blocks / (larger(s->span(), s->sh) + 1) / 4;  // floats of a row
  *bands = 1;
  while (reach(ceil_div(s->ow, *bands)) > most && s->ow >= (*bands + 1) * kMinBand) ++*bands;
  s->pitch = reach(ceil_div(s->ow, *bands));
  s->ring = larger(ring_bytes / blocks / (s->pitch * 4), s->span());
  if (s->ring > s->ih) s->ring = s->ih;
  return Status::kOk;
}

DepthwiseWindow columns_of(const DepthwiseWindow& s, int64_t c0, int64_t c1) {
  DepthwiseWindow d = s;
  const int64_t begin = c0 * s.sw - s.left, end = (c1 - 1) * s.sw - s.left + (s.kw - 1) * s.dw + 1;
  d.first = begin < 0 ? 0 : begin < s.iw ? begin : s.iw;
  d.iw = (end < s.iw ? end : s.iw) - d.first;
  if (d.iw < 0) d.iw = 0;
  d.left = begin < 0 ? (end < 0 ? end - begin : -begin) : 0;
  d.ow = c1 - c0;
  return d;
}

void clear_edges(const DepthwiseWindow& s, float* ring) {
  const int64_t from = (s.left + s.iw) * kVec;
  for (int64_t r = 0; r < s.ring; ++r, ring += s.pitch) {
    __builtin_memset(ring, 0, static_cast<size_t>(s.left * kVec) * sizeof(float));
    __builtin_memset(ring + from, 0, static_cast<size_t>(s.pitch - from) * sizeof(float));
  }
}

void depthwise_rows(const DepthwiseWindow& s, const float* ring, const float* w, VF bias, int64_t oh0, int64_t oh1, float* y) {
  const bool wide = s.ow >= kWideTile && (s.ow % kWideTile == 0 || s.ow > 3 * kWideTile);
  const RowFn body = wide ? row_fn<kWideTile>(s) : row_fn<kTile>(s);
  const int64_t n = s.ow * kVec;
  int64_t at = 0, slot = 0;  // an input row, and where it lies
  for (int64_t oh = oh0; oh < oh1; ++oh) {
    const int64_t ih = oh * s.sh - s.top;
    int64_t k0 = ih < 0 ? ceil_div(-ih, s.dh) : 0, k1 = s.kh;
    if (ih + s.span() > s.ih) k1 = ih >= s.ih ? 0 : ceil_div(s.ih - ih, s.dh);
    if (k0 > k1) k0 = k1;
    if (k0 < k1) {
      slot += ih + k0 * s.dh - at;
      at = ih + k0 * s.dh;
      if (slot < 0) slot += s.ring;  // dilated rows of padding step back
      if (slot >= s.ring) slot = slot < 2 * s.ring ? slot - s.ring : slot % s.ring;
    }
    float* to = y + oh * s.y_step;
    body(s, ring, slot, k1 - k0, w + k0 * s.kw * kVec, bias, to);
    if (s.act.kind != Act::kNone) act_rows(s.act, to, n);
  }
}

}  // namespace PN_TIER
}  // namespace pyneo
