// SPDX-License-Identifier: Apache-2.0
//
// `Eltwise`: a chain of element-wise operators as one node, a small program run tile by tile.
//
//   fns    strings  n names of functions (see kNames in eltwise.cc)
//   args   ints     2 n: operands of each; 0..7 an input, 8 + k the result of step k < this; -1 absent
//   params floats   2 n: alpha and beta of each, as in ops/activation.h
//
// The result of the last step is the output; its shape is the numpy broadcast of all inputs.
#pragma once

#include "core/attrs.h"
#include "ops/activation.h"

namespace pyneo {

// The first are those of Act, with its numbers.
enum class Fn : uint8_t {
  kNone = 0,
  kRelu,
  kClip,
  kLeakyRelu,
  kSigmoid,
  kTanh,
  kSilu,
  kHardSigmoid,
  kHardSwish,
  kGelu,
  kGeluTanh,
  kElu,
  kSoftplus,
  kMish,
  kExp,
  kLog,
  kSqrt,
  kAbs,
  kNeg,
  kReciprocal,
  kErf,
  kFloor,
  kCeil,
  kRound,   // half to even
  kSquare,
  kSwish,   // x * sigmoid(alpha * x)
  kAffine,  // alpha * x + beta
  kLastUnary = kAffine,
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMax,
  kMin,
  kPrelu,   // a < 0 ? a * b : a
  kLast = kPrelu,
};
inline bool is_binary(Fn f) { return f > Fn::kLastUnary; }
constexpr Fn fn_of(Act a) { return static_cast<Fn>(a); }
static_assert(fn_of(Act::kSigmoid) == Fn::kSigmoid && fn_of(Act::kMish) == Fn::kMish, "the numbers agree");

constexpr int kMaxChainInputs = 8;
constexpr int kMaxChainSteps = 16;

struct ChainStep {
  Fn fn = Fn::kNone;
  int8_t a = 0, b = -1;
  float alpha = 0, beta = 0;
};
struct Chain {
  int steps = 0;
  ChainStep step[kMaxChainSteps];
};

// Reads and checks the program of a node with `inputs` inputs.
Status read_chain(const Attrs& attrs, const char* op, int inputs, Chain* out);

// One element by the C library.
float eval_fn(Fn f, float a, float b, float alpha, float beta);

}  // namespace pyneo
