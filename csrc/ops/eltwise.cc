// SPDX-License-Identifier: Apache-2.0
#include "ops/eltwise.h"

#include <cinttypes>
#include <cmath>

#include "ops/elementwise.h"

namespace pyneo {
namespace {

// By number of Fn.
constexpr const char* kNames[] = {
    "none", "relu", "clip",  "leaky_relu", "sigmoid",    "tanh", "silu",  "hard_sigmoid", "hard_swish", "gelu",
    "gelu_tanh", "elu", "softplus", "mish", "exp", "log", "sqrt", "abs", "neg", "reciprocal",
    "erf", "floor", "ceil", "round", "square", "swish", "affine", "add", "sub", "mul",
    "div", "max", "min", "prelu"};
static_assert(sizeof(kNames) / sizeof(kNames[0]) == static_cast<size_t>(Fn::kLast) + 1, "a name for each Fn");

bool find_fn(const Str& name, Fn* out) {
  for (size_t i = 0; i < sizeof(kNames) / sizeof(kNames[0]); ++i) {
    if (name == kNames[i]) return *out = static_cast<Fn>(i), true;
  }
  return false;
}

Status infer(InferContext& c) {
  Chain chain;
  PN_TRY(read_chain(c.attrs, c.op, c.n_in, &chain));
  Shape y = c.n_in > 0 && c.has(0) ? c.shape(0) : Shape{};
  for (int i = 0; i < c.n_in; ++i) {
    PN_TRY(expect_dtype(c, i, {DType::kF32}));
    PN_TRY(broadcast_shapes(c.op, y, c.shape(i), &y));
  }
  c.set(0, DType::kF32, y);
  return Status::kOk;
}

Status run(RunContext& c) {
  Chain chain;
  PN_TRY(read_chain(c.attrs, c.op, c.n_in, &chain));
  Operand operands[kMaxChainInputs];
  for (int i = 0; i < c.n_in; ++i) operands[i].bind(*c.in[i], c.out[0]->shape(), Cls::kF32);
  float* y = c.out[0]->as<float>();
  for_ranges(c.pool, c.out[0]->desc.elements(), [&](int64_t begin, int64_t end) {
    BlockBuffer space[kMaxChainInputs];
    float results[kMaxChainSteps][kBlock];
    const float* value[8 + kMaxChainSteps];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = end - at < kBlock ? end - at : kBlock;
      for (int i = 0; i < c.n_in; ++i) value[i] = static_cast<const float*>(operands[i].fetch(at, n, space + i));
      for (int k = 0; k < chain.steps; ++k) {
        const ChainStep& s = chain.step[k];
        float* out = k + 1 == chain.steps ? y + at : results[k];
        const float *a = value[s.a], *b = s.b >= 0 ? value[s.b] : a;
        for (int64_t i = 0; i < n; ++i) out[i] = eval_fn(s.fn, a[i], b[i], s.alpha, s.beta);
        value[8 + k] = out;
      }
    }
  });
  return Status::kOk;
}

}  // namespace

Status read_chain(const Attrs& attrs, const char* op, int inputs, Chain* out) {
  const int64_t n = attrs.strings_size("fns");
  const Ints args = attrs.ints("args");
  const Floats params = attrs.floats("params");
  if (inputs < 1 || inputs > kMaxChainInputs || n < 1 || n > kMaxChainSteps) {
    return fail(Status::kInvalidModel, "%s: %d inputs and %" PRId64 " steps, expected 1 to %d and 1 to %d", op, inputs, n,
                kMaxChainInputs, kMaxChainSteps);
  }
  if (args.size != 2 * n || params.size != 2 * n) {
    return fail(Status::kInvalidModel, "%s: %" PRId64 " steps need as many pairs of args and params", op, n);
  }
  out->steps = static_cast<int>(n);
  for (int k = 0; k < n; ++k) {
    ChainStep& s = out->step[k];
    const Str name = attrs.strings_at("fns", k);
    if (!find_fn(name, &s.fn)) {
      return fail(Status::kUnsupported, "%s: step %d is '%.*s', which is no function of this library", op, k,
                  static_cast<int>(name.size), name.data);
    }
    for (int j = 0; j < 2; ++j) {
      const int64_t v = args[2 * k + j];
      const bool absent = j == 1 && v == -1 && !is_binary(s.fn);
      if (!absent && !(v >= 0 && v < inputs) && !(v >= 8 && v < 8 + k)) {
        return fail(Status::kInvalidModel, "%s: operand %" PRId64 " of step %d names neither an input nor an earlier step", op,
                    v, k);
      }
      (j == 0 ? s.a : s.b) = static_cast<int8_t>(v);
    }
    s.alpha = params[2 * k];
    s.beta = params[2 * k + 1];
  }
  return Status::kOk;
}

float eval_fn(Fn f, float a, float b, float alpha, float beta) {
  switch (f) {
    case Fn::kExp: return expf(a);
    case Fn::kLog: return logf(a);
    case Fn::kSqrt: return sqrtf(a);
    case Fn::kAbs: return fabsf(a);
    case Fn::kNeg: return -a;
    case Fn::kReciprocal: return 1 / a;
    case Fn::kErf: return erff(a);
    case Fn::kFloor: return floorf(a);
    case Fn::kCeil: return ceilf(a);
    case Fn::kRound: return nearbyintf(a);
    case Fn::kSquare: return a * a;
    case Fn::kSwish: return a / (1 + expf(-alpha * a));
    case Fn::kAffine: return alpha * a + beta;
    case Fn::kAdd: return a + b;
    case Fn::kSub: return a - b;
    case Fn::kMul: return a * b;
    case Fn::kDiv: return a / b;
    // NaN of either side wins, as in numpy.
    case Fn::kMax: return a > b || a != a ? a : b;
    case Fn::kMin: return a < b || a != a ? a : b;
    case Fn::kPrelu: return a < 0 ? a * b : a;
    default: break;
  }
  apply_activation(Activation{static_cast<Act>(f), alpha, beta}, &a, 1);
  return a;
}

extern const OpDef pn_ops_eltwise[] = {
    {"Eltwise", 1, kMaxChainInputs, 1, 1, kOpInPlace0, infer, run, nullptr},
};
extern const int pn_ops_eltwise_count = sizeof(pn_ops_eltwise) / sizeof(OpDef);

}  // namespace pyneo
