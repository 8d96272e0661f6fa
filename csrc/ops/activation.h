// SPDX-License-Identifier: Apache-2.0
//
// Activations as attributes of other operators (epilogues): Conv, ConvTranspose, Gemm, MatMul and Add
// carry `act` (applied before a residual is added) and `post_act` (after it), each with `_alpha`, `_beta`.
#pragma once

#include "core/attrs.h"
#include "core/status.h"

namespace pyneo {

enum class Act : int32_t {
  kNone = 0,
  kRelu,        // max(x, 0)
  kClip,        // min(max(x, alpha), beta)
  kLeakyRelu,   // x < 0 ? alpha * x : x
  kSigmoid,
  kTanh,
  kSilu,        // x * sigmoid(x)
  kHardSigmoid, // clip(alpha * x + beta, 0, 1)
  kHardSwish,   // x * clip(x / 6 + 0.5, 0, 1)
  kGelu,        // erf form
  kGeluTanh,    // tanh form
  kElu,         // x < 0 ? alpha * (exp(x) - 1) : x
  kSoftplus,
  kMish,
};

struct Activation {
  Act kind = Act::kNone;
  float alpha = 0;
  float beta = 0;
};

// Reads attributes "<prefix>", "<prefix>_alpha", "<prefix>_beta"; an unknown name is an error.
// Names: relu, clip, leaky_relu, sigmoid, tanh, silu, hard_sigmoid, hard_swish, gelu, gelu_tanh, elu,
// softplus, mish.
Status read_activation(const Attrs& attrs, const char* op, const char* prefix, Activation* out);

// Reference: applies in place to n floats.
void apply_activation(const Activation& a, float* x, int64_t n);

}  // namespace pyneo
