// SPDX-License-Identifier: Apache-2.0
//
// Attention in one pass over the keys (online softmax: Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018), for Q, K and V as they leave the projections: heads packed in the last
// axis, or an axis of their own. No operand is transposed in memory but a strip of queries.
//
// A task takes two vectors of queries of one head. Scores are kept keys x queries, a query a lane, so
// that maximum, exponential and sum run without a horizontal step; K is read in place as scalars. The
// weighted sum of V broadcasts weights instead, and so leaves rows in the output's own order.
#include <cstring>

#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "simd/math.h"
#include "simd/transpose.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int kStrip = 2 * kVec;                 // queries of a task
constexpr int64_t kKeys = 64;                    // keys of a block: scores, weights and V stay in L1
constexpr int kRows = PN_VEC == 16 ? 8 : 4;      // keys, or queries, in registers at once
constexpr int64_t kMaxWidth = 512;

// (batch, heads, length, width) of an operand and the floats between neighbours.
struct Heads {
  int64_t batch, heads, length, width, step_b, step_h, step_s;
};

struct State {
  Heads q, k, v, y;
  int64_t group;             // query heads that share a key head
  int64_t keys;              // that take part
  int64_t mask_b, mask_h, mask_q;
  float scale, softcap;
  bool causal, mask, flags;  // a mask that is added, or one of booleans
};

bool read_heads(const Shape& s, int64_t heads, Heads* h) {
  if (s.rank == 4) {
    *h = {s[0], s[1], s[2], s[3], s[1] * s[2] * s[3], s[2] * s[3], s[3]};
    return true;
  }
  if (s.rank != 3 || heads < 1 || s[2] % heads != 0) return false;
  const int64_t width = s[2] / heads;
  *h = {s[0], heads, s[1], width, s[1] * s[2], width, s[2]};
  return true;
}

bool fill(const KernelQuery& q, State* s) {
  for (int i = 0; i < 3; ++i) {
    if (!q.has(i) || q.in[i]->dtype != DType::kF32 || q.in[i]->layout != Layout::kPlain) return false;
  }
  for (int i = 4; i < 7; ++i) {
    if (q.has(i)) return false;
  }
  if (q.n_out != 1 || q.out[0]->layout != Layout::kPlain) return false;
  const int64_t heads = q.attrs.i64("q_num_heads", 0), kv_heads = q.attrs.i64("kv_num_heads", 0);
  if (!read_heads(q.in[0]->shape, heads, &s->q) || !read_heads(q.in[1]->shape, kv_heads, &s->k) ||
      !read_heads(q.in[2]->shape, kv_heads, &s->v) || !read_heads(q.out[0]->shape, heads, &s->y)) {
    return false;
  }
  if (q.attrs.i64("left_window_size", -1) != -1 || q.attrs.i64("right_window_size", -1) != -1) return false;
  if (s->q.width < 1 || s->v.width < 1 || s->q.width > kMaxWidth || s->v.width > kMaxWidth || s->k.heads < 1) return false;
  s->group = s->q.heads / s->k.heads;
  s->scale = q.attrs.has("scale") ? q.attrs.f32("scale", 1) : 1 / __builtin_sqrtf(static_cast<float>(s->q.width));
  s->softcap = q.attrs.f32("softcap", 0);
  s->causal = q.attrs.i64("is_causal", 0) != 0;
  s->keys = s->k.length;
  s->mask = s->flags = false;
  s->mask_b = s->mask_h = s->mask_q = 0;
  if (!q.has(3)) return true;
  const TensorDesc& m = *q.in[3];
  if ((m.dtype != DType::kF32 && m.dtype != DType::kBool) || m.layout != Layout::kPlain) return false;
  s->flags = m.dtype == DType::kBool;
  s->mask = !s->flags;
  int64_t* const steps[3] = {&s->mask_b, &s->mask_h, &s->mask_q};
  int64_t step = 1;
  for (int i = m.shape.rank - 1; i >= 0; --i) {  // right-aligned to (batch, heads, queries, keys)
    const int axis = i + 4 - m.shape.rank;
    if (axis == 3 && m.shape[i] < s->keys) s->keys = m.shape[i];
    if (axis < 3) *steps[axis] = m.shape[i] == 1 ? 0 : step;
    step *= m.shape[i];
  }
  return true;
}

int64_t padded(int64_t width) { return round_up(width, kVec); }

// What a task keeps, in its thread's scratch.
struct Space {
  float *queries;  // [width of Q][kStrip], scaled
  float *weights;  // [kKeys][kStrip]
  float *values;   // [kKeys][padded width of V]
  float *sums;     // [kStrip][padded width of V]
  Space(const State& s, uint8_t* base) {
    queries = reinterpret_cast<float*>(base);
    weights = queries + s.q.width * kStrip;
    values = weights + kKeys * kStrip;
    sums = values + kKeys * padded(s.v.width);
  }
};
int64_t space_floats(const State& s) {
  return s.q.width * kStrip + kKeys * kStrip + (kKeys + kStrip) * padded(s.v.width);
}

// Scores of R keys and all queries of the strip.
template <int R>
PN_INLINE void score(const float* queries, int64_t width, const float* k, int64_t step, float* out) {
  VF acc[R][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = VF{};
  for (int64_t d = 0; d < width; ++d) {
    const VF a = load(queries + d * kStrip), b = load(queries + d * kStrip + kVec);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const VF x = splat(k[r * step + d]);
      acc[r][0] += a * x;
      acc[r][1] += b * x;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    store(out + r * kStrip, acc[r][0]);
    store(out + r * kStrip + kVec, acc[r][1]);
  }
}

// Adds n weighted rows of V to kRows queries' sums, C vectors wide.
template <int C>
PN_INLINE void weigh(const float* weights, const float* values, int64_t n, int64_t width, const float* shrink, float* sums) {
  VF acc[kRows][C];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) acc[r][c] = load(sums + r * width + c * kVec) * shrink[r];
  }
  for (int64_t j = 0; j < n; ++j) {
    VF v[C];
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) v[c] = load(values + j * width + c * kVec);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const VF p = splat(weights[j * kStrip + r]);
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) acc[r][c] += v[c] * p;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) store(sums + r * width + c * kVec, acc[r][c]);
  }
}

// The mask of key j for the strip's queries: added, -inf where it forbids.
PN_INLINE void apply_mask(const State& s, const RunContext& c, int64_t at, int64_t live, int64_t j, float* row) {
  const float* added = s.mask ? c.in[3]->as<const float>() + at + j : nullptr;
  const uint8_t* allowed = s.flags ? c.in[3]->as<const uint8_t>() + at + j : nullptr;
  auto value = [&](int64_t i) { return added ? added[i * s.mask_q] : allowed[i * s.mask_q] ? 0.0f : -INFINITY; };
  if (s.mask_q == 0) {
    const VF v = splat(value(0));
    store(row, load(row) + v);
    store(row + kVec, load(row + kVec) + v);
    return;
  }
  for (int64_t i = 0; i < live; ++i) row[i] += value(i);
}

void strip(const State& s, const RunContext& c, int64_t b, int64_t h, int64_t first, uint8_t* scratch) {
  const Space space(s, scratch);
  const int64_t live = s.q.length - first < kStrip ? s.q.length - first : kStrip;
  const float* q = c.in[0]->as<const float>() + b * s.q.step_b + h * s.q.step_h + first * s.q.step_s;
  const float* k = c.in[1]->as<const float>() + b * s.k.step_b + h / s.group * s.k.step_h;
  const float* v = c.in[2]->as<const float>() + b * s.v.step_b + h / s.group * s.v.step_h;
  const int64_t mask_at = b * s.mask_b + h * s.mask_h + first * s.mask_q;
  const int64_t width = padded(s.v.width);

  if (live < kStrip) memset(space.queries, 0, static_cast<size_t>(s.q.width * kStrip) * sizeof(float));
  for (int64_t i = 0; i < live; i += kVec) {
    const int rows = live - i < kVec ? static_cast<int>(live - i) : kVec;
    for (int64_t d = 0; d < s.q.width; d += kVec) {
      const int columns = s.q.width - d < kVec ? static_cast<int>(s.q.width - d) : kVec;
      transpose_part(q + i * s.q.step_s + d, s.q.step_s, space.queries + d * kStrip + i, kStrip, rows, columns);
    }
  }
  for (int64_t i = 0; i < s.q.width * kStrip; i += kVec) store(space.queries + i, load(space.queries + i) * s.scale);
  memset(space.sums, 0, static_cast<size_t>(kStrip * width) * sizeof(float));

  VF best[2] = {splat(-INFINITY), splat(-INFINITY)}, total[2] = {VF{}, VF{}};
  VF lane[2];
  for (int i = 0; i < kStrip; ++i) lane[i / kVec][i % kVec] = static_cast<float>(first + i);
  int64_t keys = s.keys;
  if (s.causal && first + live < keys) keys = first + live;
  for (int64_t from = 0; from < keys; from += kKeys) {
    const int64_t n = keys - from < kKeys ? keys - from : kKeys;
    int64_t j = 0;
    for (; j + kRows <= n; j += kRows) {
      score<kRows>(space.queries, s.q.width, k + (from + j) * s.k.step_s, s.k.step_s, space.weights + j * kStrip);
    }
    for (; j < n; ++j) score<1>(space.queries, s.q.width, k + (from + j) * s.k.step_s, 0, space.weights + j * kStrip);

    VF top[2] = {best[0], best[1]};
    for (j = 0; j < n; ++j) {
      float* row = space.weights + j * kStrip;
      if (s.softcap > 0) {
        for (int p = 0; p < 2; ++p) store(row + p * kVec, vtanh(load(row + p * kVec) / s.softcap) * s.softcap);
      }
      if (s.mask || s.flags) apply_mask(s, c, mask_at, live, from + j, row);
      for (int p = 0; p < 2; ++p) {
        VF x = load(row + p * kVec);
        if (s.causal) {
          x = select(lane[p] < static_cast<float>(from + j), splat(-INFINITY), x);
          store(row + p * kVec, x);
        }
        top[p] = select((x > top[p]) | (x != x), x, top[p]);
      }
    }
    alignas(64) float shrink[kStrip];
    for (int p = 0; p < 2; ++p) {
      const VF base = select(top[p] == -INFINITY, VF{}, top[p]);  // nothing allowed yet: every weight is 0
      const VF factor = vexp(best[p] - base);
      store(shrink + p * kVec, factor);
      total[p] *= factor;
      for (j = 0; j < n; ++j) {
        float* row = space.weights + j * kStrip + p * kVec;
        const VF e = vexp(load(row) - base);
        total[p] += e;
        store(row, e);
      }
      best[p] = top[p];
    }
    for (j = 0; j < n; ++j) {
      const float* row = v + (from + j) * s.v.step_s;
      float* to = space.values + j * width;
      int64_t d = 0;
      for (; d + kVec <= s.v.width; d += kVec) store(to + d, load(row + d));
      if (d < s.v.width) store(to + d, load_n(row + d, static_cast<int>(s.v.width - d)));
    }
    for (int64_t i = 0; i < live; i += kRows) {
      float* sums = space.sums + i * width;
      int64_t d = 0;
      for (; d + 2 * kVec <= width; d += 2 * kVec) weigh<2>(space.weights + i, space.values + d, n, width, shrink + i, sums + d);
      if (d < width) weigh<1>(space.weights + i, space.values + d, n, width, shrink + i, sums + d);
    }
  }
  float* y = c.out[0]->as<float>() + b * s.y.step_b + h * s.y.step_h + first * s.y.step_s;
  for (int64_t i = 0; i < live; ++i) {
    const float sum = total[i / kVec][i % kVec], scale = sum != 0 ? 1 / sum : 0;
    const float* from = space.sums + i * width;
    float* to = y + i * s.y.step_s;
    int64_t d = 0;
    for (; d + kVec <= s.v.width; d += kVec) store(to + d, load(from + d) * scale);
    if (d < s.v.width) store_n(to + d, load(from + d) * scale, static_cast<int>(s.v.width - d));
  }
}

bool accepts(const KernelQuery& q) {
  State s;
  return fill(q, &s);
}

float cost(const KernelQuery& q) {
  State s;
  if (!fill(q, &s)) return 0;
  const double strips = static_cast<double>(s.q.batch * s.q.heads * ceil_div(s.q.length, kStrip));
  const double pairs = strips * kStrip * static_cast<double>(s.keys) * (s.causal ? 0.5 : 1);
  return static_cast<float>(pairs * static_cast<double>(s.q.width + s.v.width + 40) * (kVec == 16 ? 2e-5 : 4e-5) + 0.5);
}

int64_t thread_scratch(const KernelQuery& q) {
  State s;
  return fill(q, &s) ? space_floats(s) * static_cast<int64_t>(sizeof(float)) : 0;
}

Status prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Attention: the kernel was prepared for operands it does not accept");
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const int64_t strips = ceil_div(s.q.length, kStrip);
  const int64_t work = s.keys * kStrip * (s.q.width + s.v.width) / 16;
  spread(*c.pool, s.q.batch * s.q.heads * strips, work, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t bh = i / strips;
      strip(s, c, bh / s.q.heads, bh % s.q.heads, i % strips * kStrip, c.thread_scratch + thread * c.thread_stride);
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(attention)
PN_KERNEL_ROWS(attention) = {
    {"f32_attention", "Attention", Layout::kPlain, Layout::kPlain, -1, sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, nullptr, nullptr, nullptr, PN_TIER::thread_scratch, PN_TIER::prepare, PN_TIER::run},
};
PN_KERNEL_COUNT(attention);

}  // namespace pyneo
