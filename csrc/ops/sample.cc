// SPDX-License-Identifier: Apache-2.0
//
// GridSample and AffineGrid: an input read at points that another tensor gives.
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "ops/narrow.h"
#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

// --- GridSample
// -----------------------------------------------------------------------------------

enum class Padding { kZeros, kBorder, kReflection };

struct Sampler {
  int space;  // spatial axes
  int taps;   // per axis: 1 nearest, 2 linear, 4 cubic
  Padding padding;
  bool align_corners;
  int64_t dims[kMaxRank];
};

constexpr int kMaxSampleSpace = 3;

Status read_sampler(const InferContext& c, Sampler* s) {
  const Str mode = c.attrs.str("mode", "linear"), padding = c.attrs.str("padding_mode", "zeros");
  if (mode == "nearest") {
    s->taps = 1;
  } else if (mode == "linear" || mode == "bilinear") {
    s->taps = 2;
  } else if (mode == "cubic" || mode == "bicubic") {
    s->taps = 4;
  } else {
    return fail(Status::kInvalidModel, "GridSample: mode is none of nearest, linear, cubic");
  }
  if (padding == "zeros") {
    s->padding = Padding::kZeros;
  } else if (padding == "border") {
    s->padding = Padding::kBorder;
  } else if (padding == "reflection") {
    s->padding = Padding::kReflection;
  } else {
    return fail(Status::kInvalidModel,
                "GridSample: padding_mode is none of zeros, border, reflection");
  }
  s->align_corners = c.attrs.i64("align_corners", 0) != 0;
  return Status::kOk;
}

Status plan_sample(const InferContext& c, Sampler* s, Shape* y) {
  PN_TRY(expect_dtype(c, 0, {DType::kF32, DType::kF16, DType::kBF16}));
  PN_TRY(expect_dtype(c, 1, {DType::kF32, DType::kF16, DType::kBF16}));
  PN_TRY(read_sampler(c, s));
  const Shape &x = c.shape(0), &g = c.shape(1);
  s->space = x.rank - 2;
  if (s->space < 1 || s->space > kMaxSampleSpace || g.rank != x.rank || g[0] != x[0] ||
      g[g.rank - 1] != s->space) {
    char a[160], b[160];
    return fail(Status::kInvalidModel,
                "GridSample: input %s and grid %s; expected [N, C, 1 to %d axes] and [N, as many "
                "axes, their number]",
                format_shape(x, a, sizeof(a)), format_shape(g, b, sizeof(b)), kMaxSampleSpace);
  }
  *y = x;
  bool empty = false;
  for (int i = 0; i < s->space; ++i) {
    s->dims[i] = x[i + 2];
    empty = empty || x[i + 2] == 0;
    (*y)[i + 2] = g[i + 1];
  }
  if (empty && y->elements() > 0)
    return fail(Status::kInvalidModel, "GridSample: an input without elements cannot be sampled");
  return Status::kOk;
}

Status infer_sample(InferContext& c) {
  Sampler s;
  Shape y;
  PN_TRY(plan_sample(c, &s, &y));
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

int64_t scratch_sample(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  return size.bytes();
}

// Folds v back between low and high, however far outside. `low < high` or all of it is one point.
float reflect(float v, float low, float high) {
  const float range = high - low;
  if (!(range > 0)) return low;
  const float past = v < low ? low - v : v > high ? v - high : 0;
  if (past == 0) return v;
  const float turns = floorf(past / range), rest = past - turns * range;
  const bool even = fmodf(turns, 2) == 0;
  return (v < low) == even ? low + rest : high - rest;
}

struct Line {  // the input positions of one axis that a point reads, -1 for outside, and their
               // weights
  int64_t at[4];
  float weight[4];
};

int64_t place(const Sampler& s, float v, int64_t n) {
  if (s.padding == Padding::kReflection) {
    const float low = s.align_corners ? 0 : -0.5f;
    v = reflect(v, low, static_cast<float>(n - 1) - low);
    // A position on the border's half pixel truncates toward the inside.
    v = v < 0 ? 0 : v;
  } else if (s.padding == Padding::kZeros && !(v >= 0 && v < static_cast<float>(n))) {
    return -1;
  }
  const float last = static_cast<float>(n - 1);
  return static_cast<int64_t>(v > 0 ? (v < last ? v : last) : 0);  // NaN reads the first position
}

// `t` in [-1, 1] spans the axis.
void read_line(const Sampler& s, float t, int64_t n, Line* line) {
  const float size = static_cast<float>(n);
  float v = s.align_corners ? (t + 1) / 2 * (size - 1) : ((t + 1) * size - 1) / 2;
  if (s.taps == 1) v = rintf(v);
  const float low = s.align_corners ? 0 : -0.5f, high = size - 1 - low;
  if (s.taps < 4 && (v < low || v > high)) {  // cubic folds each position it reads instead
    if (s.padding == Padding::kBorder) v = v < 0 ? 0 : size - 1;
    if (s.padding == Padding::kReflection) v = reflect(v, low, high);
  }
  if (s.taps == 1) {
    line->at[0] = place(s, v, n);
    line->weight[0] = 1;
    return;
  }
  const float first = floorf(v), d = v - first;
  if (s.taps == 2) {
    line->weight[0] = 1 - d;
    line->weight[1] = d;
  } else {
    const float a = -0.75f;
    const float far = d + 1, other = 1 - d, last = 2 - d;
    line->weight[0] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a;
    line->weight[1] = ((a + 2) * d - (a + 3)) * d * d + 1;
    line->weight[2] = ((a + 2) * other - (a + 3)) * other * other + 1;
    line->weight[3] = ((a * last - 5 * a) * last + 8 * a) * last - 4 * a;
  }
  const float start = s.taps == 4 ? first - 1 : first;
  for (int k = 0; k < s.taps; ++k) line->at[k] = place(s, start + static_cast<float>(k), n);
}

// The weighted sum over the taps of all axes; axes missing in front count one position of weight 1.
float gather_point(const Sampler& s, const Line* lines, const float* plane) {
  const int64_t height = s.space > 1 ? s.dims[s.space - 2] : 1, width = s.dims[s.space - 1];
  const int taps = s.taps;
  float sum = 0;
  for (int a = 0; a < (s.space > 2 ? taps : 1); ++a) {
    const Line& slab = lines[0];
    if (slab.at[a] < 0) continue;
    float slab_sum = 0;
    for (int b = 0; b < (s.space > 1 ? taps : 1); ++b) {
      const Line& row = lines[1];
      if (row.at[b] < 0) continue;
      const float* in = plane + (slab.at[a] * height + row.at[b]) * width;
      float row_sum = 0;
      for (int k = 0; k < taps; ++k) {
        if (lines[2].at[k] >= 0) row_sum += lines[2].weight[k] * in[lines[2].at[k]];
      }
      slab_sum += row.weight[b] * row_sum;
    }
    sum += slab.weight[a] * slab_sum;
  }
  return sum;
}

Status run_sample(RunContext& c) {
  const AsInfer again(c);
  Sampler s;
  Shape shape;
  PN_TRY(plan_sample(again.context(), &s, &shape));
  if (shape.elements() == 0) return Status::kOk;
  Scratch scratch(c);
  F32Operands operands(c, &scratch);
  const float *x = operands.in(0), *grid = operands.in(1);
  float* y = operands.out(0);
  const int64_t channels = shape[1], points = shape.product(2, shape.rank);
  const int64_t plane = c.in[0]->shape().product(2, shape.rank);
  // One point's lines serve all channels.
  split_range(*c.pool, shape[0] * points, shape.elements() * 16, [&](int64_t from, int64_t to) {
    Line lines[kMaxSampleSpace];
    for (int i = 0; i < kMaxSampleSpace; ++i) lines[i] = Line{{0, 0, 0, 0}, {1, 1, 1, 1}};
    for (int64_t i = from; i < to; ++i) {
      const int64_t n = i / points, p = i % points;
      for (int k = 0; k < s.space; ++k) {  // the grid lists the innermost axis first
        read_line(s, grid[i * s.space + s.space - 1 - k], s.dims[k],
                  &lines[kMaxSampleSpace - s.space + k]);
      }
      for (int64_t ch = 0; ch < channels; ++ch) {
        y[(n * channels + ch) * points + p] =
            gather_point(s, lines, x + (n * channels + ch) * plane);
      }
    }
  });
  operands.flush();
  return Status::kOk;
}

// --- AffineGrid
// -----------------------------------------------------------------------------------

Status plan_affine(const InferContext& c, Shape* y) {
  PN_TRY(expect_dtype(c, 0, {DType::kF32, DType::kF16, DType::kBF16}));
  const Shape& theta = c.shape(0);
  int64_t size[5];
  int n = 0;
  PN_TRY(read_ints(c, 1, size, 5, &n));
  const int space = n - 2;
  if (space < 2 || theta.rank != 3 || theta[1] != space || theta[2] != space + 1 ||
      theta[0] != size[0]) {
    char text[160];
    return fail(Status::kInvalidModel,
                "AffineGrid: theta %s and %d sizes; expected [N, 2, 3] and 4 or [N, 3, 4] and 5, N "
                "agreeing",
                format_shape(theta, text, sizeof(text)), n);
  }
  y->rank = space + 2;
  (*y)[0] = size[0];
  for (int i = 0; i < space; ++i) {
    if (size[i + 2] < 0)
      return fail(Status::kInvalidModel, "AffineGrid: size %d is %" PRId64, i + 2, size[i + 2]);
    (*y)[i + 1] = size[i + 2];
  }
  (*y)[space + 1] = space;
  return Status::kOk;
}

Status infer_affine(InferContext& c) {
  Shape y;
  PN_TRY(plan_affine(c, &y));
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_affine(RunContext& c) {
  const AsInfer again(c);
  Shape shape;
  PN_TRY(plan_affine(again.context(), &shape));
  PN_TRY(expect_shape(c, 0, shape));
  if (shape.elements() == 0) return Status::kOk;
  const bool corners = c.attrs.i64("align_corners", 0) != 0;
  Scratch scratch(c);
  F32Operands operands(c, &scratch);
  const float* theta = operands.in(0);
  float* y = operands.out(0);
  const int space = shape.rank - 2;
  const int64_t points = shape.product(1, space + 1);
  split_range(*c.pool, shape[0] * points, shape.elements() * 8, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const float* m = theta + i / points * space * (space + 1);
      float at[3];  // x, y, z: innermost axis first
      int64_t rest = i % points;
      for (int k = 0; k < space; ++k) {
        const int64_t n = shape[space - k], j = rest % n;
        rest /= n;
        const double step = 2.0 / static_cast<double>(corners ? n - 1 : n);
        const double t = corners ? (n == 1 ? 0.0 : -1.0 + step * static_cast<double>(j))
                                 : -1.0 + step * (static_cast<double>(j) + 0.5);
        at[k] = static_cast<float>(t);
      }
      for (int r = 0; r < space; ++r, m += space + 1) {
        float sum = m[space];
        for (int k = 0; k < space; ++k) sum += m[k] * at[k];
        y[i * space + r] = sum;
      }
    }
  });
  operands.flush();
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_sample[] = {
    {"GridSample", 2, 2, 1, 1, 0, infer_sample, run_sample, scratch_sample},
    {"AffineGrid", 2, 2, 1, 1, 0, infer_affine, run_affine, scratch_sample},
};
extern const int pn_ops_sample_count = sizeof(pn_ops_sample) / sizeof(OpDef);

}  // namespace pyneo
