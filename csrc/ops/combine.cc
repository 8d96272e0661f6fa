// SPDX-License-Identifier: Apache-2.0
#include "ops/combine.h"

#include <cstring>
#include <type_traits>

#include "core/half.h"

namespace pyneo {
namespace {

template <typename T>
T apply(Combine f, T y, T x) {
  if constexpr (std::is_floating_point_v<T>) {
    switch (f) {
      case Combine::kAdd:
        return y + x;
      case Combine::kMul:
        return y * x;
      case Combine::kMax:
        return x > y || x != x ? x : y;
      case Combine::kMin:
        return x < y || x != x ? x : y;
      default:
        return x;
    }
  } else {
    T r = x;
    switch (f) {
      case Combine::kAdd:
        __builtin_add_overflow(y, x, &r);
        return r;
      case Combine::kMul:
        __builtin_mul_overflow(y, x, &r);
        return r;
      case Combine::kMax:
        return x > y ? x : y;
      case Combine::kMin:
        return x < y ? x : y;
      default:
        return x;
    }
  }
}

template <typename T>
void run(Combine f, void* y, const void* x, int64_t n) {
  T* to = static_cast<T*>(y);
  const T* from = static_cast<const T*>(x);
  for (int64_t i = 0; i < n; ++i) to[i] = apply<T>(f, to[i], from[i]);
}

}  // namespace

void combine(Combine f, DType t, void* y, const void* x, int64_t n) {
  if (f == Combine::kReplace) {
    memcpy(y, x, static_cast<size_t>(n) * dtype_size(t));
    return;
  }
  switch (t) {
    case DType::kF32:
      return run<float>(f, y, x, n);
    case DType::kF64:
      return run<double>(f, y, x, n);
    case DType::kI8:
      return run<int8_t>(f, y, x, n);
    case DType::kI16:
      return run<int16_t>(f, y, x, n);
    case DType::kI32:
      return run<int32_t>(f, y, x, n);
    case DType::kI64:
      return run<int64_t>(f, y, x, n);
    case DType::kU8:
      return run<uint8_t>(f, y, x, n);
    case DType::kU16:
      return run<uint16_t>(f, y, x, n);
    case DType::kU32:
      return run<uint32_t>(f, y, x, n);
    case DType::kU64:
      return run<uint64_t>(f, y, x, n);
    case DType::kBool: {
      const bool any = f == Combine::kAdd || f == Combine::kMax;
      return run<uint8_t>(any ? Combine::kMax : Combine::kMin, y, x, n);
    }
    default: {
      const bool half = t == DType::kF16;
      uint16_t* to = static_cast<uint16_t*>(y);
      const uint16_t* from = static_cast<const uint16_t*>(x);
      for (int64_t i = 0; i < n; ++i) {
        const float a = half ? f16_to_float(to[i]) : bf16_to_float(to[i]);
        const float b = half ? f16_to_float(from[i]) : bf16_to_float(from[i]);
        to[i] = half ? float_to_f16(apply(f, a, b)) : float_to_bf16(apply(f, a, b));
      }
    }
  }
}

}  // namespace pyneo
