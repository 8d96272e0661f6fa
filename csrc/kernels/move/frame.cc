// SPDX-License-Identifier: Apache-2.0
//
// Pad over channel blocks: pixels around an image (constant, reflect, edge), and channels behind the last
// one (constant).
#include <cstring>

#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {


enum class Edge : uint8_t { kConstant, kReflect, kEdge };

struct State {
  int64_t images, blocks_in, blocks_out, channels;  // channels of the input
  int64_t height, width, rows, columns;             // of input and output; one row where there is no height
  int64_t top, left;
  Edge mode;
};

PN_COLD __attribute__((noinline)) bool fill(const KernelQuery& q, State* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  const int rank = x.shape.rank;
  if (x.dtype != DType::kF32 || x.layout != kBlocked || y.layout != kBlocked || (rank != 3 && rank != 4)) return false;
  const Str mode = q.attrs.str("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge") return false;
  s->mode = mode == "constant" ? Edge::kConstant : mode == "edge" ? Edge::kEdge : Edge::kReflect;
  if (q.has(3) || !q.values || !q.values[1] || q.in[1]->dtype != DType::kI64 || q.in[1]->elements() != 2 * rank) return false;
  const int64_t* pads = static_cast<const int64_t*>(q.values[1]);
  // Channels: only behind the last one, and only when nothing is repeated.
  if (pads[0] != 0 || pads[rank] != 0 || pads[1] != 0 || (pads[rank + 1] != 0 && s->mode != Edge::kConstant)) return false;
  for (int i = 0; i < 2 * rank; ++i) {
    if (pads[i] < 0) return false;
  }
  s->images = x.shape[0];
  s->channels = x.shape[1];
  s->blocks_in = ceil_div(x.shape[1], kVec);
  s->blocks_out = ceil_div(y.shape[1], kVec);
  s->height = rank == 4 ? x.shape[2] : 1;
  s->rows = rank == 4 ? y.shape[2] : 1;
  s->width = x.shape[rank - 1];
  s->columns = y.shape[rank - 1];
  s->top = rank == 4 ? pads[2] : 0;
  s->left = pads[rank - 1];
  if (s->height < 1 || s->width < 1) return false;
  // One reflection is enough, so that a source is never computed by a remainder.
  return s->mode != Edge::kReflect || (s->top < s->height && s->left < s->width && s->rows - s->top - s->height < s->height &&
                                       s->columns - s->left - s->width < s->width);
}

PN_COLD bool accepts(const KernelQuery& q) {
  State s;
  return fill(q, &s);
}
PN_COLD float cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes() + q.out[0]->bytes()) * 4e-5f + 0.3f; }
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Pad was prepared for operands it does not accept");
}

PN_INLINE int64_t source(Edge mode, int64_t i, int64_t n) {
  if (mode == Edge::kReflect) return i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
  return i < 0 ? 0 : i >= n ? n - 1 : i;
}
PN_INLINE void fill_pixels(float* y, VF v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store(y + i * kVec, v);
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const float number = c.has(2) ? *c.in[2]->as<const float>() : 0.0f;
  const VF value = splat(number);
  spread(*c.pool, s.images * s.blocks_out * s.rows, s.columns * kVec, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i % s.rows, plane = i / s.rows, block = plane % s.blocks_out, image = plane / s.blocks_out;
      const int64_t r = row - s.top, live = s.channels - block * kVec;
      float* to = y + i * s.columns * kVec;
      const bool outside = s.mode == Edge::kConstant && (r < 0 || r >= s.height);
      if (outside || live <= 0) {
        fill_pixels(to, value, s.columns);
        continue;
      }
      const float* from = x + ((image * s.blocks_in + block) * s.height + source(s.mode, r, s.height)) * s.width * kVec;
      float* middle = to + s.left * kVec;
      memcpy(middle, from, static_cast<size_t>(s.width * kVec) * sizeof(float));
      if (live < kVec) {  // lanes that held no channel may be channels of the output
        for (int64_t k = 0; k < s.width; ++k) {
          for (int64_t l = live; l < kVec; ++l) middle[k * kVec + l] = number;
        }
      }
      const int64_t right = s.columns - s.left - s.width;
      if (s.mode == Edge::kConstant) {
        fill_pixels(to, value, s.left);
        fill_pixels(middle + s.width * kVec, value, right);
        continue;
      }
      for (int64_t k = 0; k < s.left; ++k) store(to + k * kVec, load(middle + source(s.mode, k - s.left, s.width) * kVec));
      for (int64_t k = s.width; k < s.width + right; ++k) store(middle + k * kVec, load(middle + source(s.mode, k, s.width) * kVec));
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(frame)
PN_KERNEL_ROWS(frame) = {
    {"f32_pad_" PN_BLOCK, "Pad", PN_TIER::kBlocked, PN_TIER::kBlocked, -1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, nullptr, nullptr, nullptr, nullptr, PN_WIDE_RUN(PN_TIER::prepare, PN_TIER::run))},
};
PN_KERNEL_COUNT(frame);

}  // namespace pyneo
