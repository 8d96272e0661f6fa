// SPDX-License-Identifier: Apache-2.0
//
// Element-wise operators, alone or as a chain (`Eltwise`), in plain and channel-blocked layouts.
//
// Every operator here becomes a chain of row functions (rows.h). The output is cut into rows along
// which each operand is either contiguous or one repeated vector: a scalar, or the V channels of a
// block. Rows run in tiles, so that a chain's intermediate results stay in L1; many short rows are a tile.
#include "kernels/eltwise/rows.h"
#include "kernels/chain.h"
#include "kernels/spread.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kTileFloats = 1024;
constexpr int64_t kShortStep = kShortTile + kVec;  // an operand written out may overrun

Status run(const void* state, RunContext& c) {
  const ChainPlan& s = *static_cast<const ChainPlan*>(state);
  float* y = c.out[0]->as<float>();
  const int64_t rows = s.outer[0] * s.outer[1] * s.outer[2];
  const int64_t high = s.short_rows ? kShortTile / s.row : 1;  // rows of a tile
  const int64_t tile = s.short_rows ? high * s.row : s.steps == 1 ? 4 * kTileFloats : kTileFloats;
  const int64_t tiles = s.short_rows ? 1 : ceil_div(s.row, tile);
  const int64_t work = (s.short_rows || s.row >= tile ? tile : s.row) * s.work;
  spread(*c.pool, ceil_div(rows, high) * tiles, work, [&](int64_t begin, int64_t end, int) {
    // Intermediate results; behind those of short rows, operands written out.
    alignas(64) float slots[(kChainSlots + kMaxChainInputs) * kShortStep];
    static_assert(sizeof(slots) >= kChainSlots * kTileFloats * sizeof(float), "tiles of long rows fit too");
    VF repeated[kMaxChainInputs];
    RowOperand value[8 + kMaxChainSteps];
    for (int64_t item = begin; item < end; ++item) {
      const int64_t r = item / tiles * high, at = item % tiles * tile;
      int64_t n = s.row - at < tile ? s.row - at : tile;
      if (s.short_rows) n = (rows - r < high ? rows - r : high) * s.row;
      const int64_t i2 = r % s.outer[2], i01 = r / s.outer[2], i1 = i01 % s.outer[1], i0 = i01 / s.outer[1];
      for (int i = 0; i < s.inputs; ++i) {
        const int64_t* stride = s.stride[i];
        const float* x = c.in[i]->as<const float>();
        const float* p = x + i0 * stride[0] + i1 * stride[1] + i2 * stride[2];
        if (s.along[i] == Along::kFlat) {
          value[i] = {x + r * s.row, kVec};
          continue;
        }
        if (s.short_rows) {
          float* to = slots + (kChainSlots + i) * kShortStep;
          if (item == begin || (stride[0] | stride[1] | stride[2]) != 0) expand_rows(s, i, x, r, n / s.row, to);
          value[i] = {to, kVec};
          continue;
        }
        if (s.along[i] == Along::kContiguous) {
          value[i] = {p + at, kVec};
          continue;
        }
        if (s.along[i] == Along::kScalar) {
          repeated[i] = splat(*p);
        } else {  // plain operands end with the last channel
          repeated[i] = i2 == s.tail_block ? load_n(p, s.tail_live) : load(p);
        }
        value[i] = {reinterpret_cast<const float*>(repeated + i), 0};
      }
      float* out = y + r * s.row + at;
      for (int k = 0; k < s.steps; ++k) {
        const ChainStep& step = s.step[k];
        float* to = s.slot[k] < 0 ? out : slots + s.slot[k] * (s.short_rows ? kShortStep : kTileFloats);
        map_row(step.fn, step.alpha, step.beta, value[step.a], step.b >= 0 ? value[step.b] : RowOperand{nullptr, 0}, to, n);
        value[8 + k] = {to, kVec};
      }
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, ...)                                   \
  {"f32_eltwise_" #name, op, Layout::kAny, Layout::kAny, -1,    \
   PN_CODE(sizeof(ChainPlan), chain_accepts, chain_cost, nullptr, nullptr, nullptr, nullptr, chain_prepare, PN_TIER::run)},

PN_KERNEL_TABLE(eltwise)
PN_KERNEL_ROWS(eltwise) = {PN_CHAIN_OPS(PN_ROW)};
PN_KERNEL_COUNT(eltwise);

}  // namespace pyneo
