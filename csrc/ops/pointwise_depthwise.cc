// SPDX-License-Identifier: Apache-2.0
#include "ops/pointwise_depthwise.h"

#include <cinttypes>

#include "ops/activation.h"
#include "ops/conv_plane.h"
#include "ops/op.h"

namespace pyneo {
namespace {

constexpr const char* kName = "PointwiseDepthwise";

Status infer(InferContext& c) {
  for (int i = 0; i < 3; ++i) PN_TRY(expect_dtype(c, i, {DType::kF32}));
  PointwiseDepthwise p;
  PN_TRY(read_pointwise_depthwise(c.attrs, c.shape(0), c.shape(1), c.shape(2), &p));
  Activation act;
  PN_TRY(read_activation(c.attrs, c.op, "inner_act", &act));
  PN_TRY(read_activation(c.attrs, c.op, "act", &act));
  Shape mean = p.depthwise.y;
  mean[2] = mean[3] = 1;
  c.set(0, DType::kF32, p.depthwise.y);
  c.set(1, DType::kF32, mean);
  return Status::kOk;
}

// The 1x1 convolution's result.
int64_t scratch(const InferContext& c) {
  int64_t bytes = 0;
  const Shape& x = c.shape(0);
  if (!checked_mul(x.product(2, 4) * 4, c.attrs.i64("group", 0), &bytes) || !checked_mul(bytes, x[0], &bytes)) return 0;
  return bytes;
}

Status run(RunContext& c) {
  PointwiseDepthwise p;
  PN_TRY(read_pointwise_depthwise(c.attrs, c.in[0]->shape(), c.in[1]->shape(), c.in[2]->shape(), &p));
  Activation inner, act;
  PN_TRY(read_activation(c.attrs, c.op, "inner_act", &inner));
  PN_TRY(read_activation(c.attrs, c.op, "act", &act));
  const ConvGeometry& g = p.depthwise;
  const float *x = c.in[0]->as<const float>(), *w = c.in[1]->as<const float>(), *bias = c.in[2]->as<const float>();
  float *middle = static_cast<float*>(c.scratch), *y = c.wants(0) ? c.out[0]->as<float>() : nullptr;
  float* mean = c.wants(1) ? c.out[1]->as<float>() : nullptr;
  const int64_t in = g.window.in_size(), out = g.window.out_size(), e = g.groups;
  c.pool->run(g.batch * e, [&](int64_t task, int) {
    const int64_t n = task / e, m = task % e;
    float *wide = middle + task * in, *to = y + task * out;
    for (int64_t i = 0; i < in; ++i) wide[i] = bias[m];
    for (int64_t k = 0; k < p.channels; ++k) {
      const float f = w[m * p.channels + k], *from = x + (n * p.channels + k) * in;
      for (int64_t i = 0; i < in; ++i) wide[i] += f * from[i];
    }
    apply_activation(inner, wide, in);
    for (int64_t i = 0; i < out; ++i) to[i] = bias[e + m];
    conv_plane(g, middle, w + e * p.channels, n, m, to);
    apply_activation(act, to, out);
    double sum = 0;
    for (int64_t i = 0; i < out; ++i) sum += to[i];
    if (mean != nullptr) mean[task] = static_cast<float>(sum / static_cast<double>(out));
  });
  return Status::kOk;
}

}  // namespace

Status read_pointwise_depthwise(const Attrs& attrs, const Shape& x, const Shape& weights, const Shape& biases,
                                PointwiseDepthwise* p) {
  char s[160];
  const int64_t e = attrs.i64("group", 0);
  const Ints kernel = attrs.ints("kernel_shape");
  if (x.rank != 4 || e < 1 || kernel.size != 2) {
    return fail(Status::kInvalidModel, "%s: X has shape %s, group is %" PRId64 " and kernel_shape has %" PRId64
                " entries, expected four dims, at least 1, and 2 entries", kName, format_shape(x, s, sizeof(s)), e, kernel.size);
  }
  p->channels = x[1];
  Shape middle = x, taps = x;
  middle[1] = taps[0] = e;
  taps[1] = 1;
  taps[2] = kernel[0];
  taps[3] = kernel[1];
  PN_TRY(read_conv(kName, attrs, middle, taps, &p->depthwise));
  int64_t count = 0, sum = 0;
  const bool fits = !__builtin_add_overflow(p->channels, p->depthwise.window.kernel_size(), &sum) && checked_mul(sum, e, &count);
  if (!fits || weights.rank != 1 || biases.rank != 1 || weights[0] != count || biases[0] != 2 * e) {
    return fail(Status::kInvalidModel, "%s: the weights have shape %s, expected [%" PRId64 "], with twice %" PRId64 " biases",
                kName, format_shape(weights, s, sizeof(s)), count, e);
  }
  return Status::kOk;
}

extern const OpDef pn_ops_pointwise_depthwise[] = {
    {kName, 3, 3, 1, 2, 0, infer, run, scratch},
};
extern const int pn_ops_pointwise_depthwise_count = sizeof(pn_ops_pointwise_depthwise) / sizeof(OpDef);

}  // namespace pyneo
