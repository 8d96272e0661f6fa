// SPDX-License-Identifier: Apache-2.0
//
// LSTM, GRU and RNN: both directions, both layouts, peepholes, clip, sequence lengths, custom
// activations.
//
// The input's part of every gate is one product over all time steps; then each step is parallel
// over directions and blocks of hidden units, since a unit needs all of the last state but only its
// own gates.
#include <cfloat>
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "ops/narrow.h"

namespace pyneo {
namespace {

enum class Cell { kRnn = 1, kGru = 3, kLstm = 4 };  // the number is the number of gates

constexpr int64_t kUnits = 32;  // hidden units of a task
constexpr int64_t kRows = 32;   // rows of W or R whose products one pass makes

// --- Activation functions --------------------------------------------------------------------

enum class Fn {
  kRelu,
  kTanh,
  kSigmoid,
  kAffine,
  kLeakyRelu,
  kThresholdedRelu,
  kScaledTanh,
  kHardSigmoid,
  kElu,
  kSoftsign,
  kSoftplus
};

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

struct Squash {
  Fn fn = Fn::kTanh;
  float alpha = 0, beta = 0;

  float operator()(float x) const {
    switch (fn) {
      case Fn::kRelu:
        return x < 0 ? 0 : x;
      case Fn::kTanh:
        return tanhf(x);
      case Fn::kSigmoid:
        return 1 / (1 + expf(-x));
      case Fn::kAffine:
        return alpha * x + beta;
      case Fn::kLeakyRelu:
        return x < 0 ? alpha * x : x;
      case Fn::kThresholdedRelu:
        return x < alpha ? 0 : x;
      case Fn::kScaledTanh:
        return alpha * tanhf(beta * x);
      case Fn::kHardSigmoid:
        return fminf(fmaxf(alpha * x + beta, 0), 1);
      case Fn::kElu:
        return x < 0 ? alpha * expm1f(x) : x;
      case Fn::kSoftsign:
        return x / (1 + fabsf(x));
      case Fn::kSoftplus:
        return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
    }
    return x;
  }
};

bool same_name(Str s, const char* lower) {
  int64_t i = 0;
  for (; i < s.size && lower[i] != 0; ++i) {
    const char c = s.data[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != lower[i]) return false;
  }
  return i == s.size && lower[i] == 0;
}

// --- The node ---------------------------------------------------------------------------------

struct Recurrent {
  Cell cell = Cell::kRnn;
  int64_t steps = 0, batch = 0, inputs = 0, hidden = 0, directions = 1;
  int64_t gates = 1;
  bool batch_first = false, reverse = false, coupled = false, linear_before_reset = false;
  float clip = FLT_MAX;
  Squash f[2][3];  // by direction: gates, cell or candidate, output

  // Offsets of a row of X, Y and of a state.
  int64_t x_at(int64_t t, int64_t b) const {
    return (batch_first ? b * steps + t : t * batch + b) * inputs;
  }
  int64_t y_at(int64_t t, int64_t d, int64_t b) const {
    return (batch_first ? (b * steps + t) * directions + d : (t * directions + d) * batch + b) *
           hidden;
  }
  int64_t state_at(int64_t d, int64_t b) const {
    return (batch_first ? b * directions + d : d * batch + b) * hidden;
  }
};

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

// --- Running ----------------------------------------------------------------------------------

// out[r] = sum over k of rows[r][k] * x[k]; four rows at once, eight partial sums each.
void dots(const float* rows, int64_t count, const float* x, int64_t n, float* out) {
  for (int64_t r = 0; r < count; r += 4) {
    const float* row[4];
    for (int64_t q = 0; q < 4; ++q) row[q] = rows + (r + q < count ? r + q : count - 1) * n;
    float sum[4][8] = {};
    int64_t k = 0;
    for (; k + 8 <= n; k += 8) {
      for (int q = 0; q < 4; ++q) {
        for (int l = 0; l < 8; ++l) sum[q][l] += row[q][k + l] * x[k + l];
      }
    }
    for (int64_t q = 0; q < 4 && r + q < count; ++q) {
      float total = 0;
      for (int l = 0; l < 8; ++l) total += sum[q][l];
      for (int64_t t = k; t < n; ++t) total += row[q][t] * x[t];
      out[r + q] = total;
    }
  }
}

struct Operands {
  const float *x, *w, *r, *bias, *h0, *c0, *peepholes;
  const int32_t* lengths;
  float *y, *y_h, *y_c;
};

// All [directions][batch][hidden] but gates: [directions][steps * batch][gates * hidden].
struct State {
  float *gates, *h, *h_next, *cell, *update, *reset_h;
};

class Machine {
 public:
  Machine(const Recurrent& n, const Operands& o, const State& s, const Pool& pool)
      : n_(n), o_(o), s_(s), pool_(pool) {}

  void run() {
    start();
    project_input();
    const int64_t blocks = ceil_div(n_.hidden, kUnits);
    for (int64_t step = 0; step < n_.steps; ++step) {
      pool_.run(n_.directions * blocks,
                [&](int64_t task, int) { advance(step, task / blocks, task % blocks * kUnits); });
      if (n_.cell == Cell::kGru && !n_.linear_before_reset) {
        pool_.run(n_.directions * blocks, [&](int64_t task, int) {
          candidate(step, task / blocks, task % blocks * kUnits);
        });
      }
      float* last = s_.h;
      s_.h = s_.h_next;
      s_.h_next = last;
    }
    finish();
  }

 private:
  bool reversed(int64_t d) const { return n_.reverse || d == 1; }
  int64_t length(int64_t b) const { return o_.lengths != nullptr ? o_.lengths[b] : n_.steps; }
  // Time that direction d works on in this step: padding stays at the end in both directions.
  int64_t time(int64_t step, int64_t d, int64_t b) const {
    return reversed(d) ? length(b) - 1 - step : step;
  }
  int64_t at(int64_t d, int64_t b) const { return (d * n_.batch + b) * n_.hidden; }
  float clip(float v) const { return v < -n_.clip ? -n_.clip : v > n_.clip ? n_.clip : v; }

  void start() {
    for (int64_t d = 0; d < n_.directions; ++d) {
      for (int64_t b = 0; b < n_.batch; ++b) {
        load(o_.h0, d, b, s_.h);
        if (n_.cell == Cell::kLstm) load(o_.c0, d, b, s_.cell);
      }
    }
    const int64_t total = n_.steps * n_.directions * n_.batch * n_.hidden;
    if (o_.y != nullptr && o_.lengths != nullptr && total > 0)
      memset(o_.y, 0, static_cast<size_t>(total) * 4);
  }

  void load(const float* from, int64_t d, int64_t b, float* to) const {
    for (int64_t u = 0; u < n_.hidden; ++u)
      to[at(d, b) + u] = from != nullptr ? from[n_.state_at(d, b) + u] : 0;
  }

  // gates = W x + Wb + Rb; Rb of a GRU's candidate is left out where it belongs inside the reset.
  void project_input() {
    const int64_t width = n_.gates * n_.hidden, rows = n_.steps * n_.batch,
                  blocks = ceil_div(width, kRows);
    pool_.run(n_.directions * blocks, [&](int64_t task, int) {
      const int64_t d = task / blocks, from = task % blocks * kRows,
                    count = width - from < kRows ? width - from : kRows;
      const float* bias = o_.bias != nullptr ? o_.bias + d * 2 * width : nullptr;
      for (int64_t row = 0; row < rows; ++row) {
        float* out = s_.gates + (d * rows + row) * width + from;
        dots(o_.w + (d * width + from) * n_.inputs, count,
             o_.x + n_.x_at(row / n_.batch, row % n_.batch), n_.inputs, out);
        for (int64_t g = 0; g < count && bias != nullptr; ++g) {
          const bool inside = n_.linear_before_reset && from + g >= 2 * n_.hidden;
          out[g] += bias[from + g] + (inside ? 0 : bias[width + from + g]);
        }
      }
    });
  }

  // One step of units [u0, u0 + kUnits) of direction d.
  void advance(int64_t step, int64_t d, int64_t u0) {
    const int64_t units = n_.hidden - u0 < kUnits ? n_.hidden - u0 : kUnits,
                  width = n_.gates * n_.hidden;
    for (int64_t b = 0; b < n_.batch; ++b) {
      float* next = s_.h_next + at(d, b) + u0;
      const float* h = s_.h + at(d, b);
      if (step >= length(b)) {
        memcpy(next, h + u0, static_cast<size_t>(units) * 4);
        continue;
      }
      const int64_t t = time(step, d, b);
      const float* in = s_.gates + ((d * n_.steps + t) * n_.batch + b) * width + u0;
      float rec[4][kUnits];
      for (int64_t g = 0; g < n_.gates; ++g) {
        if (n_.cell == Cell::kGru && g == 2 && !n_.linear_before_reset) break;
        dots(o_.r + ((d * n_.gates + g) * n_.hidden + u0) * n_.hidden, units, h, n_.hidden, rec[g]);
      }
      switch (n_.cell) {
        case Cell::kRnn:
          for (int64_t u = 0; u < units; ++u) next[u] = n_.f[d][0](clip(in[u] + rec[0][u]));
          break;
        case Cell::kGru:
          gru(d, b, u0, units, in, rec, next);
          break;
        case Cell::kLstm:
          lstm(d, b, u0, units, in, rec, next);
          break;
      }
      if (n_.cell != Cell::kGru || n_.linear_before_reset) emit(t, d, b, u0, units, next);
    }
  }

  void lstm(int64_t d, int64_t b, int64_t u0, int64_t units, const float* in,
            const float (*rec)[kUnits], float* next) {
    const int64_t hidden = n_.hidden;
    const float* p =
        o_.peepholes != nullptr ? o_.peepholes + d * 3 * hidden + u0 : nullptr;  // i, o, f
    float* cell = s_.cell + at(d, b) + u0;
    const Squash &f = n_.f[d][0], &g = n_.f[d][1], &h = n_.f[d][2];
    for (int64_t u = 0; u < units; ++u) {
      const float old = cell[u];
      float i = in[u] + rec[0][u], o = in[hidden + u] + rec[1][u],
            forget = in[2 * hidden + u] + rec[2][u];
      const float c = g(clip(in[3 * hidden + u] + rec[3][u]));
      if (p != nullptr) {
        i += p[u] * old;
        forget += p[2 * hidden + u] * old;
      }
      i = f(clip(i));
      forget = n_.coupled ? 1 - i : f(clip(forget));
      cell[u] = forget * old + i * c;
      if (p != nullptr) o += p[hidden + u] * cell[u];
      next[u] = f(clip(o)) * h(cell[u]);  // gates are clipped, the cell is not: as ONNX Runtime does
    }
  }

  void gru(int64_t d, int64_t b, int64_t u0, int64_t units, const float* in,
           const float (*rec)[kUnits], float* next) {
    const int64_t hidden = n_.hidden, state = at(d, b) + u0;
    const float* inner =
        o_.bias != nullptr ? o_.bias + (d * 6 + 5) * hidden + u0 : nullptr;  // Rb of the candidate
    const Squash &f = n_.f[d][0], &g = n_.f[d][1];
    for (int64_t u = 0; u < units; ++u) {
      const float z = f(clip(in[u] + rec[0][u])), r = f(clip(in[hidden + u] + rec[1][u])),
                  old = s_.h[state + u];
      if (n_.linear_before_reset) {
        const float c =
            g(clip(in[2 * hidden + u] + r * (rec[2][u] + (inner != nullptr ? inner[u] : 0))));
        next[u] = (1 - z) * c + z * old;
      } else {
        s_.update[state + u] = z;
        s_.reset_h[state + u] = r * old;
      }
    }
  }

  // Second half of a GRU step: the candidate needs every unit's reset state.
  void candidate(int64_t step, int64_t d, int64_t u0) {
    const int64_t units = n_.hidden - u0 < kUnits ? n_.hidden - u0 : kUnits, hidden = n_.hidden;
    for (int64_t b = 0; b < n_.batch; ++b) {
      if (step >= length(b)) continue;
      const int64_t t = time(step, d, b), state = at(d, b) + u0;
      const float* in =
          s_.gates + ((d * n_.steps + t) * n_.batch + b) * 3 * hidden + 2 * hidden + u0;
      float rec[kUnits];
      dots(o_.r + ((d * 3 + 2) * hidden + u0) * hidden, units, s_.reset_h + at(d, b), hidden, rec);
      for (int64_t u = 0; u < units; ++u) {
        const float z = s_.update[state + u], c = n_.f[d][1](clip(in[u] + rec[u]));
        s_.h_next[state + u] = (1 - z) * c + z * s_.h[state + u];
      }
      emit(t, d, b, u0, units, s_.h_next + state);
    }
  }

  void emit(int64_t t, int64_t d, int64_t b, int64_t u0, int64_t units, const float* h) const {
    if (o_.y != nullptr) memcpy(o_.y + n_.y_at(t, d, b) + u0, h, static_cast<size_t>(units) * 4);
  }

  void finish() const {
    for (int64_t d = 0; d < n_.directions; ++d) {
      for (int64_t b = 0; b < n_.batch; ++b) {
        for (int64_t u = 0; u < n_.hidden; ++u) {
          if (o_.y_h != nullptr) o_.y_h[n_.state_at(d, b) + u] = s_.h[at(d, b) + u];
          if (o_.y_c != nullptr) o_.y_c[n_.state_at(d, b) + u] = s_.cell[at(d, b) + u];
        }
      }
    }
  }

  const Recurrent& n_;
  const Operands& o_;
  State s_;
  const Pool& pool_;
};

template <Cell cell>
Status run_recurrent(RunContext& c) {
  Recurrent n;
  PN_TRY(read_recurrent(cell, c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(), c.in[2]->shape(),
                        &n));
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  Operands o;
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
  for (int64_t b = 0; b < n.batch && o.lengths != nullptr; ++b) {
    if (o.lengths[b] < 0 || o.lengths[b] > n.steps) {
      return fail(Status::kInvalidModel,
                  "%s: sequence_lens[%" PRId64 "] is %d, expected 0 to %" PRId64, c.op, b,
                  o.lengths[b], n.steps);
    }
  }
  const int64_t state = n.directions * n.batch * n.hidden;
  State s = {};
  s.gates = scratch.take<float>(n.steps * state * n.gates);
  s.h = scratch.take<float>(state);
  s.h_next = scratch.take<float>(state);
  if (cell == Cell::kLstm) s.cell = scratch.take<float>(state);
  if (cell == Cell::kGru) {
    s.update = scratch.take<float>(state);
    s.reset_h = scratch.take<float>(state);
  }
  Machine(n, o, s, *c.pool).run();
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
