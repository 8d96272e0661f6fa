// SPDX-License-Identifier: Apache-2.0
//
// MatMul and Gemm.
//
// Beyond ONNX: MatMul takes a bias [n] as input 2 and a residual of the output's shape as input 3
// and computes post_act(act(A B + bias) + residual); Gemm takes `act`. Attributes as in
// ops/activation.h.
#include <cinttypes>

#include "ops/activation.h"
#include "ops/matmul.h"
#include "ops/narrow.h"

namespace pyneo {
namespace {

constexpr int64_t kTaskCols = 64;  // columns of a task: its part of B stays in L2 for k up to 4096

Status check_operands(const InferContext& c) {
  PN_TRY(expect_dtype(c, 0,
                      {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI32,
                       DType::kU32, DType::kI64, DType::kU64}));
  for (int i = 1; i < c.n_in; ++i) {
    if (c.has(i)) PN_TRY(expect_dtype(c, i, {c.dtype(0)}));
  }
  Activation act, post;
  PN_TRY(read_activation(c.attrs, c.op, "act", &act));
  PN_TRY(read_activation(c.attrs, c.op, "post_act", &post));
  const bool f32 = c.dtype(0) == DType::kF32 || is_narrow(c.dtype(0));
  if (!f32 && (act.kind != Act::kNone || post.kind != Act::kNone)) {
    return fail(Status::kUnsupported,
                "%s: activations are not fused into %s; make them nodes of their own", c.op,
                dtype_name(c.dtype(0)));
  }
  return Status::kOk;
}

int64_t scratch_f32(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  return size.bytes();
}

void activate(const Activation& a, float* y, int64_t n) { apply_activation(a, y, n); }
template <typename T>
void activate(const Activation&, T*, int64_t) {}

// Tiles of one product: body(first row, rows, first column, columns), in parallel over `batches` of
// them.
template <typename F>
void for_tiles(const RunContext& c, int64_t batches, int64_t m, int64_t n, F&& body) {
  const int64_t down = ceil_div(m, kTileRows), across = ceil_div(n, kTaskCols);
  c.pool->run(batches * down * across, [&](int64_t task, int) {
    const int64_t i = task % down * kTileRows, j = task / down % across * kTaskCols;
    body(task / (down * across), i, m - i < kTileRows ? m - i : kTileRows, j,
         n - j < kTaskCols ? n - j : kTaskCols);
  });
}

// --- MatMul ----------------------------------------------------------------------------------

Status infer_matmul(InferContext& c) {
  MatMulGeometry g;
  PN_TRY(read_matmul(c.op, c.shape(0), c.shape(1), &g));
  PN_TRY(check_operands(c));
  char a[160], b[160];
  if (c.has(2) && (c.shape(2).rank != 1 || c.shape(2)[0] != g.n)) {
    return fail(Status::kInvalidModel, "MatMul: the bias has shape %s, expected [%" PRId64 "]",
                format_shape(c.shape(2), a, sizeof(a)), g.n);
  }
  if (c.has(3) && c.shape(3) != g.y) {
    return fail(Status::kInvalidModel,
                "MatMul: the residual has shape %s, expected the output's %s",
                format_shape(c.shape(3), a, sizeof(a)), format_shape(g.y, b, sizeof(b)));
  }
  c.set(0, c.dtype(0), g.y);
  return Status::kOk;
}

template <typename T>
Status matmul(RunContext& c, const T* a, const T* b, const T* bias, const T* residual, T* y) {
  MatMulGeometry g;
  PN_TRY(read_matmul(c.op, c.in[0]->shape(), c.in[1]->shape(), &g));
  Activation act, post;
  PN_TRY(read_activation(c.attrs, c.op, "act", &act));
  PN_TRY(read_activation(c.attrs, c.op, "post_act", &post));
  for_tiles(
      c, g.batches, g.m, g.n, [&](int64_t batch, int64_t i, int64_t rows, int64_t j, int64_t cols) {
        int64_t left, right;
        g.matrices(batch, &left, &right);
        const int64_t at = (batch * g.m + i) * g.n + j;
        matmul_rows(Matrix<T>{a + (left * g.m + i) * g.k, g.k, 1},
                    Matrix<T>{b + right * g.k * g.n + j, g.n, 1}, rows, cols, g.k, y + at, g.n);
        for (int64_t r = 0; r < rows; ++r) {
          T* line = y + at + r * g.n;
          if (bias != nullptr) {
            for (int64_t q = 0; q < cols; ++q) line[q] += bias[j + q];
          }
          activate(act, line, cols);
          if (residual != nullptr) {
            for (int64_t q = 0; q < cols; ++q) line[q] += residual[at + r * g.n + q];
          }
          activate(post, line, cols);
        }
      });
  return Status::kOk;
}

// --- Gemm ------------------------------------------------------------------------------------

struct GemmGeometry {
  bool trans_a, trans_b;
  int64_t m, n, k;
  int64_t c_row = 0, c_col = 0;  // steps of C, 0: broadcast
};

Status read_gemm(const char* op, const Attrs& attrs, const Shape& a, const Shape& b, const Shape* c,
                 GemmGeometry* g) {
  char ta[160], tb[160];
  g->trans_a = attrs.i64("transA", 0) != 0;
  g->trans_b = attrs.i64("transB", 0) != 0;
  if (a.rank != 2 || b.rank != 2 || a[g->trans_a ? 0 : 1] != b[g->trans_b ? 1 : 0]) {
    return fail(
        Status::kInvalidModel,
        "%s: %s (transA %d) x %s (transB %d): two matrices whose inner dims agree are expected", op,
        format_shape(a, ta, sizeof(ta)), g->trans_a, format_shape(b, tb, sizeof(tb)), g->trans_b);
  }
  g->m = a[g->trans_a ? 1 : 0];
  g->k = a[g->trans_a ? 0 : 1];
  g->n = b[g->trans_b ? 0 : 1];
  if (c == nullptr) return Status::kOk;
  const int64_t rows = c->rank == 2 ? (*c)[0] : 1, cols = c->rank > 0 ? (*c)[c->rank - 1] : 1;
  if (c->rank > 2 || (rows != 1 && rows != g->m) || (cols != 1 && cols != g->n)) {
    return fail(Status::kInvalidModel,
                "%s: C of shape %s does not broadcast to [%" PRId64 ", %" PRId64 "]", op,
                format_shape(*c, ta, sizeof(ta)), g->m, g->n);
  }
  g->c_row = rows == 1 ? 0 : cols;
  g->c_col = cols == 1 ? 0 : 1;
  return Status::kOk;
}

Status infer_gemm(InferContext& c) {
  GemmGeometry g;
  PN_TRY(read_gemm(c.op, c.attrs, c.shape(0), c.shape(1), c.has(2) ? &c.shape(2) : nullptr, &g));
  PN_TRY(check_operands(c));
  const float alpha = c.attrs.f32("alpha", 1), beta = c.attrs.f32("beta", 1);
  auto small_int = [](float v) {
    return v >= -65536 && v <= 65536 && v == static_cast<float>(static_cast<int>(v));
  };
  if (dtype_is_int(c.dtype(0)) && !(small_int(alpha) && small_int(beta))) {
    return fail(Status::kUnsupported, "Gemm of %s: alpha %g and beta %g must be small integers",
                dtype_name(c.dtype(0)), static_cast<double>(alpha), static_cast<double>(beta));
  }
  Shape y;
  y.rank = 2;
  y[0] = g.m;
  y[1] = g.n;
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

// float to T; negative factors of unsigned T wrap, which is what two's complement needs.
template <typename T>
T factor(float v) {
  return static_cast<T>(static_cast<int64_t>(v));
}
template <>
float factor<float>(float v) {
  return v;
}
template <>
double factor<double>(float v) {
  return static_cast<double>(v);
}

template <typename T>
Status gemm(RunContext& c, const T* a, const T* b, const T* bias, const T*, T* y) {
  GemmGeometry g;
  PN_TRY(read_gemm(c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(),
                   c.has(2) ? &c.in[2]->shape() : nullptr, &g));
  const T alpha = factor<T>(c.attrs.f32("alpha", 1)), beta = factor<T>(c.attrs.f32("beta", 1));
  Activation act;
  PN_TRY(read_activation(c.attrs, c.op, "act", &act));
  const Matrix<T> left{a, g.trans_a ? 1 : g.k, g.trans_a ? g.m : 1};
  const Matrix<T> right{b, g.trans_b ? 1 : g.n, g.trans_b ? g.k : 1};
  for_tiles(c, 1, g.m, g.n, [&](int64_t, int64_t i, int64_t rows, int64_t j, int64_t cols) {
    matmul_rows(Matrix<T>{left.data + i * left.row, left.row, left.col},
                Matrix<T>{right.data + j * right.col, right.row, right.col}, rows, cols, g.k,
                y + i * g.n + j, g.n);
    for (int64_t r = i; r < i + rows; ++r) {
      T* line = y + r * g.n + j;
      for (int64_t q = 0; q < cols; ++q) {
        T v = alpha * line[q];
        if (bias != nullptr) v += beta * bias[r * g.c_row + (j + q) * g.c_col];
        line[q] = v;
      }
      activate(act, line, cols);
    }
  });
  return Status::kOk;
}

// --- Dispatch --------------------------------------------------------------------------------

template <typename T>
using Body = Status (*)(RunContext&, const T*, const T*, const T*, const T*, T*);

template <typename T>
Status run_plain(RunContext& c, Body<T> body) {
  auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const T>() : nullptr; };
  return body(c, in(0), in(1), in(2), in(3), c.out[0]->as<T>());
}

// Signed integers run as unsigned: the same bits, and overflow is defined.
template <Body<float> f32, Body<double> f64, Body<uint32_t> u32, Body<uint64_t> u64>
Status run_numeric(RunContext& c) {
  switch (c.in[0]->desc.dtype) {
    case DType::kF64:
      return run_plain<double>(c, f64);
    case DType::kI32:
    case DType::kU32:
      return run_plain<uint32_t>(c, u32);
    case DType::kI64:
    case DType::kU64:
      return run_plain<uint64_t>(c, u64);
    default:
      break;
  }
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float *a = f.in(0), *b = f.in(1), *bias = f.in(2), *residual = f.in(3);
  PN_TRY(f32(c, a, b, bias, residual, f.out(0)));
  f.flush();
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_gemm[] = {
    {"MatMul", 2, 4, 1, 1, 0, infer_matmul,
     run_numeric<matmul<float>, matmul<double>, matmul<uint32_t>, matmul<uint64_t>>, scratch_f32},
    {"Gemm", 2, 3, 1, 1, 0, infer_gemm,
     run_numeric<gemm<float>, gemm<double>, gemm<uint32_t>, gemm<uint64_t>>, scratch_f32},
};
extern const int pn_ops_gemm_count = sizeof(pn_ops_gemm) / sizeof(OpDef);

}  // namespace pyneo
