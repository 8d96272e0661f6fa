// SPDX-License-Identifier: Apache-2.0
//
// LSTM, GRU and RNN: both directions, both layouts, peepholes, clip, sequence lengths, custom
// activations.
#include "ops/recurrent.h"

#include <cinttypes>

#include "ops/narrow.h"

namespace pyneo {
namespace {

struct FnName {
  const char* name;
  Fn fn;
  int params;  // 0, 1: alpha, 2: alpha and beta
  float alpha, beta;
};

constexpr FnName kFns[] = {
    {"relu", Fn::kRelu, 0, 0, 0},
    {"tanh", Fn::kTanh, 0, 0, 0},
    {"sigmoid", Fn::kSigmoid, 0, 0, 0},
    {"affine", Fn::kAffine, 2, 1, 0},
    {"leakyrelu", Fn::kLeakyRelu, 1, 0.01f, 0},
    {"thresholdedrelu", Fn::kThresholdedRelu, 1, 1, 0},
    {"scaledtanh", Fn::kScaledTanh, 2, 1, 1},
    {"hardsigmoid", Fn::kHardSigmoid, 2, 0.2f, 0.5f},
    {"elu", Fn::kElu, 1, 1, 0},
    {"softsign", Fn::kSoftsign, 0, 0, 0},
    {"softplus", Fn::kSoftplus, 0, 0, 0},
};

bool same_name(Str s, const char* lower) {
  int64_t i = 0;
  for (; i < s.size && lower[i] != 0; ++i) {
    const char c = s.data[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != lower[i]) return false;
  }
  return i == s.size && lower[i] == 0;
}

Status read_activations(const char* op, const Attrs& attrs, Recurrent* r) {
  const int each = r->cell == Cell::kLstm ? 3 : r->cell == Cell::kGru ? 2 : 1;
  const int64_t given = attrs.strings_size("activations");
  // RNN's default lists two names whatever the direction is.
  if (given != 0 && given < each * r->directions) {
    return fail(Status::kInvalidModel, "%s: %" PRId64 " activations, expected %" PRId64, op, given,
                each * r->directions);
  }
  const Floats alphas = attrs.floats("activation_alpha"), betas = attrs.floats("activation_beta");
  int64_t next_alpha = 0, next_beta = 0;
  for (int64_t d = 0; d < r->directions; ++d) {
    for (int k = 0; k < each; ++k) {
      Squash* s = &r->f[d][k];
      s->fn = k == 0 && each > 1 ? Fn::kSigmoid : Fn::kTanh;
      if (given == 0) continue;
      const Str name = attrs.strings_at("activations", d * each + k);
      const FnName* found = nullptr;
      for (const FnName& n : kFns) {
        if (same_name(name, n.name)) found = &n;
      }
      if (found == nullptr) {
        return fail(Status::kUnsupported, "%s: unknown activation '%.*s'", op,
                    static_cast<int>(name.size), name.data);
      }
      *s = Squash{found->fn, found->alpha, found->beta};
      // The lists hold values of those functions only that take any.
      if (found->params > 0 && next_alpha < alphas.size) s->alpha = alphas[next_alpha++];
      if (found->params > 1 && next_beta < betas.size) s->beta = betas[next_beta++];
    }
  }
  return Status::kOk;
}

Status read_recurrent(Cell cell, const char* op, const Attrs& attrs, const Shape& x, const Shape& w,
                      const Shape& r, Recurrent* n) {
  *n = Recurrent{};
  n->cell = cell;
  n->gates = static_cast<int64_t>(cell);
  const Str direction = attrs.str("direction", "forward");
  n->reverse = direction == "reverse";
  n->directions = direction == "bidirectional" ? 2 : 1;
  if (n->directions == 1 && !n->reverse && direction != "forward") {
    return fail(Status::kInvalidModel,
                "%s: direction is '%.*s', expected forward, reverse or bidirectional", op,
                static_cast<int>(direction.size), direction.data);
  }
  n->batch_first = attrs.i64("layout", 0) != 0;
  n->coupled = cell == Cell::kLstm && attrs.i64("input_forget", 0) != 0;
  n->linear_before_reset = cell == Cell::kGru && attrs.i64("linear_before_reset", 0) != 0;
  n->clip = attrs.f32("clip", FLT_MAX);
  if (n->clip <= 0) n->clip = FLT_MAX;
  char a[160], b[160], e[160];
  const int64_t hidden = r.rank == 3 ? r[2] : -1;
  int64_t rows = 0;
  const bool fits = x.rank == 3 && w.rank == 3 && hidden >= 0 &&
                    checked_mul(hidden, n->gates, &rows) && w[0] == n->directions &&
                    r[0] == n->directions && w[1] == rows && r[1] == rows && w[2] == x[2] &&
                    attrs.i64("hidden_size", hidden) == hidden;
  if (!fits) {
    return fail(Status::kInvalidModel,
                "%s: X %s, W %s and R %s do not fit: expected W [%" PRId64 ", %" PRId64
                " x hidden, input] and R [.., .., hidden], hidden_size as the attribute says",
                op, format_shape(x, a, sizeof(a)), format_shape(w, b, sizeof(b)),
                format_shape(r, e, sizeof(e)), n->directions, n->gates);
  }
  n->steps = x[n->batch_first ? 1 : 0];
  n->batch = x[n->batch_first ? 0 : 1];
  n->inputs = x[2];
  n->hidden = hidden;
  return read_activations(op, attrs, n);
}

Status expect_shape(const InferContext& c, int i, const Shape& want) {
  if (!c.has(i) || c.shape(i) == want) return Status::kOk;
  char a[160], b[160];
  return fail(Status::kInvalidModel, "%s: input %d has shape %s, expected %s", c.op, i,
              format_shape(c.shape(i), a, sizeof(a)), format_shape(want, b, sizeof(b)));
}

Shape shape_of(std::initializer_list<int64_t> dims) {
  Shape s;
  for (int64_t d : dims) s[s.rank++] = d;
  return s;
}

template <Cell cell>
Status infer_recurrent(InferContext& c) {
  PN_TRY(expect_dtype(c, 0, {DType::kF32, DType::kF16, DType::kBF16}));
  for (int i = 1; i < c.n_in; ++i) {
    if (c.has(i)) PN_TRY(expect_dtype(c, i, {i == 4 ? DType::kI32 : c.dtype(0)}));
  }
  Recurrent n;
  PN_TRY(read_recurrent(cell, c.op, c.attrs, c.shape(0), c.shape(1), c.shape(2), &n));
  const Shape state = n.batch_first ? shape_of({n.batch, n.directions, n.hidden})
                                    : shape_of({n.directions, n.batch, n.hidden});
  PN_TRY(expect_shape(c, 3, shape_of({n.directions, 2 * n.gates * n.hidden})));
  PN_TRY(expect_shape(c, 4, shape_of({n.batch})));
  PN_TRY(expect_shape(c, 5, state));
  PN_TRY(expect_shape(c, 6, state));
  PN_TRY(expect_shape(c, 7, shape_of({n.directions, 3 * n.hidden})));
  c.set(0, c.dtype(0),
        n.batch_first ? shape_of({n.batch, n.steps, n.directions, n.hidden})
                      : shape_of({n.steps, n.directions, n.batch, n.hidden}));
  c.set(1, c.dtype(0), state);
  c.set(2, c.dtype(0), state);
  return Status::kOk;
}

template <Cell cell>
Status run_recurrent(RunContext& c) {
  Recurrent n;
  PN_TRY(read_recurrent(cell, c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(), c.in[2]->shape(),
                        &n));
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  RecurrentOperands o;
  o.x = f.in(0);
  o.w = f.in(1);
  o.r = f.in(2);
  o.bias = f.in(3);
  o.lengths = c.has(4) ? c.in[4]->as<const int32_t>() : nullptr;
  o.h0 = f.in(5);
  o.c0 = f.in(6);
  o.peepholes = f.in(7);
  o.y = f.out(0);
  o.y_h = f.out(1);
  o.y_c = f.out(2);
  if (o.lengths != nullptr) PN_TRY(check_lengths(c.op, o.lengths, n.batch, n.steps));
  const int64_t state = n.directions * n.batch * n.hidden;
  RecurrentState s = {};
  s.gates = scratch.take<float>(n.steps * state * n.gates);
  s.h = scratch.take<float>(state);
  s.h_next = scratch.take<float>(state);
  if (cell == Cell::kLstm) s.cell = scratch.take<float>(state);
  if (cell == Cell::kGru) {
    s.update = scratch.take<float>(state);
    s.reset_h = scratch.take<float>(state);
  }
  run_cells(n, o, s, *c.pool);
  f.flush();
  return Status::kOk;
}

template <Cell cell>
int64_t scratch_recurrent(const InferContext& c) {
  Recurrent n;
  if (read_recurrent(cell, c.op, c.attrs, c.shape(0), c.shape(1), c.shape(2), &n) != Status::kOk)
    return 0;
  ScratchSize size;
  add_f32_operands(c, &size);
  int64_t all = 0;
  if (!checked_mul(n.steps * n.batch, n.directions * n.gates * n.hidden, &all)) all = INT64_MAX;
  size.add(all, 4);
  for (int i = 0; i < 4; ++i) size.add(n.directions * n.batch * n.hidden, 4);
  return size.bytes();
}

}  // namespace

Status check_lengths(const char* op, const int32_t* lengths, int64_t batch, int64_t steps) {
  for (int64_t b = 0; b < batch; ++b) {
    if (lengths[b] < 0 || lengths[b] > steps) {
      return fail(Status::kInvalidModel,
                  "%s: sequence_lens[%" PRId64 "] is %d, expected 0 to %" PRId64, op, b,
                  lengths[b], steps);
    }
  }
  return Status::kOk;
}

extern const OpDef pn_ops_recurrent[] = {
    {"LSTM", 3, 8, 0, 3, 0, infer_recurrent<Cell::kLstm>, run_recurrent<Cell::kLstm>,
     scratch_recurrent<Cell::kLstm>},
    {"GRU", 3, 6, 0, 2, 0, infer_recurrent<Cell::kGru>, run_recurrent<Cell::kGru>,
     scratch_recurrent<Cell::kGru>},
    {"RNN", 3, 6, 0, 2, 0, infer_recurrent<Cell::kRnn>, run_recurrent<Cell::kRnn>,
     scratch_recurrent<Cell::kRnn>},
};
extern const int pn_ops_recurrent_count = sizeof(pn_ops_recurrent) / sizeof(OpDef);

}  // namespace pyneo
