// SPDX-License-Identifier: Apache-2.0
//
// Operators whose elements come from positions, not from a tensor: Range, EyeLike, OneHot, Trilu,
// Shape, Size.
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "ops/elementwise.h"
#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

// The bytes of the number one in a dtype.
uint64_t one_of(DType t) {
  uint64_t bits = 1;
  const float one = 1;
  const double wide = 1;
  switch (t) {
    case DType::kF16:
      return 0x3c00;
    case DType::kBF16:
      return 0x3f80;
    case DType::kF32:
      memcpy(&bits, &one, sizeof(one));
      return bits;
    case DType::kF64:
      memcpy(&bits, &wide, sizeof(wide));
      return bits;
    default:
      return bits;
  }
}

// A number truncated to int64; INT64_MIN for what does not fit, NaN included.
int64_t whole(double v) { return v > -0x1p63 && v < 0x1p63 ? static_cast<int64_t>(v) : INT64_MIN; }

int64_t whole_at(DType t, const void* data, int64_t i) {
  return t == DType::kI64 ? static_cast<const int64_t*>(data)[i] : whole(load_double(t, data, i));
}

Status expect_one(const InferContext& c, int i, const char* what) {
  if (c.shape(i).elements() == 1) return Status::kOk;
  char text[160];
  return fail(Status::kInvalidModel, "%s: %s must be one number, found shape %s", c.op, what,
              format_shape(c.shape(i), text, sizeof(text)));
}

// --- Range --------------------------------------------------------------------------------------

Status plan_range(const InferContext& c, int64_t* count) {
  PN_TRY(expect_dtype(c, 0,
                      {DType::kF32, DType::kF64, DType::kI64, DType::kI32, DType::kI16, DType::kF16,
                       DType::kBF16}));
  const char* const names[] = {"start", "limit", "delta"};
  for (int i = 0; i < 3; ++i) {
    PN_TRY(expect_one(c, i, names[i]));
    if (c.dtype(i) != c.dtype(0)) {
      return fail(Status::kInvalidModel, "Range: %s is %s, start is %s", names[i],
                  dtype_name(c.dtype(i)), dtype_name(c.dtype(0)));
    }
  }
  for (int i = 0; i < 3; ++i) PN_TRY(need_value(c, i));
  const DType t = c.dtype(0);
  if (dtype_is_float(t)) {
    const double start = load_double(t, c.value(0), 0), limit = load_double(t, c.value(1), 0),
                 delta = load_double(t, c.value(2), 0);
    const double n = ceil((limit - start) / delta);
    if (!(n < 0x1p62)) {
      return fail(Status::kInvalidModel, "Range: from %g to %g by %g has no end", start, limit,
                  delta);
    }
    *count = n > 0 ? static_cast<int64_t>(n) : 0;
    return Status::kOk;
  }
  const int64_t start = whole_at(t, c.value(0), 0), limit = whole_at(t, c.value(1), 0),
                delta = whole_at(t, c.value(2), 0);
  if (delta == 0) return fail(Status::kInvalidModel, "Range: delta is 0");
  const bool up = delta > 0;
  *count = 0;
  if (up ? start >= limit : start <= limit) return Status::kOk;
  // As unsigned: the distance between two int64 can exceed int64.
  const uint64_t span = up ? static_cast<uint64_t>(limit) - static_cast<uint64_t>(start)
                           : static_cast<uint64_t>(start) - static_cast<uint64_t>(limit);
  const uint64_t stride = up ? static_cast<uint64_t>(delta) : ~static_cast<uint64_t>(delta) + 1;
  const uint64_t n = (span - 1) / stride + 1;
  if (n > uint64_t{1} << 62)
    return fail(Status::kInvalidModel, "Range: %" PRIu64 " elements do not fit in memory", n);
  *count = static_cast<int64_t>(n);
  return Status::kOk;
}

Status infer_range(InferContext& c) {
  Shape y;
  y.rank = 1;
  PN_TRY(plan_range(c, &y[0]));
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

template <typename T>
void fill_range(const RunContext& c, int64_t n) {
  // Integers wrap as unsigned; n was chosen so that the true value never leaves the dtype.
  const T start = *c.in[0]->as<T>(), delta = *c.in[2]->as<T>();
  for (int64_t i = 0; i < n; ++i)
    c.out[0]->as<T>()[i] = static_cast<T>(start + static_cast<T>(i) * delta);
}

Status run_range(RunContext& c) {
  const AsInfer again(c);
  Shape shape;
  shape.rank = 1;
  PN_TRY(plan_range(again.context(), &shape[0]));
  PN_TRY(expect_shape(c, 0, shape));
  const int64_t n = shape[0];
  const DType t = c.out[0]->desc.dtype;
  switch (t) {
    case DType::kF32:
      fill_range<float>(c, n);
      break;
    case DType::kF64:
      fill_range<double>(c, n);
      break;
    case DType::kI16:
      fill_range<uint16_t>(c, n);
      break;
    case DType::kI32:
      fill_range<uint32_t>(c, n);
      break;
    case DType::kI64:
      fill_range<uint64_t>(c, n);
      break;
    default: {
      const float start = static_cast<float>(load_double(t, c.in[0]->data, 0));
      const float delta = static_cast<float>(load_double(t, c.in[2]->data, 0));
      for (int64_t i = 0; i < n; ++i) {
        const float v = start + static_cast<float>(i) * delta;
        c.out[0]->as<uint16_t>()[i] = t == DType::kF16 ? float_to_f16(v) : float_to_bf16(v);
      }
    }
  }
  return Status::kOk;
}

// --- EyeLike ------------------------------------------------------------------------------------

Status infer_eye(InferContext& c) {
  if (c.shape(0).rank != 2)
    return fail(Status::kInvalidModel, "EyeLike: the input must be a matrix, found rank %d",
                c.shape(0).rank);
  const int64_t number = c.attrs.i64("dtype", static_cast<int64_t>(c.dtype(0)));
  const DType t = number > 0 && number < 255 ? static_cast<DType>(number) : DType::kNone;
  if (dtype_size(t) == 0)
    return fail(Status::kUnsupported, "EyeLike: dtype number %" PRId64 " is not supported", number);
  c.set(0, t, c.shape(0));
  return Status::kOk;
}

Status run_eye(RunContext& c) {
  const Tensor& y = *c.out[0];
  const int64_t k = c.attrs.i64("k", 0), rows = y.dim(0), columns = y.dim(1);
  const size_t size = dtype_size(y.desc.dtype);
  const uint64_t one = one_of(y.desc.dtype);
  if (y.desc.elements() == 0) return Status::kOk;
  memset(y.data, 0, static_cast<size_t>(y.desc.bytes()));
  if (k <= -rows || k >= columns) return Status::kOk;
  for (int64_t i = k < 0 ? -k : 0; i < rows && i + k < columns; ++i) {
    memcpy(y.as<uint8_t>() + (i * columns + i + k) * static_cast<int64_t>(size), &one, size);
  }
  return Status::kOk;
}

// --- OneHot -------------------------------------------------------------------------------------

Status plan_one_hot(const InferContext& c, Shape* y, int* axis) {
  const Shape& j = c.shape(0);
  if (dtype_size(c.dtype(0)) == 0 || c.dtype(0) == DType::kBool || c.dtype(1) == DType::kBool) {
    return fail(Status::kUnsupported, "OneHot: indices and depth must be numbers");
  }
  PN_TRY(expect_one(c, 1, "depth"));
  if (c.shape(2).elements() != 2) {
    return fail(Status::kInvalidModel,
                "OneHot: values must be [off_value, on_value], found %" PRId64 " elements",
                c.shape(2).elements());
  }
  if (j.rank + 1 > kMaxRank)
    return fail(Status::kUnsupported, "OneHot: the output has rank %d, at most %d is supported",
                j.rank + 1, kMaxRank);
  PN_TRY(normalize_axis("OneHot", c.attrs.i64("axis", -1), j.rank + 1, axis));
  PN_TRY(need_value(c, 1));
  const int64_t depth = whole_at(c.dtype(1), c.value(1), 0);
  if (depth < 0)
    return fail(Status::kInvalidModel, "OneHot: depth %g is not a count",
                load_double(c.dtype(1), c.value(1), 0));
  y->rank = j.rank + 1;
  for (int i = 0, k = 0; i < y->rank; ++i) (*y)[i] = i == *axis ? depth : j[k++];
  return Status::kOk;
}

Status infer_one_hot(InferContext& c) {
  Shape y;
  int axis = 0;
  PN_TRY(plan_one_hot(c, &y, &axis));
  c.set(0, c.dtype(2), y);
  return Status::kOk;
}

Status run_one_hot(RunContext& c) {
  const AsInfer again(c);
  Shape shape;
  int axis = 0;
  PN_TRY(plan_one_hot(again.context(), &shape, &axis));
  PN_TRY(expect_shape(c, 0, shape));
  const Tensor &j = *c.in[0], &y = *c.out[0];
  const int64_t size = static_cast<int64_t>(dtype_size(y.desc.dtype)), depth = shape[axis];
  const uint8_t *off = c.in[2]->as<uint8_t>(), *on = off + size;
  fill_elements(y.data, static_cast<size_t>(size), off, y.desc.elements());
  const int64_t inner = shape.product(axis + 1, shape.rank), n = j.desc.elements();
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = whole_at(j.desc.dtype, j.data, i);
    if (!wrap_index(&at, depth)) continue;  // outside: all off, says ONNX
    memcpy(y.as<uint8_t>() + ((i / inner * depth + at) * inner + i % inner) * size, on,
           static_cast<size_t>(size));
  }
  return Status::kOk;
}

// --- Trilu --------------------------------------------------------------------------------------

Status infer_trilu(InferContext& c) {
  if (c.shape(0).rank < 2)
    return fail(Status::kInvalidModel,
                "Trilu: the input must have at least two axes, found rank %d", c.shape(0).rank);
  if (c.has(1)) {
    PN_TRY(expect_dtype(c, 1, {DType::kI64}));
    PN_TRY(expect_one(c, 1, "k"));
  }
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_trilu(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  if (y.desc.elements() == 0) return Status::kOk;
  const bool upper = c.attrs.i64("upper", 1) != 0;
  const int64_t rows = x.dim(x.rank() - 2), columns = x.dim(x.rank() - 1);
  int64_t k = c.has(1) ? int_at(*c.in[1], 0) : 0;
  k = k < -rows ? -rows : k > columns ? columns : k;
  const int64_t size = static_cast<int64_t>(dtype_size(x.desc.dtype));
  split_range(*c.pool, x.desc.elements() / columns, x.desc.bytes(), [&](int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      // Upper keeps [cut, columns), lower keeps [0, cut).
      int64_t cut = r % rows + k + (upper ? 0 : 1);
      cut = cut < 0 ? 0 : cut > columns ? columns : cut;
      const int64_t begin = upper ? cut : 0, end = upper ? columns : cut;
      const uint8_t* in = x.as<uint8_t>() + r * columns * size;
      uint8_t* out = y.as<uint8_t>() + r * columns * size;
      if (in != out)
        memcpy(out + begin * size, in + begin * size, static_cast<size_t>((end - begin) * size));
      memset(out, 0, static_cast<size_t>(begin * size));
      memset(out + end * size, 0, static_cast<size_t>((columns - end) * size));
    }
  });
  return Status::kOk;
}

// --- Shape and Size -----------------------------------------------------------------------------

// The axes [start, end) of Shape, clamped to the rank.
void shape_range(const Attrs& attrs, int rank, int64_t* start, int64_t* end) {
  auto clamp = [rank](int64_t v) {
    v = v < -rank ? 0 : v < 0 ? v + rank : v;
    return v > rank ? rank : v;
  };
  *start = clamp(attrs.i64("start", 0));
  *end = clamp(attrs.i64("end", rank));
  if (*end < *start) *end = *start;
}

Status infer_shape(InferContext& c) {
  int64_t start = 0, end = 0;
  shape_range(c.attrs, c.shape(0).rank, &start, &end);
  Shape y;
  y.rank = 1;
  y[0] = end - start;
  c.set(0, DType::kI64, y);
  return Status::kOk;
}

Status run_shape(RunContext& c) {
  int64_t start = 0, end = 0;
  shape_range(c.attrs, c.in[0]->rank(), &start, &end);
  for (int64_t i = start; i < end; ++i)
    c.out[0]->as<int64_t>()[i - start] = c.in[0]->dim(static_cast<int>(i));
  return Status::kOk;
}

Status infer_size(InferContext& c) {
  c.set(0, DType::kI64, Shape{});
  return Status::kOk;
}

Status run_size(RunContext& c) {
  *c.out[0]->as<int64_t>() = c.in[0]->desc.elements();
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_generate[] = {
    {"Range", 3, 3, 1, 1, 0, infer_range, run_range, nullptr},
    {"EyeLike", 1, 1, 1, 1, 0, infer_eye, run_eye, nullptr},
    {"OneHot", 3, 3, 1, 1, 0, infer_one_hot, run_one_hot, nullptr},
    {"Trilu", 1, 2, 1, 1, kOpInPlace0, infer_trilu, run_trilu, nullptr},
    {"Shape", 1, 1, 1, 1, 0, infer_shape, run_shape, nullptr},
    {"Size", 1, 1, 1, 1, 0, infer_size, run_size, nullptr},
};
extern const int pn_ops_generate_count = sizeof(pn_ops_generate) / sizeof(OpDef);

}  // namespace pyneo
