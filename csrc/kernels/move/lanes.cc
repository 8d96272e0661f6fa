// SPDX-License-Identifier: Apache-2.0
//
// Concat and Split along the channels of blocked tensors whose parts are not whole blocks: lanes move from block to
// block, which takes one pass where reorders to plain and back take three. move.cc copies whole blocks.
#include "kernels/runs.h"
#include "kernels/spread.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// Pixels of a task: what they read and write stays in L1.
constexpr int64_t kStrip = 128;

// A range of channels of one tensor to those of another.
struct Move {
  const Tensor* from;
  int64_t from_channel;
  Tensor* to;
  int64_t to_channel, channels;
};

// The lanes of a move that lie in one block of the result, for pixels [begin, end) of an image.
void move_block(const Lanes& s, const Move& m, int64_t image, int64_t block, int64_t begin, int64_t end) {
  int64_t c = block * kVec > m.to_channel ? block * kVec : m.to_channel;
  const int64_t last = m.to_channel + m.channels, until = (block + 1) * kVec < last ? (block + 1) * kVec : last;
  const auto at = [&](const Tensor* t, int64_t channel) {
    const int64_t row = image * ceil_div(t->dim(1), kVec) + channel / kVec;
    return t->as<float>() + row * s.pixels * kVec + channel % kVec;
  };
  while (c < until) {
    const int64_t source = c - m.to_channel + m.from_channel, room = kVec - source % kVec;
    const int n = static_cast<int>(until - c < room ? until - c : room);
    const float* x = at(m.from, source);
    float* y = at(m.to, c);
    if (c % kVec == 0) {  // also zeros the lanes that follow
      for (int64_t p = begin * kVec; p < end * kVec; p += kVec) store(y + p, load_n(x + p, n));
    } else {
      for (int64_t p = begin * kVec; p < end * kVec; p += kVec) store_n(y + p, load_n(x + p, n), n);
    }
    c += n;
  }
}

template <bool join>
Status run(const void* state, RunContext& c) {
  const Lanes& s = *static_cast<const Lanes*>(state);
  const int64_t strips = ceil_div(s.pixels, kStrip);
  int64_t first = 0;  // channel of the whole where a part of Split begins
  for (int o = 0; o < c.n_out; ++o) {
    Tensor* y = c.out[o];
    const int64_t blocks = ceil_div(y->dim(1), kVec);
    spread(*c.pool, s.images * blocks * strips, kStrip * kVec, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / strips / blocks, block = i / strips % blocks, p = i % strips * kStrip;
        const int64_t q = p + kStrip < s.pixels ? p + kStrip : s.pixels;
        if (!join) {
          move_block(s, {c.in[0], first, y, 0, y->dim(1)}, image, block, p, q);
          continue;
        }
        for (int64_t k = 0, at = 0; k < c.n_in && at < (block + 1) * kVec; at += c.in[k++]->dim(1)) {
          move_block(s, {c.in[k], 0, y, at, c.in[k]->dim(1)}, image, block, p, q);
        }
      }
    });
    first += y->dim(1);
  }
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, join)                             \
  {name PN_BLOCK, op, PN_TIER::kBlocked, PN_TIER::kBlocked, -1, \
   PN_CODE(sizeof(Lanes), lanes_accepts, lanes_cost, nullptr, nullptr, nullptr, nullptr, \
           PN_WIDE_RUN(lanes_prepare, PN_TIER::run<join>))}

PN_KERNEL_TABLE(lanes)
PN_KERNEL_ROWS(lanes) = {
    PN_ROW("f32_concat_", "Concat", true),
    PN_ROW("f32_split_", "Split", false),
};
PN_KERNEL_COUNT(lanes);

}  // namespace pyneo
