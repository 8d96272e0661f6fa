// SPDX-License-Identifier: Apache-2.0
//
// LinearAttention and CausalConvWithState (ONNX 27): the recurrent halves of linear-attention
// models.
#include <cinttypes>
#include <cmath>

#include "ops/narrow.h"

namespace pyneo {
namespace {

constexpr std::initializer_list<DType> kFloats = {DType::kF32, DType::kF16, DType::kBF16};

Status check_shape(const InferContext& c, int i, const char* what,
                   std::initializer_list<int64_t> dims) {
  if (!c.has(i)) return Status::kOk;
  Shape want;
  for (int64_t d : dims) want[want.rank++] = d;
  if (c.shape(i) == want) return Status::kOk;
  char a[160], b[160];
  return fail(Status::kInvalidModel, "%s: %s has shape %s, expected %s", c.op, what,
              format_shape(c.shape(i), a, sizeof(a)), format_shape(want, b, sizeof(b)));
}

// --- LinearAttention -------------------------------------------------------------------------

struct Linear {
  int64_t batch = 0, steps = 0, q_heads = 0, heads = 0, dk = 0, dv = 0;
  bool gated = false, delta = false;
  bool decay_by_key = false, beta_by_head = false;
  float scale = 1;
};

Status read_linear(const char* op, const Attrs& attrs, const Shape& q, const Shape& k,
                   const Shape& v, const Shape* decay, const Shape* beta, Linear* n) {
  *n = Linear{};
  const Str rule = attrs.str("update_rule", "gated_delta");
  n->gated = rule == "gated" || rule == "gated_delta";
  n->delta = rule == "delta" || rule == "gated_delta";
  if (!n->gated && !n->delta && rule != "linear") {
    return fail(Status::kInvalidModel,
                "%s: update_rule is '%.*s', expected linear, gated, delta or gated_delta", op,
                static_cast<int>(rule.size), rule.data);
  }
  n->q_heads = attrs.i64("q_num_heads", 0);
  n->heads = attrs.i64("kv_num_heads", 0);
  char a[160], b[160], e[160];
  const bool fits = n->heads > 0 && n->q_heads > 0 && n->q_heads % n->heads == 0 && q.rank == 3 &&
                    k.rank == 3 && v.rank == 3 && q[2] % n->q_heads == 0 && k[2] % n->heads == 0 &&
                    v[2] % n->heads == 0 && q[2] / n->q_heads == k[2] / n->heads && q[0] == k[0] &&
                    k[0] == v[0] && q[1] == k[1] && k[1] == v[1];
  if (!fits) {
    return fail(Status::kInvalidModel,
                "%s: Q %s of %" PRId64 " heads, K %s and V %s of %" PRId64
                " heads do not fit together",
                op, format_shape(q, a, sizeof(a)), n->q_heads, format_shape(k, b, sizeof(b)),
                format_shape(v, e, sizeof(e)), n->heads);
  }
  n->batch = q[0];
  n->steps = q[1];
  n->dk = k[2] / n->heads;
  n->dv = v[2] / n->heads;
  n->scale = attrs.f32("scale", 0);
  if (n->scale == 0) n->scale = 1 / sqrtf(static_cast<float>(n->dk > 0 ? n->dk : 1));
  if ((n->gated && decay == nullptr) || (n->delta && beta == nullptr)) {
    return fail(Status::kInvalidModel, "%s: update_rule '%.*s' needs input %s", op,
                static_cast<int>(rule.size), rule.data,
                n->gated && decay == nullptr ? "decay" : "beta");
  }
  auto gate_fits = [&](const Shape& s, int64_t width) {
    return s.rank == 3 && s[0] == n->batch && s[1] == n->steps && s[2] == width;
  };
  if (decay != nullptr) {
    n->decay_by_key = gate_fits(*decay, k[2]) && n->dk != 1;
    if (!n->decay_by_key && !gate_fits(*decay, n->heads)) {
      return fail(Status::kInvalidModel,
                  "%s: decay has shape %s, expected one number a head or a key element", op,
                  format_shape(*decay, a, sizeof(a)));
    }
  }
  if (beta != nullptr) {
    n->beta_by_head = gate_fits(*beta, n->heads);
    if (!n->beta_by_head && !gate_fits(*beta, 1)) {
      return fail(Status::kInvalidModel,
                  "%s: beta has shape %s, expected one number a head or one in all", op,
                  format_shape(*beta, a, sizeof(a)));
    }
  }
  return Status::kOk;
}

Status infer_linear(InferContext& c) {
  for (int i = 0; i < c.n_in; ++i) {
    if (c.has(i)) PN_TRY(expect_dtype(c, i, kFloats));
  }
  Linear n;
  PN_TRY(read_linear(c.op, c.attrs, c.shape(0), c.shape(1), c.shape(2),
                     c.has(4) ? &c.shape(4) : nullptr, c.has(5) ? &c.shape(5) : nullptr, &n));
  PN_TRY(check_shape(c, 3, "past_state", {n.batch, n.heads, n.dk, n.dv}));
  Shape y = c.shape(0);
  if (!checked_mul(n.q_heads, n.dv, &y[2]))
    return fail(Status::kInvalidModel, "LinearAttention: the output overflows");
  c.set(0, c.dtype(0), y);
  Shape state;
  for (int64_t d : {n.batch, n.heads, n.dk, n.dv}) state[state.rank++] = d;
  c.set(1, c.has(3) ? c.dtype(3) : c.dtype(0), state);
  return Status::kOk;
}

int64_t scratch_linear(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  const int64_t heads = c.attrs.i64("kv_num_heads", 1), width = c.shape(2)[2];
  int64_t state = 0;
  if (!checked_mul(c.shape(0)[0] * c.shape(1)[2] / (heads > 0 ? heads : 1), width, &state))
    state = INT64_MAX;
  size.add(state, 4);
  size.add(c.shape(0)[0] * width, 4);
  return size.bytes();
}

Status run_linear(RunContext& c) {
  Linear n;
  PN_TRY(read_linear(c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(), c.in[2]->shape(),
                     c.has(4) ? &c.in[4]->shape() : nullptr, c.has(5) ? &c.in[5]->shape() : nullptr,
                     &n));
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float *q = f.in(0), *k = f.in(1), *v = f.in(2), *past = f.in(3), *decay = f.in(4),
              *beta = f.in(5);
  float *y = f.out(0), *present = f.out(1);
  float* states = scratch.take<float>(n.batch * n.heads * n.dk * n.dv);
  float* errors = scratch.take<float>(n.batch * n.heads * n.dv);
  const int64_t size = n.dk * n.dv, group = n.q_heads / n.heads;
  c.pool->run(n.batch * n.heads, [&](int64_t task, int) {
    const int64_t b = task / n.heads, h = task % n.heads;
    float *state = states + task * size, *error = errors + task * n.dv;
    for (int64_t i = 0; i < size; ++i) state[i] = past != nullptr ? past[task * size + i] : 0;
    for (int64_t t = 0; t < n.steps; ++t) {
      const int64_t row = b * n.steps + t;
      const float *key = k + (row * n.heads + h) * n.dk, *value = v + (row * n.heads + h) * n.dv;
      for (int64_t i = 0; n.gated && i < n.dk; ++i) {
        const float keep =
            expf(decay[n.decay_by_key ? (row * n.heads + h) * n.dk + i : row * n.heads + h]);
        for (int64_t j = 0; j < n.dv; ++j) state[i * n.dv + j] *= keep;
      }
      for (int64_t j = 0; j < n.dv; ++j) error[j] = value[j];
      for (int64_t i = 0; n.delta && i < n.dk; ++i) {
        for (int64_t j = 0; j < n.dv; ++j) error[j] -= key[i] * state[i * n.dv + j];
      }
      const float rate = n.delta ? beta[n.beta_by_head ? row * n.heads + h : row] : 1;
      for (int64_t i = 0; i < n.dk; ++i) {
        for (int64_t j = 0; j < n.dv; ++j) state[i * n.dv + j] += rate * key[i] * error[j];
      }
      for (int64_t e = 0; e < group; ++e) {
        const float* query = q + (row * n.q_heads + h * group + e) * n.dk;
        float* out = y + (row * n.q_heads + h * group + e) * n.dv;
        for (int64_t j = 0; j < n.dv; ++j) out[j] = 0;
        for (int64_t i = 0; i < n.dk; ++i) {
          for (int64_t j = 0; j < n.dv; ++j) out[j] += n.scale * query[i] * state[i * n.dv + j];
        }
      }
    }
    for (int64_t i = 0; present != nullptr && i < size; ++i) present[task * size + i] = state[i];
  });
  f.flush();
  return Status::kOk;
}

// --- CausalConvWithState ---------------------------------------------------------------------

Status infer_causal_conv(InferContext& c) {
  for (int i = 0; i < c.n_in; ++i) {
    if (c.has(i)) PN_TRY(expect_dtype(c, i, kFloats));
  }
  const Shape &x = c.shape(0), &w = c.shape(1);
  char a[160], b[160];
  if (x.rank != 3 || w.rank != 3 || w[0] != x[1] || w[1] != 1 || w[2] < 1) {
    return fail(Status::kInvalidModel,
                "%s: X %s and W %s, expected (batch, channels, length) and (channels, 1, taps)",
                c.op, format_shape(x, a, sizeof(a)), format_shape(w, b, sizeof(b)));
  }
  PN_TRY(check_shape(c, 2, "the bias", {x[1]}));
  PN_TRY(check_shape(c, 3, "past_state", {x[0], x[1], w[2] - 1}));
  const Str act = c.attrs.str("activation", "none");
  if (act != "none" && act != "silu" && act != "swish") {
    return fail(Status::kInvalidModel, "%s: activation is '%.*s', expected none, silu or swish",
                c.op, static_cast<int>(act.size), act.data);
  }
  c.set(0, c.dtype(0), x);
  Shape state = x;
  state[2] = w[2] - 1;
  c.set(1, c.dtype(0), state);
  return Status::kOk;
}

Status run_causal_conv(RunContext& c) {
  const Shape& s = c.in[0]->shape();
  const int64_t channels = s[1], length = s[2], taps = c.in[1]->dim(2), kept = taps - 1;
  const bool silu = c.attrs.str("activation", "none") != "none";
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float *x = f.in(0), *w = f.in(1), *bias = f.in(2), *past = f.in(3);
  float *y = f.out(0), *present = f.out(1);
  c.pool->run(s[0] * channels, [&](int64_t row, int) {
    const int64_t channel = row % channels;
    // Element i of the kept positions followed by the new ones.
    auto at = [&](int64_t i) {
      if (i >= kept) return x[row * length + i - kept];
      return past != nullptr ? past[row * kept + i] : 0.0f;
    };
    for (int64_t i = 0; i < length; ++i) {
      float sum = bias != nullptr ? bias[channel] : 0;
      for (int64_t t = 0; t < taps; ++t) sum += w[channel * taps + t] * at(i + t);
      y[row * length + i] = silu ? sum / (1 + expf(-sum)) : sum;
    }
    for (int64_t i = 0; present != nullptr && i < kept; ++i)
      present[row * kept + i] = at(length + i);
  });
  f.flush();
  return Status::kOk;
}

int64_t scratch_f32(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  return size.bytes();
}

}  // namespace

extern const OpDef pn_ops_linear_attention[] = {
    {"LinearAttention", 3, 6, 1, 2, 0, infer_linear, run_linear, scratch_linear},
    {"CausalConvWithState", 2, 4, 1, 2, 0, infer_causal_conv, run_causal_conv, scratch_f32},
};
extern const int pn_ops_linear_attention_count = sizeof(pn_ops_linear_attention) / sizeof(OpDef);

}  // namespace pyneo
