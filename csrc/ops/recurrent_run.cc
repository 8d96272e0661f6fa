// SPDX-License-Identifier: Apache-2.0
//
// The time loop of LSTM, GRU and RNN.
//
// The input's part of every gate is one product over all time steps; then each step is parallel
// over directions and blocks of hidden units, since a unit needs all of the last state but only its
// own gates.
#include <cmath>
#include <cstring>

#include "ops/recurrent.h"

namespace pyneo {

float Squash::operator()(float x) const {
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

namespace {

constexpr int64_t kUnits = 32;  // hidden units of a task
constexpr int64_t kRows = 32;   // rows of W or R whose products one pass makes

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

class Machine {
 public:
  Machine(const Recurrent& n, const RecurrentOperands& o, const RecurrentState& s, const Pool& pool)
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
      next[u] =
          f(clip(o)) * h(cell[u]);  // gates are clipped, the cell is not: as ONNX Runtime does
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
  const RecurrentOperands& o_;
  RecurrentState s_;
  const Pool& pool_;
};

}  // namespace

void run_cells(const Recurrent& n, const RecurrentOperands& operands, const RecurrentState& state,
               const Pool& pool) {
  Machine(n, operands, state, pool).run();
}

}  // namespace pyneo
