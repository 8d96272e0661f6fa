// SPDX-License-Identifier: Apache-2.0
//
// Depthwise convolution (group == C == M) over channel blocks, 1 to 3 spatial axes.
//
// Weights are packed [C/V][taps][V]. A pixel of a block is one aligned vector, so a tap is one
// multiply-add: kTile neighbouring outputs sit in registers, and each input vector of the window is
// loaded once for all outputs it touches. Tiles that reach over an edge load zeros there. none, relu
// and clip are clamped in registers; other activations and the residual run over the finished row.
#include "kernels/depthwise/window.h"
#include "kernels/conv/geometry.h"
#include "kernels/spread.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// Outputs in registers beside five weights and an input: 14 of 16 registers with AVX2; with SSE2
// every vector is two of 16.
#if defined(__AVX2__) || defined(__aarch64__)
constexpr int kTile = 8;
#else
constexpr int kTile = 4;
#endif

struct State : Plane {
  Slices depth;
  int64_t batch, channels;
  float lo, hi;             // clamp that stands for a cheap `act`
  Activation act, post;     // kNone where clamped
  bool far;                 // tensors that do not fit in L2: the output's lines are not there yet
};

// Planes of the input under as many slices of the kernel, one or more.
struct Stack {
  const float *x, *w;       // the first
  int64_t count, x_step, w_step;
};

struct Row {                // what a tile needs of the row it is in
  const float* x;           // input row 0 of the block
  const float* w;           // the block's taps
  int64_t kh0, kh1, ih0;    // taps inside, input row of tap 0
};

// K > 0: kernel width and stride known, no dilation. K == 0: as the state says.
template <int K, int S, bool kEdge>
PN_INLINE void tile(const State& s, const Row& r, int64_t ow, VF* acc) {
  const int64_t i0 = ow * (K ? S : s.sw) - s.left;
  for (int64_t k = r.kh0; k < r.kh1; ++k) {
    const float* x = r.x + (r.ih0 + k * s.dh) * s.iw * kVec;
    const float* w = r.w + k * s.kw * kVec;
    if constexpr (K > 0) {
      VF taps[K];
#pragma GCC unroll 8
      for (int q = 0; q < K; ++q) taps[q] = load(w + q * kVec);
#pragma GCC unroll 32
      for (int j = 0; j < (kTile - 1) * S + K; ++j) {
        if (kEdge && static_cast<uint64_t>(i0 + j) >= static_cast<uint64_t>(s.iw)) continue;
        const VF v = load(x + (i0 + j) * kVec);
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) {
          const int q = j - t * S;
          if (q >= 0 && q < K) acc[t] += v * taps[q];
        }
      }
    } else {
      for (int64_t q = 0; q < s.kw; ++q) {
        const VF tap = load(w + q * kVec);
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) {
          const int64_t i = i0 + t * s.sw + q * s.dw;
          if (kEdge && static_cast<uint64_t>(i) >= static_cast<uint64_t>(s.iw)) continue;
          acc[t] += load(x + i * kVec) * tap;
        }
      }
    }
  }
}

template <int K, int S>
void rows(const State& s, const Stack& in, VF bias, float* y, int64_t oh0, int64_t oh1) {
  const int64_t reach = (kTile - 1) * s.sw + (s.kw - 1) * s.dw;  // last input column of a tile, from its first
  const VF lo = splat(s.lo), hi = splat(s.hi);
  Row r{in.x, in.w, 0, 0, 0};
  for (int64_t oh = oh0; oh < oh1; ++oh) {
    r.ih0 = oh * s.sh - s.top;
    r.kh0 = r.ih0 < 0 ? ceil_div(-r.ih0, s.dh) : 0;
    r.kh1 = r.ih0 >= s.ih ? 0 : ceil_div(s.ih - r.ih0, s.dh);
    if (r.kh1 > s.kh) r.kh1 = s.kh;
    float* row = y + oh * s.ow * kVec;
    for (int64_t ow = 0; ow < s.ow; ow += kTile) {
      VF acc[kTile];
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) acc[t] = bias;
      const int64_t i0 = ow * s.sw - s.left, live = s.ow - ow;
      const bool whole = i0 >= 0 && i0 + reach < s.iw && live >= kTile;
      r.x = in.x;
      r.w = in.w;
      for (int64_t i = in.count; i > 0; --i, r.x += in.x_step, r.w += in.w_step) {
        // Seven taps hide the questions about edges: one body for both.
        whole && K != 7 ? tile<K, S, K == 7>(s, r, ow, acc) : tile<K, S, true>(s, r, ow, acc);
      }
      float* to = row + ow * kVec;
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) acc[t] = vmin(vmax(acc[t], lo), hi);
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) {
        if (t == live) break;
        store(to + t * kVec, acc[t]);
      }
    }
  }
}

#if defined(__AVX512F__)
// Stands for rows of padding, of planes of few columns. (Writable: of constants the file would hold the zeros.)
constexpr int64_t kFewColumns = 32;
alignas(64) float no_row[kFewColumns * kVec];

// A 3x3 window of stride 1 whose rows are inside, or of few columns: two rows of outputs at a time, as planes of few columns have too few sums in
// flight row by row, and the taps in registers. Columns come first: an edge is asked for once, not for each row.
// Planes of volumes apart: that they may be several costs a tenth of the time where it is one.
template <bool kStack>
void rows_of_nine(const State& s, const Stack& stack, VF bias, float* y, int64_t oh0, int64_t oh1) {
  const VF lo = splat(s.lo), hi = splat(s.hi);
  const int64_t pitch = s.iw * kVec, out = s.ow * kVec;
  VF taps[9];
  const auto take = [&](const float* w) __attribute__((always_inline)) {
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) taps[i] = load(w + i * kVec);
  };
  if (!kStack) take(stack.w);
  for (int64_t oh = oh0; oh < oh1; oh += 2) {
    const bool both = oh + 1 < oh1;
    for (int64_t ow = 0; ow < s.ow; ow += kTile) {
      const int64_t i0 = ow - s.left;
      const float* in[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const int64_t ih = oh - s.top + (k < 3 || both ? k : 0);
        in[k] = (static_cast<uint64_t>(ih) < static_cast<uint64_t>(s.ih) ? stack.x + ih * pitch : no_row) + i0 * kVec;
      }
      VF acc[2][kTile];
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) acc[0][t] = acc[1][t] = bias;
      for (int64_t i = 0; i < (kStack ? stack.count : 1); ++i) {
        if (kStack) take(stack.w + i * stack.w_step);
#pragma GCC unroll 32
        for (int j = 0; j < kTile + 2; ++j) {
          if (static_cast<uint64_t>(i0 + j) >= static_cast<uint64_t>(s.iw)) continue;
#pragma GCC unroll 8
          for (int k = 0; k < 4; ++k) {
            const VF v = load(in[k] + (kStack ? i * stack.x_step : 0) + j * kVec);
#pragma GCC unroll 8
            for (int t = 0; t < kTile; ++t) {
              const int q = j - t;
              if (q >= 0 && q < 3 && k < 3) acc[0][t] += v * taps[k * 3 + q];
              if (q >= 0 && q < 3 && k > 0) acc[1][t] += v * taps[(k - 1) * 3 + q];
            }
          }
        }
      }
      float* to = y + oh * out + ow * kVec;
      const int64_t live = s.ow - ow;
#pragma GCC unroll 8
      for (int r = 0; r < 2; ++r, to += out) {  // row after row, as hardware fetches lines ahead
        if (r == 1 && !both) break;
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) {
          if (t == live) break;
          store(to + t * kVec, vmin(vmax(acc[r][t], lo), hi));
        }
        for (int t = 0; s.far && t < kTile; ++t) __builtin_prefetch(to + 2 * out + t * kVec, 1, 3);
      }
    }
  }
}
#endif

PN_COLD bool accepts(const KernelQuery& q) {
  for (int i = 0; i < 4; ++i) {
    if (q.has(i) && q.in[i]->dtype != DType::kF32) return false;
  }
  const TensorDesc &x = *q.in[0], &w = *q.in[1];
  if (x.layout != kBlocked || q.out[0]->layout != kBlocked || (q.has(3) && q.in[3]->layout != kBlocked)) return false;
  if (x.shape.rank > 5 || (q.has(2) && q.in[2]->layout != Layout::kPlain)) return false;
  ConvGeometry g;
  if (read_conv("Conv", q.attrs, x.shape, w.shape, &g) != Status::kOk) return false;
  return g.groups == g.channels && g.filters == g.channels && g.groups > 1 && slices_of(g.window).met();
}

PN_COLD float cost(const KernelQuery& q) {
  const double taps = static_cast<double>(q.in[1]->shape.product(2, q.in[1]->shape.rank));
  const double out = static_cast<double>(q.out[0]->bytes()), in = static_cast<double>(q.in[0]->bytes());
  double us = out * (taps * (kVec == 16 ? 4e-6 : 8e-6) + 2.2e-5) + in * 8e-6 + 0.2;
  const double beyond = in + out - static_cast<double>(q.target->l2_bytes);
  if (beyond > 0) us += beyond * 2.4e-5;
  Epilogue e;
  e.read(q.attrs, "Conv");
  if (!e.direct) us += out * 6.7e-5;
  return static_cast<float>(us);
}

int64_t taps_of(const KernelQuery& q) { return q.in[1]->shape.product(2, q.in[1]->shape.rank); }

PN_COLD int64_t packed_bytes(const KernelQuery& q) { return round_up(q.in[1]->shape[0], kVec) * taps_of(q) * 4; }

PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  const float* from = static_cast<const float*>(plain);
  float* to = static_cast<float*>(packed);
  const int64_t taps = taps_of(q), channels = q.in[1]->shape[0];
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t k = 0; k < taps; ++k) to[(c / kVec * taps + k) * kVec + c % kVec] = from[c * taps + k];
  }
}

PN_COLD Status prepare(const KernelQuery& q, void* state) {
  State& s = *static_cast<State*>(state);
  ConvGeometry g;
  PN_TRY(read_conv("Conv", q.attrs, q.in[0]->shape, q.in[1]->shape, &g));
  PN_TRY(read_activation(q.attrs, "Conv", "act", &s.act));
  PN_TRY(read_activation(q.attrs, "Conv", "post_act", &s.post));
  if (!q.has(3) && s.act.kind == Act::kNone) {  // nothing between the two: one clamp does for post_act too
    s.act = s.post;
    s.post = Activation{};
  }
  take_clamp(&s.act, &s.lo, &s.hi);
  s.batch = g.batch;
  s.channels = g.channels;
  static_cast<Plane&>(s) = plane_of(g.window);
  s.depth = slices_of(g.window);
  s.far = q.in[0]->bytes() + q.out[0]->bytes() > q.target->l2_bytes;
  return Status::kOk;
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float *x = c.in[0]->as<const float>(), *w = c.in[1]->as<const float>();
  const float* bias = c.has(2) ? c.in[2]->as<const float>() : nullptr;
  const float* z = c.has(3) ? c.in[3]->as<const float>() : nullptr;
  float* y = c.out[0]->as<float>();
  const int64_t blocks = ceil_div(s.channels, kVec), taps = s.kh * s.kw, all_taps = taps * s.depth.kernel, row = s.ow * kVec;
  const int64_t in_plane = s.ih * s.iw * kVec;
#if defined(__AVX2__) || defined(__aarch64__)
  const auto body = s.dw > 1 || s.sw > 2       ? rows<0, 0>
                    : s.kw == 3 && s.sw == 1 ? rows<3, 1>
                    : s.kw == 3              ? rows<3, 2>
                    : s.kw == 5 && s.sw == 1 ? rows<5, 1>
                    : s.kw == 5              ? rows<5, 2>
#if defined(__AVX512F__)
                    : s.kw == 7 && s.sw == 1 ? rows<7, 1>  // of 16 registers, eight sums and seven taps leave one
#endif
                                             : rows<0, 0>;
#else
  const auto body = rows<0, 0>;  // vectors of two registers gain nothing from windows known ahead
#endif
#if defined(__AVX512F__)
  const bool nine = s.kw == 3 && s.kh == 3 && s.sw == 1 && s.sh == 1 && s.dw == 1 && s.dh == 1;
#endif
  // Items are output rows of all planes; a range is cut at their borders.
  spread(*c.pool, s.batch * blocks * s.depth.out * s.oh, row * (1 + all_taps / 4), [&](int64_t begin, int64_t end, int) {
    while (begin < end) {
      const int64_t plane = begin / s.oh, d = plane % s.depth.out, volume = plane / s.depth.out;
      const int64_t b = volume % blocks, oh0 = begin % s.oh;
      const int64_t oh1 = oh0 + (end - begin) < s.oh ? oh0 + (end - begin) : s.oh;
      const int64_t live = s.channels - b * kVec;
      VF v{};
      if (bias) v = live >= kVec ? load(bias + b * kVec) : load_n(bias + b * kVec, static_cast<int>(live));
      float* out = y + plane * s.oh * row;
      int64_t first, last;
      s.depth.taps_of(d, &first, &last);
      const int64_t top = volume * s.depth.in + d * s.depth.stride - s.depth.pad + first * s.depth.dilation;
      const Stack in{x + top * in_plane, w + (b * all_taps + first * taps) * kVec, last - first, s.depth.dilation * in_plane, taps * kVec};
#if defined(__AVX512F__)
      // Rows [n0, n1) of outputs have whole windows from top to bottom, or zeros instead.
      int64_t n0 = oh0, n1 = oh1;
      if (s.iw > kFewColumns || in.count > 1) {
        n0 = oh0 > s.top ? oh0 : s.top;
        n1 = oh1 < s.ih - 2 + s.top ? oh1 : s.ih - 2 + s.top;
      }
      if (!nine || n0 >= n1) n0 = n1 = oh1;
      body(s, in, v, out, oh0, n0);
      in.count == 1 ? rows_of_nine<false>(s, in, v, out, n0, n1) : rows_of_nine<true>(s, in, v, out, n0, n1);
      body(s, in, v, out, n1, oh1);
#else
      body(s, in, v, out, oh0, oh1);
#endif
      if (s.act.kind != Act::kNone || s.post.kind != Act::kNone || z != nullptr) {
        for (int64_t oh = oh0; oh < oh1; ++oh) {
          finish_rows(s.act, z != nullptr ? z + (plane * s.oh + oh) * row : nullptr, s.post, out + oh * row, row);
        }
      }
      begin += oh1 - oh0;
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(depthwise)
PN_KERNEL_ROWS(depthwise) = {
    {"f32_depthwise_" PN_BLOCK, "Conv", PN_TIER::kBlocked, PN_TIER::kBlocked, 1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, PN_TIER::packed_bytes, PN_TIER::pack, nullptr, nullptr, PN_TIER::prepare, PN_TIER::run)},
};
PN_KERNEL_COUNT(depthwise);

}  // namespace pyneo
