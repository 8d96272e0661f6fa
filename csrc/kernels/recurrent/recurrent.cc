// SPDX-License-Identifier: Apache-2.0
//
// LSTM, GRU and RNN with the default activations (an RNN's may be Relu too): the input's part of every gate is one product over all time
// steps; a step multiplies the state by recurrent weights whose gates lie side by side, unit by unit, and
// finishes the gates in vectors.
//
// The packed operand is R; it holds W as well, since both must be constants:
//   [directions][gates][padded units / V][inputs][V], then [directions][gates][padded units / V][hidden][V]
// so that a product reads every column of vectors from end to end: rows as wide as all gates would touch
// a new page each.
// Gates of the padding lanes are finite and never read back.
#include <cstring>

#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "ops/recurrent.h"
#include "simd/activate.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int kRows = PN_VEC == 16 ? 8 : 4;
// Recurrent weights beyond this are shared between threads step by step; smaller ones stay in one L2.
constexpr int64_t kSharedBytes = int64_t{2} << 20;

struct State {
  int64_t steps, batch, inputs, hidden, units, width, directions;  // units: padded; width: gates * units
  int64_t rows;  // of a step's products: the batch, and what makes six or seven of it a tile of eight
  int32_t gates;
  bool reverse, inside;  // inside: a GRU's candidate is reset after its product (linear_before_reset)
  bool relu;             // an RNN's activation in every direction; Tanh otherwise
};

PN_COLD bool fill(const KernelQuery& q, int gates, State* s) {
  const int states = gates == 4 ? 6 : 5;  // last input with an initial state
  for (int i = 0; i < q.n_in; ++i) {
    if (!q.has(i)) continue;
    if (i > states || q.in[i]->dtype != (i == 4 ? DType::kI32 : DType::kF32)) return false;
    if (i != 2 && q.in[i]->layout != Layout::kPlain) return false;
  }
  for (int o = 0; o < q.n_out; ++o) {
    if (q.out[o] && q.out[o]->layout != Layout::kPlain) return false;
  }
  if (!q.values || !q.values[1] || q.attrs.i64("layout", 0) != 0 || q.attrs.i64("input_forget", 0) != 0) return false;
  if (q.attrs.f32("clip", 0) > 0) return false;
  const int64_t names = q.attrs.strings_size("activations");
  s->relu = false;
  for (int64_t i = 0; i < names; ++i) {
    const Str n = q.attrs.strings_at("activations", i);
    if (gates == 1) {
      const bool relu = n == "Relu" || n == "relu";
      if (!relu && n != "Tanh" && n != "tanh") return false;
      if (i > 0 && relu != s->relu) return false;
      s->relu = relu;
      continue;
    }
    const bool first = i % (gates == 4 ? 3 : 2) == 0;
    if (first ? n != "Sigmoid" && n != "sigmoid" : n != "Tanh" && n != "tanh") return false;
  }
  const Shape &x = q.in[0]->shape, &r = q.in[2]->shape;
  const Str direction = q.attrs.str("direction", "forward");
  s->steps = x[0];
  s->batch = x[1];
  s->inputs = x[2];
  s->hidden = r[2];
  s->units = round_up(r[2], kVec);
  s->rows = kRows == 8 && s->batch % 8 > 5 ? round_up(s->batch, 8) : s->batch;
  s->gates = gates;
  s->width = gates * s->units;
  s->directions = r[0];
  s->reverse = direction == "reverse";
  s->inside = gates == 3 && q.attrs.i64("linear_before_reset", 0) != 0;
  return s->hidden > 0 && s->batch > 0 && s->steps > 0;
}

// --- products ------------------------------------------------------------------------------------

// out[r][c] = init[r][c] + sum over k of x[r][k] * w[k][c] for R rows and C vectors.
struct Product {
  const float* x;
  int64_t x_step;
  const float* w;
  int64_t depth;
  const float* init;
  int64_t init_step;
  float* out;
  int64_t out_step;
};

template <int R, int C>
PN_INLINE void tile(const Product& p, int64_t row, int64_t at) {
  VF acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[r][c] = load(p.init + (row + r) * p.init_step + at + c * kVec);
  }
  const float *x = p.x + row * p.x_step, *w = p.w + at * p.depth;
  const int64_t column = p.depth * kVec;
  for (int64_t k = 0; k < p.depth; ++k, w += kVec) {
    VF v[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) v[c] = load(w + c * column);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const VF s = splat(x[r * p.x_step + k]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) acc[r][c] += v[c] * s;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) store(p.out + (row + r) * p.out_step + at + c * kVec, acc[r][c]);
  }
}

// Columns [at, end) of R rows; `back`: the last ones first.
template <int R, int C>
void band(const Product& p, int64_t row, int64_t at, int64_t end, bool back) {
  constexpr int64_t kWide = C * kVec;
  const int64_t whole = (end - at) / kWide * kWide;
  for (int64_t i = 0; i < whole; i += kWide) tile<R, C>(p, row, at + (back ? whole - kWide - i : i));
  for (int64_t c = at + whole; c < end; c += kVec) tile<R, 1>(p, row, c);
}

// Columns [at, end) of all rows; both are multiples of kVec. Few rows share what weights are loaded, too.
void multiply(const Product& p, int64_t rows, int64_t at, int64_t end, bool back) {
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) band<kRows, 2>(p, r, at, end, back);
  if (kRows > 4 && r + 4 <= rows) {
    band<4, 4>(p, r, at, end, back);
    r += 4;
  }
  if (kRows > 4 && r + 3 == rows) return band<3, 4>(p, r, at, end, back);
  if (r + 2 <= rows) {
    band<2, 4>(p, r, at, end, back);
    r += 2;
  }
  if (r < rows) band<1, 4>(p, r, at, end, back);
}

// --- steps ---------------------------------------------------------------------------------------

struct Machine {
  const State& s;
  const RunContext& c;
  const float *w, *r;         // packed
  float *in, *bias, *inner;   // [directions][steps * batch][width], [directions][width], [directions][units]
  float *rec, *h, *next, *reset, *cell;  // [directions][rows][width or units]
  bool back = false;  // every other step reads its weights from the end: what the one before read last is still near

  bool reversed(int64_t d) const { return s.reverse || d == 1; }
  int64_t time(int64_t d, int64_t step) const { return reversed(d) ? s.steps - 1 - step : step; }
  const float* operand(int i) const { return c.has(i) ? c.in[i]->as<const float>() : nullptr; }

  void start() {
    const float *b = operand(3), *h0 = operand(5), *c0 = operand(6);
    memset(bias, 0, static_cast<size_t>(s.directions * (s.width + s.units)) * sizeof(float));
    for (int64_t d = 0; d < s.directions && b; ++d) {
      for (int g = 0; g < s.gates; ++g) {
        const float* wb = b + (d * 2 * s.gates + g) * s.hidden;
        const float* rb = wb + s.gates * s.hidden;
        const bool apart = s.inside && g == 2;
        for (int64_t u = 0; u < s.hidden; ++u) {
          bias[d * s.width + g * s.units + u] = wb[u] + (apart ? 0 : rb[u]);
          if (apart) inner[d * s.units + u] = rb[u];
        }
      }
    }
    // And next, reset and cell: rows that only fill tiles are there, too.
    memset(h, 0, static_cast<size_t>(4 * s.directions * s.rows * s.units) * sizeof(float));
    for (int64_t i = 0; i < s.directions * s.batch; ++i) {
      const int64_t at = (i / s.batch * s.rows + i % s.batch) * s.units;
      if (h0) memcpy(h + at, h0 + i * s.hidden, static_cast<size_t>(s.hidden) * sizeof(float));
      if (c0 && s.gates == 4) memcpy(cell + at, c0 + i * s.hidden, static_cast<size_t>(s.hidden) * sizeof(float));
    }
  }

  void project() {
    const int64_t rows = s.steps * s.batch, groups = ceil_div(rows, kRows);
    const float* x = operand(0);
    spread(*c.pool, s.directions * groups, kRows * s.inputs * s.width / 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t d = i / groups, row = i % groups * kRows, n = rows - row < kRows ? rows - row : kRows;
        const Product p{x + row * s.inputs, s.inputs, w + d * s.inputs * s.width, s.inputs,
                        bias + d * s.width, 0, in + (d * rows + row) * s.width, s.width};
        multiply(p, n, 0, s.width, false);
      }
    });
  }

  // Gates [from, to) of units [u0, u1), from a state into rec.
  void recur(int64_t d, const float* state, const float* init, int64_t init_step, int from, int to, int64_t u0, int64_t u1) {
    const int64_t rows = d * s.rows;
    // All units: the gates' columns are one run, which fills wide tiles where a gate alone does not.
    const bool whole = u0 == 0 && u1 == s.units;
    if (whole) u1 *= to - from;
    for (int g = from; g < (whole ? from + 1 : to); ++g) {
      const int64_t at = g * s.units;
      const Product p{state + rows * s.units, s.units, r + (d * s.width + at) * s.hidden, s.hidden,
                      init + (init_step ? at : 0), init_step, rec + rows * s.width + at, s.width};
      multiply(p, s.rows, u0, u1, back);
    }
  }

  // Units [u0, u1) of n rows, `step` apart: one run where they are neighbours.
  static void squash(Act kind, float* at, int64_t n, int64_t step, int64_t u0, int64_t u1) {
    if (u1 - u0 == step) u1 += (n - 1) * step, n = 1;
    for (; n > 0; --n, at += step) act_rows(Activation{kind}, at + u0, u1 - u0);
  }
  // Whether sequence b has a step t.
  bool lives(int64_t t, int64_t b) const { return !c.has(4) || t < c.in[4]->as<const int32_t>()[b]; }

  // A step, but for a GRU's candidate where its product waits for the reset.
  void first(int64_t d, int64_t t, int64_t u0, int64_t u1) {
    const float* inputs = in + (d * s.steps + t) * s.batch * s.width;
    if (s.gates != 3) {
      recur(d, h, inputs, s.width, 0, s.gates, u0, u1);
    } else {
      for (const bool last : {back, !back}) {
        if (!last) recur(d, h, inputs, s.width, 0, 2, u0, u1);
        if (last && s.inside) recur(d, h, inner + d * s.units, 0, 2, 3, u0, u1);
      }
    }
    for (int64_t b = 0; b < s.batch; ++b) {
      const int64_t row = (d * s.rows + b) * s.units;
      float *g = rec + (d * s.rows + b) * s.width, *to = next + row;
      if (s.gates == 4) {  // input, output, forget, cell
        squash(Act::kSigmoid, g, 3, s.units, u0, u1);
        squash(Act::kTanh, g + 3 * s.units, 1, s.units, u0, u1);
        float* old = cell + row;
        const bool live = lives(t, b);
        for (int64_t u = u0; u < u1; u += kVec) {
          const VF now = load(g + 2 * s.units + u) * load(old + u) + load(g + u) * load(g + 3 * s.units + u);
          if (live) store(old + u, now);
          store(to + u, now);
        }
      } else if (s.gates == 3) {  // update, reset
        squash(Act::kSigmoid, g, 2, s.units, u0, u1);
        const float* x = s.inside ? inputs + b * s.width + 2 * s.units : nullptr;
        for (int64_t u = u0; u < u1; u += kVec) {
          const VF keep = load(g + s.units + u);
          if (x != nullptr) {
            store(to + u, load(x + u) + keep * load(g + 2 * s.units + u));
          } else {
            store(reset + row + u, keep * load(h + row + u));
          }
        }
      }
    }
    if (s.gates != 3 || s.inside) finish_step(d, t, u0, u1, s.gates == 1 ? 0 : -1);
  }

  void candidate(int64_t d, int64_t t, int64_t u0, int64_t u1) {
    recur(d, reset, in + (d * s.steps + t) * s.batch * s.width, s.width, 2, 3, u0, u1);
    finish_step(d, t, u0, u1, 2);
  }

  // The last activation, of what is in `next` or of a gate, and what comes behind it.
  void finish_step(int64_t d, int64_t t, int64_t u0, int64_t u1, int gate) {
    for (int64_t b = 0; b < s.batch && gate >= 0; ++b) {
      const int64_t row = d * s.rows + b;
      for (int64_t u = u0; u < u1; u += kVec) store(next + row * s.units + u, load(rec + row * s.width + gate * s.units + u));
    }
    squash(s.relu ? Act::kRelu : Act::kTanh, next + d * s.rows * s.units, s.batch, s.units, u0, u1);
    for (int64_t b = 0; b < s.batch; ++b) {
      const int64_t row = (d * s.rows + b) * s.units;
      const float* g = rec + (d * s.rows + b) * s.width;
      const bool live = lives(t, b);  // or the state stays, and the output is zero
      float* y = c.wants(0) ? c.out[0]->as<float>() + ((t * s.directions + d) * s.batch + b) * s.hidden : nullptr;
      for (int64_t u = u0; u < u1; u += kVec) {
        const VF old = load(h + row + u);
        VF v = load(next + row + u);
        if (s.gates == 4) v *= load(g + s.units + u);
        if (s.gates == 3) v += load(g + u) * (old - v);
        store(next + row + u, live ? v : old);
        if (y == nullptr) continue;
        if (!live) v = VF{};
        if (s.hidden - u >= kVec) {
          store(y + u, v);
        } else {
          store_n(y + u, v, static_cast<int>(s.hidden - u));
        }
      }
    }
  }

  void swap() {
    float* last = h;
    h = next;
    next = last;
    back = !back;
  }

  void finish() const {
    for (int o = 1; o < 3; ++o) {
      if (!c.wants(o)) continue;
      const float* from = o == 1 ? h : cell;
      float* y = c.out[o]->as<float>();
      for (int64_t i = 0; i < s.directions * s.batch; ++i) {
        const int64_t at = (i / s.batch * s.rows + i % s.batch) * s.units;
        memcpy(y + i * s.hidden, from + at, static_cast<size_t>(s.hidden) * sizeof(float));
      }
    }
  }

  void run() {
    start();
    project();
    const bool two = s.gates == 3 && !s.inside;
    const int64_t blocks = s.units / kVec;
    int64_t parts = s.hidden * s.width * 4 > kSharedBytes ? c.pool->size() : 1;
    if (parts > blocks) parts = blocks;
    if (parts == 1) {  // directions apart, each with its own swaps
      float* after[2] = {h, h};
      auto whole = [&](int64_t d, int) {
        Machine m = *this;
        for (int64_t step = 0; step < s.steps; ++step) {
          m.first(d, time(d, step), 0, s.units);
          if (two) m.candidate(d, time(d, step), 0, s.units);
          m.swap();
        }
        after[d] = m.h;
      };
      if (s.batch * s.hidden * s.width * s.steps < 16 * kGrain) {
        for (int64_t d = 0; d < s.directions; ++d) whole(d, 0);
      } else {
        c.pool->run(s.directions, whole);
      }
      h = after[0];
      return finish();
    }
    for (int64_t step = 0; step < s.steps; ++step) {
      auto each = [&](auto&& f) {
        c.pool->run(s.directions * parts, [&](int64_t i, int) {
          const int64_t d = i / parts, p = i % parts;
          f(d, time(d, step), blocks * p / parts * kVec, blocks * (p + 1) / parts * kVec);
        });
      };
      each([&](int64_t d, int64_t t, int64_t u0, int64_t u1) { first(d, t, u0, u1); });
      if (two) each([&](int64_t d, int64_t t, int64_t u0, int64_t u1) { candidate(d, t, u0, u1); });
      swap();
    }
    finish();
  }
};

int64_t scratch_floats(const State& s) {
  const int64_t rows = s.directions * s.rows;
  return (s.directions * s.steps * s.batch + s.rows - s.batch) * s.width + s.directions * (s.width + s.units) + rows * (s.width + 4 * s.units);
}

// --- table ---------------------------------------------------------------------------------------

template <int gates>
PN_COLD bool accepts(const KernelQuery& q) {
  State s;
  return fill(q, gates, &s);
}
template <int gates>
PN_COLD float cost(const KernelQuery& q) {
  State s;
  if (!fill(q, gates, &s)) return 0;
  const double macs = static_cast<double>(s.directions * s.steps * s.batch * s.width) * static_cast<double>(s.inputs + s.hidden);
  return static_cast<float>(macs * (kVec == 16 ? 3e-5 : 6e-5) + 1);
}
template <int gates>
PN_COLD int64_t packed_bytes(const KernelQuery& q) {
  State s;
  return fill(q, gates, &s) ? s.directions * (s.inputs + s.hidden) * s.width * 4 : 0;
}

// to[gate][unit / V][k][unit % V] = from[gate][unit][k] for each direction.
PN_COLD void pack_matrix(const State& s, const float* from, int64_t depth, float* to) {
  for (int64_t d = 0; d < s.directions; ++d) {
    for (int g = 0; g < s.gates; ++g) {
      for (int64_t u = 0; u < s.hidden; ++u, from += depth) {
        for (int64_t k = 0; k < depth; ++k) to[((d * s.width + g * s.units) / kVec + u / kVec) * depth * kVec + k * kVec + u % kVec] = from[k];
      }
    }
  }
}
template <int gates>
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  State s;
  if (!fill(q, gates, &s)) return;
  float* to = static_cast<float*>(packed);
  pack_matrix(s, static_cast<const float*>(q.values[1]), s.inputs, to);
  pack_matrix(s, static_cast<const float*>(plain), s.hidden, to + s.directions * s.inputs * s.width);
}
template <int gates>
int64_t scratch(const KernelQuery& q) {
  State s;
  return fill(q, gates, &s) ? scratch_floats(s) * 4 : 0;
}
template <int gates>
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  if (fill(q, gates, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "a recurrent kernel was prepared for operands it does not accept");
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  if (c.has(4)) PN_TRY(check_lengths(c.op, c.in[4]->as<const int32_t>(), s.batch, s.steps));
  float* at = static_cast<float*>(c.scratch);
  auto take = [&](int64_t n) {
    float* p = at;
    at += n;
    return p;
  };
  const int64_t rows = s.directions * s.rows;
  const float* w = c.in[2]->as<const float>();
  Machine m{s, c, w, w + s.directions * s.inputs * s.width, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  m.in = take((s.directions * s.steps * s.batch + s.rows - s.batch) * s.width);
  m.bias = take(s.directions * s.width);
  m.inner = take(s.directions * s.units);
  m.rec = take(rows * s.width);
  m.h = take(rows * s.units);
  m.next = take(rows * s.units);
  m.reset = take(rows * s.units);
  m.cell = take(rows * s.units);
  m.run();
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

// The packing depends on the vector's width, and so does the name.
#if PN_VEC == 16
#define PN_WIDTH "x16"
#else
#define PN_WIDTH "x8"
#endif
#define PN_ROW(name, op, gates)                                                                              \
  {name "_" PN_WIDTH, op, Layout::kPlain, Layout::kPlain, 2, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts<gates>, \
   PN_TIER::cost<gates>, PN_TIER::packed_bytes<gates>, PN_TIER::pack<gates>, PN_TIER::scratch<gates>,        \
   nullptr, PN_TIER::prepare<gates>, PN_TIER::run)}

PN_KERNEL_TABLE(recurrent)
PN_KERNEL_ROWS(recurrent) = {
    PN_ROW("f32_lstm", "LSTM", 4),
    PN_ROW("f32_gru", "GRU", 3),
    PN_ROW("f32_rnn", "RNN", 1),
};
PN_KERNEL_COUNT(recurrent);

}  // namespace pyneo
