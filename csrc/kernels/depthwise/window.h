// SPDX-License-Identifier: Apache-2.0
//
// Depthwise windows over rows that another stage has just computed, in channel blocks.
//
// A pixel of a block is one vector. Input rows of one block pass through a ring in thread scratch, each between
// columns of zeros as wide as the padding; rows of padding are taps left out. So no tile of outputs meets an
// edge: neighbours sit in registers and each input vector is loaded for all outputs it touches. The last tile
// of a row begins early where the row is no multiple of it, and computes some outputs twice.
#pragma once

#include "kernels/kernel.h"
#include "ops/window.h"
#include "simd/activate.h"

namespace pyneo {
namespace PN_TIER {

constexpr int64_t kMaxRingBytes = int64_t{64} << 20;

// A window over two axes: sizes of input, output and kernel, strides, dilations, padding in front.
struct Plane {
  int64_t ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, top, left;
};
// The two axes of `w`; the rows of one axis are one.
Plane plane_of(const Window& w);
// None, Relu and Clip become a clamp, and the activation kNone.
void take_clamp(Activation* a, float* lo, float* hi);

struct DepthwiseWindow : Plane {
  int64_t ring, pitch;  // rows of the ring, floats of one
  int64_t first;        // input column that comes first in the ring, behind `left` zeros
  int64_t y_step;       // floats from one output row to the next
  float lo, hi;         // clamp that stands for a cheap `act`
  Activation act;       // kNone where clamped

  int64_t span() const { return (kh - 1) * dh + 1; }  // input rows under a window
  int64_t ring_floats() const { return ring * pitch; }
  int64_t taps() const { return kh * kw; }
};

// Shapes and the attribute `act`. The ring holds what `ring_bytes` hold of `blocks` blocks side by side, at
// least a window's rows; `bands` are as many ranges of output columns as make that fit, one if rows are short.
Status read_window_rows(const Attrs& attrs, const char* op, const Window& v, int64_t ring_bytes, int64_t blocks,
                        DepthwiseWindow* s, int64_t* bands);
// The window of output columns [c0, c1) alone.
DepthwiseWindow columns_of(const DepthwiseWindow& s, int64_t c0, int64_t c1);
// Whether the rings of `blocks` blocks have a size that a thread can have.
static inline bool ring_fits(const DepthwiseWindow& s, int64_t blocks) {
  return s.pitch * blocks <= kMaxRingBytes / 4 / (s.ring > 0 ? s.ring : 1);
}
// Zeros in the columns that stand for padding.
void clear_edges(const DepthwiseWindow& s, float* ring);
// Output rows [oh0, oh1) of a block, activation included; y is the first column of row 0. w: [taps][kVec].
void depthwise_rows(const DepthwiseWindow& s, const float* ring, const float* w, VF bias, int64_t oh0, int64_t oh1, float* y);

// Output rows [oh0, oh1): produce(r, n, slot) puts input rows [r, r + n) into the ring from `slot` on, each row
// once and in order; emit(from, to) follows for the output rows whose windows are there.
template <typename Produce, typename Emit>
PN_INLINE void sweep(const DepthwiseWindow& s, int64_t oh0, int64_t oh1, Produce&& produce, Emit&& emit) {
  const auto begin = [&](int64_t oh) { return oh * s.sh - s.top; };
  const auto until = [&](int64_t oh) {  // behind the last input row of an output row
    const int64_t r = begin(oh) + s.span();
    return r < s.ih ? r : s.ih;
  };
  const int64_t last = until(oh1 - 1);
  int64_t have = 0;
  for (int64_t oh = oh0; oh < oh1;) {
    const int64_t first = begin(oh) > 0 ? begin(oh) : 0;
    if (have < first) have = first;
    const int64_t want = first + s.ring < last ? first + s.ring : last;
    while (have < want) {
      const int64_t slot = have % s.ring, room = s.ring - slot, n = want - have < room ? want - have : room;
      produce(have, n, slot);
      have += n;
    }
    const int64_t from = oh++;
    while (oh < oh1 && until(oh) <= have) ++oh;
    emit(from, oh);
  }
}

}  // namespace PN_TIER
}  // namespace pyneo
