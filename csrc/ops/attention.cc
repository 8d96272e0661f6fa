// SPDX-License-Identifier: Apache-2.0
//
// Attention (ONNX 23..25) and RotaryEmbedding.
//
// Attention runs one query row at a time over blocks of keys with a running maximum and sum (online
// softmax), so that no row of scores is ever stored: scratch holds only images of narrow operands.
#include <cfloat>
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "ops/narrow.h"

namespace pyneo {
namespace {

constexpr std::initializer_list<DType> kFloats = {DType::kF32, DType::kF16, DType::kBF16};
constexpr int64_t kKeys = 64;    // keys of a block
constexpr int64_t kQueries = 8;  // query rows of a task

int64_t scratch_f32(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  return size.bytes();
}

// (batch, heads, length, width) of a 4-D operand, or of a 3-D one that packs heads into its last
// dim.
struct Heads {
  int64_t batch = 0, heads = 0, length = 0, width = 0;
  bool packed = false;
  int64_t row(int64_t b, int64_t h, int64_t s) const {
    return (packed ? (b * length + s) * heads + h : (b * heads + h) * length + s) * width;
  }
};

Status read_heads(const char* op, const char* what, const Shape& s, int64_t heads, Heads* out) {
  char a[160];
  if (s.rank == 4 && (heads == 0 || heads == s[1])) {
    *out = Heads{s[0], s[1], s[2], s[3], false};
    return Status::kOk;
  }
  if (s.rank == 3 && heads > 0 && s[2] % heads == 0) {
    *out = Heads{s[0], heads, s[1], s[2] / heads, true};
    return Status::kOk;
  }
  return fail(Status::kInvalidModel,
              "%s: %s has shape %s with %" PRId64
              " heads: expected (batch, heads, length, width), or (batch, length, "
              "heads x width) with the number of heads as an attribute",
              op, what, format_shape(s, a, sizeof(a)), heads);
}

// --- Attention -------------------------------------------------------------------------------

struct Geometry {
  Heads q, k, v;
  int64_t past = 0, keys = 0;  // keys: past and new ones
  int64_t group = 1;           // query heads that share a key head
  float scale = 1, softcap = 0;
  bool causal = false;
  int64_t left = -1, right = -1;                              // window, -1: unbounded
  int64_t mode = 0;                                           // what output 3 shows
  int64_t mask_keys = 0, mask_b = 0, mask_h = 0, mask_q = 0;  // the mask's last dim and steps
};

Status read_attention(const char* op, const Attrs& attrs, const Shape& q, const Shape& k,
                      const Shape& v, const Shape* mask, const Shape* past, Geometry* g) {
  *g = Geometry{};
  const int64_t kv_heads = attrs.i64("kv_num_heads", 0);
  PN_TRY(read_heads(op, "Q", q, attrs.i64("q_num_heads", 0), &g->q));
  PN_TRY(read_heads(op, "K", k, kv_heads, &g->k));
  PN_TRY(read_heads(op, "V", v, kv_heads, &g->v));
  char a[160], b[160], e[160];
  if (g->q.batch != g->k.batch || g->k.batch != g->v.batch || g->q.width != g->k.width ||
      g->k.heads != g->v.heads || g->k.length != g->v.length || q.rank != k.rank ||
      k.rank != v.rank || g->k.heads < 1 || g->q.heads % g->k.heads != 0) {
    return fail(Status::kInvalidModel, "%s: Q %s, K %s and V %s do not fit together", op,
                format_shape(q, a, sizeof(a)), format_shape(k, b, sizeof(b)),
                format_shape(v, e, sizeof(e)));
  }
  g->group = g->q.heads / g->k.heads;
  g->past = past != nullptr ? (*past)[2] : 0;
  if (!checked_add(g->past, g->k.length, &g->keys))
    return fail(Status::kInvalidModel, "%s: too many keys", op);
  g->scale = attrs.has("scale") ? attrs.f32("scale", 1)
                                : 1 / sqrtf(static_cast<float>(g->q.width > 0 ? g->q.width : 1));
  g->softcap = attrs.f32("softcap", 0);
  g->causal = attrs.i64("is_causal", 0) != 0;
  g->left = attrs.i64("left_window_size", -1);
  g->right = attrs.i64("right_window_size", -1);
  g->mode = attrs.i64("qk_matmul_output_mode", 0);
  if (g->left < -1 || g->right < -1 || g->mode < 0 || g->mode > 3) {
    return fail(Status::kInvalidModel,
                "%s: window sizes %" PRId64 ", %" PRId64
                " (-1 or more) or qk_matmul_output_mode %" PRId64 " (0 to 3) cannot be",
                op, g->left, g->right, g->mode);
  }
  if (mask == nullptr) return Status::kOk;
  // Right-aligned to (batch, heads, queries, keys); the last dim may be shorter than keys: the rest
  // is masked.
  const int64_t want[4] = {g->q.batch, g->q.heads, g->q.length, g->keys};
  int64_t* const steps[3] = {&g->mask_b, &g->mask_h, &g->mask_q};
  bool fits = mask->rank >= 1 && mask->rank <= 4;
  int64_t step = 1;
  for (int i = mask->rank - 1; i >= 0 && fits; --i) {
    const int axis = i + 4 - mask->rank;
    const int64_t d = (*mask)[i];
    if (axis == 3) {
      fits = d <= g->keys;
      g->mask_keys = d;
    } else {
      fits = d == 1 || d == want[axis];
      *steps[axis] = d == 1 ? 0 : step;
    }
    step *= d;
  }
  if (fits) return Status::kOk;
  return fail(Status::kInvalidModel,
              "%s: the mask %s does not broadcast to [%" PRId64 ", %" PRId64 ", %" PRId64
              ", %" PRId64 "]",
              op, format_shape(*mask, a, sizeof(a)), want[0], want[1], want[2], want[3]);
}

Shape shape_of(std::initializer_list<int64_t> dims) {
  Shape s;
  for (int64_t d : dims) s[s.rank++] = d;
  return s;
}

Status expect_shape(const InferContext& c, int i, const char* what, const Shape& want) {
  if (!c.has(i) || c.shape(i) == want) return Status::kOk;
  char a[160], b[160];
  return fail(Status::kInvalidModel, "%s: %s has shape %s, expected %s", c.op, what,
              format_shape(c.shape(i), a, sizeof(a)), format_shape(want, b, sizeof(b)));
}

Status infer_attention(InferContext& c) {
  for (int i : {0, 1, 2}) PN_TRY(expect_dtype(c, i, kFloats));
  PN_TRY(expect_dtype(c, 1, {c.dtype(0)}));
  if (c.has(3)) PN_TRY(expect_dtype(c, 3, {DType::kBool, DType::kF32, DType::kF16, DType::kBF16}));
  if (c.has(4) != c.has(5))
    return fail(Status::kInvalidModel, "Attention: past_key and past_value come together");
  if (c.has(4)) {
    PN_TRY(expect_dtype(c, 4, {c.dtype(1)}));
    PN_TRY(expect_dtype(c, 5, {c.dtype(2)}));
    if (c.shape(4).rank != 4)
      return fail(Status::kInvalidModel, "Attention: past_key has rank %d, expected 4",
                  c.shape(4).rank);
  }
  Geometry g;
  PN_TRY(read_attention(c.op, c.attrs, c.shape(0), c.shape(1), c.shape(2),
                        c.has(3) ? &c.shape(3) : nullptr, c.has(4) ? &c.shape(4) : nullptr, &g));
  PN_TRY(expect_shape(c, 4, "past_key", shape_of({g.k.batch, g.k.heads, g.past, g.k.width})));
  PN_TRY(expect_shape(c, 5, "past_value", shape_of({g.k.batch, g.k.heads, g.past, g.v.width})));
  if (c.has(6)) {
    if (c.has(4))
      return fail(Status::kInvalidModel,
                  "Attention: nonpad_kv_seqlen cannot be used with past_key");
    PN_TRY(expect_dtype(c, 6, {DType::kI64}));
    PN_TRY(expect_shape(c, 6, "nonpad_kv_seqlen", shape_of({g.q.batch})));
  }
  Shape y = c.shape(0);
  int64_t hidden;
  if (!checked_mul(g.q.heads, g.v.width, &hidden))
    return fail(Status::kInvalidModel, "Attention: the output overflows");
  y[y.rank - 1] = g.q.packed ? hidden : g.v.width;
  c.set(0, c.dtype(0), y);
  c.set(1, c.dtype(1), shape_of({g.k.batch, g.k.heads, g.keys, g.k.width}));
  c.set(2, c.dtype(2), shape_of({g.v.batch, g.v.heads, g.keys, g.v.width}));
  c.set(3, c.dtype(0), shape_of({g.q.batch, g.q.heads, g.q.length, g.keys}));
  return Status::kOk;
}

float dot(const float* a, const float* b, int64_t n) {
  float sum[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int l = 0; l < 8; ++l) sum[l] += a[i + l] * b[i + l];
  }
  float total = 0;
  for (int l = 0; l < 8; ++l) total += sum[l];
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

struct Operands {
  const float *q, *k, *v, *past_k, *past_v;
  const float* mask;     // added, or
  const uint8_t* allow;  // nonzero: takes part
  const int64_t* valid;  // keys that are no padding, by batch
  float *y, *scores;
};

// Everything about one query row.
class Row {
 public:
  Row(const Geometry& g, const Operands& o, int64_t b, int64_t h, int64_t s)
      : g_(g), o_(o), b_(b), h_(h), s_(s) {
    const int64_t offset = g.past > 0 || o.valid == nullptr ? g.past : o.valid[b] - g.q.length;
    const int64_t at = offset + s;  // position among the keys
    high_ = o.valid != nullptr && o.valid[b] < g.keys ? o.valid[b] : g.keys;
    if (g.causal && at + 1 < high_) high_ = at + 1;
    if (g.right >= 0 && g.right < high_ && at + g.right + 1 < high_) high_ = at + g.right + 1;
    if (g.left >= 0 && at > g.left) low_ = at - g.left;
    const int64_t mask_at = (b * g.mask_b + h * g.mask_h + s * g.mask_q);
    if ((o.mask != nullptr || o.allow != nullptr) && g.mask_keys < high_) high_ = g.mask_keys;
    mask_ = o.mask != nullptr ? o.mask + mask_at : nullptr;
    allow_ = o.allow != nullptr ? o.allow + mask_at : nullptr;
  }

  void run() {
    float* y = o_.y + y_at();
    for (int64_t i = 0; i < g_.v.width; ++i) y[i] = 0;
    float best = -INFINITY, sum = 0;
    for (int64_t from = low_; from < high_; from += kKeys) {
      const int64_t n = high_ - from < kKeys ? high_ - from : kKeys;
      float score[kKeys], top = best;
      for (int64_t j = 0; j < n; ++j) {
        score[j] = allowed(from + j) ? logit(from + j) + bias(from + j) : -INFINITY;
        if (score[j] > top || score[j] != score[j]) top = score[j];
      }
      if (top == -INFINITY) continue;
      const float shrink = best == -INFINITY ? 0 : expf(best - top);
      best = top;
      sum *= shrink;
      for (int64_t i = 0; i < g_.v.width; ++i) y[i] *= shrink;
      for (int64_t j = 0; j < n; ++j) {
        if (score[j] == -INFINITY) continue;
        const float p = expf(score[j] - best);
        const float* v = value(from + j);
        sum += p;
        for (int64_t i = 0; i < g_.v.width; ++i) y[i] += p * v[i];
      }
    }
    if (sum != 0) {
      for (int64_t i = 0; i < g_.v.width; ++i) y[i] /= sum;
    }
    if (o_.scores != nullptr) show(best, sum);
  }

 private:
  // Output 3: raw logits, after softcap, after bias, or probabilities.
  void show(float best, float sum) const {
    float* out = o_.scores + ((b_ * g_.q.heads + h_) * g_.q.length + s_) * g_.keys;
    for (int64_t j = 0; j < g_.keys; ++j) {
      if (g_.mode == 0) {
        out[j] = g_.scale * dot(query(), key(j), g_.q.width);
        continue;
      }
      out[j] = logit(j);
      if (g_.mode == 1) continue;
      out[j] = allowed(j) ? out[j] + bias(j) : -INFINITY;
      if (g_.mode == 3) out[j] = sum == 0 || out[j] == -INFINITY ? 0 : expf(out[j] - best) / sum;
    }
  }

  int64_t y_at() const {
    return Heads{g_.q.batch, g_.q.heads, g_.q.length, g_.v.width, g_.q.packed}.row(b_, h_, s_);
  }
  const float* query() const { return o_.q + g_.q.row(b_, h_, s_); }
  const float* key(int64_t j) const {
    const int64_t h = h_ / g_.group;
    return j < g_.past ? o_.past_k + ((b_ * g_.k.heads + h) * g_.past + j) * g_.k.width
                       : o_.k + g_.k.row(b_, h, j - g_.past);
  }
  const float* value(int64_t j) const {
    const int64_t h = h_ / g_.group;
    return j < g_.past ? o_.past_v + ((b_ * g_.v.heads + h) * g_.past + j) * g_.v.width
                       : o_.v + g_.v.row(b_, h, j - g_.past);
  }
  float logit(int64_t j) const {
    const float x = g_.scale * dot(query(), key(j), g_.q.width);
    return g_.softcap > 0 ? g_.softcap * tanhf(x / g_.softcap) : x;
  }
  bool allowed(int64_t j) const {
    return j >= low_ && j < high_ && (allow_ == nullptr || allow_[j] != 0) &&
           (mask_ == nullptr || mask_[j] != -INFINITY);
  }
  float bias(int64_t j) const { return mask_ != nullptr ? mask_[j] : 0; }

  const Geometry& g_;
  const Operands& o_;
  int64_t b_, h_, s_;
  int64_t low_ = 0, high_ = 0;
  const float* mask_;
  const uint8_t* allow_;
};

// present = past and new rows one after the other, heads unpacked. Bytes are moved as they are.
void append(const RunContext& c, const Heads& heads, int64_t past, int past_input, int input,
            int output) {
  if (!c.wants(output)) return;
  const size_t row = static_cast<size_t>(heads.width) * dtype_size(c.in[input]->desc.dtype);
  const size_t size = dtype_size(c.in[input]->desc.dtype);
  if (row == 0) return;
  uint8_t* to = c.out[output]->as<uint8_t>();
  for (int64_t bh = 0; bh < heads.batch * heads.heads; ++bh) {
    if (past > 0)
      memcpy(to, c.in[past_input]->as<uint8_t>() + static_cast<size_t>(bh * past) * row,
             static_cast<size_t>(past) * row);
    to += static_cast<size_t>(past) * row;
    for (int64_t s = 0; s < heads.length; ++s, to += row) {
      const int64_t from = heads.row(bh / heads.heads, bh % heads.heads, s);
      memcpy(to, c.in[input]->as<uint8_t>() + static_cast<size_t>(from) * size, row);
    }
  }
}

Status run_attention(RunContext& c) {
  Geometry g;
  PN_TRY(read_attention(c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(), c.in[2]->shape(),
                        c.has(3) ? &c.in[3]->shape() : nullptr,
                        c.has(4) ? &c.in[4]->shape() : nullptr, &g));
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const bool flags = c.has(3) && c.in[3]->desc.dtype == DType::kBool;
  Operands o;
  o.q = f.in(0);
  o.k = f.in(1);
  o.v = f.in(2);
  o.mask = flags ? nullptr : f.in(3);
  o.allow = flags ? c.in[3]->as<const uint8_t>() : nullptr;
  o.past_k = f.in(4);
  o.past_v = f.in(5);
  o.valid = c.has(6) ? c.in[6]->as<const int64_t>() : nullptr;
  o.y = f.out(0);
  o.scores = f.out(3);
  for (int64_t b = 0; o.valid != nullptr && b < g.q.batch; ++b) {
    if (o.valid[b] < 0 || o.valid[b] > g.keys) {
      return fail(Status::kInvalidModel,
                  "Attention: nonpad_kv_seqlen[%" PRId64 "] is %" PRId64 ", expected 0 to %" PRId64,
                  b, o.valid[b], g.keys);
    }
  }
  append(c, g.k, g.past, 4, 1, 1);
  append(c, g.v, g.past, 5, 2, 2);
  const int64_t blocks = ceil_div(g.q.length, kQueries);
  c.pool->run(g.q.batch * g.q.heads * blocks, [&](int64_t task, int) {
    const int64_t from = task % blocks * kQueries, bh = task / blocks;
    const int64_t to = from + kQueries < g.q.length ? from + kQueries : g.q.length;
    for (int64_t s = from; s < to; ++s) Row(g, o, bh / g.q.heads, bh % g.q.heads, s).run();
  });
  f.flush();
  return Status::kOk;
}

// --- RotaryEmbedding -------------------------------------------------------------------------

struct Rotary {
  Heads x;
  int64_t rotated = 0;  // leading elements of a head that turn
};

Status read_rotary(const char* op, const Attrs& attrs, const Shape& x, const Shape& cache,
                   bool positions, Rotary* r) {
  PN_TRY(read_heads(op, "X", x, x.rank == 4 ? 0 : attrs.i64("num_heads", 0), &r->x));
  r->rotated = attrs.i64("rotary_embedding_dim", 0);
  if (r->rotated == 0) r->rotated = r->x.width;
  char a[160];
  if (r->rotated < 0 || r->rotated > r->x.width || r->rotated % 2 != 0) {
    return fail(Status::kInvalidModel,
                "%s: %" PRId64 " of %" PRId64 " elements cannot be rotated in pairs", op,
                r->rotated, r->x.width);
  }
  const bool fits = positions
                        ? cache.rank == 2
                        : cache.rank == 3 && cache[0] == r->x.batch && cache[1] == r->x.length;
  if (fits && cache[cache.rank - 1] == r->rotated / 2) return Status::kOk;
  return fail(Status::kInvalidModel, "%s: a cache of shape %s, expected (%s, %" PRId64 ")", op,
              format_shape(cache, a, sizeof(a)), positions ? "positions" : "batch, length",
              r->rotated / 2);
}

Status infer_rotary(InferContext& c) {
  PN_TRY(expect_dtype(c, 0, kFloats));
  PN_TRY(expect_dtype(c, 1, {c.dtype(0)}));
  PN_TRY(expect_dtype(c, 2, {c.dtype(0)}));
  Rotary r;
  PN_TRY(read_rotary(c.op, c.attrs, c.shape(0), c.shape(1), c.has(3), &r));
  PN_TRY(expect_shape(c, 2, "sin_cache", c.shape(1)));
  if (c.has(3)) {
    PN_TRY(expect_dtype(c, 3, {DType::kI64}));
    PN_TRY(expect_shape(c, 3, "position_ids", shape_of({r.x.batch, r.x.length})));
  }
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_rotary(RunContext& c) {
  Rotary r;
  PN_TRY(read_rotary(c.op, c.attrs, c.in[0]->shape(), c.in[1]->shape(), c.has(3), &r));
  const bool interleaved = c.attrs.i64("interleaved", 0) != 0;
  const int64_t* positions = c.has(3) ? c.in[3]->as<const int64_t>() : nullptr;
  const int64_t rows = r.x.batch * r.x.length, half = r.rotated / 2,
                limit = positions ? c.in[1]->dim(0) : 0;
  for (int64_t i = 0; positions != nullptr && i < rows; ++i) {
    if (positions[i] < 0 || positions[i] >= limit) {
      return fail(Status::kInvalidModel,
                  "RotaryEmbedding: position %" PRId64 " is outside the cache's %" PRId64,
                  positions[i], limit);
    }
  }
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float *x = f.in(0), *cosines = f.in(1), *sines = f.in(2);
  float* y = f.out(0);
  c.pool->run(rows, [&](int64_t row, int) {
    const int64_t angle = (positions != nullptr ? positions[row] : row) * half;
    for (int64_t h = 0; h < r.x.heads; ++h) {
      const int64_t at = r.x.row(row / r.x.length, h, row % r.x.length);
      for (int64_t i = 0; i < half; ++i) {
        const int64_t p = at + (interleaved ? 2 * i : i),
                      q = at + (interleaved ? 2 * i + 1 : i + half);
        const float u = x[p], v = x[q], cosine = cosines[angle + i], sine = sines[angle + i];
        y[p] = cosine * u - sine * v;
        y[q] = sine * u + cosine * v;
      }
      for (int64_t i = r.rotated; i < r.x.width; ++i) y[at + i] = x[at + i];
    }
  });
  f.flush();
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_attention[] = {
    {"Attention", 3, 7, 1, 4, 0, infer_attention, run_attention, scratch_f32},
    {"RotaryEmbedding", 3, 4, 1, 1, 0, infer_rotary, run_rotary, scratch_f32},
};
extern const int pn_ops_attention_count = sizeof(pn_ops_attention) / sizeof(OpDef);

}  // namespace pyneo
