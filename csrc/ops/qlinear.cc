// SPDX-License-Identifier: Apache-2.0
//
// Products of quantised tensors: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv.
//
// Operands become int16 with their zero point subtracted (the difference of two 8-bit numbers
// fits), so that one loop serves every mix of signed and unsigned and padding is zero. Sums are
// 32-bit and wrap around, as the specification allows.
#include <cinttypes>

#include "ops/conv_plane.h"
#include "ops/matmul.h"
#include "ops/narrow.h"
#include "ops/quant.h"

namespace pyneo {
namespace {

constexpr std::initializer_list<DType> kBytes = {DType::kU8, DType::kI8};
constexpr std::initializer_list<DType> kScales = {DType::kF32, DType::kF16, DType::kBF16};

// y[i] = x[i] - zero for n bytes.
void subtract_zero(const Tensor& x, int64_t at, int64_t n, int zero, int16_t* y) {
  if (x.desc.dtype == DType::kI8) {
    const int8_t* p = x.as<const int8_t>() + at;
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<int16_t>(p[i] - zero);
  } else {
    const uint8_t* p = x.as<const uint8_t>() + at;
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<int16_t>(p[i] - zero);
  }
}

int zero_at(const Tensor* zero, int64_t index) {
  return zero == nullptr ? 0 : static_cast<int>(load_param(*zero, index));
}

void store_byte(const Tensor& y, int64_t at, float v) {
  if (y.desc.dtype == DType::kI8) {
    y.as<int8_t>()[at] = static_cast<int8_t>(v);
  } else {
    y.as<uint8_t>()[at] = static_cast<uint8_t>(v);
  }
}

// A scale or zero point must be one number.
Status expect_single(const InferContext& c, int i, const char* what) {
  if (!c.has(i) || c.in[i]->elements() == 1) return Status::kOk;
  char s[160];
  return fail(Status::kInvalidModel, "%s: the %s has shape %s, expected one number", c.op, what,
              format_shape(c.shape(i), s, sizeof(s)));
}

// --- MatMulInteger, QLinearMatMul ------------------------------------------------------------

// Where the parameter of a row of the left (a column of the right) operand lies: one number, a
// vector over the lines, or the operand's shape with 1 for the summed dim.
struct LineParam {
  int64_t line = 0, matrix = 0;
  int64_t index(int64_t matrix_index, int64_t line_index) const {
    return matrix_index * matrix + line_index * line;
  }
};

Status read_line_param(const char* op, const Shape& operand, const Shape& param, bool left,
                       LineParam* p) {
  *p = LineParam{};
  if (param.elements() == 1) return Status::kOk;
  Shape want = operand;
  const int summed = left || operand.rank < 2 ? operand.rank - 1 : operand.rank - 2;
  want[summed] = 1;
  const int64_t lines = operand.rank < 2 ? 1 : operand[left ? operand.rank - 2 : operand.rank - 1];
  p->line = 1;
  if (param.rank == 1 && param[0] == lines) return Status::kOk;
  p->matrix = lines;
  if (param == want) return Status::kOk;
  char a[160], b[160];
  return fail(Status::kInvalidModel,
              "%s: a scale or zero point of shape %s for an operand of shape %s, expected one "
              "number or one for each %s",
              op, format_shape(param, a, sizeof(a)), format_shape(operand, b, sizeof(b)),
              left ? "row" : "column");
}

// Inputs of the two operators that mean the same; -1: not there.
struct MatMulInputs {
  int a, b, a_zero, b_zero, a_scale, b_scale, y_scale, y_zero;
};
constexpr MatMulInputs kInteger{0, 1, 2, 3, -1, -1, -1, -1};
constexpr MatMulInputs kQLinear{0, 3, 2, 5, 1, 4, 6, 7};

Status check_matmul(const InferContext& c, const MatMulInputs& at, MatMulGeometry* g) {
  PN_TRY(expect_dtype(c, at.a, kBytes));
  PN_TRY(expect_dtype(c, at.b, kBytes));
  PN_TRY(read_matmul(c.op, c.shape(at.a), c.shape(at.b), g));
  LineParam p;
  if (c.has(at.a_zero)) {
    PN_TRY(expect_dtype(c, at.a_zero, {c.dtype(at.a)}));
    PN_TRY(read_line_param(c.op, c.shape(at.a), c.shape(at.a_zero), true, &p));
  }
  if (c.has(at.b_zero)) {
    PN_TRY(expect_dtype(c, at.b_zero, {c.dtype(at.b)}));
    PN_TRY(read_line_param(c.op, c.shape(at.b), c.shape(at.b_zero), false, &p));
  }
  return Status::kOk;
}

Status infer_matmul_integer(InferContext& c) {
  MatMulGeometry g;
  PN_TRY(check_matmul(c, kInteger, &g));
  c.set(0, DType::kI32, g.y);
  return Status::kOk;
}

Status infer_qlinear_matmul(InferContext& c) {
  MatMulGeometry g;
  PN_TRY(check_matmul(c, kQLinear, &g));
  LineParam p;
  PN_TRY(read_line_param(c.op, c.shape(0), c.shape(1), true, &p));
  PN_TRY(read_line_param(c.op, c.shape(3), c.shape(4), false, &p));
  PN_TRY(expect_single(c, 6, "output scale"));
  PN_TRY(expect_single(c, 7, "output zero point"));
  PN_TRY(expect_dtype(c, 7, kBytes));
  for (int i : {1, 4, 6}) {
    PN_TRY(expect_dtype(c, i, kScales));
    PN_TRY(check_known_scales(c, i));
  }
  c.set(0, c.dtype(7), g.y);
  return Status::kOk;
}

int64_t scratch_two(const InferContext& c, int a, int b) {
  ScratchSize size;
  size.add(c.in[a]->elements(), 2);
  size.add(c.in[b]->elements(), 2);
  return size.bytes();
}

// rows x k (left) or k x cols (right) matrices of an operand as int16.
int16_t* expand_operand(const RunContext& c, const Tensor& x, const Tensor* zero, bool left,
                        Scratch* scratch, Status* status) {
  const Shape& s = x.shape();
  const int64_t n = x.desc.elements(), columns = s.rank < 2 && !left ? 1 : s[s.rank - 1];
  const int64_t rows_each = s.rank < 2 ? (left ? 1 : s[0]) : s[s.rank - 2];
  int16_t* y = scratch->take<int16_t>(n);
  LineParam p;
  *status = zero ? read_line_param(c.op, s, zero->shape(), left, &p) : Status::kOk;
  if (*status != Status::kOk || n == 0) return y;
  if (p.line == 0) {
    subtract_zero(x, 0, n, zero_at(zero, 0), y);
    return y;
  }
  for (int64_t row = 0; row < n / columns; ++row) {
    const int64_t matrix = row / rows_each, line = row % rows_each;
    if (left) {
      subtract_zero(x, row * columns, columns, zero_at(zero, p.index(matrix, line)),
                    y + row * columns);
    } else {
      for (int64_t j = 0; j < columns; ++j) {
        subtract_zero(x, row * columns + j, 1, zero_at(zero, p.index(matrix, j)),
                      y + row * columns + j);
      }
    }
  }
  return y;
}

// store(sums, left matrix, right matrix, output offset, first row, first column, columns) for rows
// of at most kTileCols * 4 sums.
template <typename F>
Status integer_matmul(RunContext& c, const MatMulInputs& at, F&& store) {
  MatMulGeometry g;
  const Tensor &a = *c.in[at.a], &b = *c.in[at.b];
  PN_TRY(read_matmul(c.op, a.shape(), b.shape(), &g));
  Scratch scratch(c);
  Status status;
  const int16_t* x =
      expand_operand(c, a, c.has(at.a_zero) ? c.in[at.a_zero] : nullptr, true, &scratch, &status);
  PN_TRY(status);
  const int16_t* w =
      expand_operand(c, b, c.has(at.b_zero) ? c.in[at.b_zero] : nullptr, false, &scratch, &status);
  PN_TRY(status);
  constexpr int64_t kCols = kTileCols * 4;
  const int64_t down = ceil_div(g.m, kTileRows);
  c.pool->run(g.batches * down, [&](int64_t task, int) {
    int64_t left, right;
    g.matrices(task / down, &left, &right);
    const int64_t i = task % down * kTileRows, rows = g.m - i < kTileRows ? g.m - i : kTileRows;
    for (int64_t j = 0; j < g.n; j += kCols) {
      const int64_t cols = g.n - j < kCols ? g.n - j : kCols;
      uint32_t sums[kTileRows * kCols];
      matmul_rows(Matrix<int16_t>{x + (left * g.m + i) * g.k, g.k, 1},
                  Matrix<int16_t>{w + right * g.k * g.n + j, g.n, 1}, rows, cols, g.k, sums, kCols);
      for (int64_t r = 0; r < rows; ++r) {
        store(sums + r * kCols, left, right, (task / down * g.m + i + r) * g.n + j, i + r, j, cols);
      }
    }
  });
  return Status::kOk;
}

Status run_matmul_integer(RunContext& c) {
  int32_t* y = c.out[0]->as<int32_t>();
  return integer_matmul(
      c, kInteger,
      [&](const uint32_t* sums, int64_t, int64_t, int64_t to, int64_t, int64_t, int64_t cols) {
        for (int64_t q = 0; q < cols; ++q) y[to + q] = static_cast<int32_t>(sums[q]);
      });
}

Status check_scale_inputs(const RunContext& c, std::initializer_list<int> inputs) {
  for (int i : inputs)
    PN_TRY(check_scales(c.op, c.in[i]->desc.dtype, c.in[i]->data, c.in[i]->desc.elements()));
  return Status::kOk;
}

Status run_qlinear_matmul(RunContext& c) {
  PN_TRY(check_scale_inputs(c, {1, 4, 6}));
  LineParam pa, pb;
  PN_TRY(read_line_param(c.op, c.in[0]->shape(), c.in[1]->shape(), true, &pa));
  PN_TRY(read_line_param(c.op, c.in[3]->shape(), c.in[4]->shape(), false, &pb));
  const Tensor &scale_a = *c.in[1], &scale_b = *c.in[4], &y = *c.out[0];
  const float scale_y = load_param(*c.in[6], 0), zero = load_param(*c.in[7], 0);
  const IntRange range = int_range(y.desc.dtype);
  return integer_matmul(c, kQLinear,
                        [&](const uint32_t* sums, int64_t left, int64_t right, int64_t to,
                            int64_t row, int64_t col, int64_t cols) {
                          const float sa = load_param(scale_a, pa.index(left, row));
                          for (int64_t q = 0; q < cols; ++q) {
                            const float sb = load_param(scale_b, pb.index(right, col + q));
                            const float v = static_cast<float>(static_cast<int32_t>(sums[q])) *
                                            (sa * sb / scale_y);
                            store_byte(y, to + q, quantize_one(v, zero, range));
                          }
                        });
}

// --- ConvInteger, QLinearConv ----------------------------------------------------------------

struct ConvInputs {
  int x, w, x_zero, w_zero;
};
constexpr ConvInputs kConvInteger{0, 1, 2, 3};
constexpr ConvInputs kQLinearConv{0, 3, 2, 5};

// One number or one for each output channel.
Status expect_per_filter(const InferContext& c, int i, int64_t filters) {
  if (!c.has(i) || c.in[i]->elements() == 1 || (c.shape(i).rank == 1 && c.shape(i)[0] == filters))
    return Status::kOk;
  char s[160];
  return fail(Status::kInvalidModel,
              "%s: input %d has shape %s, expected one number or [%" PRId64 "]", c.op, i,
              format_shape(c.shape(i), s, sizeof(s)), filters);
}

Status check_conv(const InferContext& c, const ConvInputs& at, ConvGeometry* g) {
  PN_TRY(expect_dtype(c, at.x, kBytes));
  PN_TRY(expect_dtype(c, at.w, kBytes));
  PN_TRY(read_conv(c.op, c.attrs, c.shape(at.x), c.shape(at.w), g));
  if (c.has(at.x_zero)) PN_TRY(expect_dtype(c, at.x_zero, {c.dtype(at.x)}));
  if (c.has(at.w_zero)) PN_TRY(expect_dtype(c, at.w_zero, {c.dtype(at.w)}));
  PN_TRY(expect_single(c, at.x_zero, "zero point of the input"));
  return expect_per_filter(c, at.w_zero, g->filters);
}

Status infer_conv_integer(InferContext& c) {
  ConvGeometry g;
  PN_TRY(check_conv(c, kConvInteger, &g));
  c.set(0, DType::kI32, g.y);
  return Status::kOk;
}

Status infer_qlinear_conv(InferContext& c) {
  ConvGeometry g;
  PN_TRY(check_conv(c, kQLinearConv, &g));
  for (int i : {1, 4, 6}) {
    PN_TRY(expect_dtype(c, i, kScales));
    PN_TRY(check_known_scales(c, i));
  }
  PN_TRY(expect_single(c, 1, "scale of the input"));
  PN_TRY(expect_per_filter(c, 4, g.filters));
  PN_TRY(expect_single(c, 6, "output scale"));
  PN_TRY(expect_dtype(c, 7, kBytes));
  PN_TRY(expect_single(c, 7, "output zero point"));
  if (c.has(8)) {
    PN_TRY(expect_dtype(c, 8, {DType::kI32}));
    if (c.shape(8).rank != 1 || c.shape(8)[0] != g.filters) {
      char s[160];
      return fail(Status::kInvalidModel,
                  "QLinearConv: the bias has shape %s, expected [%" PRId64 "]",
                  format_shape(c.shape(8), s, sizeof(s)), g.filters);
    }
  }
  c.set(0, c.dtype(7), g.y);
  return Status::kOk;
}

// finish(plane of sums, filter, output offset, size); `sums` holds the whole output.
template <typename F>
Status integer_conv(RunContext& c, const ConvInputs& at, Scratch* scratch, uint32_t* sums,
                    F&& finish) {
  ConvGeometry g;
  const Tensor &x = *c.in[at.x], &w = *c.in[at.w];
  PN_TRY(read_conv(c.op, c.attrs, x.shape(), w.shape(), &g));
  const Tensor* w_zero = c.has(at.w_zero) ? c.in[at.w_zero] : nullptr;
  int16_t* xs = scratch->take<int16_t>(x.desc.elements());
  int16_t* ws = scratch->take<int16_t>(w.desc.elements());
  subtract_zero(x, 0, x.desc.elements(), zero_at(c.has(at.x_zero) ? c.in[at.x_zero] : nullptr, 0),
                xs);
  const int64_t filter = g.filters > 0 ? w.desc.elements() / g.filters : 0,
                size = g.window.out_size();
  for (int64_t m = 0; m < g.filters; ++m)
    subtract_zero(w, m * filter, filter, zero_at(w_zero, m), ws + m * filter);
  c.pool->run(g.batch * g.filters, [&](int64_t task, int) {
    uint32_t* plane = sums + task * size;
    for (int64_t i = 0; i < size; ++i) plane[i] = 0;
    conv_plane(g, xs, ws, task / g.filters, task % g.filters, plane);
    finish(plane, task % g.filters, task * size, size);
  });
  return Status::kOk;
}

Status run_conv_integer(RunContext& c) {
  Scratch scratch(c);
  return integer_conv(c, kConvInteger, &scratch, c.out[0]->as<uint32_t>(),
                      [](const uint32_t*, int64_t, int64_t, int64_t) {});
}

Status run_qlinear_conv(RunContext& c) {
  PN_TRY(check_scale_inputs(c, {1, 4, 6}));
  const Tensor& y = *c.out[0];
  Scratch scratch(c);
  uint32_t* sums = scratch.take<uint32_t>(y.desc.elements());
  const float scale = load_param(*c.in[1], 0), scale_y = load_param(*c.in[6], 0),
              zero = load_param(*c.in[7], 0);
  const IntRange range = int_range(y.desc.dtype);
  return integer_conv(c, kQLinearConv, &scratch, sums,
                      [&](const uint32_t* plane, int64_t m, int64_t to, int64_t size) {
                        const float f = scale * load_param(*c.in[4], m) / scale_y;
                        const uint32_t bias = c.has(8) ? c.in[8]->as<const uint32_t>()[m] : 0;
                        for (int64_t i = 0; i < size; ++i) {
                          const float v =
                              static_cast<float>(static_cast<int32_t>(plane[i] + bias)) * f;
                          store_byte(y, to + i, quantize_one(v, zero, range));
                        }
                      });
}

int64_t scratch_qlinear_conv(const InferContext& c) {
  ScratchSize size;
  size.add(c.out[0].elements(), 4);
  size.add(c.in[0]->elements(), 2);
  size.add(c.in[3]->elements(), 2);
  return size.bytes();
}

int64_t scratch_integer(const InferContext& c) { return scratch_two(c, 0, 1); }
int64_t scratch_qlinear_matmul(const InferContext& c) { return scratch_two(c, 0, 3); }

}  // namespace

extern const OpDef pn_ops_qlinear[] = {
    {"MatMulInteger", 2, 4, 1, 1, 0, infer_matmul_integer, run_matmul_integer, scratch_integer},
    {"ConvInteger", 2, 4, 1, 1, 0, infer_conv_integer, run_conv_integer, scratch_integer},
    {"QLinearMatMul", 8, 8, 1, 1, 0, infer_qlinear_matmul, run_qlinear_matmul,
     scratch_qlinear_matmul},
    {"QLinearConv", 8, 9, 1, 1, 0, infer_qlinear_conv, run_qlinear_conv, scratch_qlinear_conv},
};
extern const int pn_ops_qlinear_count = sizeof(pn_ops_qlinear) / sizeof(OpDef);

}  // namespace pyneo
