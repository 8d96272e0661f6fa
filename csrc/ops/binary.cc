// SPDX-License-Identifier: Apache-2.0
//
// Element-wise operators of several tensors, numpy broadcasting everywhere: arithmetic, comparisons,
// logic, bits, PRelu, SwiGLU. (Where and Clip, Min, Max, Sum and Mean: select.cc.)
#include <cmath>

#include "ops/elementwise.h"

namespace pyneo {
namespace {

// --- one element -------------------------------------------------------------------------------

#define PN_FN2(Name, R, expression)                \
  struct Name {                                    \
    template <typename T>                          \
    static R f(T a, T b, const float* p) {         \
      (void)p;                                     \
      return static_cast<R>(expression);           \
    }                                              \
  };

PN_FN2(Add, T, a + b)
PN_FN2(Sub, T, a - b)
PN_FN2(Mul, T, a* b)
PN_FN2(Div, T, a / b)
PN_FN2(Pow, T, std::pow(a, b))
PN_FN2(Fmod, T, std::fmod(a, b))
PN_FN2(PRelu, T, a < 0 ? a * b : a)
PN_FN2(SwiGLU, T, a / (1 + std::exp(-p[0] * a)) * b)

// Integers wrap around: signed overflow is computed in unsigned.
PN_FN2(IntAdd, T, static_cast<uint64_t>(a) + static_cast<uint64_t>(b))
PN_FN2(IntSub, T, static_cast<uint64_t>(a) - static_cast<uint64_t>(b))
PN_FN2(IntMul, T, static_cast<uint64_t>(a) * static_cast<uint64_t>(b))
PN_FN2(IntPRelu, T, a < 0 ? static_cast<uint64_t>(a) * static_cast<uint64_t>(b) : static_cast<uint64_t>(a))
PN_FN2(BitAnd, T, a& b)
PN_FN2(BitOr, T, a | b)
PN_FN2(BitXor, T, a ^ b)

PN_FN2(Equal, uint8_t, a == b)
PN_FN2(Greater, uint8_t, a > b)
PN_FN2(Less, uint8_t, a < b)
PN_FN2(GreaterOrEqual, uint8_t, a >= b)
PN_FN2(LessOrEqual, uint8_t, a <= b)
PN_FN2(And, uint8_t, (a != 0) & (b != 0))
PN_FN2(Or, uint8_t, (a != 0) | (b != 0))
PN_FN2(Xor, uint8_t, (a != 0) ^ (b != 0))
#undef PN_FN2

// A - floor(A / B) * B with the special cases of Mod's definition (opset 28), which are numpy's.
struct FloorMod {
  template <typename T>
  static T f(T a, T b, const float*) {
    T r = std::fmod(a, b);
    if (r == 0) return std::copysign(T{0}, b);
    return (r < 0) != (b < 0) ? r + b : r;
  }
};

// Integer division and remainders: a zero divisor is an error of the data, and the most negative
// number by -1, which traps on x86, wraps around.
struct IntDiv {
  static int64_t f(int64_t a, int64_t b) { return b == -1 ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : a / b; }
  static uint64_t f(uint64_t a, uint64_t b) { return a / b; }
};
struct IntRem {
  static int64_t f(int64_t a, int64_t b) { return b == -1 ? 0 : a % b; }
  static uint64_t f(uint64_t a, uint64_t b) { return a % b; }
};
struct IntFloorMod {
  static int64_t f(int64_t a, int64_t b) {
    const int64_t r = IntRem::f(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
  static uint64_t f(uint64_t a, uint64_t b) { return a % b; }
};

template <typename Op, typename T>
bool division_loop(const void* const* in, void* out, int64_t n, const void*) {
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  T* y = static_cast<T*>(out);
  bool ok = true;
  for (int64_t i = 0; i < n; ++i) {
    if (b[i] == 0) {
      y[i] = 0;
      ok = false;
    } else {
      y[i] = Op::f(a[i], b[i]);
    }
  }
  return ok;
}

// Integer power by squaring, wrapping around. A negative exponent truncates: 1 / x^n.
template <typename E>
bool int_pow_loop(const void* const* in, void* out, int64_t n, const void*) {
  const int64_t* a = static_cast<const int64_t*>(in[0]);
  const E* b = static_cast<const E*>(in[1]);
  int64_t* y = static_cast<int64_t*>(out);
  bool ok = true;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t x = a[i];
    if (b[i] < 0) {
      ok = ok && x != 0;
      y[i] = x == 1 ? 1 : x == -1 ? (b[i] & 1 ? -1 : 1) : 0;
      continue;
    }
    uint64_t r = 1, base = static_cast<uint64_t>(x);
    for (uint64_t e = static_cast<uint64_t>(b[i]); e != 0; e >>= 1) {
      if (e & 1) r *= base;
      base *= base;
    }
    y[i] = static_cast<int64_t>(r);
  }
  return ok;
}

bool int_pow_float_loop(const void* const* in, void* out, int64_t n, const void*) {
  const int64_t* a = static_cast<const int64_t*>(in[0]);
  const double* b = static_cast<const double*>(in[1]);
  for (int64_t i = 0; i < n; ++i) {
    const double v = std::pow(static_cast<double>(a[i]), b[i]);
    store_block(Cls::kF64, &v, 1, DType::kI64, static_cast<int64_t*>(out) + i);
  }
  return true;
}

// params: the dtype's width in bits. Shifts by less than 0 or more than that leave the sign's extension.
template <typename T, bool left>
bool shift_loop(const void* const* in, void* out, int64_t n, const void* params) {
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  T* y = static_cast<T*>(out);
  const T width = *static_cast<const T*>(params);
  for (int64_t i = 0; i < n; ++i) {
    const bool all = b[i] < 0 || b[i] >= width;
    if (left) {
      y[i] = all ? T{0} : static_cast<T>(static_cast<uint64_t>(a[i]) << b[i]);
    } else {
      y[i] = all ? static_cast<T>(a[i] < 0 ? -1 : 0) : static_cast<T>(a[i] >> b[i]);
    }
  }
  return true;
}

// --- operators that are one row ------------------------------------------------------------------

struct Row {
  uint32_t types;
  Loops loops;
  bool to_bool = false;
  bool raw = false;   // loops.i64 works on the bytes of bool
  const char* data_error = "the data is not in the operator's domain";
};

template <typename F, typename I, typename U>
constexpr Row arithmetic(uint32_t types) {
  return {types,
          {binary_loop<F, float>, binary_loop<F, double>, binary_loop<I, int64_t>, binary_loop<U, uint64_t>},
          false,
          false,
          nullptr};
}
template <typename F>
constexpr Row compare(uint32_t types) {
  return {types,
          {binary_loop<F, float, uint8_t>, binary_loop<F, double, uint8_t>, binary_loop<F, int64_t, uint8_t>,
           binary_loop<F, uint64_t, uint8_t>},
          true,
          false,
          nullptr};
}
template <typename F>
constexpr Row logic() {
  return {kBoolType, {nullptr, nullptr, binary_loop<F, uint8_t>, nullptr}, true, true, nullptr};
}
template <typename F>
constexpr Row bits() {
  return {kIntTypes, {nullptr, nullptr, binary_loop<F, int64_t>, nullptr}, false, false, nullptr};
}

constexpr Row kAdd = arithmetic<Add, IntAdd, IntAdd>(kNumericTypes);
constexpr Row kSub = arithmetic<Sub, IntSub, IntSub>(kNumericTypes);
constexpr Row kMul = arithmetic<Mul, IntMul, IntMul>(kNumericTypes);
constexpr Row kPRelu = arithmetic<PRelu, IntPRelu, IntPRelu>(kNumericTypes);
constexpr Row kDiv = {kNumericTypes,
                      {binary_loop<Div, float>, binary_loop<Div, double>, division_loop<IntDiv, int64_t>,
                       division_loop<IntDiv, uint64_t>},
                      false,
                      false,
                      "integer division by zero"};
constexpr Row kMod = {kNumericTypes,
                      {binary_loop<FloorMod, float>, binary_loop<FloorMod, double>,
                       division_loop<IntFloorMod, int64_t>, division_loop<IntFloorMod, uint64_t>},
                      false,
                      false,
                      "integer remainder of a division by zero"};
constexpr Row kFmod = {kNumericTypes,
                       {binary_loop<Fmod, float>, binary_loop<Fmod, double>, division_loop<IntRem, int64_t>,
                        division_loop<IntRem, uint64_t>},
                       false,
                       false,
                       "integer remainder of a division by zero"};
constexpr Row kEqual = compare<Equal>(kAllTypes);
constexpr Row kGreater = compare<Greater>(kNumericTypes);
constexpr Row kLess = compare<Less>(kNumericTypes);
constexpr Row kGreaterOrEqual = compare<GreaterOrEqual>(kNumericTypes);
constexpr Row kLessOrEqual = compare<LessOrEqual>(kNumericTypes);
constexpr Row kAnd = logic<And>();
constexpr Row kOr = logic<Or>();
constexpr Row kXor = logic<Xor>();
constexpr Row kBitwiseAnd = bits<BitAnd>();
constexpr Row kBitwiseOr = bits<BitOr>();
constexpr Row kBitwiseXor = bits<BitXor>();

Status infer_row(InferContext& c, const Row& row) {
  PN_TRY(expect_types(c, 0, row.types));
  PN_TRY(expect_same_dtype(c, 0, 1));
  Shape y;
  PN_TRY(broadcast_shapes(c.op, c.shape(0), c.shape(1), &y));
  c.set(0, row.to_bool ? DType::kBool : c.dtype(0), y);
  return Status::kOk;
}

Elementwise plan_row(const RunContext& c, const Row& row) {
  const Cls cls = compute_class(c.in[0]->desc.dtype);
  Elementwise e;
  e.inputs = 2;
  e.in[0] = e.in[1] = row.raw ? Cls::kRaw : cls;
  e.out = row.to_bool ? Cls::kRaw : cls;
  e.loop = row.loops.of(cls);
  if (row.data_error != nullptr) e.data_error = row.data_error;
  return e;
}

template <const Row& row>
Status infer_binary(InferContext& c) {
  return infer_row(c, row);
}
template <const Row& row>
Status run_binary(RunContext& c) {
  return run_elementwise(c, plan_row(c, row));
}

// Add and Mul may carry `act` and `post_act`: neither has a residual of its own, so one follows the other.
Status read_acts(const Attrs& attrs, const char* op, Activation* acts) {
  PN_TRY(read_activation(attrs, op, "act", &acts[0]));
  return read_activation(attrs, op, "post_act", &acts[1]);
}

template <const Row& row>
Status infer_fused(InferContext& c) {
  PN_TRY(infer_row(c, row));
  Activation acts[2];
  PN_TRY(read_acts(c.attrs, c.op, acts));
  if ((acts[0].kind != Act::kNone || acts[1].kind != Act::kNone) && compute_class(c.dtype(0)) != Cls::kF32) {
    return fail(Status::kUnsupported, "%s: a fused activation needs float32, float16 or bfloat16, found %s", c.op,
                dtype_name(c.dtype(0)));
  }
  return Status::kOk;
}

template <const Row& row>
Status run_fused(RunContext& c) {
  Activation acts[2];
  PN_TRY(read_acts(c.attrs, c.op, acts));
  Elementwise e = plan_row(c, row);
  e.acts = acts;
  e.n_acts = e.out == Cls::kF32 ? 2 : 0;
  return run_elementwise(c, e);
}

// --- the others ------------------------------------------------------------------------------------

Status run_mod(RunContext& c) { return run_elementwise(c, plan_row(c, c.attrs.i64("fmod", 0) != 0 ? kFmod : kMod)); }

Status infer_prelu(InferContext& c) {
  PN_TRY(infer_row(c, kPRelu));
  return expect_broadcasts_to(c, 1, c.shape(0));
}

// Pow: the exponent has its own dtype, the result the base's.
Status infer_pow(InferContext& c) {
  PN_TRY(expect_types(c, 0, kNumericTypes));
  PN_TRY(expect_types(c, 1, kNumericTypes));
  Shape y;
  PN_TRY(broadcast_shapes(c.op, c.shape(0), c.shape(1), &y));
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_pow(RunContext& c) {
  const DType exponent = c.in[1]->desc.dtype;
  Elementwise e;
  e.inputs = 2;
  e.in[0] = e.in[1] = e.out = compute_class(c.in[0]->desc.dtype);
  e.data_error = "zero to a negative integer power";
  if (e.out == Cls::kF32) {
    e.loop = binary_loop<Pow, float>;
  } else if (e.out == Cls::kF64) {
    e.loop = binary_loop<Pow, double>;
  } else {
    // An unsigned base has the same bits modulo 2^64 as a signed one.
    e.in[0] = e.out = Cls::kI64;
    e.in[1] = dtype_is_float(exponent) ? Cls::kF64 : compute_class(exponent);
    e.loop = e.in[1] == Cls::kF64 ? int_pow_float_loop : e.in[1] == Cls::kU64 ? int_pow_loop<uint64_t> : int_pow_loop<int64_t>;
  }
  return run_elementwise(c, e);
}

Status infer_shift(InferContext& c) {
  PN_TRY(expect_types(c, 0, kIntTypes));
  PN_TRY(expect_same_dtype(c, 0, 1));
  const Str direction = c.attrs.str("direction");
  if (direction != "LEFT" && direction != "RIGHT") {
    return fail(Status::kInvalidModel, "BitShift: direction is '%.*s', expected 'LEFT' or 'RIGHT'",
                static_cast<int>(direction.size), direction.data);
  }
  Shape y;
  PN_TRY(broadcast_shapes(c.op, c.shape(0), c.shape(1), &y));
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_shift(RunContext& c) {
  const DType t = c.in[0]->desc.dtype;
  const int64_t width = static_cast<int64_t>(dtype_size(t)) * 8;
  const bool left = c.attrs.str("direction") == "LEFT";
  Elementwise e;
  e.inputs = 2;
  e.in[0] = e.in[1] = e.out = compute_class(t);
  e.params = &width;  // positive: the same bits as int64 and uint64
  if (e.out == Cls::kU64) {
    e.loop = left ? shift_loop<uint64_t, true> : shift_loop<uint64_t, false>;
  } else {
    e.loop = left ? shift_loop<int64_t, true> : shift_loop<int64_t, false>;
  }
  return run_elementwise(c, e);
}

Status infer_swiglu(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  PN_TRY(expect_same_dtype(c, 0, 1));
  if (c.shape(0) != c.shape(1)) {
    char a[160], b[160];
    return fail(Status::kInvalidModel, "SwiGLU: inputs must have one shape, found %s and %s",
                format_shape(c.shape(0), a, sizeof(a)), format_shape(c.shape(1), b, sizeof(b)));
  }
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_swiglu(RunContext& c) {
  const float alpha = c.attrs.f32("alpha", 1);
  Elementwise e;
  e.inputs = 2;
  e.in[0] = e.in[1] = e.out = compute_class(c.in[0]->desc.dtype);
  e.loop = e.out == Cls::kF32 ? binary_loop<SwiGLU, float> : binary_loop<SwiGLU, double>;
  e.params = &alpha;
  return run_elementwise(c, e);
}

// Outputs of the inputs' dtype may take either input's place; bools only have the bytes of other bools.
constexpr uint32_t kInPlace = kOpInPlace0 | kOpInPlace1;

}  // namespace

#define PN_ROW(name, row, flags) \
  { name, 2, 2, 1, 1, flags, infer_binary<row>, run_binary<row>, nullptr }

extern const OpDef pn_ops_binary[] = {
    {"Add", 2, 2, 1, 1, kInPlace, infer_fused<kAdd>, run_fused<kAdd>, nullptr},
    PN_ROW("And", kAnd, kInPlace),
    {"BitShift", 2, 2, 1, 1, kInPlace, infer_shift, run_shift, nullptr},
    PN_ROW("BitwiseAnd", kBitwiseAnd, kInPlace),
    PN_ROW("BitwiseOr", kBitwiseOr, kInPlace),
    PN_ROW("BitwiseXor", kBitwiseXor, kInPlace),
    PN_ROW("Div", kDiv, kInPlace),
    PN_ROW("Equal", kEqual, 0),
    PN_ROW("Greater", kGreater, 0),
    PN_ROW("GreaterOrEqual", kGreaterOrEqual, 0),
    PN_ROW("Less", kLess, 0),
    PN_ROW("LessOrEqual", kLessOrEqual, 0),
    {"Mod", 2, 2, 1, 1, kInPlace, infer_binary<kMod>, run_mod, nullptr},
    {"Mul", 2, 2, 1, 1, kInPlace, infer_fused<kMul>, run_fused<kMul>, nullptr},
    PN_ROW("Or", kOr, kInPlace),
    {"PRelu", 2, 2, 1, 1, kOpInPlace0, infer_prelu, run_binary<kPRelu>, nullptr},
    {"Pow", 2, 2, 1, 1, kOpInPlace0, infer_pow, run_pow, nullptr},
    PN_ROW("Sub", kSub, kInPlace),
    {"SwiGLU", 2, 2, 1, 1, kInPlace, infer_swiglu, run_swiglu, nullptr},
    PN_ROW("Xor", kXor, kInPlace),
};
extern const int pn_ops_binary_count = sizeof(pn_ops_binary) / sizeof(OpDef);

}  // namespace pyneo
