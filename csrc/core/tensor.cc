// SPDX-License-Identifier: Apache-2.0
#include "core/tensor.h"

#include <cinttypes>
#include <cstdio>

namespace pyneo {

size_t dtype_size(DType t) {
  switch (t) {
    case DType::kU8:
    case DType::kI8:
    case DType::kBool:
      return 1;
    case DType::kU16:
    case DType::kI16:
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kF32:
    case DType::kI32:
    case DType::kU32:
      return 4;
    case DType::kF64:
    case DType::kI64:
    case DType::kU64:
      return 8;
    case DType::kNone:
      break;
  }
  return 0;
}

const char* dtype_name(DType t) {
  switch (t) {
    case DType::kF32: return "float32";
    case DType::kU8: return "uint8";
    case DType::kI8: return "int8";
    case DType::kU16: return "uint16";
    case DType::kI16: return "int16";
    case DType::kI32: return "int32";
    case DType::kI64: return "int64";
    case DType::kBool: return "bool";
    case DType::kF16: return "float16";
    case DType::kF64: return "float64";
    case DType::kU32: return "uint32";
    case DType::kU64: return "uint64";
    case DType::kBF16: return "bfloat16";
    case DType::kNone: break;
  }
  return "unknown";
}

bool dtype_is_float(DType t) {
  return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || t == DType::kF64;
}

bool dtype_is_signed(DType t) {
  return dtype_is_float(t) || t == DType::kI8 || t == DType::kI16 || t == DType::kI32 || t == DType::kI64;
}

int64_t Shape::product(int from, int to) const {
  int64_t n = 1;
  for (int i = from; i < to; ++i) {
    if (dims[i] < 0) return 0;  // not known yet
    n *= dims[i];
  }
  return n;
}

int64_t Shape::elements() const { return product(0, rank); }

bool Shape::operator==(const Shape& o) const {
  if (rank != o.rank) return false;
  for (int i = 0; i < rank; ++i) {
    if (dims[i] != o.dims[i]) return false;
  }
  return true;
}

bool checked_elements(const Shape& s, int64_t element_bytes, int64_t* elements) {
  if (s.rank < 0 || s.rank > kMaxRank) return false;
  // A zero dim makes the product zero, but the others must still be sane: the product is taken
  // over max(dim, 1), so that a later reshape of the same dims cannot overflow either.
  int64_t n = 1;
  bool zero = false;
  for (int i = 0; i < s.rank; ++i) {
    if (s.dims[i] < 0) return false;
    if (s.dims[i] == 0) {
      zero = true;
      continue;
    }
    if (!checked_mul(n, s.dims[i], &n)) return false;
  }
  int64_t bytes = 0;
  if (!checked_mul(n, element_bytes, &bytes) || bytes > (int64_t{1} << 62)) return false;
  *elements = zero ? 0 : n;
  return true;
}

const char* format_shape(const Shape& s, char* out, size_t n) {
  size_t used = 0;
  auto put = [&](const char* format, int64_t v) {
    if (used >= n) return;
    const int k = snprintf(out + used, n - used, format, v);
    used += k > 0 ? static_cast<size_t>(k) : 0;
  };
  if (n > 0) out[0] = 0;
  put("[", 0);
  for (int i = 0; i < s.rank && i < kMaxRank; ++i) put(i ? ", %" PRId64 : "%" PRId64, s.dims[i]);
  put("]", 0);
  return out;
}

int64_t TensorDesc::bytes() const {
  const int64_t size = static_cast<int64_t>(dtype_size(dtype));
  const int64_t block = static_cast<int64_t>(layout);
  if (layout == Layout::kPacked) return 0;
  if (layout == Layout::kPlain || shape.rank < 2) return shape.elements() * size;
  if (shape.dims[0] < 0 || shape.dims[1] < 0) return 0;
  return shape.dims[0] * round_up(shape.dims[1], block) * shape.product(2, shape.rank) * size;
}

Status normalize_axis(const char* op, int64_t axis, int rank, int* out) {
  if (axis < -rank || axis >= rank) {
    return fail(Status::kInvalidModel, "%s: axis %" PRId64 " is outside [%d, %d) for a tensor of rank %d", op, axis,
                -rank, rank, rank);
  }
  *out = static_cast<int>(axis < 0 ? axis + rank : axis);
  return Status::kOk;
}

}  // namespace pyneo
