// SPDX-License-Identifier: Apache-2.0
//
// DeformConv: a convolution whose taps are moved by learned offsets (arXiv 1703.06211, 1811.11168),
// over any number of spatial axes.
#include <cinttypes>
#include <cmath>

#include "ops/conv_plane.h"
#include "ops/narrow.h"

namespace pyneo {
namespace {

constexpr int64_t kWorkers = 8;  // output positions are dealt to this many, each with scratch

constexpr std::initializer_list<DType> kFloats = {DType::kF32, DType::kF16, DType::kBF16};

// --- DeformConv ------------------------------------------------------------------------------

Status check_shape(const InferContext& c, int i, const Shape& want) {
  if (c.shape(i) == want) return Status::kOk;
  char a[160], b[160];
  return fail(Status::kInvalidModel, "DeformConv: input %d has shape %s, expected %s", i,
              format_shape(c.shape(i), a, sizeof(a)), format_shape(want, b, sizeof(b)));
}

Status infer_deform_conv(InferContext& c) {
  for (int i = 0; i < c.n_in; ++i) {
    if (c.has(i)) PN_TRY(expect_dtype(c, i, kFloats));
    if (c.has(i)) PN_TRY(expect_dtype(c, i, {c.dtype(0)}));
  }
  ConvGeometry g;
  PN_TRY(read_conv(c.op, c.attrs, c.shape(0), c.shape(1), &g));
  const int64_t groups = c.attrs.i64("offset_group", 1);
  if (groups < 1 || g.channels % groups != 0) {
    return fail(Status::kInvalidModel,
                "DeformConv: offset_group %" PRId64 " does not divide %" PRId64 " channels", groups,
                g.channels);
  }
  Shape offsets = g.y, masks = g.y;
  if (!checked_mul(groups, g.window.kernel_size(), &masks[1]) ||
      !checked_mul(masks[1], g.window.spatial, &offsets[1])) {
    return fail(Status::kInvalidModel, "DeformConv: offset_group %" PRId64 " overflows", groups);
  }
  PN_TRY(check_shape(c, 2, offsets));
  if (c.has(3)) {
    Shape bias;
    bias.rank = 1;
    bias[0] = g.filters;
    PN_TRY(check_shape(c, 3, bias));
  }
  if (c.has(4)) PN_TRY(check_shape(c, 4, masks));
  c.set(0, c.dtype(0), g.y);
  return Status::kOk;
}

// Linear interpolation between the 2^n inputs around `at`; what lies outside counts as zero.
float sample(const Window& w, const float* plane, const double* at) {
  int64_t base[kMaxSpatial];
  float part[kMaxSpatial];
  for (int d = 0; d < w.spatial; ++d) {
    if (!(at[d] > -1 && at[d] < static_cast<double>(w.in[d]))) return 0;
    const double low = floor(at[d]);
    base[d] = static_cast<int64_t>(low);
    part[d] = static_cast<float>(at[d] - low);
  }
  float sum = 0;
  for (int corner = 0; corner < 1 << w.spatial; ++corner) {
    float weight = 1;
    int64_t offset = 0;
    for (int d = 0; d < w.spatial && weight != 0; ++d) {
      const int up = corner >> d & 1;
      const int64_t i = base[d] + up;
      weight *= i < 0 || i >= w.in[d] ? 0 : up ? part[d] : 1 - part[d];
      offset = offset * w.in[d] + i;
    }
    if (weight != 0) sum += weight * plane[offset];
  }
  return sum;
}

Status run_deform_conv(RunContext& c) {
  ConvGeometry g;
  PN_TRY(read_conv(c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(), &g));
  const Window& w = g.window;
  const int64_t offset_groups = c.attrs.i64("offset_group", 1), taps = w.kernel_size(),
                size = w.out_size();
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float *x = f.in(0), *weights = f.in(1), *offsets = f.in(2), *bias = f.in(3),
              *masks = f.in(4);
  float* y = f.out(0);
  const int64_t column = g.channels * taps, per_group = column / g.groups,
                positions = g.batch * size;
  float* columns = scratch.take<float>(kWorkers * column);
  c.pool->run(positions < kWorkers ? positions : kWorkers, [&](int64_t worker, int) {
    float* col = columns + worker * column;
    for (int64_t p = worker; p < positions; p += kWorkers) {
      const int64_t image = p / size, o = p % size;
      int64_t at[kMaxSpatial], rest = o;
      for (int d = w.spatial - 1; d >= 0; --d) {
        at[d] = rest % w.out[d];
        rest /= w.out[d];
      }
      for (int64_t q = 0; q < offset_groups; ++q) {
        int64_t k[kMaxSpatial] = {};
        for (int64_t tap = 0; tap < taps; ++tap, next_index(k, w.kernel, w.spatial)) {
          double where[kMaxSpatial];
          const int64_t entry = (image * offset_groups + q) * taps + tap;
          for (int d = 0; d < w.spatial; ++d) {
            where[d] =
                static_cast<double>(at[d] * w.stride[d] + k[d] * w.dilation[d] - w.pad_begin[d]) +
                static_cast<double>(offsets[(entry * w.spatial + d) * size + o]);
          }
          const float mask = masks != nullptr ? masks[entry * size + o] : 1;
          const int64_t each = g.channels / offset_groups;
          for (int64_t ch = q * each; ch < (q + 1) * each; ++ch) {
            col[ch * taps + tap] =
                mask * sample(w, x + (image * g.channels + ch) * w.in_size(), where);
          }
        }
      }
      for (int64_t m = 0; m < g.filters; ++m) {
        const float* part = col + m / (g.filters / g.groups) * per_group;
        float sum = bias != nullptr ? bias[m] : 0;
        for (int64_t i = 0; i < per_group; ++i) sum += weights[m * per_group + i] * part[i];
        y[(image * g.filters + m) * size + o] = sum;
      }
    }
  });
  f.flush();
  return Status::kOk;
}

int64_t scratch_deform_conv(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  const Shape& w = c.shape(1);
  int64_t column = 0;
  if (!checked_mul(c.shape(0)[1], w.product(2, w.rank), &column) ||
      !checked_mul(column, kWorkers, &column))
    column = INT64_MAX;
  size.add(column, 4);
  return size.bytes();
}

}  // namespace

extern const OpDef pn_ops_deform_conv[] = {
    {"DeformConv", 3, 5, 1, 1, 0, infer_deform_conv, run_deform_conv, scratch_deform_conv},
};
extern const int pn_ops_deform_conv_count = sizeof(pn_ops_deform_conv) / sizeof(OpDef);

}  // namespace pyneo
