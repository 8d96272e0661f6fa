// SPDX-License-Identifier: Apache-2.0
//
// Softmax and LogSoftmax along one axis. The last axis is reduced across lanes; any other has its lanes
// side by side. Three passes: maximum, exponentials and their sum, scaling; a row stays in L1.
#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {
namespace {

struct State {
  int64_t outer, length, inner;
};

PN_INLINE VF larger(VF a, VF v) { return vmax(v, a); }

// n floats, those beyond the end -inf: neither a maximum nor a sum of exponentials sees them.
PN_INLINE VF load_row(const float* p, int64_t n) {
  return n >= kVec ? load(p) : load_n(p, static_cast<int>(n), splat(-INFINITY));
}
PN_INLINE void store_row(float* p, VF v, int64_t n) {
  if (n >= kVec) {
    store(p, v);
  } else {
    store_n(p, v, static_cast<int>(n));
  }
}

void row(const float* x, float* y, int64_t n, bool log) {
  VF a = splat(-INFINITY), b = a;
  int64_t i = 0;
  for (; i + 2 * kVec <= n; i += 2 * kVec) {
    a = larger(a, load(x + i));
    b = larger(b, load(x + i + kVec));
  }
  for (; i < n; i += kVec) a = larger(a, load_row(x + i, n - i));
  const VF top = splat(reduce_max(larger(a, b)));
  VF sum{};
  for (i = 0; i < n; i += kVec) {
    const VF e = vexp_weight(load_row(x + i, n - i) - top);
    sum += e;
    if (!log) store_row(y + i, e, n - i);
  }
  const float total = reduce_add(sum);
  if (log) {
    const VF shift = vlog(splat(total));
    for (i = 0; i < n; i += kVec) store_row(y + i, load_row(x + i, n - i) - top - shift, n - i);
    return;
  }
  const VF scale = splat(1.0f / total);
  for (i = 0; i < n; i += kVec) store_row(y + i, load_row(y + i, n - i) * scale, n - i);
}

// kVec lanes (or `lanes`), their elements `step` apart.
void column(const float* x, float* y, int64_t n, int64_t step, int64_t lanes, bool log) {
  VF top = splat(-INFINITY), sum{};
  for (int64_t k = 0; k < n; ++k) top = larger(top, load_row(x + k * step, lanes));
  for (int64_t k = 0; k < n; ++k) {
    const VF e = vexp_weight(load_row(x + k * step, lanes) - top);
    sum += e;
    if (!log) store_row(y + k * step, e, lanes);
  }
  const VF shift = log ? vlog(sum) : 1.0f / sum;
  for (int64_t k = 0; k < n; ++k) {
    const VF v = log ? load_row(x + k * step, lanes) - top - shift : load_row(y + k * step, lanes) * shift;
    store_row(y + k * step, v, lanes);
  }
}

PN_COLD bool accepts(const KernelQuery& q) {
  return q.in[0]->dtype == DType::kF32 && q.in[0]->layout == Layout::kPlain && q.out[0]->layout == Layout::kPlain;
}
PN_COLD float cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes()) * 2e-4f + 0.1f; }

PN_COLD Status prepare(const KernelQuery& q, void* state) {
  const Shape& x = q.in[0]->shape;
  int axis = 0;
  if (x.rank > 0) PN_TRY(normalize_axis("Softmax", q.attrs.i64("axis", -1), x.rank, &axis));
  *static_cast<State*>(state) = {x.product(0, axis), x.rank > 0 ? x[axis] : 1, x.product(axis + 1, x.rank)};
  return Status::kOk;
}

template <bool log>
Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  if (s.inner == 1) {
    spread(*c.pool, s.outer, s.length * 6, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) row(x + i * s.length, y + i * s.length, s.length, log);
    });
    return Status::kOk;
  }
  const int64_t strips = ceil_div(s.inner, kVec);
  spread(*c.pool, s.outer * strips, s.length * kVec * 6, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t lane = i % strips * kVec, at = i / strips * s.length * s.inner + lane;
      column(x + at, y + at, s.length, s.inner, s.inner - lane, log);
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, log)                                                                                \
  {name, op, Layout::kPlain, Layout::kPlain, -1, sizeof(PN_TIER::State), PN_TIER::accepts, PN_TIER::cost,    \
   nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare, PN_TIER::run<log>}

PN_KERNEL_TABLE(softmax)
PN_KERNEL_ROWS(softmax) = {
    PN_ROW("f32_softmax", "Softmax", false),
    PN_ROW("f32_log_softmax", "LogSoftmax", true),
};
PN_KERNEL_COUNT(softmax);

}  // namespace pyneo
