// SPDX-License-Identifier: Apache-2.0
//
// What a tensor is to the core: dtype, layout, shape, and a pointer somebody else owns.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"

namespace pyneo {

constexpr int kMaxRank = 8;

// Numbers are those of onnx.TensorProto.DataType, so that no table translates between the two.
enum class DType : uint8_t {
  kNone = 0,
  kF32 = 1,
  kU8 = 2,
  kI8 = 3,
  kU16 = 4,
  kI16 = 5,
  kI32 = 6,
  kI64 = 7,
  kBool = 9,
  kF16 = 10,
  kF64 = 11,
  kU32 = 12,
  kU64 = 13,
  kBF16 = 16,
};

// How elements are arranged. Blocked layouts keep the logical shape (N, C, spatial...) and store
// N, ceil(C/B), spatial..., B: the channel block is innermost, its tail zero or any finite value.
enum class Layout : uint8_t {
  kPlain = 0,   // row-major, dense
  kC8 = 8,      // channels in blocks of 8 (AVX2, NEON, portable)
  kC16 = 16,    // channels in blocks of 16 (AVX-512)
  kPacked = 64, // opaque constant, arranged by the kernel that reads it
  kAny = 255,   // only in kernel tables: whatever the operands have, as long as all agree
};

size_t dtype_size(DType t);        // bytes of an element; 0 for kNone or an unknown number
const char* dtype_name(DType t);   // numpy's name: "float32", "bool", "bfloat16"
bool dtype_is_float(DType t);      // f16, bf16, f32, f64
bool dtype_is_signed(DType t);     // signed integers and floats
inline bool dtype_is_int(DType t) { return !dtype_is_float(t) && t != DType::kBool && t != DType::kNone; }

struct Shape {
  int32_t rank = 0;
  int64_t dims[kMaxRank] = {};

  int64_t operator[](int i) const { return dims[i]; }
  int64_t& operator[](int i) { return dims[i]; }
  int64_t elements() const;                      // product of dims; dims were checked by checked_elements
  int64_t product(int from, int to) const;       // product of dims[from..to)
  bool operator==(const Shape& o) const;
  bool operator!=(const Shape& o) const { return !(*this == o); }
};

// Product of dims with checks: false if rank is out of 0..kMaxRank, a dim is negative, or the
// product times `element_bytes` does not fit in 62 bits.
bool checked_elements(const Shape& s, int64_t element_bytes, int64_t* elements);

// Writes "[1, 3, 224, 224]" into `out`, cut off at `n` bytes; returns `out`.
const char* format_shape(const Shape& s, char* out, size_t n);

struct TensorDesc {
  DType dtype = DType::kNone;
  Layout layout = Layout::kPlain;
  Shape shape;

  int64_t elements() const { return shape.elements(); }   // logical elements
  int64_t bytes() const;                                  // stored bytes, channel padding included; 0 if packed
};

struct Tensor {
  TensorDesc desc;
  void* data = nullptr;

  const Shape& shape() const { return desc.shape; }
  int64_t dim(int i) const { return desc.shape.dims[i]; }
  int rank() const { return desc.shape.rank; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Overflow-safe arithmetic on sizes: false when the result does not fit.
inline bool checked_mul(int64_t a, int64_t b, int64_t* r) { return !__builtin_mul_overflow(a, b, r); }
inline bool checked_add(int64_t a, int64_t b, int64_t* r) { return !__builtin_add_overflow(a, b, r); }

// Maps an axis in [-rank, rank) to [0, rank); an error that names `op` otherwise.
Status normalize_axis(const char* op, int64_t axis, int rank, int* out);

}  // namespace pyneo
