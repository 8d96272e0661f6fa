// SPDX-License-Identifier: Apache-2.0
//
// A 1x1 convolution and the depthwise one behind it, over channel blocks. The widened tensor, the largest of an
// inverted residual block, never leaves the caches: for a panel of its channels, rows are made by the GEMM
// microkernel, pass through a ring of about half of L1, and are read by the depthwise windows at once.
//
// Sums for the mean are kept by output row and added in the order of rows, so that they do not depend on who
// computed which.
#include "kernels/depthwise/window.h"
#include "kernels/gemm/partition.h"
#include "ops/pointwise_depthwise.h"

namespace pyneo {
namespace PN_TIER {
namespace {

struct State {
  int64_t batch, channels, expanded;
  Walk walk;             // of x
  Epilogue inner;
  DepthwiseWindow window;
  int64_t bands;         // of output columns
  bool mean;
};

int64_t blocks_of(const State& s) { return ceil_div(s.expanded, kVec); }
int64_t panels_of(const State& s) { return ceil_div(s.expanded, kPanel); }

PN_COLD bool fill(const KernelQuery& q, State* s) {
  PointwiseDepthwise p;
  if (read_pointwise_depthwise(q.attrs, q.in[0]->shape, q.in[1]->shape, q.in[2]->shape, &p) != Status::kOk ||
      read_window_rows(q.attrs, "PointwiseDepthwise", p.depthwise.window, q.target->l1_bytes * 5 / 8, kTileVecs, &s->window,
                       &s->bands) != Status::kOk) {
    clear_error();
    return false;
  }
  const Window& v = p.depthwise.window;
  s->batch = p.depthwise.batch;
  s->channels = p.channels;
  s->expanded = p.depthwise.groups;
  s->mean = q.n_out > 1 && q.out[1] != nullptr;
  s->inner.read(q.attrs, "PointwiseDepthwise", "inner_act");
  const int64_t blocks = ceil_div(s->channels, kVec);
  s->walk = Walk{blocks, v.in_size() * kVec, 1, 0, 1, 0, kVec, s->channels - (blocks - 1) * kVec, kVec, v.in[1] * kVec};
  return true;
}

PN_COLD bool accepts(const KernelQuery& q) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  if (x.dtype != DType::kF32 || x.layout != kBlocked || y.layout != kBlocked || q.in[1]->dtype != DType::kF32 ||
      q.in[2]->dtype != DType::kF32 || q.in[2]->layout != Layout::kPlain || x.elements() == 0 || y.elements() == 0) {
    return false;
  }
  if (q.n_out > 1 && q.out[1] != nullptr && q.out[1]->layout != kBlocked) return false;
  State s;
  return fill(q, &s) && ring_fits(s.window, kTileVecs);
}

int64_t panel_floats(const State& s) { return s.channels * round_up(s.expanded, kVec); }

PN_COLD int64_t packed_bytes(const KernelQuery& q) {
  State s;
  if (!fill(q, &s)) return 0;
  return (panel_floats(s) + blocks_of(s) * kVec * s.window.taps()) * 4;
}

// The 1x1 filters [panel][channel][filter], then the depthwise ones [block][tap][channel].
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  State s;
  if (!fill(q, &s)) return;
  const float* from = static_cast<const float*>(plain);
  float* to = static_cast<float*>(packed);
  for (int64_t f0 = 0; f0 < s.expanded; f0 += kPanel) {
    const int64_t live = s.expanded - f0 < kPanel ? s.expanded - f0 : kPanel, width = live <= kVec ? kVec : kPanel;
    for (int64_t k = 0; k < s.channels; ++k, to += width) {
      for (int64_t f = 0; f < live; ++f) to[f] = from[(f0 + f) * s.channels + k];
    }
  }
  const int64_t taps = s.window.taps();
  from += s.expanded * s.channels;
  for (int64_t e = 0; e < s.expanded; ++e) {
    for (int64_t k = 0; k < taps; ++k) to[(e / kVec * taps + k) * kVec + e % kVec] = from[e * taps + k];
  }
}

PN_COLD int64_t scratch_bytes(const KernelQuery& q) {
  State s;
  return fill(q, &s) && s.mean ? s.batch * blocks_of(s) * s.window.oh * s.bands * kVec * 4 : 0;
}

PN_COLD int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  return fill(q, &s) ? s.window.ring_floats() * kTileVecs * 4 : 0;
}

PN_COLD Status prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "PointwiseDepthwise: the kernel was prepared for operands it does not accept");
}

struct Operands {
  const float *x, *w, *bias;
  float *y, *sums;
};

// Output rows [oh0, oh1) and a band of columns of a panel of one image; the operands point at the image's.
void run_panel(const State& s, const Operands& o, int64_t panel, int64_t oh0, int64_t oh1, int64_t band, float* ring) {
  const int64_t ow0 = tile_begin(s.window.ow, s.bands, band);
  const DepthwiseWindow d = columns_of(s.window, ow0, tile_begin(s.window.ow, s.bands, band + 1));
  const Tiling tiles = tiling(d.iw, kTileVecs);
  for (int v = 0; v < kTileVecs; ++v) clear_edges(d, ring + v * d.ring_floats());
  const int64_t f0 = panel * kPanel, filters = s.expanded - f0 < kPanel ? s.expanded - f0 : kPanel;
  const int vecs = filters <= kVec ? 1 : kTileVecs;
  const int64_t plane = d.ring_floats(), out = d.oh * d.y_step, row = d.ow * kVec;
  alignas(64) float bias[kPanel] = {}, outer[kPanel] = {};
  for (int64_t i = 0; i < filters; ++i) {
    bias[i] = o.bias[f0 + i];
    outer[i] = o.bias[s.expanded + f0 + i];
  }
  Walk walk = s.walk;
  const float* w = o.w + f0 * s.channels;
  const float* taps = o.w + panel_floats(s) + f0 * d.taps();
  Finish f;
  s.inner.clamps(&f);
  f.bias = bias;
  f.out_vec = plane;
  f.out_pixel = kVec;
  f.out_row = d.pitch;
  // The next panel arrives in L2 while this one is used, from the first tiles on.
  const float* next = w + kPanel * s.channels;
  const float* const end = panel + 1 < panels_of(s) ? next + kPanel * s.channels : next;
  const Scatter scatter{1, plane, kVec, d.pitch, vecs * kVec};
  sweep(
      d, oh0, oh1,
      [&](int64_t r, int64_t n, int64_t slot) {
        for (int64_t i = 0; i < n;) {
          const int rows = i + tiles.rows <= n ? tiles.rows : 1;
          for (int64_t t = 0; t < tiles.across; ++t) {
            const int64_t c0 = tile_begin(d.iw, tiles.across, t);
            const int cols = static_cast<int>(tile_begin(d.iw, tiles.across, t + 1) - c0);
            const float* x = o.x + ((r + i) * s.window.iw + d.first + c0) * kVec;
            float* to = ring + (slot + i) * d.pitch + (d.left + c0) * kVec;
            const TileFn fn = tile_fn(rows, cols, vecs);
            f.ahead = next < end ? next : w;
            next += s.channels * 8;
            if (s.inner.direct) {
              fn(walk, x, w, f, to, nullptr);
            } else {
              run_buffered(fn, rows, cols, vecs, walk, x, w, bias, f.ahead, s.inner, scatter, to, nullptr);
            }
          }
          i += rows;
        }
      },
      [&](int64_t from, int64_t to) {
        for (int v = 0; v < vecs; ++v) {
          const int64_t block = f0 / kVec + v;
          float* y = o.y + block * out + ow0 * kVec;
          depthwise_rows(d, ring + v * plane, taps + v * kVec * d.taps(), load(outer + v * kVec), from, to, y);
          if (!s.mean) continue;
          for (int64_t oh = from; oh < to; ++oh) {
            const float* p = y + oh * d.y_step;
            VF a{}, b{};
            int64_t i = 0;
            for (; i + 2 * kVec <= row; i += 2 * kVec) {
              a += load(p + i);
              b += load(p + i + kVec);
            }
            if (i < row) a += load(p + i);
            store(o.sums + ((block * d.oh + oh) * s.bands + band) * kVec, a + b);
          }
        }
      });
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const DepthwiseWindow& d = s.window;
  const int64_t panels = panels_of(s), blocks = blocks_of(s);
  const double flops = 2.0 * static_cast<double>(s.expanded * d.ih) * static_cast<double>(d.iw * (s.channels + d.taps()));
  const Pool serial = Pool::serial();
  const Pool& pool = flops * static_cast<double>(s.batch) < kAloneFlops ? serial : *c.pool;
  // Panels and bands of columns for the threads; where they do not divide evenly, rows as well.
  const int64_t parts = s.batch * panels * s.bands;
  int64_t down = 1;
  if (parts < 8 * pool.size() && parts % pool.size() != 0 && d.oh >= 4 * pool.size()) down = pool.size();
  pool.run(parts * down, [&](int64_t task, int thread) {
    const int64_t n = task / (panels * s.bands * down), panel = task / (s.bands * down) % panels;
    const int64_t band = task / down % s.bands, part = task % down;
    const Operands o{c.in[0]->as<const float>() + n * s.walk.a_count * s.walk.a_step, c.in[1]->as<const float>(),
                     c.in[2]->as<const float>(), c.out[0]->as<float>() + n * blocks * d.oh * d.y_step,
                     static_cast<float*>(c.scratch) + n * blocks * d.oh * s.bands * kVec};
    run_panel(s, o, panel, tile_begin(d.oh, down, part), tile_begin(d.oh, down, part + 1), band,
              reinterpret_cast<float*>(c.thread_scratch + thread * c.thread_stride));
  });
  if (!s.mean) return Status::kOk;
  const float *sums = static_cast<const float*>(c.scratch), scale = 1.0f / static_cast<float>(d.oh * d.ow);
  float* mean = c.out[1]->as<float>();
  for (int64_t i = 0; i < s.batch * blocks; ++i, sums += d.oh * s.bands * kVec) {
    VF sum{};
    for (int64_t r = 0; r < d.oh * s.bands; ++r) sum += load(sums + r * kVec);
    store(mean + i * kVec, sum * scale);
  }
  return Status::kOk;
}

// Microseconds: multiply-adds of both, activations, and the bytes that come in and go out.
PN_COLD float cost(const KernelQuery& q) {
  State s;
  if (!fill(q, &s)) return 1e30f;
  const DepthwiseWindow& d = s.window;
  const double wide = static_cast<double>(s.batch * round_up(s.expanded, kVec) * d.ih) * static_cast<double>(d.iw);
  const Tiling tiles = tiling(d.iw, kTileVecs);
  double us = 2.0 * wide * static_cast<double>(s.channels) / (kPeakFlops * tile_rate(d.iw, tiles, kTileVecs));
  if (!s.inner.direct) us += wide * 4e-4;
  const double out = static_cast<double>(q.out[0]->bytes());
  us += out * static_cast<double>(d.taps()) * (kVec == 16 ? 6e-6 : 1.2e-5) + out * 2e-5;
  Epilogue outer;
  outer.read(q.attrs, "PointwiseDepthwise");
  if (!outer.direct) us += out * 6.7e-5;
  // Short rows: a call for every tile, and for every row of a block.
  const double calls = static_cast<double>(s.batch * panels_of(s) * tiles.across * d.ih / tiles.rows);
  us += calls * 0.01 + static_cast<double>(s.batch * blocks_of(s) * d.oh) * 0.04;
  return static_cast<float>(us + static_cast<double>(q.in[0]->bytes()) * 2.5e-5);
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(pointwise_depthwise)
PN_KERNEL_ROWS(pointwise_depthwise) = {
    {"f32_pointwise_depthwise_" PN_BLOCK, "PointwiseDepthwise", PN_TIER::kBlocked, PN_TIER::kBlocked, 1,
     PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts, PN_TIER::cost, PN_TIER::packed_bytes, PN_TIER::pack, PN_TIER::scratch_bytes,
     PN_TIER::thread_scratch_bytes, PN_WIDE_RUN(PN_TIER::prepare, PN_TIER::run))},
};
PN_KERNEL_COUNT(pointwise_depthwise);
static_assert(sizeof(PN_TIER::State) <= kMaxKernelState, "state of a pointwise and depthwise convolution");

}  // namespace pyneo
