// SPDX-License-Identifier: Apache-2.0
//
// Conv and ConvTranspose over 1 to 6 spatial axes.
//
// Beyond ONNX: Conv takes a residual Z of the output's shape as input 3 and computes
// post_act(act(conv + bias) + Z); ConvTranspose takes `act`. Both attributes as in
// ops/activation.h.
#include <cinttypes>

#include "ops/activation.h"
#include "ops/conv_plane.h"
#include "ops/narrow.h"

namespace pyneo {
namespace {

constexpr std::initializer_list<DType> kFloats = {DType::kF32, DType::kF16, DType::kBF16,
                                                  DType::kF64};

// dtypes of all inputs agree, the bias has `filters` entries, activations are known.
Status check_operands(const InferContext& c, int64_t filters) {
  PN_TRY(expect_dtype(c, 0, kFloats));
  for (int i = 1; i < c.n_in; ++i) {
    if (c.has(i)) PN_TRY(expect_dtype(c, i, {c.dtype(0)}));
  }
  if (c.has(2) && (c.shape(2).rank != 1 || c.shape(2)[0] != filters)) {
    char s[160];
    return fail(Status::kInvalidModel, "%s: the bias has shape %s, expected [%" PRId64 "]", c.op,
                format_shape(c.shape(2), s, sizeof(s)), filters);
  }
  Activation act, post;
  PN_TRY(read_activation(c.attrs, c.op, "act", &act));
  PN_TRY(read_activation(c.attrs, c.op, "post_act", &post));
  if (c.dtype(0) == DType::kF64 && (act.kind != Act::kNone || post.kind != Act::kNone)) {
    return fail(Status::kUnsupported,
                "%s: activations are not fused into float64; make them nodes of their own", c.op);
  }
  return Status::kOk;
}

int64_t scratch_f32(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  return size.bytes();
}

template <typename T>
void fill(T* y, int64_t n, T value) {
  for (int64_t i = 0; i < n; ++i) y[i] = value;
}

// --- Conv ------------------------------------------------------------------------------------

Status infer_conv(InferContext& c) {
  ConvGeometry g;
  PN_TRY(read_conv(c.op, c.attrs, c.shape(0), c.shape(1), &g));
  PN_TRY(check_operands(c, g.filters));
  if (c.has(3) && c.shape(3) != g.y) {
    char a[160], b[160];
    return fail(Status::kInvalidModel, "%s: the residual has shape %s, expected the output's %s",
                c.op, format_shape(c.shape(3), a, sizeof(a)), format_shape(g.y, b, sizeof(b)));
  }
  c.set(0, c.dtype(0), g.y);
  return Status::kOk;
}

void finish(const Activation& act, const Activation& post, const float* z, float* y, int64_t n) {
  apply_activation(act, y, n);
  if (z != nullptr) {
    for (int64_t i = 0; i < n; ++i) y[i] += z[i];
  }
  apply_activation(post, y, n);
}

void finish(const Activation&, const Activation&, const double* z, double* y, int64_t n) {
  if (z == nullptr) return;
  for (int64_t i = 0; i < n; ++i) y[i] += z[i];
}

template <typename T>
Status conv(RunContext& c, const T* x, const T* w, const T* bias, const T* z, T* y) {
  ConvGeometry g;
  PN_TRY(read_conv(c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(), &g));
  Activation act, post;
  PN_TRY(read_activation(c.attrs, c.op, "act", &act));
  PN_TRY(read_activation(c.attrs, c.op, "post_act", &post));
  const int64_t size = g.window.out_size();
  c.pool->run(g.batch * g.filters, [&](int64_t task, int) {
    T* plane = y + task * size;
    const int64_t m = task % g.filters;
    fill(plane, size, bias ? bias[m] : T(0));
    conv_plane(g, x, w, task / g.filters, m, plane);
    finish(act, post, z ? z + task * size : nullptr, plane, size);
  });
  return Status::kOk;
}

template <
    Status (*f32)(RunContext&, const float*, const float*, const float*, const float*, float*),
    Status (*f64)(RunContext&, const double*, const double*, const double*, const double*, double*)>
Status run_float(RunContext& c) {
  if (c.in[0]->desc.dtype == DType::kF64) {
    auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const double>() : nullptr; };
    return f64(c, in(0), in(1), in(2), in(3), c.out[0]->as<double>());
  }
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float *x = f.in(0), *w = f.in(1), *bias = f.in(2), *z = f.in(3);
  PN_TRY(f32(c, x, w, bias, z, f.out(0)));
  f.flush();
  return Status::kOk;
}

// --- ConvTranspose ---------------------------------------------------------------------------

struct Transposed {
  Window window;
  int64_t filters = 0, groups = 1;
};

Status read_transposed(const char* op, const Attrs& attrs, const Shape& x, const Shape& w,
                       Transposed* t) {
  char a[160], b[160];
  if (x.rank < 3 || w.rank != x.rank) {
    return fail(Status::kInvalidModel, "%s: X %s and W %s must have the same rank, 3 to %d", op,
                format_shape(x, a, sizeof(a)), format_shape(w, b, sizeof(b)), kMaxRank);
  }
  PN_TRY(read_transposed_window(op, attrs, x, w.dims + 2, &t->window));
  t->groups = attrs.i64("group", 1);
  if (w[0] != x[1] || t->groups < 1 || x[1] % t->groups != 0 ||
      !checked_mul(w[1], t->groups, &t->filters)) {
    return fail(Status::kInvalidModel,
                "%s: group %" PRId64 " does not fit X %s and W %s (W is C x M/group, C a multiple)",
                op, t->groups, format_shape(x, a, sizeof(a)), format_shape(w, b, sizeof(b)));
  }
  return Status::kOk;
}

Status infer_conv_transpose(InferContext& c) {
  Transposed t;
  PN_TRY(read_transposed(c.op, c.attrs, c.shape(0), c.shape(1), &t));
  PN_TRY(check_operands(c, t.filters));
  Shape y;
  y.rank = c.shape(0).rank;
  y[0] = c.shape(0)[0];
  y[1] = t.filters;
  for (int i = 0; i < t.window.spatial; ++i) y[i + 2] = t.window.out[i];
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

// Adds one image's group of channels into output plane m: every input row is scattered along the
// last axis for each kernel row that lands inside the output.
template <typename T>
void scatter_plane(const Transposed& t, const T* x, const T* w, int64_t channels, int64_t w_step,
                   T* y) {
  const Window& v = t.window;
  const int last = v.spatial - 1;
  const int64_t width = v.in[last], out_width = v.out[last], taps = v.kernel[last];
  const int64_t rows = width > 0 ? v.in_size() / width : 0;
  for (int64_t ch = 0; ch < channels; ++ch, w += w_step) {
    int64_t at[kMaxSpatial] = {};
    for (int64_t row = 0; row < rows; ++row, x += width, next_index(at, v.in, last)) {
      int64_t k[kMaxSpatial] = {};
      const T* tap = w;
      do {
        int64_t offset = 0;
        bool outside = false;
        for (int d = 0; d < last && !outside; ++d) {
          const int64_t o = at[d] * v.stride[d] + k[d] * v.dilation[d] - v.pad_begin[d];
          outside = o < 0 || o >= v.out[d];
          offset = offset * v.out[d] + (outside ? 0 : o);
        }
        for (int64_t q = 0; q < taps && !outside; ++q) {
          const int64_t shift = q * v.dilation[last] - v.pad_begin[last], stride = v.stride[last];
          T* out = y + offset * out_width;
          int64_t lo, hi;
          inside(width, stride, shift, out_width, &lo, &hi);
          for (int64_t i = lo; i < hi; ++i) out[i * stride + shift] += tap[q] * x[i];
        }
        tap += taps;
      } while (next_index(k, v.kernel, last));
    }
  }
}

template <typename T>
Status conv_transpose(RunContext& c, const T* x, const T* w, const T* bias, const T*, T* y) {
  Transposed t;
  PN_TRY(read_transposed(c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(), &t));
  Activation act;
  PN_TRY(read_activation(c.attrs, c.op, "act", &act));
  const int64_t in_size = t.window.in_size(), size = t.window.out_size(),
                taps = t.window.kernel_size();
  const int64_t channels = c.in[0]->dim(1) / t.groups, filters = t.filters / t.groups;
  c.pool->run(c.in[0]->dim(0) * t.filters, [&](int64_t task, int) {
    T* plane = y + task * size;
    const int64_t image = task / t.filters, m = task % t.filters, group = m / filters;
    fill(plane, size, bias ? bias[m] : T(0));
    scatter_plane(t, x + (image * t.groups + group) * channels * in_size,
                  w + (group * channels * filters + m % filters) * taps, channels, filters * taps,
                  plane);
    finish(act, Activation{}, static_cast<const T*>(nullptr), plane, size);
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_conv[] = {
    {"Conv", 2, 4, 1, 1, 0, infer_conv, run_float<conv<float>, conv<double>>, scratch_f32},
    {"ConvTranspose", 2, 3, 1, 1, 0, infer_conv_transpose,
     run_float<conv_transpose<float>, conv_transpose<double>>, scratch_f32},
};
extern const int pn_ops_conv_count = sizeof(pn_ops_conv) / sizeof(OpDef);

}  // namespace pyneo
