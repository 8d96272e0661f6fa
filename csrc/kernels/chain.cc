// SPDX-License-Identifier: Apache-2.0
#include "kernels/chain.h"

#include <cmath>
#include <cstring>

namespace pyneo {
namespace {

struct OpRow {
  const char* op;
  Fn fn;
  const char* alpha_name;
  float alpha;
  const char* beta_name;
  float beta;
};

constexpr OpRow kOps[] = {
#define PN_ROW(name, op, fn, alpha_name, alpha, beta_name, beta) {op, Fn::fn, alpha_name, alpha, beta_name, beta},
    PN_CHAIN_OPS(PN_ROW)
#undef PN_ROW
};

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
bool build(const OpRow& row, const KernelQuery& q, Chain* c, int* used) {
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
bool assign_slots(const Chain& c, int8_t* slot) {
  int8_t last_use[kMaxChainSteps];
  for (int k = 0; k < c.steps; ++k) last_use[k] = static_cast<int8_t>(k);
  for (int k = 0; k < c.steps; ++k) {
    if (c.step[k].a >= 8) last_use[c.step[k].a - 8] = static_cast<int8_t>(k);
    if (c.step[k].b >= 8) last_use[c.step[k].b - 8] = static_cast<int8_t>(k);
  }
  int8_t busy_until[kChainSlots];
  for (int8_t& b : busy_until) b = -1;
  for (int k = 0; k < c.steps - 1; ++k) {
    int s = 0;
    while (s < kChainSlots && busy_until[s] > k) ++s;  // an operand that dies here may be overwritten in place
    if (s == kChainSlots) return false;
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
void plain_strides(const Shape& y, const Shape& x, int64_t* stride) {
  int64_t step = 1;
  for (int d = y.rank - 1; d >= 0; --d) {
    const int k = d - (y.rank - x.rank);
    const int64_t n = k >= 0 ? x[k] : 1;
    stride[d] = n == 1 ? 0 : step;
    step *= n;
  }
}

// Merges dims that every operand walks as one.
void collapse(Dims* d, int inputs) {
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

// Rows are the innermost dim that is left once dims are merged.
bool plain_geometry(const KernelQuery& q, int inputs, ChainPlan* s) {
  const TensorDesc& y = *q.out[0];
  Dims d;
  d.rank = y.shape.rank;
  for (int k = 0; k < d.rank; ++k) d.size[k] = y.shape[k];
  for (int i = 0; i < inputs; ++i) {
    if (q.in[i]->layout != Layout::kPlain) return false;
    plain_strides(y.shape, q.in[i]->shape, d.stride[i]);
  }
  collapse(&d, inputs);
  if (d.rank < 1 || d.rank > kChainOuter + 1) return false;
  s->row = d.size[d.rank - 1];
  for (int k = 0; k < d.rank - 1; ++k) s->outer[k + kChainOuter - (d.rank - 1)] = d.size[k];
  for (int i = 0; i < inputs; ++i) {
    s->along[i] = d.stride[i][d.rank - 1] ? Along::kContiguous : Along::kScalar;
    for (int k = 0; k < d.rank - 1; ++k) s->stride[i][k + kChainOuter - (d.rank - 1)] = d.stride[i][k];
  }
  s->short_rows = s->row < kShortRow && s->row > 0 && d.rank > 1;
  for (int i = 0; i < inputs && s->short_rows; ++i) {
    if (q.in[i]->shape.elements() == y.shape.elements()) s->along[i] = Along::kFlat;
  }
  return true;
}

// Rows are the pixels of a block, outer dims are images and blocks.
bool blocked_geometry(const KernelQuery& q, int inputs, ChainPlan* s) {
  const TensorDesc& y = *q.out[0];
  const int vec = q.vec();
  const Shape& o = y.shape;
  const int64_t blocks = ceil_div(o[1], vec), pixels = o.product(2, o.rank);
  s->row = pixels * vec;
  s->outer[1] = o[0];
  s->outer[2] = blocks;
  if (o[1] % vec) {
    s->tail_block = blocks - 1;
    s->tail_live = static_cast<int32_t>(o[1] % vec);
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
      stride[2] = vec;
      continue;
    }
    if (q.in[i]->layout != y.layout || x.rank != o.rank || (x[0] != 1 && x[0] != o[0])) return false;
    if (x[1] != o[1]) return false;
    const int64_t own = x.product(2, x.rank);
    bool same = true;
    for (int k = 2; k < o.rank; ++k) same &= x[k] == o[k];
    if (!same && own != 1) return false;
    along = same ? Along::kContiguous : Along::kChannels;
    stride[1] = x[0] == 1 ? 0 : blocks * own * vec;
    stride[2] = own * vec;
  }
  return true;
}

bool geometry(const KernelQuery& q, int inputs, ChainPlan* s) {
  const TensorDesc& y = *q.out[0];
  s->tail_block = -1;
  s->tail_live = q.vec();
  s->short_rows = false;
  for (int64_t& n : s->outer) n = 1;
  memset(s->along, 0, sizeof(s->along));
  memset(s->stride, 0, sizeof(s->stride));
  bool flat = true;
  for (int i = 0; i < inputs; ++i) flat &= q.in[i]->layout == y.layout && q.in[i]->shape == y.shape;
  if (flat) {
    s->row = y.bytes() / 4;
    return true;
  }
  return y.layout == Layout::kPlain ? plain_geometry(q, inputs, s) : blocked_geometry(q, inputs, s);
}

// Cost of a function in the time of an addition.
int weight(Fn f) {
  switch (f) {
    case Fn::kExp: case Fn::kLog: case Fn::kErf: case Fn::kSwish: case Fn::kSigmoid: case Fn::kTanh:
    case Fn::kSilu: case Fn::kGelu: case Fn::kElu: case Fn::kMish: return 4;
    case Fn::kGeluTanh: case Fn::kSoftplus: return 6;
    case Fn::kDiv: case Fn::kSqrt: case Fn::kReciprocal: return 2;
    default: return 1;
  }
}

// The plan of a node; false where the kernels do not serve it.
bool plan(const KernelQuery& q, ChainPlan* s) {
  Chain c;
  int used = 0;
  const TensorDesc& y = *q.out[0];
  if (y.dtype != DType::kF32 || (y.layout != Layout::kPlain && (y.layout != q.blocked() || y.shape.rank < 3))) return false;
  const OpRow* row = nullptr;
  for (const OpRow& r : kOps) {
    if (is(r, q.op())) row = &r;
  }
  if (row == nullptr || !build(*row, q, &c, &used) || used > kMaxChainInputs || c.steps > kMaxChainSteps) return false;
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

}  // namespace

bool chain_accepts(const KernelQuery& q) {
  ChainPlan s;
  return plan(q, &s);
}

Status chain_prepare(const KernelQuery& q, void* state) {
  if (plan(q, static_cast<ChainPlan*>(state))) return Status::kOk;
  return fail(Status::kInternal, "an element-wise kernel was prepared for operands it does not accept");
}

float chain_cost(const KernelQuery& q) {
  float bytes = static_cast<float>(q.out[0]->bytes());
  for (int i = 0; i < q.n_in; ++i) {
    if (q.has(i)) bytes += static_cast<float>(q.in[i]->bytes());
  }
  return bytes * 4e-5f + 0.1f;
}

void expand_rows(const ChainPlan& s, int input, const float* x, int64_t r, int64_t rows, float* to) {
  typedef float F4 __attribute__((vector_size(16), aligned(4)));
  const int64_t* stride = s.stride[input];
  const bool scalar = s.along[input] == Along::kScalar;
  const int64_t n = s.row;
  while (rows > 0) {  // a run along the innermost of the outer dims
    const int64_t i2 = r % s.outer[2], i01 = r / s.outer[2];
    const int64_t run = rows < s.outer[2] - i2 ? rows : s.outer[2] - i2;
    const float* p = x + i01 / s.outer[1] * stride[0] + i01 % s.outer[1] * stride[1] + i2 * stride[2];
    r += run;
    rows -= run;
    if (!scalar && stride[2] == n) {
      memcpy(to, p, static_cast<size_t>(run * n) * sizeof(float));
      to += run * n;
      continue;
    }
    for (int64_t k = 0; k < run; ++k, p += stride[2], to += n) {
      int64_t j = 0;
      if (scalar) {
        const F4 v = F4{} + *p;  // what lies behind the row is written next
        for (; j < n; j += 4) *reinterpret_cast<F4*>(to + j) = v;
        continue;
      }
      for (; j + 4 <= n; j += 4) *reinterpret_cast<F4*>(to + j) = *reinterpret_cast<const F4*>(p + j);
      for (; j < n; ++j) to[j] = p[j];
    }
  }
}

}  // namespace pyneo
