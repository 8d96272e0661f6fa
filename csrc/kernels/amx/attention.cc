// SPDX-License-Identifier: Apache-2.0
//
// Attention on AMX, float32 in bfloat16 pieces (tile.h says how).
//
// A task takes strips of 32 queries of one head, and keys in blocks: their scores, the softmax of each row (carried
// from one block to the next, as in attention/attention.cc), and the sums of V that it weighs. K, with keys in columns,
// and V are cut into pieces once for all strips of a task. One thing after the other: a pipeline that made weights of
// one strip, a row behind every third product, while tiles worked on the strips around it, was no faster.
#include <immintrin.h>

#include <cmath>

#include "kernels/amx/tile.h"
#include "kernels/attention/attention.h"
#include "kernels/gemm/partition.h"
#include "kernels/spread.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kStrip = kPairRows;
constexpr int kAtOnce = 8;  // vectors that go through exp in step with each other

int64_t clamp(int64_t x, int64_t most) { return x < 0 ? 0 : min64(x, most); }
// Powers of two by shifts: the file is built for size, where compilers divide.
int64_t steps_of(int64_t n) { return (n + kDepth - 1) >> 5; }
// Of row r of a strip in its tile, and of a vector of keys or columns: floats.
int64_t row_at(int64_t r) { return (r >> 4) * (2 * kTileRows * kVec) + (r & 15) * kVec; }
constexpr int64_t vec_at(int64_t i) { return (i >> 1) * (4 * kTileRows * kVec) + (i & 1) * (kTileRows * kVec); }
__mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << clamp(n, kVec)) - 1); }

// What lies in a thread's scratch.
enum Buffer { kK, kV, kQ, kScores, kWeights, kSums, kBest, kTotal, kScale, kKeep, kBuffers };

struct State {
  AttentionState a;
  int pieces;
  int64_t steps;   // of 32 in the width of Q
  int64_t vecs;    // of 16 in the width of V
  int64_t block;   // keys of a block: a multiple of 32
  int64_t strips, parts;     // strips of a head, and the parts of them that are tasks
  int64_t at[kBuffers + 1];  // bytes in front of each buffer

  int64_t step_bytes() const { return pieces * 2 * kTileBytes; }  // of a panel of K or V
  int64_t v_panel() const { return (block >> 5) * step_bytes(); }
  int64_t weight_piece() const { return round_up(block, int64_t{kAtOnce * kVec}) * (kStrip * 2); }
  int64_t query_piece() const { return steps * 2 * kTileBytes; }
};

PN_COLD bool plan(const KernelQuery& q, State* s) {
  if (!read_attention(q, &s->a)) return false;
  const AttentionState& a = s->a;
  if (a.q.batch < 1 || a.q.heads < 1 || a.q.length < 1 || a.keys < 1) return false;
  s->pieces = read_pieces(q.attrs);
  s->steps = steps_of(a.q.width);
  s->vecs = (a.v.width + kVec - 1) >> 4;
  s->strips = ceil_div(a.q.length, kStrip);
  s->parts = 1;
  // Everything of a block lies in half of L2.
  const int64_t bytes = s->pieces * 2 * (s->steps * kDepth + s->vecs * kVec) + kStrip * (4 + s->pieces * 2);
  const int64_t fit = max64(q.target->l2_bytes / 2 / bytes >> 5, 2), panels = steps_of(a.keys);
  s->block = ceil_div(panels, ceil_div(panels, fit)) * kDepth;
  const int64_t sizes[kBuffers] = {(s->block >> 5) * s->steps * s->step_bytes(), ((s->vecs + 1) >> 1) * s->v_panel(),
                                   s->pieces * s->query_piece(), s->weight_piece() * 2, s->pieces * s->weight_piece(), 4 * kTileBytes,
                                   s->strips * kStrip * 4, s->strips * kStrip * 4, kStrip * 4, kStrip * 4};
  s->at[0] = 0;
  for (int i = 0; i < kBuffers; ++i) s->at[i + 1] = s->at[i] + sizes[i];
  return true;
}

// Strips of a head.
class Task {
 public:
  Task(const State& s, const RunContext& c, uint8_t* scratch) : s_(s), a_(s.a), c_(c), scratch_(reinterpret_cast<char*>(scratch)) {}

  void run(int64_t head, int64_t begin, int64_t end) {
    batch_ = head / a_.q.heads;
    head_ = head % a_.q.heads;
    const int64_t until = a_.causal ? min64(a_.keys, end * kStrip) : a_.keys;
    for (from_ = 0; from_ < until; from_ += s_.block) {
      keys_ = min64(s_.block, until - from_);
      for (int64_t i = 0; i < keys_; i += kVec) cut_k(i >> 4);
      for (int64_t i = 0; i < steps_of(keys_); ++i) cut_v(i);
      for (int64_t i = a_.causal ? max64(begin, from_ >> 5) : begin; i < end; ++i) strip(i * kStrip);
    }
  }

 private:
  template <typename T = float>
  T* buffer(Buffer kind) const {
    return reinterpret_cast<T*>(scratch_ + s_.at[kind]);
  }
  const float* operand(int i, const Heads& h, int64_t group, int64_t row) const {
    return c_.in[i]->as<const float>() + batch_ * h.step_b + head_ / group * h.step_h + row * h.step_s;
  }
  static Halves halves(const float* x, int64_t second, int64_t step, int64_t left) {
    return {x, left > kVec ? second : 0, step, {static_cast<int>(clamp(left, kVec)), static_cast<int>(clamp(left - kVec, kVec))}};
  }

  // 16 keys, in columns.
  void cut_k(int64_t group) const {
    const int64_t first = group * kVec, panel = group >> 1, piece = tile_vecs(keys_ - panel * kTilePanel) * kTileBytes;
    const float* from = operand(1, a_.k, a_.group, from_ + first);
    char* to = buffer<char>(kK) + panel * s_.steps * s_.step_bytes() + (group & 1) * kTileBytes;
    for (int64_t left = a_.k.width; left > 0; left -= kDepth, from += kDepth, to += s_.pieces * piece) {
      const int64_t live = min64(kVec, keys_ - first), width = min64(kDepth, left);
      alignas(64) float turned[kDepth * kVec];
      if (live < kVec || width < kDepth) __builtin_memset(turned, 0, sizeof(turned));
      transpose(from, a_.k.step_s, turned, kVec, live, width);
      split_rows(s_.pieces, halves(turned, kVec * kVec, kVec, kDepth), kVec, to, piece);
    }
  }

  // 32 keys of V.
  void cut_v(int64_t step) const {
    const int64_t row = a_.v.step_s, left = keys_ - step * kDepth;
    const int64_t first = clamp(left, kTileRows), both = clamp(left - kTileRows, kTileRows);
    const float* from = operand(2, a_.v, a_.group, from_ + step * kDepth);
    for (int64_t vec = 0; vec < s_.vecs; ++vec, from += kVec) {
      const int64_t panel = vec >> 1, piece = tile_vecs((s_.vecs - panel * 2) * kVec) * kTileBytes;
      const int live = static_cast<int>(min64(kVec, a_.v.width - vec * kVec));
      char* const to = buffer<char>(kV) + panel * s_.v_panel() + step * s_.pieces * piece + (vec & 1) * kTileBytes;
      split_rows(s_.pieces, Halves{from, kTileRows * row, row, {live, live}}, both, to, piece);
      split_rows(s_.pieces, Halves{from + both * row, 0, row, {live, 0}}, first - both, to + both * kRowBytes, piece);
      for (int i = 0; i < s_.pieces; ++i) {
        __builtin_memset(to + i * piece + first * kRowBytes, 0, static_cast<size_t>((kTileRows - first) * kRowBytes));
      }
    }
  }

  // A block of keys for the queries from `first` on.
  void strip(int64_t first) const {
    const int64_t live = min64(kStrip, a_.q.length - first);
    const int64_t keys = a_.causal ? min64(keys_, first + kStrip - from_) : keys_;
    const bool ends = from_ + keys >= (a_.causal ? min64(a_.keys, first + kStrip) : a_.keys);
    const float* q = operand(0, a_.q, 1, first);
    for (int64_t i = 0; i < s_.steps; ++i) {
      const Halves h = halves(q + i * kDepth, kVec, a_.q.step_s, a_.q.width - i * kDepth);
      split_rows(s_.pieces, h, live, buffer<char>(kQ) + i * 2 * kTileBytes, s_.query_piece());
    }
    const int tiles = live > kTileRows ? 2 : 1;
    for (int64_t i = 0; i < steps_of(keys); ++i) {
      multiply(buffer<char>(kQ), s_.query_piece(), buffer<char>(kK) + i * s_.steps * s_.step_bytes(), s_.steps, tiles,
               tile_vecs(keys_ - i * kTilePanel), buffer(kScores) + i * kTileBytes);
    }
    for (int64_t i = 0; i < live; ++i) soften(first, i, keys, ends);
    for (int64_t i = 0; 2 * i < s_.vecs; ++i) {
      const int vecs = tile_vecs((s_.vecs - 2 * i) * kVec);
      multiply(buffer<char>(kWeights), s_.weight_piece(), buffer<char>(kV) + i * s_.v_panel(), steps_of(keys), tiles, vecs, buffer(kSums));
      put(first, live, i * kTilePanel, vecs);
    }
  }

  // `tiles` of rows of A by a panel of B.
  void multiply(const char* a, int64_t a_piece, const char* b, int64_t depth, int tiles, int vecs, float* to) const {
    alignas(64) static const float zeros[kVec] = {};
    static const int32_t none = 0;
    PanelJob job{};
    job.pieces = s_.pieces;
    job.taps = 1;
    job.offsets = &none;
    job.a_step = 2 * kTileBytes;
    job.a_piece = a_piece;
    Part part{};
    part.a[0] = a;
    part.a[1] = a + kTileBytes;
    part.depth = depth;
    part.b = b;
    part.from = reinterpret_cast<const char*>(zeros);
    part.to = reinterpret_cast<char*>(to);
    run_ready(job, part, tiles, vecs);
  }

  // What stands between the products of Q and K and their softmax, for n keys of a row.
  __attribute__((noinline)) void adjust(int64_t query, int64_t n, float* row) const {
    const int64_t at = batch_ * a_.mask_b + head_ * a_.mask_h + query * a_.mask_q + from_;
    for (int64_t j = 0; j < n; j += kVec) {
      float* const x = row + vec_at(j >> 4);
      const __mmask16 live = first_lanes(n - j);
      VF v = load(x) * a_.scale;
      if (a_.softcap > 0) v = vtanh(v / a_.softcap) * a_.softcap;
      if (a_.mask) v += reinterpret_cast<VF>(_mm512_maskz_loadu_ps(live, c_.in[3]->as<const float>() + at + j));
      if (a_.flags) {
        const __m128i flags = _mm_maskz_loadu_epi8(live, c_.in[3]->as<const uint8_t>() + at + j);
        const __m512 none = reinterpret_cast<__m512>(splat(-INFINITY));
        v = reinterpret_cast<VF>(_mm512_mask_mov_ps(none, _mm_test_epi8_mask(flags, flags), reinterpret_cast<__m512>(v)));
      }
      store(x, v);
    }
  }

  // Weights of a query, in pieces, and what its sums will be multiplied with. `keys`: of the strip.
  void soften(int64_t first, int64_t r, int64_t keys, bool ends) const {
    const int64_t query = first + r, n = a_.causal ? min64(keys, query + 1 - from_) : keys;
    float* const row = buffer(kScores) + row_at(r);
    float scale = a_.scale;
    if (a_.mask || a_.flags || a_.softcap > 0 || !(scale > 0)) {
      adjust(query, n, row);
      scale = 1;
    }
    VI lane;
    PN_UNROLL for (int i = 0; i < kVec; ++i) lane[i] = i;
    const int64_t vecs = (keys + kAtOnce * kVec - 1) >> 7 << 3;
    for (int64_t i = n >> 4; i < vecs; ++i) {
      float* const x = row + vec_at(i);
      store(x, select(lane < splat_i(static_cast<int32_t>(n - i * kVec)), load(x), splat(-INFINITY)));
    }
    VF top0 = splat(-INFINITY), top1 = top0;
    for (int64_t i = 0; i < vecs; i += 2) {
      top0 = vmax(load(row + vec_at(i)), top0);
      top1 = vmax(load(row + vec_at(i) + vec_at(1)), top1);
    }
    float* const best = buffer(kBest) + query;
    float* const total = buffer(kTotal) + query;
    float top = reduce_max(vmax(top0, top1)) * scale;
    if (from_ > 0 && *best > top) top = *best;
    const VF base = splat(top == -INFINITY ? 0 : top);  // nothing allowed yet: every weight is 0
    VF sum[2] = {};
    char* to = buffer<char>(kWeights) + r * kRowBytes;
    for (int64_t i = 0; i < vecs; i += kAtOnce, to += kAtOnce * kTileBytes) {
      VF e[kAtOnce];
      PN_UNROLL for (int v = 0; v < kAtOnce; ++v) e[v] = load(row + vec_at(i) + vec_at(v)) * scale - base;
      vexp_weights<kAtOnce>(e);
      PN_UNROLL for (int v = 0; v < kAtOnce; ++v) sum[v & 1] += e[v];
      if (s_.pieces == 3) {
        PN_UNROLL for (int v = 0; v < kAtOnce; v += 2) split<3>(e[v], e[v + 1], to + v * kTileBytes, s_.weight_piece());
      } else {
        PN_UNROLL for (int v = 0; v < kAtOnce; v += 2) split<2>(e[v], e[v + 1], to + v * kTileBytes, s_.weight_piece());
      }
    }
    float all = reduce_add(sum[0] + sum[1]), factor = 0;
    if (from_ > 0) {
      factor = expf(*best - base[0]);
      all += *total * factor;
    }
    *best = top;
    *total = all;
    const float share = !ends ? 1 : all != 0 ? 1 / all : 0;
    buffer(kScale)[r] = share;
    buffer(kKeep)[r] = factor * share;
  }

  // Sums of a panel of V's columns go out.
  void put(int64_t first, int64_t live, int64_t col, int vecs) const {
    const Heads& y = a_.y;
    float* to = c_.out[0]->as<float>() + batch_ * y.step_b + head_ * y.step_h + first * y.step_s + col;
    for (int v = 0; v < vecs; ++v, to += kVec) {
      const __mmask16 lanes = first_lanes(y.width - col - v * kVec);
      for (int64_t r = 0; r < live; ++r) {
        VF x = load(buffer(kSums) + row_at(r) + vec_at(v)) * buffer(kScale)[r];
        float* const at = to + r * y.step_s;
        if (from_ > 0) x += reinterpret_cast<VF>(_mm512_maskz_loadu_ps(lanes, at)) * buffer(kKeep)[r];
        _mm512_mask_storeu_ps(at, lanes, reinterpret_cast<__m512>(x));
      }
    }
  }

  const State& s_;
  const AttentionState& a_;
  const RunContext& c_;
  char* const scratch_;
  int64_t batch_, head_, from_, keys_;  // keys from `from_` on: the block in K and V
};

bool accepts(const KernelQuery& q) {
  State s;
  return plan(q, &s);
}

Status prepare(const KernelQuery& q, void* state) {
  if (plan(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Attention: the kernel was prepared for operands it does not accept");
}

int64_t thread_scratch(const KernelQuery& q) {
  State s;
  return plan(q, &s) ? s.at[kBuffers] : 0;
}

// Microseconds, fitted to a quiet core, times what a busy one takes longer than vectors do there: three quarters of it,
// as in tile_cost.
float cost(const KernelQuery& q) {
  State s;
  if (!plan(q, &s)) return 0;
  const auto number = [](int64_t n) { return static_cast<double>(n); };
  const int64_t panels = steps_of(s.a.keys), heads = s.a.q.batch * s.a.q.heads;
  const double steps = number(s.steps), vecs = number(s.vecs), rows = number(s.a.q.length), causal = s.a.causal ? 0.6 : 1;
  const double block = s.pieces == 3 ? 0.14 : 0.079;  // of a pair of tiles and a vector
  const double products = number(s.strips) * (number(panels) * (2 * steps + vecs) * block + (number(2 * panels) + vecs) * 0.06);
  const double weights = rows * number((panels + 3) >> 2) * 8 * (s.a.mask || s.a.flags || s.a.softcap > 0 ? 0.014 : 0.01);
  const double cut = number(s.a.keys) * (steps * 0.011 + vecs * 0.005) + rows * (steps * 0.008 + vecs * 0.003);
  const double busy = s.pieces == 3 ? 1.5 : 1.27;
  return static_cast<float>(number(heads) * ((products + weights) * causal + cut) * busy + 1);
}

Status run(const void* state, RunContext& c) {
  State s = *static_cast<const State*>(state);
  // Heads are the tasks; parts of them where heads are few, though each part cuts K and V for itself.
  const int64_t heads = s.a.q.batch * s.a.q.heads, threads = c.pool->size();
  if (heads < 2 * threads && threads > 1) s.parts = min64(s.strips, ceil_div(2 * threads, heads));
  const int64_t work = s.a.keys * ceil_div(s.strips, s.parts) * kStrip * (s.a.q.width + s.a.v.width) / 40;
  spread(*c.pool, heads * s.parts, work, [&](int64_t begin, int64_t end, int thread) {
    const TileScope tiles(kVec);
    Task task(s, c, c.thread_scratch + thread * c.thread_stride);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t part = i % s.parts;
      task.run(i / s.parts, tile_begin(s.strips, s.parts, part), tile_begin(s.strips, s.parts, part + 1));
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(amx_attention)
PN_KERNEL_ROWS(amx_attention) = {
    {"f32_attention_amx", "Attention", Layout::kPlain, Layout::kPlain, -1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, nullptr, nullptr, nullptr, PN_TIER::thread_scratch, PN_TIER::prepare, PN_TIER::run)},
};
PN_KERNEL_COUNT(amx_attention);
static_assert(sizeof(PN_TIER::State) <= kMaxKernelState, "state of an attention");

}  // namespace pyneo
