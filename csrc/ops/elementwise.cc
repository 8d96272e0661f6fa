// SPDX-License-Identifier: Apache-2.0
#include "ops/elementwise.h"

#include <cstdio>
#include <cstring>

#include "core/half.h"

namespace pyneo {
namespace {

// Storage types that are not arithmetic types of C++.
struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};
struct Bool {
  uint8_t byte;
};

// Float to integer, defined for every input: what cvttss2si and its kin give on x86.
int32_t to_i32(double x) { return x > -2147483649.0 && x < 2147483648.0 ? static_cast<int32_t>(x) : INT32_MIN; }
int64_t to_i64(double x) { return x >= -0x1p63 && x < 0x1p63 ? static_cast<int64_t>(x) : INT64_MIN; }
uint64_t to_u64(double x) {
  if (x >= 0x1p63) return static_cast<uint64_t>(to_i64(x - 0x1p63)) ^ (uint64_t{1} << 63);
  return static_cast<uint64_t>(to_i64(x));
}

template <typename To, typename From>
struct Cast {  // between integers and between floats
  static To of(From x) { return static_cast<To>(x); }
};
template <typename To>
struct FloatToInt {
  static To of(double x) {
    if (sizeof(To) == 8) return static_cast<To>(static_cast<To>(-1) < 0 ? static_cast<uint64_t>(to_i64(x)) : to_u64(x));
    if (sizeof(To) == 4 && static_cast<To>(-1) > 0) return static_cast<To>(to_i64(x));
    return static_cast<To>(to_i32(x));
  }
};
#define PN_FLOAT_TO_INT(To)                          \
  template <>                                        \
  struct Cast<To, float> : FloatToInt<To> {};        \
  template <>                                        \
  struct Cast<To, double> : FloatToInt<To> {};
PN_FLOAT_TO_INT(int8_t)
PN_FLOAT_TO_INT(int16_t)
PN_FLOAT_TO_INT(int32_t)
PN_FLOAT_TO_INT(int64_t)
PN_FLOAT_TO_INT(uint8_t)
PN_FLOAT_TO_INT(uint16_t)
PN_FLOAT_TO_INT(uint32_t)
PN_FLOAT_TO_INT(uint64_t)
#undef PN_FLOAT_TO_INT

template <typename From>
struct Cast<F16, From> {
  static F16 of(From x) { return {float_to_f16(static_cast<float>(x))}; }
};
template <>
struct Cast<F16, double> {
  static F16 of(double x) { return {double_to_f16(x)}; }
};
template <typename From>
struct Cast<BF16, From> {
  static BF16 of(From x) { return {float_to_bf16(static_cast<float>(x))}; }
};
template <>
struct Cast<BF16, double> {
  static BF16 of(double x) { return {double_to_bf16(x)}; }
};
template <typename From>
struct Cast<Bool, From> {
  static Bool of(From x) { return {static_cast<uint8_t>(x != 0)}; }
};
template <typename To>
struct Cast<To, F16> {
  static To of(F16 x) { return Cast<To, float>::of(f16_to_float(x.bits)); }
};
template <typename To>
struct Cast<To, BF16> {
  static To of(BF16 x) { return Cast<To, float>::of(bf16_to_float(x.bits)); }
};
template <typename To>
struct Cast<To, Bool> {
  static To of(Bool x) { return static_cast<To>(x.byte != 0); }
};

template <typename From, typename To>
void convert(const void* src, int64_t n, void* dst) {
  const From* x = static_cast<const From*>(src);
  To* y = static_cast<To*>(dst);
  for (int64_t i = 0; i < n; ++i) y[i] = Cast<To, From>::of(x[i]);
}

template <typename To>
void load_as(DType t, const void* src, int64_t n, void* dst) {
  switch (t) {
    case DType::kF32: return convert<float, To>(src, n, dst);
    case DType::kF64: return convert<double, To>(src, n, dst);
    case DType::kF16: return convert<F16, To>(src, n, dst);
    case DType::kBF16: return convert<BF16, To>(src, n, dst);
    case DType::kI8: return convert<int8_t, To>(src, n, dst);
    case DType::kI16: return convert<int16_t, To>(src, n, dst);
    case DType::kI32: return convert<int32_t, To>(src, n, dst);
    case DType::kI64: return convert<int64_t, To>(src, n, dst);
    case DType::kU8: return convert<uint8_t, To>(src, n, dst);
    case DType::kU16: return convert<uint16_t, To>(src, n, dst);
    case DType::kU32: return convert<uint32_t, To>(src, n, dst);
    case DType::kU64: return convert<uint64_t, To>(src, n, dst);
    case DType::kBool: return convert<Bool, To>(src, n, dst);
    case DType::kNone: return;
  }
}

template <typename From>
void store_from(DType t, const void* src, int64_t n, void* dst) {
  switch (t) {
    case DType::kF32: return convert<From, float>(src, n, dst);
    case DType::kF64: return convert<From, double>(src, n, dst);
    case DType::kF16: return convert<From, F16>(src, n, dst);
    case DType::kBF16: return convert<From, BF16>(src, n, dst);
    case DType::kI8: return convert<From, int8_t>(src, n, dst);
    case DType::kI16: return convert<From, int16_t>(src, n, dst);
    case DType::kI32: return convert<From, int32_t>(src, n, dst);
    case DType::kI64: return convert<From, int64_t>(src, n, dst);
    case DType::kU8: return convert<From, uint8_t>(src, n, dst);
    case DType::kU16: return convert<From, uint16_t>(src, n, dst);
    case DType::kU32: return convert<From, uint32_t>(src, n, dst);
    case DType::kU64: return convert<From, uint64_t>(src, n, dst);
    case DType::kBool: return convert<From, Bool>(src, n, dst);
    case DType::kNone: return;
  }
}

// Whether elements of `t` are, bit for bit, elements of the class.
bool is_native(DType t, Cls c) {
  switch (c) {
    case Cls::kF32: return t == DType::kF32;
    case Cls::kF64: return t == DType::kF64;
    case Cls::kI64:
    case Cls::kU64: return t == DType::kI64 || t == DType::kU64;
    case Cls::kRaw: return true;
  }
  return false;
}

void fill(void* dst, const uint8_t* src, int size, int64_t n) {
  uint8_t* d = static_cast<uint8_t*>(dst);
  if (size == 1) {
    memset(d, *src, static_cast<size_t>(n));
    return;
  }
  if (size == 2) {
    uint16_t v;
    memcpy(&v, src, sizeof(v));
    for (int64_t i = 0; i < n; ++i) reinterpret_cast<uint16_t*>(d)[i] = v;
  } else if (size == 4) {
    uint32_t v;
    memcpy(&v, src, sizeof(v));
    for (int64_t i = 0; i < n; ++i) reinterpret_cast<uint32_t*>(d)[i] = v;
  } else {
    uint64_t v;
    memcpy(&v, src, sizeof(v));
    for (int64_t i = 0; i < n; ++i) reinterpret_cast<uint64_t*>(d)[i] = v;
  }
}

}  // namespace

Cls compute_class(DType t) {
  if (t == DType::kF64) return Cls::kF64;
  if (dtype_is_float(t)) return Cls::kF32;
  return t == DType::kU64 ? Cls::kU64 : Cls::kI64;
}

void load_block(DType t, const void* src, int64_t n, Cls c, void* dst) {
  if (is_native(t, c)) {
    memcpy(dst, src, static_cast<size_t>(n) * dtype_size(t));
    return;
  }
  switch (c) {
    case Cls::kF32: return load_as<float>(t, src, n, dst);
    case Cls::kF64: return load_as<double>(t, src, n, dst);
    case Cls::kI64: return load_as<int64_t>(t, src, n, dst);
    case Cls::kU64: return load_as<uint64_t>(t, src, n, dst);
    case Cls::kRaw: return;
  }
}

void store_block(Cls c, const void* src, int64_t n, DType t, void* dst) {
  if (is_native(t, c)) {
    memcpy(dst, src, static_cast<size_t>(n) * dtype_size(t));
    return;
  }
  switch (c) {
    case Cls::kF32: return store_from<float>(t, src, n, dst);
    case Cls::kF64: return store_from<double>(t, src, n, dst);
    case Cls::kI64: return store_from<int64_t>(t, src, n, dst);
    case Cls::kU64: return store_from<uint64_t>(t, src, n, dst);
    case Cls::kRaw: return;
  }
}

double load_double(DType t, const void* base, int64_t index) {
  double v = 0;
  load_block(t, static_cast<const uint8_t*>(base) + index * static_cast<int64_t>(dtype_size(t)), 1, Cls::kF64, &v);
  return v;
}

void Operand::bind(const Tensor& t, const Shape& out, Cls cls) {
  data_ = static_cast<const uint8_t*>(t.data);
  dtype_ = t.desc.dtype;
  cls_ = cls;
  size_ = static_cast<int>(dtype_size(dtype_));
  converts_ = !is_native(dtype_, cls);
  // Collapse: dims of one element vanish, neighbours that are walked with one stride merge. Built from
  // the inside out, so reversed at the end.
  int64_t dims[kMaxRank], strides[kMaxRank];
  int rank = 0;
  int64_t stride = 1;
  for (int i = out.rank - 1; i >= 0; --i) {
    const int k = i - (out.rank - t.rank());
    const int64_t own = k < 0 ? 1 : t.dim(k);
    if (out[i] != 1) {
      const int64_t s = own == 1 ? 0 : stride;
      if (rank > 0 && s == strides[rank - 1] * dims[rank - 1]) {
        dims[rank - 1] *= out[i];
      } else {
        dims[rank] = out[i];
        strides[rank++] = s;
      }
    }
    stride *= own;
  }
  if (rank == 0) {
    dims[0] = 1;
    strides[0] = 1;
    rank = 1;
  }
  rank_ = rank;
  for (int i = 0; i < rank; ++i) {
    dims_[i] = dims[rank - 1 - i];
    strides_[i] = strides[rank - 1 - i];
  }
}

const void* Operand::fetch(int64_t at, int64_t n, BlockBuffer* space) const {
  const uint8_t* p;
  const int last = rank_ - 1;
  if (last == 0 && strides_[0] == 1) {
    p = data_ + at * size_;
  } else {
    int64_t index[kMaxRank];
    int64_t offset = 0;
    for (int i = last; i >= 0; --i) {
      index[i] = at % dims_[i];
      at /= dims_[i];
      offset += index[i] * strides_[i];
    }
    // The innermost stride is 1 or 0: every run is a copy or a fill.
    const bool copies = strides_[last] == 1;
    int64_t run = dims_[last] - index[last];
    if (copies && run >= n) {
      p = data_ + offset * size_;
    } else {
      uint8_t* d = space->raw;
      for (int64_t left = n;;) {
        const int64_t k = run < left ? run : left;
        if (copies) {
          memcpy(d, data_ + offset * size_, static_cast<size_t>(k * size_));
        } else {
          fill(d, data_ + offset * size_, size_, k);
        }
        left -= k;
        if (left == 0) break;
        d += k * size_;
        offset -= index[last] * strides_[last];
        index[last] = 0;
        run = dims_[last];
        for (int i = last - 1; i >= 0; --i) {
          offset += strides_[i];
          if (++index[i] < dims_[i]) break;
          offset -= dims_[i] * strides_[i];
          index[i] = 0;
        }
      }
      p = space->raw;
    }
  }
  if (!converts_) return p;
  load_block(dtype_, p, n, cls_, space->cooked);
  return space->cooked;
}

Status run_elementwise(RunContext& c, const Elementwise& e) {
  Tensor& y = *c.out[0];
  Operand operands[3];
  for (int k = 0; k < e.inputs; ++k) operands[k].bind(*c.in[k], y.shape(), e.in[k]);
  const DType t = y.desc.dtype;
  const int64_t size = static_cast<int64_t>(dtype_size(t));
  const bool direct = is_native(t, e.out);
  int bad = 0;
  for_ranges(c.pool, y.desc.elements(), [&](int64_t begin, int64_t end) {
    BlockBuffer space[3];
    alignas(64) uint8_t result[kBlock * 8];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = end - at < kBlock ? end - at : kBlock;
      const void* in[3];
      for (int k = 0; k < e.inputs; ++k) in[k] = operands[k].fetch(at, n, &space[k]);
      uint8_t* dst = y.as<uint8_t>() + at * size;
      void* out = direct ? dst : result;
      if (!e.loop(in, out, n, e.params)) __atomic_store_n(&bad, 1, __ATOMIC_RELAXED);
      for (int k = 0; k < e.n_acts; ++k) apply_activation(e.acts[k], static_cast<float*>(out), n);
      if (!direct) store_block(e.out, out, n, t, dst);
    }
  });
  if (bad) return fail(Status::kInvalidModel, "%s: %s", c.op, e.data_error);
  return Status::kOk;
}

Status expect_types(const InferContext& c, int i, uint32_t set) {
  if (!c.has(i)) return fail(Status::kInvalidModel, "%s: input %d is missing", c.op, i);
  if (set & dtype_bit(c.dtype(i))) return Status::kOk;
  char list[160];
  size_t used = 0;
  list[0] = 0;
  for (uint32_t t = 0; t < 32; ++t) {
    if (!(set & (1u << t))) continue;
    const int k = snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", dtype_name(static_cast<DType>(t)));
    used += k > 0 ? static_cast<size_t>(k) : 0;
    if (used >= sizeof(list)) break;
  }
  return fail(Status::kUnsupported, "%s: input %d has dtype %s, expected one of %s", c.op, i, dtype_name(c.dtype(i)), list);
}

Status expect_same_dtype(const InferContext& c, int i, int j) {
  if (!c.has(i) || !c.has(j)) return fail(Status::kInvalidModel, "%s: input %d is missing", c.op, c.has(i) ? j : i);
  if (c.dtype(i) == c.dtype(j)) return Status::kOk;
  return fail(Status::kInvalidModel, "%s: inputs %d and %d must have one dtype, found %s and %s", c.op, i, j,
              dtype_name(c.dtype(i)), dtype_name(c.dtype(j)));
}

Status expect_broadcasts_to(const InferContext& c, int i, const Shape& to) {
  Shape both;
  PN_TRY(broadcast_shapes(c.op, c.shape(i), to, &both));
  if (both == to) return Status::kOk;
  char a[160], b[160];
  return fail(Status::kInvalidModel, "%s: input %d of shape %s does not broadcast to %s", c.op, i,
              format_shape(c.shape(i), a, sizeof(a)), format_shape(to, b, sizeof(b)));
}

}  // namespace pyneo
