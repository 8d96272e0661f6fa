// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of attention read from a node.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {
namespace PN_TIER {

// (batch, heads, length, width) of an operand and the floats between neighbours.
struct Heads {
  int64_t batch, heads, length, width, step_b, step_h, step_s;
};

struct AttentionState {
  Heads q, k, v, y;
  int64_t group;             // query heads that share a key head
  int64_t keys;              // that take part
  int64_t mask_b, mask_h, mask_q;
  float scale, softcap;
  bool causal, mask, flags;  // a mask that is added, or one of booleans
};

// False: operands that no kernel takes.
bool read_attention(const KernelQuery& q, AttentionState* s);

// to[c][r] = from[r][c].
void transpose(const float* from, int64_t from_step, float* to, int64_t to_step, int64_t rows, int64_t columns);

}  // namespace PN_TIER
}  // namespace pyneo
