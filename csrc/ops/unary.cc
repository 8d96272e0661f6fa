// SPDX-License-Identifier: Apache-2.0
//
// Element-wise operators of one tensor: arithmetic, transcendental functions, activations, predicates.
#include <cmath>

#include "ops/elementwise.h"

namespace pyneo {
namespace {

// An operator is a function of one element. p: its attributes, in the order its row names them.
#define PN_FN(Name, expression)                                         \
  struct Name {                                                         \
    template <typename T>                                               \
    static T f(T x, const float* p) {                                   \
      (void)p;                                                          \
      return expression;                                                \
    }                                                                   \
  };

// Constants are converted to the compute type: double keeps its precision, float does not pay for it.
#define C(v) static_cast<T>(v)

template <typename T>
T logistic(T x) {
  return 1 / (1 + std::exp(-x));
}
template <typename T>
T softplus(T x) {  // no overflow for large x, no loss for very negative x
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}
template <typename T>
T clamp01(T x) {
  x = x < 0 ? 0 : x;
  return x > 1 ? 1 : x;
}

PN_FN(Abs, std::fabs(x))
PN_FN(Neg, -x)
PN_FN(Reciprocal, 1 / x)
PN_FN(Sqrt, std::sqrt(x))
PN_FN(Exp, std::exp(x))
PN_FN(Log, std::log(x))
PN_FN(Floor, std::floor(x))
PN_FN(Ceil, std::ceil(x))
PN_FN(Round, std::nearbyint(x))
PN_FN(Sign, x > 0 ? 1 : x < 0 ? -1 : x)
PN_FN(Sin, std::sin(x))
PN_FN(Cos, std::cos(x))
PN_FN(Tan, std::tan(x))
PN_FN(Asin, std::asin(x))
PN_FN(Acos, std::acos(x))
PN_FN(Atan, std::atan(x))
PN_FN(Sinh, std::sinh(x))
PN_FN(Cosh, std::cosh(x))
PN_FN(Tanh, std::tanh(x))
PN_FN(Asinh, std::asinh(x))
PN_FN(Acosh, std::acosh(x))
PN_FN(Atanh, std::atanh(x))
PN_FN(Erf, std::erf(x))
PN_FN(Sigmoid, logistic(x))
PN_FN(Relu, x < 0 ? 0 : x)
PN_FN(LeakyRelu, x < 0 ? p[0] * x : x)
PN_FN(Elu, x < 0 ? p[0] * std::expm1(x) : x)
PN_FN(Selu, p[1] * (x > 0 ? x : p[0] * std::expm1(x)))
PN_FN(Celu, x > 0 ? x : p[0] * std::expm1(x / p[0]))
PN_FN(ThresholdedRelu, x > p[0] ? x : 0)
PN_FN(HardSigmoid, clamp01(p[0] * x + p[1]))
PN_FN(HardSwish, x* clamp01(x / 6 + C(0.5)))
PN_FN(Softplus, softplus(x))
PN_FN(Softsign, x / (1 + std::fabs(x)))
PN_FN(Gelu, C(0.5) * x * (1 + std::erf(x * C(0.70710678118654752))))
PN_FN(GeluTanh, C(0.5) * x * (1 + std::tanh(C(0.79788456080286536) * (x + C(0.044715) * x * x * x))))
PN_FN(Mish, x* std::tanh(softplus(x)))
PN_FN(Swish, x* logistic(p[0] * x))
PN_FN(Shrink, x < -p[0] ? x + p[1] : x > p[0] ? x - p[1] : 0)

// 64-bit integers: wrap-around instead of undefined overflow.
PN_FN(IntAbs, x < 0 ? static_cast<T>(0 - static_cast<uint64_t>(x)) : x)
PN_FN(IntNeg, static_cast<T>(0 - static_cast<uint64_t>(x)))
PN_FN(IntSign, static_cast<T>((x > 0) - (x < 0)))
PN_FN(UintSign, x != 0)
PN_FN(Same, x)
PN_FN(Invert, static_cast<T>(~x))

struct IntShrink {
  static double f(double x, const float* p) { return Shrink::f(x, p); }
};

#undef C
#undef PN_FN

// Shrink of integers is computed in double and truncated.
template <typename T>
bool int_shrink_loop(const void* const* in, void* out, int64_t n, const void* params) {
  const T* x = static_cast<const T*>(in[0]);
  for (int64_t i = 0; i < n; ++i) {
    const double v = IntShrink::f(static_cast<double>(x[i]), static_cast<const float*>(params));
    store_block(Cls::kF64, &v, 1, sizeof(T) == 8 && static_cast<T>(-1) < 0 ? DType::kI64 : DType::kU64,
                static_cast<T*>(out) + i);
  }
  return true;
}

template <typename T>
bool is_nan_loop(const void* const* in, void* out, int64_t n, const void*) {
  const T* x = static_cast<const T*>(in[0]);
  for (int64_t i = 0; i < n; ++i) static_cast<uint8_t*>(out)[i] = x[i] != x[i];
  return true;
}

template <typename T>
bool is_inf_loop(const void* const* in, void* out, int64_t n, const void* params) {
  const T* x = static_cast<const T*>(in[0]);
  const float* p = static_cast<const float*>(params);
  const bool negative = p[0] != 0, positive = p[1] != 0;
  const T inf = static_cast<T>(INFINITY);
  for (int64_t i = 0; i < n; ++i) {
    static_cast<uint8_t*>(out)[i] = (positive && x[i] == inf) || (negative && x[i] == -inf);
  }
  return true;
}

bool not_loop(const void* const* in, void* out, int64_t n, const void*) {
  for (int64_t i = 0; i < n; ++i) static_cast<uint8_t*>(out)[i] = static_cast<const uint8_t*>(in[0])[i] == 0;
  return true;
}

struct Row {
  uint32_t types;
  Loops loops;
  struct {
    const char* name;
    float fallback;
  } params[2];
  bool int_params;   // the attributes are integers
  bool to_bool;      // output dtype is bool, written by the loop
};

template <typename F>
constexpr Row floats(const char* p0 = nullptr, float d0 = 0, const char* p1 = nullptr, float d1 = 0) {
  return {kFloatTypes, {unary_loop<F, float>, unary_loop<F, double>, nullptr, nullptr}, {{p0, d0}, {p1, d1}}, false, false};
}
template <typename F, typename I, typename U>
constexpr Row numbers(uint32_t types) {
  return {types,
          {unary_loop<F, float>, unary_loop<F, double>, unary_loop<I, int64_t>, unary_loop<U, uint64_t>},
          {},
          false,
          false};
}

constexpr Row kAbs = numbers<Abs, IntAbs, Same>(kNumericTypes);
constexpr Row kNeg = numbers<Neg, IntNeg, Same>(kFloatTypes | kSignedInts);
constexpr Row kSign = numbers<Sign, IntSign, UintSign>(kNumericTypes);
constexpr Row kRelu = numbers<Relu, Relu, Same>(kFloatTypes | kSignedInts);
constexpr Row kReciprocal = floats<Reciprocal>();
constexpr Row kSqrt = floats<Sqrt>();
constexpr Row kExp = floats<Exp>();
constexpr Row kLog = floats<Log>();
constexpr Row kFloor = floats<Floor>();
constexpr Row kCeil = floats<Ceil>();
constexpr Row kRound = floats<Round>();
constexpr Row kSin = floats<Sin>();
constexpr Row kCos = floats<Cos>();
constexpr Row kTan = floats<Tan>();
constexpr Row kAsin = floats<Asin>();
constexpr Row kAcos = floats<Acos>();
constexpr Row kAtan = floats<Atan>();
constexpr Row kSinh = floats<Sinh>();
constexpr Row kCosh = floats<Cosh>();
constexpr Row kTanh = floats<Tanh>();
constexpr Row kAsinh = floats<Asinh>();
constexpr Row kAcosh = floats<Acosh>();
constexpr Row kAtanh = floats<Atanh>();
constexpr Row kErf = floats<Erf>();
constexpr Row kSigmoid = floats<Sigmoid>();
constexpr Row kLeakyRelu = floats<LeakyRelu>("alpha", 0.01f);
constexpr Row kElu = floats<Elu>("alpha", 1);
constexpr Row kSelu = floats<Selu>("alpha", 1.67326319217681884765625f, "gamma", 1.05070102214813232421875f);
constexpr Row kCelu = floats<Celu>("alpha", 1);
constexpr Row kThresholdedRelu = floats<ThresholdedRelu>("alpha", 1);
constexpr Row kHardSigmoid = floats<HardSigmoid>("alpha", 0.2f, "beta", 0.5f);
constexpr Row kHardSwish = floats<HardSwish>();
constexpr Row kSoftplus = floats<Softplus>();
constexpr Row kSoftsign = floats<Softsign>();
constexpr Row kGelu = floats<Gelu>();
constexpr Row kGeluTanh = floats<GeluTanh>();
constexpr Row kMish = floats<Mish>();
constexpr Row kSwish = floats<Swish>("alpha", 1);
constexpr Row kQuickGelu = floats<Swish>("alpha", 1.702f);
constexpr Row kShrink = {kNumericTypes,
                         {unary_loop<Shrink, float>, unary_loop<Shrink, double>, int_shrink_loop<int64_t>,
                          int_shrink_loop<uint64_t>},
                         {{"lambd", 0.5f}, {"bias", 0}},
                         false,
                         false};
constexpr Row kIsNaN = {kFloatTypes, {is_nan_loop<float>, is_nan_loop<double>, nullptr, nullptr}, {}, false, true};
constexpr Row kIsInf = {kFloatTypes,
                        {is_inf_loop<float>, is_inf_loop<double>, nullptr, nullptr},
                        {{"detect_negative", 1}, {"detect_positive", 1}},
                        true,
                        true};
constexpr Row kNot = {kBoolType, {nullptr, nullptr, not_loop, nullptr}, {}, false, true};
constexpr Row kBitwiseNot = {kIntTypes, {nullptr, nullptr, unary_loop<Invert, int64_t>, nullptr}, {}, false, false};

Status infer_row(InferContext& c, const Row& row) {
  PN_TRY(expect_types(c, 0, row.types));
  c.set(0, row.to_bool ? DType::kBool : c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_row(RunContext& c, const Row& row) {
  float params[2] = {};
  for (int i = 0; i < 2 && row.params[i].name != nullptr; ++i) {
    const auto& p = row.params[i];
    params[i] = row.int_params ? static_cast<float>(c.attrs.i64(p.name, static_cast<int64_t>(p.fallback)))
                               : c.attrs.f32(p.name, p.fallback);
  }
  const Cls cls = compute_class(c.in[0]->desc.dtype);
  Elementwise e;
  e.in[0] = c.in[0]->desc.dtype == DType::kBool ? Cls::kRaw : cls;
  e.out = row.to_bool ? Cls::kRaw : cls;
  e.loop = row.loops.of(cls);
  e.params = params;
  return run_elementwise(c, e);
}

template <const Row& row>
Status infer_unary(InferContext& c) {
  return infer_row(c, row);
}
template <const Row& row>
Status run_unary(RunContext& c) {
  return run_row(c, row);
}

// Gelu (ONNX): approximate = none | tanh.
Status infer_gelu(InferContext& c) {
  const Str kind = c.attrs.str("approximate", "none");
  if (kind != "none" && kind != "tanh") {
    return fail(Status::kInvalidModel, "Gelu: approximate is '%.*s', expected 'none' or 'tanh'",
                static_cast<int>(kind.size), kind.data);
  }
  return infer_row(c, kGelu);
}
Status run_gelu(RunContext& c) {
  return run_row(c, c.attrs.str("approximate", "none") == "tanh" ? kGeluTanh : kGelu);
}

// com.microsoft.BiasGelu and FastGelu: gelu(x + bias), bias along the last axis.
struct SumGelu {
  template <typename T>
  static T f(T x, T b, const float* p) {
    return Gelu::f(x + b, p);
  }
};
struct SumGeluTanh {
  template <typename T>
  static T f(T x, T b, const float* p) {
    return GeluTanh::f(x + b, p);
  }
};
constexpr Loops kSumGelu = {binary_loop<SumGelu, float>, binary_loop<SumGelu, double>, nullptr, nullptr};
constexpr Loops kSumGeluTanh = {binary_loop<SumGeluTanh, float>, binary_loop<SumGeluTanh, double>, nullptr, nullptr};

Status infer_bias_gelu(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  if (c.has(1)) {
    PN_TRY(expect_same_dtype(c, 0, 1));
    PN_TRY(expect_broadcasts_to(c, 1, c.shape(0)));
  }
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_with_bias(RunContext& c, const Row& alone, const Loops& biased) {
  if (!c.has(1)) return run_row(c, alone);
  Elementwise e;
  e.inputs = 2;
  e.in[0] = e.in[1] = e.out = compute_class(c.in[0]->desc.dtype);
  e.loop = biased.of(e.out);
  return run_elementwise(c, e);
}
Status run_bias_gelu(RunContext& c) { return run_with_bias(c, kGelu, kSumGelu); }
Status run_fast_gelu(RunContext& c) { return run_with_bias(c, kGeluTanh, kSumGeluTanh); }

}  // namespace

#define PN_ROW(name, row) \
  { name, 1, 1, 1, 1, kOpInPlace0, infer_unary<row>, run_unary<row>, nullptr }

extern const OpDef pn_ops_unary[] = {
    PN_ROW("Abs", kAbs),
    PN_ROW("Acos", kAcos),
    PN_ROW("Acosh", kAcosh),
    PN_ROW("Asin", kAsin),
    PN_ROW("Asinh", kAsinh),
    PN_ROW("Atan", kAtan),
    PN_ROW("Atanh", kAtanh),
    PN_ROW("BitwiseNot", kBitwiseNot),
    PN_ROW("Ceil", kCeil),
    PN_ROW("Celu", kCelu),
    PN_ROW("Cos", kCos),
    PN_ROW("Cosh", kCosh),
    PN_ROW("Elu", kElu),
    PN_ROW("Erf", kErf),
    PN_ROW("Exp", kExp),
    PN_ROW("Floor", kFloor),
    {"Gelu", 1, 1, 1, 1, kOpInPlace0, infer_gelu, run_gelu, nullptr},
    PN_ROW("HardSigmoid", kHardSigmoid),
    PN_ROW("HardSwish", kHardSwish),
    PN_ROW("IsInf", kIsInf),
    PN_ROW("IsNaN", kIsNaN),
    PN_ROW("LeakyRelu", kLeakyRelu),
    PN_ROW("Log", kLog),
    PN_ROW("Mish", kMish),
    PN_ROW("Neg", kNeg),
    PN_ROW("Not", kNot),
    PN_ROW("Reciprocal", kReciprocal),
    PN_ROW("Relu", kRelu),
    PN_ROW("Round", kRound),
    PN_ROW("Selu", kSelu),
    PN_ROW("Shrink", kShrink),
    PN_ROW("Sigmoid", kSigmoid),
    PN_ROW("Sign", kSign),
    PN_ROW("Sin", kSin),
    PN_ROW("Sinh", kSinh),
    PN_ROW("Softplus", kSoftplus),
    PN_ROW("Softsign", kSoftsign),
    PN_ROW("Sqrt", kSqrt),
    PN_ROW("Swish", kSwish),
    PN_ROW("Tan", kTan),
    PN_ROW("Tanh", kTanh),
    PN_ROW("ThresholdedRelu", kThresholdedRelu),
    {"com.microsoft.BiasGelu", 2, 2, 1, 1, kOpInPlace0, infer_bias_gelu, run_bias_gelu, nullptr},
    {"com.microsoft.FastGelu", 1, 2, 1, 1, kOpInPlace0, infer_bias_gelu, run_fast_gelu, nullptr},
    PN_ROW("com.microsoft.Gelu", kGelu),
    PN_ROW("com.microsoft.QuickGelu", kQuickGelu),
};
extern const int pn_ops_unary_count = sizeof(pn_ops_unary) / sizeof(OpDef);

}  // namespace pyneo
