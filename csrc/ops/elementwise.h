// SPDX-License-Identifier: Apache-2.0
//
// Cast-in, cast-out: how the reference operators serve thirteen dtypes with two to four loops each.
//
// Tensors are walked in blocks of kBlock elements. A block of any dtype is loaded into a compute class
// (float for f32, f16 and bf16; double; 64-bit integers), the operator's loop for that class runs, and
// the result is stored in the output's dtype, integers wrapping around. Blocks that already are of their
// class (f32, f64, i64, u64) and contiguous are used in place.
#pragma once

#include "ops/activation.h"
#include "ops/op.h"

namespace pyneo {

constexpr int64_t kBlock = 256;
constexpr int64_t kTaskElements = 32768;  // tensors above this are split over the pool

enum class Cls : uint8_t {
  kF32,
  kF64,
  kI64,
  kU64,
  kRaw,  // the dtype's own bytes, not converted
};

// The class that computes a dtype without loss: kF32 (f32, f16, bf16), kF64, kU64 (u64 only), kI64.
Cls compute_class(DType t);

// n elements of dtype t at src to class c at dst, and back. kRaw copies bytes. Floats outside an integer
// type's range give what x86 conversion instructions give, on every target; so does NaN.
void load_block(DType t, const void* src, int64_t n, Cls c, void* dst);
void store_block(Cls c, const void* src, int64_t n, DType t, void* dst);

// One element, for parameters and scalars.
double load_double(DType t, const void* base, int64_t index);

struct BlockBuffer {
  alignas(64) uint8_t raw[kBlock * 8];
  alignas(64) uint8_t cooked[kBlock * 8];
};

// A tensor broadcast to an output shape, read in blocks of the output's flat index.
class Operand {
 public:
  // `t`'s shape must broadcast to `out`; that was checked by infer.
  void bind(const Tensor& t, const Shape& out, Cls cls);
  // Elements [at, at + n) of the broadcast tensor in the operand's class, n <= kBlock: a pointer into the
  // tensor where nothing needs converting, else into `space`.
  const void* fetch(int64_t at, int64_t n, BlockBuffer* space) const;

 private:
  const uint8_t* data_ = nullptr;
  DType dtype_ = DType::kNone;
  Cls cls_ = Cls::kRaw;
  int size_ = 0;
  bool converts_ = false;
  int rank_ = 0;  // collapsed
  int64_t dims_[kMaxRank] = {};
  int64_t strides_[kMaxRank] = {};
};

// f(begin, end) over [0, total), split over the pool in multiples of kBlock elements.
template <typename F>
void for_ranges(Pool* pool, int64_t total, F&& f) {
  if (total <= 0) return;
  if (total <= kTaskElements || pool->size() == 1) return f(int64_t{0}, total);
  pool->run(ceil_div(total, kTaskElements), [&](int64_t task, int) {
    const int64_t begin = task * kTaskElements;
    f(begin, begin + kTaskElements < total ? begin + kTaskElements : total);
  });
}

// f(begin, end) over [0, total) items of `cost` elements each: split over the pool when there is enough
// work in all, with enough items a task to be worth waking a thread for.
template <typename F>
void for_groups(Pool* pool, int64_t total, int64_t cost, F&& f) {
  if (total <= 0) return;
  cost = cost > 0 ? cost : 1;
  const int64_t each = cost < kTaskElements / 4 ? kTaskElements / 4 / cost : 1;
  if (total <= each || pool->size() == 1) return f(int64_t{0}, total);
  pool->run(ceil_div(total, each), [&](int64_t task, int) {
    f(task * each, (task + 1) * each < total ? (task + 1) * each : total);
  });
}

// in[k]: n dense elements of the operand's class. Returns false on a data error (division by zero).
// `out` may be one of the inputs.
using Loop = bool (*)(const void* const* in, void* out, int64_t n, const void* params);

// The loops of an operator by class; a missing one is not supported, but u64 falls back to i64, for
// operators whose bits do not depend on the sign.
struct Loops {
  Loop f32, f64, i64, u64;
  Loop of(Cls c) const {
    switch (c) {
      case Cls::kF32: return f32;
      case Cls::kF64: return f64;
      case Cls::kU64: return u64 != nullptr ? u64 : i64;
      default: return i64;
    }
  }
};

struct Elementwise {
  int inputs = 1;                                          // at most 3, all present
  Cls in[3] = {Cls::kRaw, Cls::kRaw, Cls::kRaw};
  Cls out = Cls::kRaw;
  Loop loop = nullptr;
  const void* params = nullptr;
  const Activation* acts = nullptr;                        // n_acts of them, applied in turn; out == kF32
  int n_acts = 0;
  const char* data_error = "the data is not in the operator's domain";
};

// Runs e.loop over c.in[0..inputs), broadcast to c.out[0].
Status run_elementwise(RunContext& c, const Elementwise& e);

// --- dtype sets ------------------------------------------------------------------------------

constexpr uint32_t dtype_bit(DType t) { return 1u << static_cast<uint32_t>(t); }
constexpr uint32_t kFloatTypes =
    dtype_bit(DType::kF32) | dtype_bit(DType::kF64) | dtype_bit(DType::kF16) | dtype_bit(DType::kBF16);
constexpr uint32_t kSignedInts = dtype_bit(DType::kI8) | dtype_bit(DType::kI16) | dtype_bit(DType::kI32) |
                                 dtype_bit(DType::kI64);
constexpr uint32_t kUnsignedInts = dtype_bit(DType::kU8) | dtype_bit(DType::kU16) | dtype_bit(DType::kU32) |
                                   dtype_bit(DType::kU64);
constexpr uint32_t kIntTypes = kSignedInts | kUnsignedInts;
constexpr uint32_t kNumericTypes = kFloatTypes | kIntTypes;
constexpr uint32_t kBoolType = dtype_bit(DType::kBool);
constexpr uint32_t kAllTypes = kNumericTypes | kBoolType;

// Error unless input i is present and its dtype is in the set; the message lists the set.
Status expect_types(const InferContext& c, int i, uint32_t set);
// Error unless inputs i and j have the same dtype.
Status expect_same_dtype(const InferContext& c, int i, int j);
// Error unless input i's shape broadcasts to `to` without changing it (ONNX "unidirectional").
Status expect_broadcasts_to(const InferContext& c, int i, const Shape& to);

// --- loops from one element's function ---------------------------------------------------------

// Op::f(T x, const float* p) -> T
template <typename Op, typename T>
bool unary_loop(const void* const* in, void* out, int64_t n, const void* params) {
  const T* x = static_cast<const T*>(in[0]);
  T* y = static_cast<T*>(out);
  const float* p = static_cast<const float*>(params);
  for (int64_t i = 0; i < n; ++i) y[i] = Op::f(x[i], p);
  return true;
}

// Op::f(T a, T b, const float* p) -> R (T, or uint8_t for predicates)
template <typename Op, typename T, typename R = T>
bool binary_loop(const void* const* in, void* out, int64_t n, const void* params) {
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  R* y = static_cast<R*>(out);
  const float* p = static_cast<const float*>(params);
  for (int64_t i = 0; i < n; ++i) y[i] = Op::f(a[i], b[i], p);
  return true;
}

}  // namespace pyneo
