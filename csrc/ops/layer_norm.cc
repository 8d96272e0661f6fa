// SPDX-License-Identifier: Apache-2.0
//
// Normalisation over the last axes: LayerNormalization, RMSNormalization (SimplifiedLayerNormalization in
// ONNX Runtime's models), and com.microsoft's forms with a residual added first.
//
// Statistics and the result are computed in double, whatever the dtypes and stash_type: at least as exact
// as asked for.
#include <cinttypes>
#include <cmath>

#include "ops/elementwise.h"

namespace pyneo {
namespace {

enum class Kind { kLayer, kRms };

// Which input is what; -1: the operator has none.
struct Form {
  Kind kind;
  float epsilon;
  int terms;         // inputs [0, terms) are added up: x, skip
  int extra_term;    // one more, optional
  int scale, bias;
  int mean, inverse; // outputs
  int sum;
};
constexpr Form kLayerForm = {Kind::kLayer, 1e-5f, 1, -1, 1, 2, 1, 2, -1};
constexpr Form kRmsForm = {Kind::kRms, 1e-5f, 1, -1, 1, -1, -1, 1, -1};
constexpr Form kSkipForm = {Kind::kLayer, 1e-12f, 2, 4, 2, 3, 1, 2, 3};
constexpr Form kSkipRmsForm = {Kind::kRms, 1e-12f, 2, 3, 2, -1, 1, 2, 3};

Status infer_form(InferContext& c, const Form& form) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  PN_TRY(expect_types(c, form.scale, kFloatTypes));
  const Shape& x = c.shape(0);
  if (x.rank == 0) return fail(Status::kInvalidModel, "%s: the input must have at least one axis, found a scalar", c.op);
  int axis = 0;
  PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", -1), x.rank, &axis));
  const int64_t stash = c.attrs.i64("stash_type", 1);
  if (stash != 1 && stash != 11 && stash != 16) {
    return fail(Status::kUnsupported, "%s: stash_type is %" PRId64 ", expected 1 (float32), 11 (float64) or 16 (bfloat16)",
                c.op, stash);
  }
  for (int i = 1; i < c.n_in; ++i) {
    if (!c.has(i)) continue;
    PN_TRY(expect_types(c, i, kFloatTypes));
    if (i != form.scale || form.kind == Kind::kLayer) PN_TRY(expect_same_dtype(c, 0, i));
    PN_TRY(expect_broadcasts_to(c, i, x));
  }
  Shape statistics = x;
  for (int i = axis; i < x.rank; ++i) statistics[i] = 1;
  c.set(0, c.dtype(form.scale), x);
  if (form.mean > 0) c.set(form.mean, static_cast<DType>(stash), statistics);
  if (form.inverse > 0) c.set(form.inverse, static_cast<DType>(stash), statistics);
  if (form.sum > 0) c.set(form.sum, c.dtype(0), x);
  return Status::kOk;
}

void store_one(Tensor* t, int64_t at, double v) {
  const int64_t size = static_cast<int64_t>(dtype_size(t->desc.dtype));
  store_block(Cls::kF64, &v, 1, t->desc.dtype, t->as<uint8_t>() + at * size);
}

Status run_form(RunContext& c, const Form& form) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  int axis = 0;
  PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", -1), x.rank(), &axis));
  const int64_t rows = x.shape().product(0, axis), width = x.shape().product(axis, x.rank());
  const double epsilon = static_cast<double>(c.attrs.f32("epsilon", form.epsilon));
  const double count = static_cast<double>(width);
  const bool centred = form.kind == Kind::kLayer;

  Operand terms[3], scale, bias;
  int n_terms = 0;
  for (int i = 0; i < form.terms; ++i) terms[n_terms++].bind(*c.in[i], x.shape(), Cls::kF64);
  if (form.extra_term >= 0 && c.has(form.extra_term)) terms[n_terms++].bind(*c.in[form.extra_term], x.shape(), Cls::kF64);
  scale.bind(*c.in[form.scale], x.shape(), Cls::kF64);
  const bool has_bias = form.bias >= 0 && c.has(form.bias);
  if (has_bias) bias.bind(*c.in[form.bias], x.shape(), Cls::kF64);
  Tensor* mean_out = form.mean > 0 && c.wants(form.mean) ? c.out[form.mean] : nullptr;
  Tensor* inverse_out = form.inverse > 0 && c.wants(form.inverse) ? c.out[form.inverse] : nullptr;
  Tensor* sum_out = form.sum > 0 && c.wants(form.sum) ? c.out[form.sum] : nullptr;
  const int64_t y_size = static_cast<int64_t>(dtype_size(y.desc.dtype));
  const int64_t x_size = static_cast<int64_t>(dtype_size(x.desc.dtype));

  for_groups(c.pool, rows, width, [&](int64_t begin, int64_t end) {
    BlockBuffer space, more;
    alignas(64) double block[kBlock];
    for (int64_t row = begin; row < end; ++row) {
      // f(first element, count) with the block's sum of terms in `block`
      auto each_block = [&](auto&& f) {
        for (int64_t k = 0; k < width; k += kBlock) {
          const int64_t n = width - k < kBlock ? width - k : kBlock;
          const int64_t at = row * width + k;
          for (int t = 0; t < n_terms; ++t) {
            const double* v = static_cast<const double*>(terms[t].fetch(at, n, &space));
            for (int64_t i = 0; i < n; ++i) block[i] = t == 0 ? v[i] : block[i] + v[i];
          }
          f(at, n);
        }
      };
      double mean = 0, square = 0;
      if (centred) {
        each_block([&](int64_t, int64_t n) {
          for (int64_t i = 0; i < n; ++i) mean += block[i];
        });
        mean /= count;
      }
      each_block([&](int64_t, int64_t n) {
        for (int64_t i = 0; i < n; ++i) square += (block[i] - mean) * (block[i] - mean);
      });
      const double inverse = 1 / std::sqrt(square / count + epsilon);
      if (mean_out != nullptr) store_one(mean_out, row, mean);
      if (inverse_out != nullptr) store_one(inverse_out, row, inverse);
      each_block([&](int64_t at, int64_t n) {
        if (sum_out != nullptr) store_block(Cls::kF64, block, n, x.desc.dtype, sum_out->as<uint8_t>() + at * x_size);
        const double* s = static_cast<const double*>(scale.fetch(at, n, &space));
        const double* b = has_bias ? static_cast<const double*>(bias.fetch(at, n, &more)) : nullptr;
        for (int64_t i = 0; i < n; ++i) block[i] = (block[i] - mean) * inverse * s[i] + (b ? b[i] : 0);
        store_block(Cls::kF64, block, n, y.desc.dtype, y.as<uint8_t>() + at * y_size);
      });
    }
  });
  return Status::kOk;
}

template <const Form& form>
Status infer_layer(InferContext& c) {
  return infer_form(c, form);
}
template <const Form& form>
Status run_layer(RunContext& c) {
  return run_form(c, form);
}

}  // namespace

extern const OpDef pn_ops_layer_norm[] = {
    {"LayerNormalization", 2, 3, 1, 3, kOpInPlace0, infer_layer<kLayerForm>, run_layer<kLayerForm>, nullptr},
    {"RMSNormalization", 2, 2, 1, 1, kOpInPlace0, infer_layer<kRmsForm>, run_layer<kRmsForm>, nullptr},
    {"SimplifiedLayerNormalization", 2, 2, 1, 2, kOpInPlace0, infer_layer<kRmsForm>, run_layer<kRmsForm>, nullptr},
    {"com.microsoft.SkipLayerNormalization", 3, 5, 1, 4, kOpInPlace0, infer_layer<kSkipForm>, run_layer<kSkipForm>, nullptr},
    {"com.microsoft.SkipSimplifiedLayerNormalization", 3, 4, 1, 4, kOpInPlace0, infer_layer<kSkipRmsForm>,
     run_layer<kSkipRmsForm>, nullptr},
};
extern const int pn_ops_layer_norm_count = sizeof(pn_ops_layer_norm) / sizeof(OpDef);

}  // namespace pyneo
