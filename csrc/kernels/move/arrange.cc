// SPDX-License-Identifier: Apache-2.0
//
// Nodes that put elements of 4 bytes into another order: Transpose, Reorder, DepthToSpace, SpaceToDepth.
//
// A channel-blocked tensor is a plain one with an axis more (C is C/V and V), so all of these are one
// walk over axes with a step for each operand. The two innermost axes decide how fast it is: runs that
// lie together on both sides are copied as vectors; where a run of the source is spread over the
// destination and the other way round, squares are transposed in registers.
#include <cstring>

#include "kernels/arrange.h"
#include "kernels/spread.h"
#include "simd/transpose.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kStrip = 128;  // elements along a source run that one task transposes

PN_INLINE void copy_run(const float* x, float* y, int64_t n) {
  if (n == kVec) return store(y, load(x));
  if (n >= 8 * kVec) {
    memcpy(y, x, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  int64_t i = 0;
  for (; i + kVec <= n; i += kVec) store(y + i, load(x + i));
  for (; i < n; ++i) y[i] = x[i];
}

// The last two axes, or a strip of the source's runs.
void copy_inner(const Nest& n, const float* x, float* y, int64_t begin, int64_t end) {
  const int a = n.rank - 2, b = n.rank - 1;
  const int64_t xa = n.from[a], ya = n.to[a], xb = n.from[b], yb = n.to[b], count = n.dims[b];
  if (n.square) {
    for (int64_t i = begin; i < end; i += kVec) {
      const int columns = end - i < kVec ? static_cast<int>(end - i) : kVec;
      for (int64_t k = 0; k < count; k += kVec) {
        const int rows = count - k < kVec ? static_cast<int>(count - k) : kVec;
        transpose_part(x + i + k * xb, xb, y + i * ya + k, ya, rows, columns);
      }
    }
  } else if (xb == 1 && yb == 1) {
    for (int64_t i = begin; i < end; ++i) copy_run(x + i * xa, y + i * ya, count);
  } else {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t k = 0; k < count; ++k) y[i * ya + k * yb] = x[i * xa + k * xb];
    }
  }
}

__attribute__((noinline)) void walk(const Nest& n, const Pool& pool, const float* x, float* y) {
  const int outer = n.rank - 2;
  int64_t items = 1;
  for (int i = 0; i < outer; ++i) items *= n.dims[i];
  const int64_t rows = n.dims[outer], strips = ceil_div(rows, kStrip), columns = n.dims[outer + 1];
  spread(pool, items * strips, (rows < kStrip ? rows : kStrip) * columns, [&](int64_t begin, int64_t end, int) {
    int64_t at[kNestAxes], item = begin / strips, strip = begin % strips;
    const float* src = x;
    float* dst = y;
    for (int i = outer - 1; i >= 0; --i) {
      at[i] = item % n.dims[i];
      item /= n.dims[i];
      src += at[i] * n.from[i];
      dst += at[i] * n.to[i];
    }
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = strip * kStrip;
      copy_inner(n, src, dst, first, first + kStrip < rows ? first + kStrip : rows);
      if (++strip < strips) continue;
      strip = 0;
      for (int i = outer - 1; i >= 0; --i) {
        src += n.from[i];
        dst += n.to[i];
        if (++at[i] < n.dims[i]) break;
        src -= n.from[i] * n.dims[i];
        dst -= n.to[i] * n.dims[i];
        at[i] = 0;
      }
    }
  });
}

Status run(const void* state, RunContext& c) {
  const ArrangePlan& s = *static_cast<const ArrangePlan*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  if (c.out[0]->desc.elements() == 0) return Status::kOk;
  for (int64_t i = 0; i < s.pad_images; ++i) {
    memset(y + i * s.pad_step + s.pad_at, 0, static_cast<size_t>(s.pad_n) * sizeof(float));
  }
  if (s.whole.rank > 0) walk(s.whole, *c.pool, x, y);
  if (s.tail.rank > 0) walk(s.tail, *c.pool, x + s.tail_from * s.from_block, y + s.tail_to * s.to_block);
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, in, out) \
  {name, op, in, out, -1,         \
   PN_CODE(sizeof(ArrangePlan), arrange_accepts, arrange_cost, nullptr, nullptr, nullptr, nullptr, arrange_prepare, PN_TIER::run)}

PN_KERNEL_TABLE(arrange)
PN_KERNEL_ROWS(arrange) = {
    PN_ROW("x32_transpose", "Transpose", Layout::kAny, Layout::kAny),
    PN_ROW("f32_reorder_plain_" PN_BLOCK, "Reorder", Layout::kPlain, PN_TIER::kBlocked),
    PN_ROW("f32_reorder_" PN_BLOCK "_plain", "Reorder", PN_TIER::kBlocked, Layout::kPlain),
    PN_ROW("f32_reshape_" PN_BLOCK, "Reshape", PN_TIER::kBlocked, PN_TIER::kBlocked),
    PN_ROW("x32_depth_to_space", "DepthToSpace", Layout::kAny, Layout::kAny),
    PN_ROW("x32_space_to_depth", "SpaceToDepth", Layout::kAny, Layout::kAny),
};
PN_KERNEL_COUNT(arrange);

}  // namespace pyneo
