// SPDX-License-Identifier: Apache-2.0
//
// QuantizeLinear, DequantizeLinear (per tensor, per axis, blocked) and DynamicQuantizeLinear.
#include "ops/quant.h"

#include <cinttypes>

#include "ops/elementwise.h"
#include "ops/narrow.h"

namespace pyneo {

IntRange int_range(DType t) {
  switch (t) {
    case DType::kI8:
      return {-128, 127};
    case DType::kU16:
      return {0, 65535};
    case DType::kI16:
      return {-32768, 32767};
    default:
      return {0, 255};
  }
}

Status check_scales(const char* op, DType t, const void* data, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double v = load_double(t, data, i);
    if (!(v > 0) || v > 3.5e38) {
      return fail(Status::kInvalidModel,
                  "%s: scale %" PRId64 " is %g, expected a finite number above 0", op, i, v);
    }
  }
  return Status::kOk;
}

Status check_known_scales(const InferContext& c, int i) {
  if (c.value(i) == nullptr) return Status::kOk;
  return check_scales(c.op, c.dtype(i), c.value(i), c.in[i]->elements());
}

float load_param(const Tensor& t, int64_t index) {
  return static_cast<float>(load_double(t.desc.dtype, t.data, t.desc.elements() == 1 ? 0 : index));
}

namespace {

constexpr std::initializer_list<DType> kScales = {DType::kF32, DType::kF16, DType::kBF16};

// Which scale an element of x takes: x is (outer, dim, inner), the scale one number, (dim) or
// (outer, ceil(dim / block), inner).
struct Granularity {
  int64_t dim = 1, inner = 1, block = 0;
  bool single = true;
};

Status read_granularity(const char* op, const Attrs& attrs, const Shape& x, const Shape& scale,
                        Granularity* g) {
  char a[160], b[160];
  const int64_t block = attrs.i64("block_size", 0);
  *g = Granularity{};
  if (block < 0)
    return fail(Status::kInvalidModel, "%s: block_size is %" PRId64 ", expected 0 or more", op,
                block);
  if (block == 0 && scale.elements() == 1 && scale.rank <= 1) return Status::kOk;
  int axis;
  PN_TRY(normalize_axis(op, attrs.i64("axis", 1), x.rank, &axis));
  g->single = false;
  g->dim = x[axis];
  g->inner = x.product(axis + 1, x.rank);
  g->block = block;
  Shape want;
  if (block == 0) {
    want.rank = 1;
    want[0] = x[axis];
  } else {
    want = x;
    want[axis] = x[axis] == 0 ? 0 : (x[axis] - 1) / block + 1;
  }
  if (scale != want) {
    return fail(Status::kInvalidModel, "%s: the scale has shape %s, expected %s along axis %d", op,
                format_shape(scale, a, sizeof(a)), format_shape(want, b, sizeof(b)), axis);
  }
  return Status::kOk;
}

// Scales and zero points of elements [at, at + n) of x.
class Params {
 public:
  Params(const Granularity& g, const Tensor& scale, const Tensor* zero)
      : g_(g), scale_(scale), zero_(zero) {}
  void fetch(int64_t at, int64_t n, float* scale, float* zero) const {
    if (g_.single) {
      const float s = load_param(scale_, 0), z = zero_ ? load_param(*zero_, 0) : 0;
      for (int64_t i = 0; i < n; ++i) scale[i] = s, zero[i] = z;
      return;
    }
    int64_t i = at % g_.inner, d = at / g_.inner % g_.dim, o = at / g_.inner / g_.dim;
    const int64_t blocks = g_.block ? (g_.dim - 1) / g_.block + 1 : 0;
    for (int64_t e = 0; e < n; ++e) {
      const int64_t index = g_.block ? (o * blocks + d / g_.block) * g_.inner + i : d;
      scale[e] = load_param(scale_, index);
      zero[e] = zero_ ? load_param(*zero_, index) : 0;
      if (++i < g_.inner) continue;
      i = 0;
      if (++d < g_.dim) continue;
      d = 0;
      ++o;
    }
  }

 private:
  const Granularity& g_;
  const Tensor& scale_;
  const Tensor* zero_;
};

// Scales and zero points: dtypes, shapes, known values.
Status check_params(const InferContext& c, DType zero_dtype) {
  PN_TRY(expect_dtype(c, 1, kScales));
  Granularity g;
  PN_TRY(read_granularity(c.op, c.attrs, c.shape(0), c.shape(1), &g));
  PN_TRY(check_known_scales(c, 1));
  if (!c.has(2)) return Status::kOk;
  PN_TRY(expect_dtype(c, 2, {zero_dtype}));
  const bool both_single = g.single && c.shape(2).rank <= 1 && c.shape(2).elements() == 1;
  if (!both_single && c.shape(1) != c.shape(2)) {
    char a[160], b[160];
    return fail(Status::kInvalidModel, "%s: the scale has shape %s but the zero point %s", c.op,
                format_shape(c.shape(1), a, sizeof(a)), format_shape(c.shape(2), b, sizeof(b)));
  }
  return Status::kOk;
}

DType attr_dtype(const Attrs& attrs, const char* name, DType fallback) {
  const int64_t v = attrs.i64(name, 0);
  return v == 0 ? fallback : v > 0 && v < 255 ? static_cast<DType>(v) : DType::kNone;
}

// Both operators, block by block: load (as T), one(values, scales, zero points, n), which puts results where the scales
// were, store.
template <typename T, typename F>
Status run_linear(RunContext& c, Cls loaded, F&& one) {
  const Tensor &x = *c.in[0], &scale = *c.in[1], &y = *c.out[0];
  PN_TRY(check_scales(c.op, scale.desc.dtype, scale.data, scale.desc.elements()));
  Granularity g;
  PN_TRY(read_granularity(c.op, c.attrs, x.shape(), scale.shape(), &g));
  const Params params(g, scale, c.has(2) ? c.in[2] : nullptr);
  const DType in = x.desc.dtype, out = y.desc.dtype;
  for_ranges(c.pool, x.desc.elements(), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = end - at < kBlock ? end - at : kBlock;
      T v[kBlock];
      float s[kBlock], z[kBlock];
      load_block(in, x.as<const uint8_t>() + static_cast<size_t>(at) * dtype_size(in), n, loaded, v);
      params.fetch(at, n, s, z);
      one(v, s, z, n);
      store_block(Cls::kF32, s, n, out, y.as<uint8_t>() + static_cast<size_t>(at) * dtype_size(out));
    }
  });
  return Status::kOk;
}

// --- QuantizeLinear --------------------------------------------------------------------------

Status infer_quantize(InferContext& c) {
  PN_TRY(expect_dtype(c, 0, {DType::kF32, DType::kF16, DType::kBF16, DType::kI32}));
  const DType y = attr_dtype(c.attrs, "output_dtype", c.has(2) ? c.dtype(2) : DType::kU8);
  if (y != DType::kU8 && y != DType::kI8 && y != DType::kU16 && y != DType::kI16) {
    return fail(Status::kUnsupported,
                "QuantizeLinear: the output dtype is %s, expected an 8- or 16-bit integer",
                dtype_name(y));
  }
  const DType precision = attr_dtype(c.attrs, "precision", DType::kF32);
  if (precision != DType::kF32 && !is_narrow(precision)) {
    return fail(Status::kUnsupported,
                "QuantizeLinear: precision is %s, expected float32, float16 or bfloat16",
                dtype_name(precision));
  }
  PN_TRY(check_params(c, y));
  c.set(0, y, c.shape(0));
  return Status::kOk;
}

Status run_quantize(RunContext& c) {
  // The quotient is rounded to the type it is defined in.
  const DType precision = attr_dtype(c.attrs, "precision", c.in[1]->desc.dtype);
  const IntRange range = int_range(c.out[0]->desc.dtype);
  return run_linear<float>(c, Cls::kF32, [&](const float* x, float* s, const float* z, int64_t n) {
    for (int64_t i = 0; i < n; ++i) s[i] = x[i] / s[i];
    if (is_narrow(precision)) {
      uint16_t rounded[kBlock];
      from_f32(precision, s, rounded, n);
      to_f32(precision, rounded, s, n);
    }
    for (int64_t i = 0; i < n; ++i) s[i] = quantize_one(s[i], z[i], range);
  });
}

// --- DequantizeLinear ------------------------------------------------------------------------

Status infer_dequantize(InferContext& c) {
  PN_TRY(expect_dtype(c, 0, {DType::kU8, DType::kI8, DType::kU16, DType::kI16, DType::kI32}));
  PN_TRY(check_params(c, c.dtype(0)));
  const DType y = attr_dtype(c.attrs, "output_dtype", c.dtype(1));
  if (y != DType::kF32 && !is_narrow(y)) {
    return fail(Status::kUnsupported,
                "DequantizeLinear: the output dtype is %s, expected float32, float16 or bfloat16",
                dtype_name(y));
  }
  c.set(0, y, c.shape(0));
  return Status::kOk;
}

Status run_dequantize(RunContext& c) {
  // int32 minus its zero point does not fit f32 exactly.
  return run_linear<int64_t>(c, Cls::kI64, [](const int64_t* x, float* s, const float* z, int64_t n) {
    for (int64_t i = 0; i < n; ++i) s[i] *= static_cast<float>(x[i] - static_cast<int64_t>(z[i]));
  });
}

// --- DynamicQuantizeLinear -------------------------------------------------------------------

Status infer_dynamic(InferContext& c) {
  PN_TRY(expect_dtype(c, 0, {DType::kF32}));
  c.set(0, DType::kU8, c.shape(0));
  c.set(1, DType::kF32, Shape{});
  c.set(2, DType::kU8, Shape{});
  return Status::kOk;
}

Status run_dynamic(RunContext& c) {
  const float* x = c.in[0]->as<const float>();
  const int64_t n = c.in[0]->desc.elements();
  float low = 0, high = 0;  // the range always holds 0, so that padding is exact
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
  }
  const float scale = low == high ? 1.0f : (high - low) / 255.0f;
  const IntRange range{0, 255};
  const float zero = quantize_one(-low / scale, 0, range);
  uint8_t* y = c.out[0]->as<uint8_t>();
  for (int64_t i = 0; i < n; ++i)
    y[i] = static_cast<uint8_t>(quantize_one(x[i] / scale, zero, range));
  if (c.wants(1)) *c.out[1]->as<float>() = scale;
  if (c.wants(2)) *c.out[2]->as<uint8_t>() = static_cast<uint8_t>(zero);
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_quant[] = {
    {"QuantizeLinear", 2, 3, 1, 1, 0, infer_quantize, run_quantize, nullptr},
    {"DequantizeLinear", 2, 3, 1, 1, 0, infer_dequantize, run_dequantize, nullptr},
    {"DynamicQuantizeLinear", 1, 1, 3, 3, 0, infer_dynamic, run_dynamic, nullptr},
};
extern const int pn_ops_quant_count = sizeof(pn_ops_quant) / sizeof(OpDef);

}  // namespace pyneo
