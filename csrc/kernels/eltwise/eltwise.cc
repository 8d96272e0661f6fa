// SPDX-License-Identifier: Apache-2.0
//
// Element-wise operators, alone or as a chain (`Eltwise`), in plain and channel-blocked layouts.
//
// Every operator here becomes a chain of row functions (rows.h). The output is cut into rows along
// which each operand is either contiguous or one repeated vector: a scalar, or the V channels of a
// block. Rows run in tiles, so that a chain's intermediate results stay in L1.
#include <cstring>

#include "kernels/eltwise/rows.h"
#include "kernels/kernel.h"
#include "kernels/spread.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int kOuter = 3;            // dims outside of a row
constexpr int kSlots = 6;            // intermediate results alive at once
constexpr int64_t kTileFloats = 1024;

enum class Along : uint8_t { kContiguous, kScalar, kChannels };  // an operand along a row

struct State {
  int32_t steps, inputs;
  ChainStep step[kMaxChainSteps];
  int8_t slot[kMaxChainSteps];       // where a step's result lies; -1: in the output
  int32_t work;                      // of an element, in kGrain's unit
  int64_t row;                       // floats
  int64_t outer[kOuter];
  int64_t tail_block;                // block (of outer[1]) with fewer than V channels in plain operands, or -1
  int32_t tail_live;
  Along along[kMaxChainInputs];
  int64_t stride[kMaxChainInputs][kOuter];  // floats
};
static_assert(sizeof(State) <= kMaxKernelState, "the state of a kernel is bounded");

// --- what an operator is ------------------------------------------------------------------------

struct OpRow {
  const char* op;
  Fn fn;
  const char* alpha_name;
  float alpha;
  const char* beta_name;
  float beta;
};

constexpr OpRow kOps[] = {
    {"Relu", Fn::kRelu, nullptr, 0, nullptr, 0},
    {"LeakyRelu", Fn::kLeakyRelu, "alpha", 0.01f, nullptr, 0},
    {"Sigmoid", Fn::kSigmoid, nullptr, 0, nullptr, 0},
    {"Tanh", Fn::kTanh, nullptr, 0, nullptr, 0},
    {"HardSigmoid", Fn::kHardSigmoid, "alpha", 0.2f, "beta", 0.5f},
    {"HardSwish", Fn::kHardSwish, nullptr, 0, nullptr, 0},
    {"Elu", Fn::kElu, "alpha", 1, nullptr, 0},
    {"Softplus", Fn::kSoftplus, nullptr, 0, nullptr, 0},
    {"Mish", Fn::kMish, nullptr, 0, nullptr, 0},
    {"Swish", Fn::kSwish, "alpha", 1, nullptr, 0},
    {"Exp", Fn::kExp, nullptr, 0, nullptr, 0},
    {"Log", Fn::kLog, nullptr, 0, nullptr, 0},
    {"Sqrt", Fn::kSqrt, nullptr, 0, nullptr, 0},
    {"Abs", Fn::kAbs, nullptr, 0, nullptr, 0},
    {"Neg", Fn::kNeg, nullptr, 0, nullptr, 0},
    {"Reciprocal", Fn::kReciprocal, nullptr, 0, nullptr, 0},
    {"Erf", Fn::kErf, nullptr, 0, nullptr, 0},
    {"Floor", Fn::kFloor, nullptr, 0, nullptr, 0},
    {"Ceil", Fn::kCeil, nullptr, 0, nullptr, 0},
    {"Round", Fn::kRound, nullptr, 0, nullptr, 0},
    {"Add", Fn::kAdd, nullptr, 0, nullptr, 0},
    {"Sub", Fn::kSub, nullptr, 0, nullptr, 0},
    {"Mul", Fn::kMul, nullptr, 0, nullptr, 0},
    {"Div", Fn::kDiv, nullptr, 0, nullptr, 0},
    {"PRelu", Fn::kPrelu, nullptr, 0, nullptr, 0},
    {"Max", Fn::kMax, nullptr, 0, nullptr, 0},
    {"Min", Fn::kMin, nullptr, 0, nullptr, 0},
    {"Sum", Fn::kAdd, nullptr, 0, nullptr, 0},
    // The rest is told apart by name in build().
    {"Gelu", Fn::kGelu, nullptr, 0, nullptr, 0},
    {"com.microsoft.BiasGelu", Fn::kGelu, nullptr, 0, nullptr, 0},
    {"com.microsoft.FastGelu", Fn::kGeluTanh, nullptr, 0, nullptr, 0},
    {"Clip", Fn::kClip, nullptr, 0, nullptr, 0},
    {"Pow", Fn::kSquare, nullptr, 0, nullptr, 0},
    {"Eltwise", Fn::kNone, nullptr, 0, nullptr, 0},
};
constexpr int kOpCount = sizeof(kOps) / sizeof(kOps[0]);

void push(Chain* c, Fn fn, int a, int b = -1, float alpha = 0, float beta = 0) {
  c->step[c->steps++] = {fn, static_cast<int8_t>(a), static_cast<int8_t>(b), alpha, beta};
}
int last(const Chain& c) { return 8 + c.steps - 1; }

bool known_scalar(const KernelQuery& q, int i, float* v) {
  if (!q.values || !q.values[i] || q.in[i]->dtype != DType::kF32 || q.in[i]->elements() != 1) return false;
  *v = *static_cast<const float*>(q.values[i]);
  return true;
}

bool is(const OpRow& row, const char* name) { return __builtin_strcmp(row.op, name) == 0; }

// The chain of a node; false where it has none. `used` is the number of inputs that are read.
PN_COLD bool build(const OpRow& row, const KernelQuery& q, Chain* c, int* used) {
  c->steps = 0;
  *used = q.n_in;
  if (is(row, "Eltwise")) return read_chain(q.attrs, "Eltwise", q.n_in, c) == Status::kOk;
  if (is(row, "Clip")) {
    float lo = -INFINITY, hi = INFINITY;
    if ((q.has(1) && !known_scalar(q, 1, &lo)) || (q.has(2) && !known_scalar(q, 2, &hi))) return false;
    push(c, row.fn, 0, -1, lo, hi);
    *used = 1;
    return true;
  }
  if (is(row, "Pow")) {
    float e = 0;
    if (!known_scalar(q, 1, &e)) return false;
    *used = 1;
    if (e == 2.0f || e == 3.0f) push(c, Fn::kSquare, 0);
    if (e == 3.0f) push(c, Fn::kMul, 8, 0);
    if (e == 0.5f || e == -0.5f) push(c, Fn::kSqrt, 0);
    if (e == -0.5f) push(c, Fn::kReciprocal, 8);
    if (e == -1.0f) push(c, Fn::kReciprocal, 0);
    return c->steps > 0;
  }
  if (is(row, "com.microsoft.BiasGelu") || is(row, "com.microsoft.FastGelu")) {
    if (q.has(1)) push(c, Fn::kAdd, 0, 1);
    *used = q.has(1) ? 2 : 1;
    push(c, row.fn, q.has(1) ? 8 : 0);
    return true;
  }
  if (is(row, "Gelu")) {
    push(c, q.attrs.str("approximate", "none") == "tanh" ? Fn::kGeluTanh : row.fn, 0);
    return true;
  }
  if (!is_binary(row.fn)) {
    push(c, row.fn, 0, -1, row.alpha_name ? q.attrs.f32(row.alpha_name, row.alpha) : 0,
         row.beta_name ? q.attrs.f32(row.beta_name, row.beta) : 0);
    return true;
  }
  if (q.n_in < 2 || q.n_in > kMaxChainInputs) return false;
  for (int i = 1; i < q.n_in; ++i) push(c, row.fn, i == 1 ? 0 : last(*c), i);
  Activation act;
  for (const char* prefix : {"act", "post_act"}) {
    if (read_activation(q.attrs, row.op, prefix, &act) != Status::kOk) return false;
    if (act.kind != Act::kNone) push(c, fn_of(act.kind), last(*c), -1, act.alpha, act.beta);
  }
  return true;
}

// Gives each intermediate result a tile that is free by then; false if there are too few.
PN_COLD bool assign_slots(const Chain& c, int8_t* slot) {
  int8_t last_use[kMaxChainSteps];
  for (int k = 0; k < c.steps; ++k) last_use[k] = static_cast<int8_t>(k);
  for (int k = 0; k < c.steps; ++k) {
    if (c.step[k].a >= 8) last_use[c.step[k].a - 8] = static_cast<int8_t>(k);
    if (c.step[k].b >= 8) last_use[c.step[k].b - 8] = static_cast<int8_t>(k);
  }
  int8_t busy_until[kSlots];
  for (int8_t& b : busy_until) b = -1;
  for (int k = 0; k < c.steps - 1; ++k) {
    int s = 0;
    while (s < kSlots && busy_until[s] > k) ++s;  // an operand that dies here may be overwritten in place
    if (s == kSlots) return false;
    slot[k] = static_cast<int8_t>(s);
    busy_until[s] = last_use[k];
  }
  slot[c.steps - 1] = -1;
  return true;
}

// --- geometry ------------------------------------------------------------------------------------

struct Dims {
  int rank = 0;
  int64_t size[kMaxRank + 1];
  int64_t stride[kMaxChainInputs][kMaxRank + 1];
};

// Strides of operand i of a plain output, numpy rules; 0 where it is repeated.
PN_COLD void plain_strides(const Shape& y, const Shape& x, int64_t* stride) {
  int64_t step = 1;
  for (int d = y.rank - 1; d >= 0; --d) {
    const int k = d - (y.rank - x.rank);
    const int64_t n = k >= 0 ? x[k] : 1;
    stride[d] = n == 1 ? 0 : step;
    step *= n;
  }
}

// Merges dims that every operand walks as one.
PN_COLD void collapse(Dims* d, int inputs) {
  int out = 0;
  for (int k = 0; k < d->rank; ++k) {
    if (d->size[k] == 1 && d->rank > 1 && !(k == d->rank - 1 && out == 0)) continue;
    bool merge = out > 0;
    for (int i = 0; i < inputs && merge; ++i) merge = d->stride[i][out - 1] == d->stride[i][k] * d->size[k];
    if (!merge) ++out;
    const int64_t before = merge ? d->size[out - 1] : 1;
    d->size[out - 1] = before * d->size[k];
    for (int i = 0; i < inputs; ++i) d->stride[i][out - 1] = d->stride[i][k];
  }
  d->rank = out;
}

PN_COLD bool geometry(const KernelQuery& q, int inputs, State* s) {
  const TensorDesc& y = *q.out[0];
  s->tail_block = -1;
  s->tail_live = kVec;
  for (int64_t& n : s->outer) n = 1;
  memset(s->along, 0, sizeof(s->along));
  memset(s->stride, 0, sizeof(s->stride));
  bool flat = true;
  for (int i = 0; i < inputs; ++i) flat &= q.in[i]->layout == y.layout && q.in[i]->shape == y.shape;
  if (flat) {
    s->row = y.bytes() / 4;
    return true;
  }
  if (y.layout == Layout::kPlain) {
    Dims d;
    d.rank = y.shape.rank;
    for (int k = 0; k < d.rank; ++k) d.size[k] = y.shape[k];
    for (int i = 0; i < inputs; ++i) {
      if (q.in[i]->layout != Layout::kPlain) return false;
      plain_strides(y.shape, q.in[i]->shape, d.stride[i]);
    }
    collapse(&d, inputs);
    if (d.rank < 1 || d.rank > kOuter + 1) return false;
    s->row = d.size[d.rank - 1];
    for (int k = 0; k < d.rank - 1; ++k) s->outer[k + kOuter - (d.rank - 1)] = d.size[k];
    for (int i = 0; i < inputs; ++i) {
      s->along[i] = d.stride[i][d.rank - 1] ? Along::kContiguous : Along::kScalar;
      for (int k = 0; k < d.rank - 1; ++k) s->stride[i][k + kOuter - (d.rank - 1)] = d.stride[i][k];
    }
    return true;
  }
  // Blocked: rows are the pixels of a block, outer dims are images and blocks.
  const Shape& o = y.shape;
  const int64_t blocks = ceil_div(o[1], kVec), pixels = o.product(2, o.rank);
  s->row = pixels * kVec;
  s->outer[1] = o[0];
  s->outer[2] = blocks;
  if (o[1] % kVec) {
    s->tail_block = blocks - 1;
    s->tail_live = static_cast<int32_t>(o[1] % kVec);
  }
  for (int i = 0; i < inputs; ++i) {
    const Shape& x = q.in[i]->shape;
    Along& along = s->along[i];
    int64_t* stride = s->stride[i];
    if (q.in[i]->layout == Layout::kPlain) {
      if (x.elements() == 1 && x.rank <= o.rank) {
        along = Along::kScalar;
        continue;
      }
      // [N or 1, C, 1...], or [C, 1...] of one rank less.
      const int at = x.rank - (o.rank - 1);
      if (at < 0 || at > 1 || x[at] != o[1] || x.product(at + 1, x.rank) != 1) return false;
      const int64_t n = at == 1 ? x[0] : 1;
      if (n != 1 && n != o[0]) return false;
      along = Along::kChannels;
      stride[1] = n == 1 ? 0 : o[1];
      stride[2] = kVec;
      continue;
    }
    if (q.in[i]->layout != y.layout || x.rank != o.rank || (x[0] != 1 && x[0] != o[0])) return false;
    if (x[1] != o[1]) return false;
    const int64_t own = x.product(2, x.rank);
    bool same = true;
    for (int k = 2; k < o.rank; ++k) same &= x[k] == o[k];
    if (!same && own != 1) return false;
    along = same ? Along::kContiguous : Along::kChannels;
    stride[1] = x[0] == 1 ? 0 : blocks * own * kVec;
    stride[2] = own * kVec;
  }
  return true;
}

// Cost of a function in the time of an addition.
PN_COLD int weight(Fn f) {
  switch (f) {
    case Fn::kExp: case Fn::kLog: case Fn::kErf: case Fn::kSwish: case Fn::kSigmoid: case Fn::kTanh:
    case Fn::kSilu: case Fn::kGelu: case Fn::kElu: case Fn::kMish: return 4;
    case Fn::kGeluTanh: case Fn::kSoftplus: return 6;
    case Fn::kDiv: case Fn::kSqrt: case Fn::kReciprocal: return 2;
    default: return 1;
  }
}

PN_COLD bool fill(const OpRow& row, const KernelQuery& q, State* s) {
  Chain c;
  int used = 0;
  const TensorDesc& y = *q.out[0];
  if (y.dtype != DType::kF32 || (y.layout != Layout::kPlain && (y.layout != kBlocked || y.shape.rank < 3))) return false;
  if (!build(row, q, &c, &used) || used > kMaxChainInputs || c.steps > kMaxChainSteps) return false;
  for (int i = 0; i < used; ++i) {
    if (!q.has(i) || q.in[i]->dtype != DType::kF32) return false;
  }
  if (!assign_slots(c, s->slot) || !geometry(q, used, s)) return false;
  s->steps = c.steps;
  s->inputs = used;
  s->work = 0;
  for (int k = 0; k < c.steps; ++k) {
    s->step[k] = c.step[k];
    s->work += weight(c.step[k].fn);
  }
  return true;
}

// --- running -----------------------------------------------------------------------------------

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  float* y = c.out[0]->as<float>();
  const int64_t tile = s.steps == 1 ? 4 * kTileFloats : kTileFloats;
  const int64_t tiles = ceil_div(s.row, tile);
  const int64_t rows = s.outer[0] * s.outer[1] * s.outer[2];
  const int64_t work = (s.row < tile ? s.row : tile) * s.work;
  spread(*c.pool, rows * tiles, work, [&](int64_t begin, int64_t end, int) {
    alignas(64) float slots[kSlots][kTileFloats];
    VF repeated[kMaxChainInputs];
    RowOperand value[8 + kMaxChainSteps];
    for (int64_t item = begin; item < end; ++item) {
      const int64_t r = item / tiles, at = (item - r * tiles) * tile;
      const int64_t n = s.row - at < tile ? s.row - at : tile;
      const int64_t i2 = r % s.outer[2], i01 = r / s.outer[2], i1 = i01 % s.outer[1], i0 = i01 / s.outer[1];
      for (int i = 0; i < s.inputs; ++i) {
        const int64_t* stride = s.stride[i];
        const float* p = c.in[i]->as<const float>() + i0 * stride[0] + i1 * stride[1] + i2 * stride[2];
        if (s.along[i] == Along::kContiguous) {
          value[i] = {p + at, kVec};
          continue;
        }
        if (s.along[i] == Along::kScalar) {
          repeated[i] = splat(*p);
        } else {  // plain operands end with the last channel
          repeated[i] = i2 == s.tail_block ? load_n(p, s.tail_live) : load(p);
        }
        value[i] = {reinterpret_cast<const float*>(repeated + i), 0};
      }
      float* out = y + r * s.row + at;
      for (int k = 0; k < s.steps; ++k) {
        const ChainStep& step = s.step[k];
        float* to = s.slot[k] < 0 ? out : slots[s.slot[k]];
        map_row(step.fn, step.alpha, step.beta, value[step.a], step.b >= 0 ? value[step.b] : RowOperand{nullptr, 0}, to, n);
        value[8 + k] = {to, kVec};
      }
    }
  });
  return Status::kOk;
}

template <int R>
PN_COLD bool accepts(const KernelQuery& q) {
  State s;
  return fill(kOps[R], q, &s);
}
template <int R>
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  if (fill(kOps[R], q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "%s: the element-wise kernel was prepared for operands it does not accept", kOps[R].op);
}
PN_COLD float cost(const KernelQuery& q) {
  float bytes = static_cast<float>(q.out[0]->bytes());
  for (int i = 0; i < q.n_in; ++i) {
    if (q.has(i)) bytes += static_cast<float>(q.in[i]->bytes());
  }
  return bytes * 4e-5f + 0.1f;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, R)                                                                                            \
  {"f32_eltwise_" name, PN_TIER::kOps[R].op, Layout::kAny, Layout::kAny, -1, sizeof(PN_TIER::State),               \
   PN_TIER::accepts<R>, PN_TIER::cost, nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare<R>, PN_TIER::run}

PN_KERNEL_TABLE(eltwise)
PN_KERNEL_ROWS(eltwise) = {
    PN_ROW("relu", 0),        PN_ROW("leaky_relu", 1), PN_ROW("sigmoid", 2),    PN_ROW("tanh", 3),
    PN_ROW("hard_sigmoid", 4), PN_ROW("hard_swish", 5), PN_ROW("elu", 6),        PN_ROW("softplus", 7),
    PN_ROW("mish", 8),        PN_ROW("swish", 9),      PN_ROW("exp", 10),       PN_ROW("log", 11),
    PN_ROW("sqrt", 12),       PN_ROW("abs", 13),       PN_ROW("neg", 14),       PN_ROW("reciprocal", 15),
    PN_ROW("erf", 16),        PN_ROW("floor", 17),     PN_ROW("ceil", 18),      PN_ROW("round", 19),
    PN_ROW("add", 20),        PN_ROW("sub", 21),       PN_ROW("mul", 22),       PN_ROW("div", 23),
    PN_ROW("prelu", 24),      PN_ROW("max", 25),       PN_ROW("min", 26),       PN_ROW("sum", 27),
    PN_ROW("gelu", 28),       PN_ROW("bias_gelu", 29), PN_ROW("fast_gelu", 30), PN_ROW("clip", 31),
    PN_ROW("pow", 32),        PN_ROW("chain", 33),
};
static_assert(PN_TIER::kOpCount == 34, "a row for each operator");
PN_KERNEL_COUNT(eltwise);

}  // namespace pyneo
