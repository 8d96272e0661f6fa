// SPDX-License-Identifier: Apache-2.0
//
// How a chain of element-wise functions walks over its operands: the same for every tier but for the width of
// a channel block, so compiled once. kernels/eltwise runs what is planned here.
#pragma once

#include "kernels/kernel.h"
#include "ops/eltwise.h"

namespace pyneo {

constexpr int kChainOuter = 3;           // dims outside of a row
constexpr int kChainSlots = 6;           // intermediate results alive at once
// Plain rows of fewer floats than this run many at a time, their broadcast operands written out in L1: row by row, what
// is not arithmetic takes ten times what is.
constexpr int64_t kShortRow = 64;
constexpr int64_t kShortTile = 512;      // floats, whole rows

enum class Along : uint8_t {  // an operand along a row
  kContiguous,
  kScalar,
  kChannels,  // the channels of a block, repeated
  kFlat,      // with short rows: it lies as the output does
};

struct ChainPlan {
  int32_t steps, inputs;
  ChainStep step[kMaxChainSteps];
  int8_t slot[kMaxChainSteps];       // where a step's result lies; -1: in the output
  int32_t work;                      // of an element, in spread()'s unit
  int64_t row;                       // floats
  int64_t outer[kChainOuter];
  int64_t tail_block;                // block (of outer[1]) with fewer than a block's channels in plain operands, or -1
  int32_t tail_live;
  bool short_rows;
  Along along[kMaxChainInputs];
  int64_t stride[kMaxChainInputs][kChainOuter];  // floats
};
static_assert(sizeof(ChainPlan) <= kMaxKernelState, "the state of a kernel is bounded");

// (kernel's name, operator, function, name and default of its parameters). What else an operator asks for is told
// apart by name where chains are built.
#define PN_CHAIN_OPS(X)                                                     \
  X(relu, "Relu", kRelu, nullptr, 0, nullptr, 0)                            \
  X(leaky_relu, "LeakyRelu", kLeakyRelu, "alpha", 0.01f, nullptr, 0)        \
  X(sigmoid, "Sigmoid", kSigmoid, nullptr, 0, nullptr, 0)                   \
  X(tanh, "Tanh", kTanh, nullptr, 0, nullptr, 0)                            \
  X(hard_sigmoid, "HardSigmoid", kHardSigmoid, "alpha", 0.2f, "beta", 0.5f) \
  X(hard_swish, "HardSwish", kHardSwish, nullptr, 0, nullptr, 0)            \
  X(elu, "Elu", kElu, "alpha", 1, nullptr, 0)                               \
  X(softplus, "Softplus", kSoftplus, nullptr, 0, nullptr, 0)                \
  X(mish, "Mish", kMish, nullptr, 0, nullptr, 0)                            \
  X(swish, "Swish", kSwish, "alpha", 1, nullptr, 0)                         \
  X(exp, "Exp", kExp, nullptr, 0, nullptr, 0)                               \
  X(log, "Log", kLog, nullptr, 0, nullptr, 0)                               \
  X(sqrt, "Sqrt", kSqrt, nullptr, 0, nullptr, 0)                            \
  X(abs, "Abs", kAbs, nullptr, 0, nullptr, 0)                               \
  X(neg, "Neg", kNeg, nullptr, 0, nullptr, 0)                               \
  X(reciprocal, "Reciprocal", kReciprocal, nullptr, 0, nullptr, 0)          \
  X(erf, "Erf", kErf, nullptr, 0, nullptr, 0)                               \
  X(floor, "Floor", kFloor, nullptr, 0, nullptr, 0)                         \
  X(ceil, "Ceil", kCeil, nullptr, 0, nullptr, 0)                            \
  X(round, "Round", kRound, nullptr, 0, nullptr, 0)                         \
  X(add, "Add", kAdd, nullptr, 0, nullptr, 0)                               \
  X(sub, "Sub", kSub, nullptr, 0, nullptr, 0)                               \
  X(mul, "Mul", kMul, nullptr, 0, nullptr, 0)                               \
  X(div, "Div", kDiv, nullptr, 0, nullptr, 0)                               \
  X(prelu, "PRelu", kPrelu, nullptr, 0, nullptr, 0)                         \
  X(max, "Max", kMax, nullptr, 0, nullptr, 0)                               \
  X(min, "Min", kMin, nullptr, 0, nullptr, 0)                               \
  X(sum, "Sum", kAdd, nullptr, 0, nullptr, 0)                               \
  X(gelu, "Gelu", kGelu, nullptr, 0, nullptr, 0)                            \
  X(bias_gelu, "com.microsoft.BiasGelu", kGelu, nullptr, 0, nullptr, 0)     \
  X(fast_gelu, "com.microsoft.FastGelu", kGeluTanh, nullptr, 0, nullptr, 0) \
  X(clip, "Clip", kClip, nullptr, 0, nullptr, 0)                            \
  X(pow, "Pow", kSquare, nullptr, 0, nullptr, 0)                            \
  X(chain, "Eltwise", kNone, nullptr, 0, nullptr, 0)

bool chain_accepts(const KernelQuery& q);
float chain_cost(const KernelQuery& q);
Status chain_prepare(const KernelQuery& q, void* plan);

// Writes operand `input`, short rows [r, r + rows), as the output's elements meet it. `to` has 4 floats more.
void expand_rows(const ChainPlan& s, int input, const float* x, int64_t r, int64_t rows, float* to);

}  // namespace pyneo
