// SPDX-License-Identifier: Apache-2.0
//
// Attention in one pass over the keys (online softmax: Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018), for Q, K and V as they leave the projections: heads packed in the last
// axis, or an axis of their own. No operand is transposed in memory but a strip of queries.
//
// A task takes a panel of queries of one head. Scores are kept keys x queries, a query a lane, so that
// maximum, exponential and sum run without a horizontal step, and sums width x queries. So both products are
// those of gemm/rows.h: rows of K by a panel of queries, and columns of V by a panel of weights.
#include <cstring>

#include "kernels/attention/attention.h"
#include "kernels/gemm/rows.h"
#include "kernels/spread.h"
#include "simd/math.h"
#include "simd/transpose.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int kStripVecs = kRowVecs == 3 ? 2 : kRowVecs;  // a power of two: so are most numbers of queries
constexpr int64_t kStrip = kStripVecs * kVec;             // queries of a task
constexpr int64_t kKeys = 256;         // most keys of a block: weights stay in L2 beside K and V
constexpr int64_t kMaxWidth = 512;
constexpr int kTogether = 4;           // vectors of weights
using State = AttentionState;

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

}  // namespace

void transpose(const float* from, int64_t from_step, float* to, int64_t to_step, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; r += kVec) {
    for (int64_t c = 0; c < columns; c += kVec) {
      transpose_part(from + r * from_step + c, from_step, to + c * to_step + r, to_step,
                     static_cast<int>(rows - r < kVec ? rows - r : kVec), static_cast<int>(columns - c < kVec ? columns - c : kVec));
    }
  }
}

bool read_attention(const KernelQuery& q, AttentionState* s) {
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

namespace {

// What a task keeps, in its thread's scratch, a panel wide.
struct Space {
  float *queries;  // [width of Q], scaled
  float *weights;  // [kKeys]
  float *sums;     // [width of V]
  Space(const State& s, uint8_t* base) {
    queries = reinterpret_cast<float*>(base);
    weights = queries + s.q.width * kStrip;
    sums = weights + kKeys * kStrip;
  }
};
int64_t space_floats(const State& s) { return (s.q.width + kKeys + s.v.width) * kStrip; }

// Rows of queries that go one by one: a strip's lanes would stay empty.
bool is_few(const State& s) { return s.q.length <= 4 && s.q.width % kVec == 0 && s.v.width % kVec == 0; }

// Whole vectors of n scores, which are kept within +-cap.
void soften(float* scores, int64_t n, float cap) {
  for (int64_t i = 0; i < n; i += kVec) store(scores + i, vtanh(load(scores + i) / cap) * cap);
}

// The mask of key j for the strip's queries, `width` with the padding: added, -inf where it forbids.
PN_INLINE void apply_mask(const State& s, const RunContext& c, int64_t at, int64_t live, int64_t width, int64_t j, float* row) {
  const float* added = s.mask ? c.in[3]->as<const float>() + at + j : nullptr;
  const uint8_t* allowed = s.flags ? c.in[3]->as<const uint8_t>() + at + j : nullptr;
  auto value = [&](int64_t i) { return added ? added[i * s.mask_q] : allowed[i * s.mask_q] ? 0.0f : -INFINITY; };
  if (s.mask_q == 0) {
    const VF v = splat(value(0));
    for (int64_t i = 0; i < width; i += kVec) store(row + i, load(row + i) + v);
    return;
  }
  for (int64_t i = 0; i < live; ++i) row[i] += value(i);
}

// The same for numbers that differ from query to query, of n keys: a square at a time is turned beside the weights.
void add_mask(const State& s, const float* mask, int64_t live, int64_t width, int64_t n, float* weights) {
  alignas(64) float turned[kVec * kStrip] = {};
  for (int64_t j = 0; j < n; j += kVec) {
    const int64_t keys = n - j < kVec ? n - j : kVec;
    transpose(mask + j, s.mask_q, turned, width, live, keys);
    for (int64_t i = 0; i < keys * width; i += kVec) store(weights + j * width + i, load(weights + j * width + i) + load(turned + i));
  }
}

void strip(const State& s, const RunContext& c, int64_t b, int64_t h, int64_t first, uint8_t* scratch) {
  const Space space(s, scratch);
  const int64_t live = s.q.length - first < kStrip ? s.q.length - first : kStrip;
  const int vecs = panel_vecs(live);
  const int64_t width = vecs * kVec;
  const float* q = c.in[0]->as<const float>() + b * s.q.step_b + h * s.q.step_h + first * s.q.step_s;
  const float* k = c.in[1]->as<const float>() + b * s.k.step_b + h / s.group * s.k.step_h;
  const float* v = c.in[2]->as<const float>() + b * s.v.step_b + h / s.group * s.v.step_h;
  const int64_t mask_at = b * s.mask_b + h * s.mask_h + first * s.mask_q;

  if (live < width) memset(space.queries, 0, static_cast<size_t>(s.q.width * width) * sizeof(float));
  transpose(q, s.q.step_s, space.queries, width, live, s.q.width);
  for (int64_t i = 0; i < s.q.width * width; i += kVec) store(space.queries + i, load(space.queries + i) * s.scale);

  alignas(64) const float zeros[kStrip] = {};
  const Epilogue none{{}, {}, true};
  PanelRun scores, weighted;  // K x queries, V transposed x weights
  scores.w = space.queries;
  scores.a_step = s.k.step_s;
  scores.rows = 0;
  scores.k = s.q.width;
  scores.first = scores.last = true;
  scores.y = space.weights;
  scores.bias = zeros;
  scores.epilogue = &none;
  scores.z = scores.ahead = nullptr;
  scores.ahead_bytes = 0;
  scores.live = scores.y_step = width;
  weighted = scores;
  weighted.w = space.weights;
  weighted.a_step = 1;
  weighted.a_depth = s.v.step_s;
  weighted.rows = s.v.width;
  weighted.y = space.sums;

  VF best[kStripVecs], total[kStripVecs], lane[kStripVecs];
  for (int p = 0; p < kStripVecs; ++p) {
    best[p] = splat(-INFINITY);
    total[p] = VF{};
    for (int i = 0; i < kVec; ++i) lane[p][i] = static_cast<float>(first + p * kVec + i);
  }
  int64_t keys = s.keys;
  if (s.causal && first + live < keys) keys = first + live;
  if (keys == 0) memset(space.sums, 0, static_cast<size_t>(s.v.width * width) * sizeof(float));
  for (int64_t from = 0; from < keys; from += kKeys) {
    const int64_t n = keys - from < kKeys ? keys - from : kKeys;
    scores.a = k + from * s.k.step_s;
    scores.rows = n;
    run_panel(scores);
    if (s.softcap > 0) soften(space.weights, n * width, s.softcap);
    for (int64_t j = 0; j < n; ++j) {
      float* row = space.weights + j * width;
      if (s.flags || (s.mask && s.mask_q == 0)) apply_mask(s, c, mask_at, live, width, from + j, row);
    }
    if (s.mask && s.mask_q != 0) add_mask(s, c.in[3]->as<const float>() + mask_at + from, live, width, n, space.weights);
    for (int64_t j = s.causal && first > from ? first - from : 0; s.causal && j < n; ++j) {
      for (int p = 0; p < vecs; ++p) {
        float* x = space.weights + j * width + p * kVec;
        store(x, select(lane[p] < static_cast<float>(from + j), splat(-INFINITY), load(x)));
      }
    }
    // Vector i of the weights belongs to vector i % vecs of the queries. A NaN that is lost here comes back as a weight.
    VF tops[kTogether], base[kTogether], sums[kTogether] = {};
    for (int k = 0; k < kTogether; ++k) tops[k] = best[k % vecs];
    int64_t i = 0;
    for (; i + kTogether <= n * vecs; i += kTogether) {
      PN_UNROLL for (int k = 0; k < kTogether; ++k) tops[k] = vmax(load(space.weights + (i + k) * kVec), tops[k]);
    }
    for (int k = 0; i < n * vecs; ++i, ++k) tops[k] = vmax(load(space.weights + i * kVec), tops[k]);
    for (int p = 0; p < vecs; ++p) {
      VF top = tops[p];
      for (int k = p + vecs; k < kTogether; k += vecs) top = vmax(top, tops[k]);
      for (int k = p; k < kTogether; k += vecs) base[k] = select(top == -INFINITY, VF{}, top);  // nothing allowed yet: every weight is 0
      const VF factor = vexp_weight(best[p] - base[p]);
      if (from > 0) {
        total[p] *= factor;
        for (int64_t d = 0; d < s.v.width; ++d) {
          float* sum = space.sums + d * width + p * kVec;
          store(sum, load(sum) * factor);
        }
      }
      best[p] = top;
    }
    for (i = 0; i + kTogether <= n * vecs; i += kTogether) {
      VF e[kTogether];
      PN_UNROLL for (int k = 0; k < kTogether; ++k) e[k] = load(space.weights + (i + k) * kVec) - base[k];
      vexp_weights<kTogether>(e);
      PN_UNROLL for (int k = 0; k < kTogether; ++k) {
        store(space.weights + (i + k) * kVec, e[k]);
        sums[k] += e[k];
      }
    }
    for (int k = 0; i < n * vecs; ++i, ++k) {
      const VF e = vexp_weight(load(space.weights + i * kVec) - base[k]);
      store(space.weights + i * kVec, e);
      sums[k] += e;
    }
    for (int k = 0; k < kTogether; ++k) total[k % vecs] += sums[k];
    weighted.a = v + from * s.v.step_s;
    weighted.k = n;
    weighted.first = from == 0;
    run_panel(weighted);
  }
  for (int p = 0; p < vecs; ++p) {
    const VF scale = select(total[p] != 0.0f, 1.0f / total[p], VF{});
    for (int64_t d = 0; d < s.v.width; ++d) {
      float* sum = space.sums + d * width + p * kVec;
      store(sum, load(sum) * scale);
    }
  }
  float* y = c.out[0]->as<float>() + b * s.y.step_b + h * s.y.step_h + first * s.y.step_s;
  transpose(space.sums, width, y, s.y.step_s, s.v.width, live);
}

// One row of queries, as new tokens behind a cache have: keys and values pass as they lie, a key's columns in the lanes.
// "cold" is built for size: it waits for memory.
PN_COLD void single(const State& s, const RunContext& c, int64_t b, int64_t h, int64_t i, float* weights) {
  const float* q = c.in[0]->as<const float>() + b * s.q.step_b + h * s.q.step_h + i * s.q.step_s;
  const float* k = c.in[1]->as<const float>() + b * s.k.step_b + h / s.group * s.k.step_h;
  const float* v = c.in[2]->as<const float>() + b * s.v.step_b + h / s.group * s.v.step_h;
  float* y = c.out[0]->as<float>() + b * s.y.step_b + h * s.y.step_h + i * s.y.step_s;
  const int64_t keys = s.causal && i < s.keys ? i + 1 : s.keys;
  for (int64_t j = 0; j < keys; ++j, k += s.k.step_s) {
    VF sum = {};
    for (int64_t d = 0; d < s.q.width; d += kVec) sum += load(q + d) * load(k + d);
    weights[j] = reduce_add(sum) * s.scale;
  }
  if (s.softcap > 0) soften(weights, keys, s.softcap);
  VF best = splat(-INFINITY), total = {};
  store(weights + keys, best);
  const int64_t mask_at = b * s.mask_b + h * s.mask_h + i * s.mask_q;
  for (int64_t j = 0; s.mask && j < keys; j += kVec) {
    const int live = static_cast<int>(keys - j < kVec ? keys - j : kVec);
    store(weights + j, load(weights + j) + load_n(c.in[3]->as<const float>() + mask_at + j, live));
  }
  for (int64_t j = 0; s.flags && j < keys; ++j) {
    if (c.in[3]->as<const uint8_t>()[mask_at + j] == 0) weights[j] = -INFINITY;
  }
  for (int64_t j = 0; j < keys; j += kVec) best = vmax(load(weights + j), best);
  const float top = reduce_max(best);
  for (int64_t j = 0; j < keys; j += kVec) {
    const VF e = vexp_weight(load(weights + j) - (top == -INFINITY ? 0 : top));
    store(weights + j, e);
    total += e;
  }
  const float sum = reduce_add(total), scale = sum != 0 ? 1 / sum : 0;
  memset(y, 0, static_cast<size_t>(s.v.width) * sizeof(float));
  for (int64_t j = 0; j < keys; ++j, v += s.v.step_s) {  // sums in L1 keep pace with keys and values from L2
    for (int64_t d = 0; d < s.v.width; d += kVec) store(y + d, load(y + d) + weights[j] * load(v + d));
  }
  for (int64_t d = 0; d < s.v.width; d += kVec) store(y + d, load(y + d) * scale);
}

bool accepts(const KernelQuery& q) {
  State s;
  return read_attention(q, &s);
}

float cost(const KernelQuery& q) {
  State s;
  if (!read_attention(q, &s)) return 0;
  const int64_t full = s.q.length / kStrip * kStrip, rest = s.q.length - full;
  const int64_t width = is_few(s) ? 2 * s.q.length : full + (rest > 0 ? panel_vecs(rest) * kVec : 0);
  const double rows = static_cast<double>(s.q.batch * s.q.heads) * static_cast<double>(width);
  const double pairs = rows * static_cast<double>(s.keys) * (s.causal ? 0.6 : 1);
  return static_cast<float>(pairs * static_cast<double>(s.q.width + s.v.width + 40) * (kVec == 16 ? 1.65e-5 : 3.3e-5) + 0.5);
}

int64_t thread_scratch(const KernelQuery& q) {
  State s;
  if (!read_attention(q, &s)) return 0;
  return (is_few(s) ? s.keys + kVec : space_floats(s)) * static_cast<int64_t>(sizeof(float));
}

Status prepare(const KernelQuery& q, void* state) {
  if (read_attention(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Attention: the kernel was prepared for operands it does not accept");
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const bool few = is_few(s);
  const int64_t strips = few ? s.q.length : ceil_div(s.q.length, kStrip);
  const int64_t work = s.keys * (s.q.width + s.v.width) * (few ? 4 : kStrip) / 16;
  spread(*c.pool, s.q.batch * s.q.heads * strips, work, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / strips / s.q.heads, h = i / strips % s.q.heads;
      uint8_t* const scratch = c.thread_scratch + thread * c.thread_stride;
      if (few) single(s, c, b, h, i % strips, reinterpret_cast<float*>(scratch));
      else strip(s, c, b, h, i % strips * kStrip, scratch);
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(attention)
PN_KERNEL_ROWS(attention) = {
    {"f32_attention", "Attention", Layout::kPlain, Layout::kPlain, -1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, nullptr, nullptr, nullptr, PN_TIER::thread_scratch, PN_WIDE_RUN(PN_TIER::prepare, PN_TIER::run))},
};
PN_KERNEL_COUNT(attention);

}  // namespace pyneo
