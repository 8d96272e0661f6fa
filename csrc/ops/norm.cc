// SPDX-License-Identifier: Apache-2.0
//
// Normalisation by channels and over chosen axes: BatchNormalization, InstanceNormalization,
// GroupNormalization, MeanVarianceNormalization, LpNormalization, LRN. (Over the last axes: layer_norm.cc.)
//
// Everything is computed in double: statistics agree with any engine's to the rounding of the result.
#include <cinttypes>
#include <cmath>

#include "ops/fold_plan.h"

namespace pyneo {
namespace {

// A tensor as images x channels x plane.
struct Planes {
  int64_t images = 1, channels = 1, plane = 1;
  explicit Planes(const Shape& s) {
    images = s.rank > 0 ? s[0] : 1;
    channels = s.rank > 1 ? s[1] : 1;
    plane = s.rank > 2 ? s.product(2, s.rank) : 1;
  }
};

Status expect_per_channel(const InferContext& c, int i, int64_t channels) {
  PN_TRY(expect_types(c, i, kFloatTypes));
  if (c.shape(i).rank == 1 && c.shape(i)[0] == channels) return Status::kOk;
  char s[160];
  return fail(Status::kInvalidModel, "%s: input %d has shape %s, expected [%" PRId64 "], one number a channel", c.op, i,
              format_shape(c.shape(i), s, sizeof(s)), channels);
}

// Elements [at, at + n) of x, in double, through f(values, count) in blocks, stored to y if there is one.
template <typename F>
void each_block(const Tensor& x, Tensor* y, int64_t at, int64_t n, F&& f) {
  alignas(64) double block[kBlock];
  const int64_t x_size = static_cast<int64_t>(dtype_size(x.desc.dtype));
  for (int64_t k = 0; k < n; k += kBlock) {
    const int64_t m = n - k < kBlock ? n - k : kBlock;
    load_block(x.desc.dtype, x.as<const uint8_t>() + (at + k) * x_size, m, Cls::kF64, block);
    f(block, m);
    if (y != nullptr) {
      const int64_t y_size = static_cast<int64_t>(dtype_size(y->desc.dtype));
      store_block(Cls::kF64, block, m, y->desc.dtype, y->as<uint8_t>() + (at + k) * y_size);
    }
  }
}

struct Moments {
  double mean = 0, variance = 0;
};

// Mean and population variance of what `visit(f)` passes to f(values, count), visited twice.
template <typename Visit>
Moments moments(int64_t count, Visit&& visit) {
  Moments m;
  visit([&](const double* v, int64_t n) {
    for (int64_t i = 0; i < n; ++i) m.mean += v[i];
  });
  m.mean /= static_cast<double>(count);
  visit([&](const double* v, int64_t n) {
    for (int64_t i = 0; i < n; ++i) m.variance += (v[i] - m.mean) * (v[i] - m.mean);
  });
  m.variance /= static_cast<double>(count);
  return m;
}

void affine(double* v, int64_t n, double scale, double shift) {
  for (int64_t i = 0; i < n; ++i) v[i] = v[i] * scale + shift;
}

double parameter(const RunContext& c, int i, int64_t channel) { return load_double(c.in[i]->desc.dtype, c.in[i]->data, channel); }

void set_parameter(Tensor* t, int64_t channel, double v) {
  store_block(Cls::kF64, &v, 1, t->desc.dtype, t->as<uint8_t>() + channel * static_cast<int64_t>(dtype_size(t->desc.dtype)));
}

// --- BatchNormalization --------------------------------------------------------------------------

Status infer_batch(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  const Shape& x = c.shape(0);
  if (x.rank == 0) return fail(Status::kInvalidModel, "BatchNormalization: the input must have at least one axis, found a scalar");
  const Planes p(x);
  for (int i = 1; i < 5; ++i) PN_TRY(expect_per_channel(c, i, p.channels));
  PN_TRY(expect_same_dtype(c, 1, 2));
  PN_TRY(expect_same_dtype(c, 3, 4));
  c.set(0, c.dtype(0), x);
  for (int o = 1; o < 3; ++o) c.set(o, c.dtype(3), c.shape(3));
  return Status::kOk;
}

Status run_batch(RunContext& c) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  const Planes p(x.shape());
  const double epsilon = static_cast<double>(c.attrs.f32("epsilon", 1e-5f));
  const double momentum = static_cast<double>(c.attrs.f32("momentum", 0.9f));
  const bool training = c.attrs.i64("training_mode", 0) != 0;
  // A task owns whole channels: statistics of the batch and both running outputs are written by one.
  for_groups(c.pool, p.channels, p.images * p.plane, [&](int64_t begin, int64_t end) {
    for (int64_t ch = begin; ch < end; ++ch) {
      auto start = [&](int64_t image) { return (image * p.channels + ch) * p.plane; };
      Moments m{parameter(c, 3, ch), parameter(c, 4, ch)};
      Moments running = m;
      if (training) {
        m = moments(p.images * p.plane, [&](auto&& f) {
          for (int64_t i = 0; i < p.images; ++i) each_block(x, nullptr, start(i), p.plane, f);
        });
        running.mean = running.mean * momentum + m.mean * (1 - momentum);
        running.variance = running.variance * momentum + m.variance * (1 - momentum);
      }
      if (c.wants(1)) set_parameter(c.out[1], ch, running.mean);
      if (c.wants(2)) set_parameter(c.out[2], ch, running.variance);
      const double scale = parameter(c, 1, ch) / std::sqrt(m.variance + epsilon);
      const double shift = parameter(c, 2, ch);
      for (int64_t i = 0; i < p.images; ++i) {
        each_block(x, &y, start(i), p.plane, [&](double* v, int64_t n) {
          for (int64_t k = 0; k < n; ++k) v[k] = (v[k] - m.mean) * scale + shift;
        });
      }
    }
  });
  return Status::kOk;
}

// --- InstanceNormalization, GroupNormalization ------------------------------------------------------

Status infer_group(InferContext& c, bool instance) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  const Shape& x = c.shape(0);
  if (x.rank < 2) return fail(Status::kInvalidModel, "%s: the input must have batch and channel axes, found rank %d", c.op, x.rank);
  const int64_t groups = instance ? x[1] : c.attrs.i64("num_groups", 0);
  if (groups < 0 || (groups == 0 ? x[1] != 0 || !instance : x[1] % groups != 0)) {
    return fail(Status::kInvalidModel, "%s: num_groups is %" PRId64 ", which does not divide %" PRId64 " channels", c.op,
                groups, x[1]);
  }
  for (int i = 1; i < 3; ++i) {
    PN_TRY(expect_per_channel(c, i, x[1]));
    PN_TRY(expect_same_dtype(c, 0, i));
  }
  c.set(0, c.dtype(0), x);
  return Status::kOk;
}

Status run_group(RunContext& c, bool instance) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  const Planes p(x.shape());
  const int64_t groups = instance ? p.channels : c.attrs.i64("num_groups", 0);
  if (x.desc.elements() == 0) return Status::kOk;
  const int64_t channels = p.channels / groups, size = channels * p.plane;
  const double epsilon = static_cast<double>(c.attrs.f32("epsilon", 1e-5f));
  for_groups(c.pool, p.images * groups, size, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t base = g * size;
      const Moments m = moments(size, [&](auto&& f) { each_block(x, nullptr, base, size, f); });
      const double inverse = 1 / std::sqrt(m.variance + epsilon);
      for (int64_t k = 0; k < channels; ++k) {
        const int64_t ch = g % groups * channels + k;
        const double scale = parameter(c, 1, ch) * inverse, shift = parameter(c, 2, ch);
        each_block(x, &y, base + k * p.plane, p.plane, [&](double* v, int64_t n) {
          for (int64_t i = 0; i < n; ++i) v[i] = (v[i] - m.mean) * scale + shift;
        });
      }
    }
  });
  return Status::kOk;
}

Status infer_group_norm(InferContext& c) { return infer_group(c, false); }
Status run_group_norm(RunContext& c) { return run_group(c, false); }
Status infer_instance_norm(InferContext& c) { return infer_group(c, true); }
Status run_instance_norm(RunContext& c) { return run_group(c, true); }

// --- MeanVarianceNormalization, LpNormalization: over chosen axes -----------------------------------

Status mean_variance_axes(const char* op, const Attrs& attrs, int rank, bool* reduced) {
  for (int i = 0; i < kMaxRank; ++i) reduced[i] = false;
  static constexpr int64_t kDefault[] = {0, 2, 3};
  Ints axes = attrs.ints("axes");
  if (axes.size == 0) axes = Ints{kDefault, 3};
  for (int64_t i = 0; i < axes.size; ++i) {
    int a = 0;
    PN_TRY(normalize_axis(op, axes[i], rank, &a));
    reduced[a] = true;
  }
  return Status::kOk;
}

Status infer_mean_variance(InferContext& c) {
  bool reduced[kMaxRank];
  PN_TRY(expect_types(c, 0, kFloatTypes));
  PN_TRY(mean_variance_axes(c.op, c.attrs, c.shape(0).rank, reduced));
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_mean_variance(RunContext& c) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  bool reduced[kMaxRank];
  PN_TRY(mean_variance_axes(c.op, c.attrs, x.rank(), reduced));
  FoldPlan plan;
  plan.build(x.shape(), reduced);
  for_groups(c.pool, plan.outputs, plan.folds, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const int64_t base = plan.base_of(o);
      const Moments m = moments(plan.folds, [&](auto&& f) {
        plan.each_run(base, [&](int64_t at, int64_t n) { each_block(x, nullptr, at, n, f); });
      });
      // 1e-9 is added to the deviation, as the definition's function body does.
      const double scale = 1 / (std::sqrt(m.variance) + 1e-9);
      plan.each_run(base, [&](int64_t at, int64_t n) {
        each_block(x, &y, at, n, [&](double* v, int64_t k) { affine(v, k, scale, -m.mean * scale); });
      });
    }
  });
  return Status::kOk;
}

Status infer_lp(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  int axis = 0;
  PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", -1), c.shape(0).rank, &axis));
  const int64_t p = c.attrs.i64("p", 2);
  if (p != 1 && p != 2) return fail(Status::kInvalidModel, "LpNormalization: p is %" PRId64 ", expected 1 or 2", p);
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_lp(RunContext& c) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  int axis = 0;
  PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", -1), x.rank(), &axis));
  const bool squares = c.attrs.i64("p", 2) == 2;
  bool reduced[kMaxRank] = {};
  reduced[axis] = true;
  FoldPlan plan;
  plan.build(x.shape(), reduced);
  for_groups(c.pool, plan.outputs, plan.folds, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const int64_t base = plan.base_of(o);
      double sum = 0;
      plan.each_run(base, [&](int64_t at, int64_t n) {
        each_block(x, nullptr, at, n, [&](double* v, int64_t k) {
          for (int64_t i = 0; i < k; ++i) sum += squares ? v[i] * v[i] : std::fabs(v[i]);
        });
      });
      const double norm = squares ? std::sqrt(sum) : sum;
      plan.each_run(base, [&](int64_t at, int64_t n) {
        each_block(x, &y, at, n, [&](double* v, int64_t k) {
          for (int64_t i = 0; i < k; ++i) v[i] = norm == 0 ? 0 : v[i] / norm;
        });
      });
    }
  });
  return Status::kOk;
}

// --- LRN --------------------------------------------------------------------------------------------

Status infer_lrn(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  if (c.shape(0).rank < 2) {
    return fail(Status::kInvalidModel, "LRN: the input must have batch and channel axes, found rank %d", c.shape(0).rank);
  }
  const int64_t size = c.attrs.i64("size", 0);
  if (size < 1) return fail(Status::kInvalidModel, "LRN: size is %" PRId64 ", expected at least 1", size);
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_lrn(RunContext& c) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  const Planes p(x.shape());
  const int64_t size = c.attrs.i64("size", 0);
  const double alpha = static_cast<double>(c.attrs.f32("alpha", 1e-4f)) / static_cast<double>(size);
  const double beta = static_cast<double>(c.attrs.f32("beta", 0.75f)), bias = static_cast<double>(c.attrs.f32("bias", 1));
  const int64_t before = (size - 1) / 2 < p.channels ? (size - 1) / 2 : p.channels;
  const int64_t after = size / 2 < p.channels ? size / 2 : p.channels;
  const int64_t blocks = ceil_div(p.plane, kBlock);
  for_groups(c.pool, p.images * p.channels * blocks, p.plane < kBlock ? p.plane : kBlock, [&](int64_t begin, int64_t end) {
    double squares[kBlock];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t image = t / blocks / p.channels, ch = t / blocks % p.channels, at = t % blocks * kBlock;
      const int64_t n = p.plane - at < kBlock ? p.plane - at : kBlock;
      const int64_t low = ch - before > 0 ? ch - before : 0;
      const int64_t high = ch + after < p.channels - 1 ? ch + after : p.channels - 1;
      auto place = [&](int64_t channel) { return (image * p.channels + channel) * p.plane + at; };
      for (int64_t i = 0; i < n; ++i) squares[i] = 0;
      for (int64_t k = low; k <= high; ++k) {
        each_block(x, nullptr, place(k), n, [&](double* v, int64_t) {
          for (int64_t i = 0; i < n; ++i) squares[i] += v[i] * v[i];
        });
      }
      each_block(x, &y, place(ch), n, [&](double* v, int64_t) {
        for (int64_t i = 0; i < n; ++i) v[i] /= std::pow(bias + alpha * squares[i], beta);
      });
    }
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_norm[] = {
    {"BatchNormalization", 5, 5, 1, 3, kOpInPlace0, infer_batch, run_batch, nullptr},
    {"GroupNormalization", 3, 3, 1, 1, kOpInPlace0, infer_group_norm, run_group_norm, nullptr},
    {"InstanceNormalization", 3, 3, 1, 1, kOpInPlace0, infer_instance_norm, run_instance_norm, nullptr},
    {"LRN", 1, 1, 1, 1, 0, infer_lrn, run_lrn, nullptr},
    {"LpNormalization", 1, 1, 1, 1, kOpInPlace0, infer_lp, run_lp, nullptr},
    {"MeanVarianceNormalization", 1, 1, 1, 1, kOpInPlace0, infer_mean_variance, run_mean_variance, nullptr},
};
extern const int pn_ops_norm_count = sizeof(pn_ops_norm) / sizeof(OpDef);

}  // namespace pyneo
