// SPDX-License-Identifier: Apache-2.0
//
// 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3), blocked channels in and out.
//
// The input of a block of tiles is transformed once, into [group of tiles][channel block][36 positions][tile]:
// what a tile's transform stores lies in few pages. Then, for each
// panel of filters: its weights are transformed, 12 positions at a time, multiplied with the tiles by the tile
// microkernel, and the 36 products transformed into the output, while all of it stays in L2.
//
// There are two kernels. One stores the weights as they are and transforms them in every run: where they have
// outgrown the caches this costs less than reading the four times as many bytes of their transform. The
// other stores the transform, for layers whose transformed weights stay in L2 from one block of tiles to the next.
#include "kernels/gemm/partition.h"
#include "kernels/winograd/transforms.h"

namespace pyneo {
namespace PN_TIER {
namespace winograd {

PN_COLD bool accepts(const KernelQuery& q) {
  Geometry g;
  return accepts_conv(q, true, true, &g) && g.kernel_h == 3 && g.kernel_w == 3 && g.stride_h == 1 && g.stride_w == 1 &&
         g.dilation_h == 1 && g.dilation_w == 1;
}

PN_COLD void plan(const KernelQuery& q, int64_t unit, State* s) {
  read_geometry(q, &s->g);
  s->epilogue.read(q.attrs, "Conv");
  const Geometry& g = s->g;
  s->tiles_w = ceil_div(g.out_w, kOut);
  s->tiles = s->tiles_w * ceil_div(g.out_h, kOut);
  s->unit = unit;
  s->units = ceil_div(s->tiles, unit);
}

PN_COLD void plan_block(int64_t bytes, int64_t unit_bytes, State* s) {
  s->block = bytes / unit_bytes;
  if (s->block < 1) s->block = 1;
  if (s->block > s->units) s->block = s->units;
}

int64_t block_tiles(const State& s) {
  const int64_t most = s.block * s.unit;
  return most < s.tiles ? most : s.tiles;
}

namespace {

int within(int64_t v, int64_t most) { return static_cast<int>(v < 0 ? 0 : v > most ? most : v); }

// Activations and residual of one row of outputs, `cols` of which are inside the image.
PN_INLINE void finish_row(const Epilogue& e, const Finish& f, VF y[kOut], const float* z, float* to, int cols) {
  if (e.direct) {
    PN_UNROLL for (int c = 0; c < kOut; ++c) {
      if (f.clamp_act) y[c] = vclamp(y[c], f.act_lo, f.act_hi);
    }
    if (z != nullptr) {
      for (int c = 0; c < cols; ++c) y[c] += load(z + c * kVec);
    }
    PN_UNROLL for (int c = 0; c < kOut; ++c) {
      if (f.clamp_post) y[c] = vclamp(y[c], f.post_lo, f.post_hi);
    }
  } else {
    float* row = reinterpret_cast<float*>(y);
    act_rows(e.act, row, cols * kVec);
    if (z != nullptr) {
      for (int c = 0; c < cols; ++c) y[c] += load(z + c * kVec);
    }
    act_rows(e.post, row, cols * kVec);
  }
  for (int c = 0; c < cols; ++c) store(to + c * kVec, y[c]);
}

}  // namespace

void transform_tile(const State& s, const float* x, int64_t block, int64_t t, float* to) {
  const Geometry& g = s.g;
  const int64_t top = t / s.tiles_w * kOut - g.pad_h, left = t % s.tiles_w * kOut - g.pad_w, pitch = g.in_w * kVec;
  x += (block * g.in_h + top) * pitch + left * kVec;
  int64_t row = pitch;
  alignas(64) float edge[kPositions * kVec];
  if (top < 0 || left < 0 || top + kIn > g.in_h || left + kIn > g.in_w) {
    const int r0 = within(-top, kIn), r1 = within(g.in_h - top, kIn), c0 = within(-left, kIn), c1 = within(g.in_w - left, kIn);
    __builtin_memset(edge, 0, sizeof(edge));
    for (int r = r0; r < r1; ++r) {
      for (int c = c0; c < c1; ++c) store(edge + (r * kIn + c) * kVec, load(x + r * pitch + c * kVec));
    }
    x = edge;
    row = kIn * kVec;
  }
  transform_input(x, row, to);
}

void finish_tiles(const State& s, const Operands& o, int64_t filter, int64_t t0, int64_t t1, const float* m) {
  const Geometry& g = s.g;
  Finish f;
  s.epilogue.clamps(&f);
  VF bias{};
  const int64_t live = g.filters - filter < kVec ? g.filters - filter : kVec;
  if (o.bias != nullptr) bias = load_n(o.bias + filter, static_cast<int>(live));
  for (int64_t t = t0; t < t1; ++t, m += kVec) {
    const int64_t top = t / s.tiles_w * kOut, left = t % s.tiles_w * kOut;
    const int rows = within(g.out_h - top, kOut), cols = within(g.out_w - left, kOut);
    VF y[kOut][kOut];
    transform_output(m, bias, y);
    for (int r = 0; r < rows; ++r) {
      const int64_t at = filter * g.out_h * g.out_w + ((top + r) * g.out_w + left) * kVec;
      finish_row(s.epilogue, f, y[r], o.z != nullptr ? o.z + at : nullptr, o.y + at, cols);
    }
  }
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const Geometry& g = s.g;
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Operands all{in(0), in(1), in(2), in(3), c.out[0]->as<float>()};
  const int64_t images = g.batch * g.groups;
  const Pool serial = Pool::serial();
  const Pool& pool = g.flops() < kAloneFlops ? serial : *c.pool;
  const int64_t threads = pool.size();
  // Tiles are divided while each thread has several units of them, for what they share is the transform
  // of the weights; panels otherwise, which share that of the input.
  Split split{1, 1};
  if (threads > 1 && images < 4 * threads) {
    const int64_t wanted = ceil_div(4 * threads, images);
    split = s.units >= 2 * wanted ? Split{wanted, 1}
            : s.units >= 2 * threads ? Split{threads, 1}
                                     : split_grid(s.units, g.panels(), threads);
  }
  const int64_t in_group = g.blocks() * kVec * g.in_h * g.in_w, out_group = round_up(g.filters, kVec) * g.out_h * g.out_w;
  pool.run(images * split.rows * split.cols, [&](int64_t task, int thread) {
    const int64_t across = task % split.cols, down = task / split.cols % split.rows, image = task / (split.cols * split.rows);
    const int64_t group = image % g.groups;
    const Operands o{all.x + image * in_group, all.w + group * s.group_weights,
                     all.bias != nullptr ? all.bias + group * g.filters : nullptr,
                     all.z != nullptr ? all.z + image * out_group : nullptr, all.y + image * out_group};
    const int64_t u0 = tile_begin(s.units, split.rows, down), u1 = tile_begin(s.units, split.rows, down + 1);
    const int64_t blocks = ceil_div(u1 - u0, s.block);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t t0 = (u0 + tile_begin(u1 - u0, blocks, b)) * s.unit;
      const int64_t t1 = (u0 + tile_begin(u1 - u0, blocks, b + 1)) * s.unit;
      s.run_block(s, o, t0, t1 < s.tiles ? t1 : s.tiles, tile_begin(g.panels(), split.cols, across),
                tile_begin(g.panels(), split.cols, across + 1),
                reinterpret_cast<char*>(c.thread_scratch + thread * c.thread_stride));
    }
  });
  return Status::kOk;
}

PN_COLD double transform_cost(const KernelQuery& q, const State& s) {
  const double tiles = static_cast<double>(s.g.batch * s.g.groups * s.tiles), vec_in = static_cast<double>(s.g.blocks());
  double us = tiles * (vec_in * 650 + static_cast<double>(ceil_div(s.g.filters, kVec)) * 450) / kVectorRate;
  us += static_cast<double>(q.in[0]->bytes() + q.out[0]->bytes()) * 1.5e-5;
  if (!s.epilogue.direct) us += static_cast<double>(q.out[0]->bytes()) * 1e-4;
  return us;
}

}  // namespace winograd

namespace {

using namespace winograd;  // NOLINT: this file is about nothing else

#ifndef PN_TABLES_ONLY
static_assert(kSlots == kTilePixels, "a group of tiles is what one call of the microkernel takes");
#endif
// Channels that are summed at a time: their weights for a panel stay in L1, and the sums round less.
constexpr int64_t kPartChannels = PN_VEC == 16 ? 128 : 192;

template <bool kReady>
int64_t packed_bytes(const KernelQuery& q) {
  Geometry g;
  read_geometry(q, &g);
  return g.groups * g.group_floats() * 4 * (kReady ? kPositions : kTaps) / kTaps;
}

template <bool kReady>
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  Geometry g;
  read_geometry(q, &g);
  const float* w = static_cast<const float*>(plain);
  float* to = static_cast<float*>(packed);
  constexpr int64_t kEach = kReady ? kPositions : kTaps;
  const int64_t own = g.channels / g.merged, own_filters = g.filters / g.merged;  // of the model's group
  for (int64_t n = 0; n < g.groups; ++n, w += g.filters * own * kTaps) {
    for (int64_t f0 = 0; f0 < g.filters; f0 += kPanel) {
      const int64_t live = g.filters - f0 < kPanel ? g.filters - f0 : kPanel, width = live <= kVec ? kVec : kPanel;
      for (int64_t c = 0; c < g.channels; ++c) {
        for (int64_t f = 0; f < live; ++f) {
          if ((f0 + f) / own_filters != c / own) continue;
          const float* from = w + ((f0 + f) * own + c % own) * kTaps;
          float positions[kPositions];
          if (kReady) {
            transform_filter(from, positions);
            from = positions;
          }
          for (int64_t i = 0; i < kEach; ++i) to[(kReady ? i * g.channels + c : c * kTaps + i) * width + f] = from[i];
        }
      }
      to += kEach * g.channels * width;
    }
  }
}

// Floats between positions of transformed weights: an odd number of cache lines, so that they fall into different
// sets of L1.
int64_t position_step(int64_t floats) { return (ceil_div(floats, 16) | 1) * 16; }

// Tiles [t0, t1) of an image, panels [p0, p1).
void run_block(const State& s, const Operands& o, int64_t t0, int64_t t1, int64_t p0, int64_t p1, char* scratch) {
  const Geometry& g = s.g;
  const int64_t n = t1 - t0, groups = ceil_div(n, kSlots);
  float *v = reinterpret_cast<float*>(scratch), *m = v + groups * g.blocks() * kBox, *u = m + groups * kTileVecs * kBox;
  const int64_t u_step = position_step(g.channels * kPanel);

  for (int64_t i = 0; i < groups; ++i) {
    const int64_t first = t0 + tile_begin(n, groups, i), end = t0 + tile_begin(n, groups, i + 1);
    for (int64_t block = 0; block < g.blocks(); ++block) {
      float* to = v + (i * g.blocks() + block) * kBox;
      for (int64_t t = first; t < end; ++t, to += kVec) transform_tile(s, o.x, block, t, to);
    }
  }

  Finish product;
  alignas(64) const float zeros[kPanel] = {};
  product.bias = zeros;
  product.clamp_act = product.clamp_post = false;
  product.out_vec = kBox;
  product.out_pixel = kVec;
  product.out_row = 0;
  const int64_t last = g.channels - (g.blocks() - 1) * kVec;
  Walk walk{0, kBox, 1, 0, 1, 0, kVec, 0, kVec, 0};
  for (int64_t p = p0; p < p1; ++p) {
    const int64_t f0 = p * kPanel, filters = g.filters - f0 < kPanel ? g.filters - f0 : kPanel;
    const int vecs = filters <= kVec ? 1 : kTileVecs;
    const int64_t width = vecs * kVec;
    const int64_t parts = ceil_div(g.blocks() * kVec, kPartChannels);
    const auto multiply = [&](int64_t position, const float* w, const float* ahead, int64_t fetchers) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t b0 = tile_begin(g.blocks(), parts, part), b1 = tile_begin(g.blocks(), parts, part + 1);
        walk.a_count = b1 - b0;
        walk.last = b1 == g.blocks() ? last : kVec;
        const float *wp = w + b0 * kVec * width;
        for (int64_t i = 0; i < groups; ++i) {
          const TileFn fn = tile_fn(1, static_cast<int>(tile_begin(n, groups, i + 1) - tile_begin(n, groups, i)), vecs);
          // A tile fetches 8 floats a channel: the first tiles what will be read next.
          product.ahead = i < fetchers ? ahead + (b0 * fetchers + (b1 - b0) * i) * kVec * 8 : wp;
          float* to = m + i * kTileVecs * kBox + position * kStep;
          fn(walk, v + (i * g.blocks() + b0) * kBox + position * kStep, wp, product, to, part == 0 ? nullptr : to);
        }
      }
    };
    if (s.group_weights > g.group_floats()) {
      const float* w = o.w + f0 * g.channels * kPositions;
      const int64_t step = g.channels * width;
      for (int64_t position = 0; position < kPositions; ++position, w += step) {
        multiply(position, w, w + step, p + 1 < p1 || position + 1 < kPositions ? width / 8 : 0);
      }
    } else {
      const float* raw = o.w + f0 * g.depth();
      // A 36th of the next panel for each position: its 9 taps have a quarter of the positions' bytes, and the
      // first tile fetches a quarter of what it reads.
      const float* next = raw + width * g.depth();
      for (int pass = 0; pass < kPasses; ++pass) {
        transform_weights(pass, raw, g.channels, width, u, u_step);
        for (int q = 0; q < kPassPositions; ++q, next += g.channels * 8) {
          multiply(pass_row(pass, q / kIn) * kIn + q % kIn, u + q * u_step, next, p + 1 < p1 ? 1 : 0);
        }
      }
    }
    for (int64_t j = 0; j < groups * vecs; ++j) {
      const int64_t i = j / vecs, vec = j % vecs;
      finish_tiles(s, o, f0 + vec * kVec, t0 + tile_begin(n, groups, i), t0 + tile_begin(n, groups, i + 1),
                   m + (i * kTileVecs + vec) * kBox);
    }
  }
}

template <bool kReady>
PN_COLD void plan_all(const KernelQuery& q, State* s) {
  plan(q, kTilePixels, s);
  s->group_weights = s->g.group_floats() * (kReady ? kPositions : kTaps) / kTaps;
  // Transformed input and the products of a panel take half of L2; less if weights shall stay there too.
  plan_block(q.target->l2_bytes * (kReady ? 6 : 9) / 16, kTilePixels * kPositions * (s->g.blocks() * kVec + kPanel) * 4, s);
}

template <bool kReady>
int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  plan_all<kReady>(q, &s);
  const int64_t boxes = ceil_div(block_tiles(s), kSlots) * (s.g.blocks() + kTileVecs);
  return (boxes * kBox + (kReady ? 0 : kPassPositions * position_step(s.g.channels * kPanel))) * 4;
}

template <bool kReady>
Status prepare(const KernelQuery& q, void* state) {
  plan_all<kReady>(q, static_cast<State*>(state));
  static_cast<State*>(state)->run_block = run_block;
  return Status::kOk;
}

// Microseconds: cycles of each part, in vector operations, at the rate of the tiles.
template <bool kReady>
PN_COLD float cost(const KernelQuery& q) {
  State s;
  plan_all<kReady>(q, &s);
  const Geometry& g = s.g;
  const double images = static_cast<double>(g.batch * g.groups), vec_out = static_cast<double>(ceil_div(g.filters, kVec));
  const double channels = static_cast<double>(g.channels), blocks = static_cast<double>(ceil_div(s.units, s.block));
  double work = static_cast<double>(s.tiles) * 36 * (channels + 10) * vec_out / tile_rate(s.tiles, row_tiling(s.tiles, kTileVecs), kTileVecs);
  double us = transform_cost(q, s);
  if (kReady) {
    const double bytes = channels * vec_out * kVec * 4 * kPositions, l2 = static_cast<double>(q.target->l2_bytes);
    us += images * blocks * bytes / (bytes * 2 <= l2 ? 150e3 : bytes <= l2 * 8 ? 30e3 : 15e3);
  } else {
    work += blocks * channels * vec_out * 550;
    us += images * blocks * channels * kTaps * vec_out * kVec * 4 / 40e3;
  }
  return static_cast<float>(us + images * work / kVectorRate);
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(winograd)
#define PN_ROW(name, ready)                                                                                    \
  {                                                                                                            \
    name, "Conv", PN_TIER::kBlocked, PN_TIER::kBlocked, 1, sizeof(PN_TIER::winograd::State), PN_TIER::winograd::accepts,           \
        PN_TIER::cost<ready>, PN_TIER::packed_bytes<ready>, PN_TIER::pack<ready>, nullptr,                     \
        PN_TIER::thread_scratch_bytes<ready>, PN_WIDE_RUN(PN_TIER::prepare<ready>, PN_TIER::winograd::run)                            \
  }
PN_KERNEL_ROWS(winograd) = {
    PN_ROW("f32_conv_winograd_" PN_BLOCK, false),
    PN_ROW("f32_conv_winograd_ready_" PN_BLOCK, true),
};
PN_KERNEL_COUNT(winograd);
#undef PN_ROW
static_assert(sizeof(PN_TIER::winograd::State) <= kMaxKernelState, "winograd state");

}  // namespace pyneo
