// SPDX-License-Identifier: Apache-2.0
#include "ops/activation.h"

#include <cmath>
#include <cstdio>

#include "ops/op.h"

namespace pyneo {
namespace {

struct Name {
  const char* name;
  Act kind;
  float alpha, beta;  // defaults
};

constexpr Name kNames[] = {
    {"relu", Act::kRelu, 0, 0},
    {"clip", Act::kClip, -INFINITY, INFINITY},
    {"leaky_relu", Act::kLeakyRelu, 0.01f, 0},
    {"sigmoid", Act::kSigmoid, 0, 0},
    {"tanh", Act::kTanh, 0, 0},
    {"silu", Act::kSilu, 0, 0},
    {"hard_sigmoid", Act::kHardSigmoid, 0.2f, 0.5f},
    {"hard_swish", Act::kHardSwish, 0, 0},
    {"gelu", Act::kGelu, 0, 0},
    {"gelu_tanh", Act::kGeluTanh, 0, 0},
    {"elu", Act::kElu, 1, 0},
    {"softplus", Act::kSoftplus, 0, 0},
    {"mish", Act::kMish, 0, 0},
};

float softplus(float x) { return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x)); }

float apply_one(const Activation& a, float x) {
  switch (a.kind) {
    case Act::kNone: return x;
    // Written so that NaN passes through, as ONNX Runtime and numpy do.
    case Act::kRelu: return x < 0 ? 0 : x;
    case Act::kClip: x = x < a.alpha ? a.alpha : x; return x > a.beta ? a.beta : x;
    case Act::kLeakyRelu: return x < 0 ? a.alpha * x : x;
    case Act::kSigmoid: return 1 / (1 + expf(-x));
    case Act::kTanh: return tanhf(x);
    case Act::kSilu: return x / (1 + expf(-x));
    case Act::kHardSigmoid: x = a.alpha * x + a.beta; x = x < 0 ? 0 : x; return x > 1 ? 1 : x;
    case Act::kHardSwish: { float g = x / 6 + 0.5f; g = g < 0 ? 0 : g; g = g > 1 ? 1 : g; return x * g; }
    case Act::kGelu: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case Act::kGeluTanh: return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case Act::kElu: return x < 0 ? a.alpha * expm1f(x) : x;
    case Act::kSoftplus: return softplus(x);
    case Act::kMish: return x * tanhf(softplus(x));
  }
  return x;
}

}  // namespace

Status read_activation(const Attrs& attrs, const char* op, const char* prefix, Activation* out) {
  *out = Activation{};
  const Str name = attrs.str(prefix);
  if (name.size == 0) return Status::kOk;
  char key[32];
  for (const Name& n : kNames) {
    if (name != n.name) continue;
    out->kind = n.kind;
    snprintf(key, sizeof(key), "%s_alpha", prefix);
    out->alpha = attrs.f32(key, n.alpha);
    snprintf(key, sizeof(key), "%s_beta", prefix);
    out->beta = attrs.f32(key, n.beta);
    return Status::kOk;
  }
  return fail(Status::kUnsupported, "%s: unknown activation '%.*s'", op, static_cast<int>(name.size), name.data);
}

void apply_activation(const Activation& a, float* x, int64_t n) {
  if (a.kind == Act::kNone) return;
  for (int64_t i = 0; i < n; ++i) x[i] = apply_one(a, x[i]);
}

}  // namespace pyneo
