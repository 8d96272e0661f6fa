// SPDX-License-Identifier: Apache-2.0
//
// 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3) or F(2x2, 3x3), blocked channels in and out. A kernel of up to 6 x 6
// of a volume is a sum of 3x3 squares, taken of their products, as are the slices of a kernel over three axes.
//
// The input of a block of tiles is transformed, into [group of tiles][channel block][position][tile]: what a tile's
// transform stores lies in few pages. Then its products, position by position, so that weights pass once, in the order in
// which they lie in memory, while the input of a position stays in L1. They go where the input of the position before
// was: all of it stays in L2. At last they are transformed into the output.
//
// Weights are stored transformed. F(4x4) has 4 multiply-adds for every 16 of a direct convolution, and 4 times its
// weights; F(2x2) has 7 and 16/9, for small planes with so many channels that weights are what takes the time.
#include "kernels/gemm/partition.h"
#include "kernels/winograd/transforms.h"

namespace pyneo {
namespace PN_TIER {
namespace winograd {

PN_COLD bool accepts(const KernelQuery& q) {
  Geometry g;
  Slices d;
  // Squares of larger kernels: of planes, other kernels are as fast.
  const int64_t most = q.in[0]->shape.rank == 5 ? 6 : 3;
  return accepts_operands(q, true, true) && read_geometry(q, &g, &d) && accepts_groups(g) && g.kernel_h >= 3 && g.kernel_w >= 3 &&
         g.kernel_h <= most && g.kernel_w <= most && g.stride_h == 1 && g.stride_w == 1 && g.dilation_h == 1 && g.dilation_w == 1 && d.stride == 1 && d.dilation == 1 && d.met();
}

PN_COLD void plan(const KernelQuery& q, int64_t out, int64_t unit, State* s) {
  read_geometry(q, &s->g, &s->depth);
  s->epilogue.read(q.attrs, "Conv");
  const Geometry& g = s->g;
  s->across = ceil_div(g.kernel_w, 3);
  s->squares = s->across * ceil_div(g.kernel_h, 3);
  s->in_plane = s->depth.in * g.in_h * g.in_w;
  s->out_plane = s->depth.out * g.out_h * g.out_w;
  s->out = out;
  s->span = 1;
  s->tiles_w = ceil_div(g.out_w, out);
  s->tiles = s->tiles_w * ceil_div(g.out_h, out);
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
template <int kOut>
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

template <int kOut>
void transform_tile(const State& s, const float* x, int64_t block, int64_t t, float* to) {
  constexpr int kIn = kOut + 2;
  const Geometry& g = s.g;
  const int64_t top = t / s.tiles_w * kOut - g.pad_h, left = t % s.tiles_w * kOut - g.pad_w, pitch = g.in_w * kVec;
  x += block * s.in_plane * kVec + top * pitch + left * kVec;
  int64_t row = pitch;
  alignas(64) float edge[kIn * kIn * kVec];
  if (top < 0 || left < 0 || top + kIn > g.in_h || left + kIn > g.in_w) {
    const int r0 = within(-top, kIn), r1 = within(g.in_h - top, kIn), c0 = within(-left, kIn), c1 = within(g.in_w - left, kIn);
    __builtin_memset(edge, 0, sizeof(edge));
    for (int r = r0; r < r1; ++r) {
      for (int c = c0; c < c1; ++c) store(edge + (r * kIn + c) * kVec, load(x + r * pitch + c * kVec));
    }
    x = edge;
    row = kIn * kVec;
  }
  kOut == 4 ? transform_input_4(x, row, to) : transform_input_2(x, row, to);
}

template <int kOut>
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
    transform_output<kOut>(m, bias, y);
    for (int r = 0; r < rows; ++r) {
      const int64_t at = filter * s.out_plane + ((top + r) * g.out_w + left) * kVec;
      finish_row<kOut>(s.epilogue, f, y[r], o.z != nullptr ? o.z + at : nullptr, o.y + at, cols);
    }
  }
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const Geometry& g = s.g;
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Operands all{in(0), in(1), in(2), in(3), c.out[0]->as<float>()};
  const int64_t spans = s.spans(), images = g.batch * g.groups * spans;
  const Pool serial = Pool::serial();
  const Pool& pool = g.flops() * static_cast<double>(s.depth.out * s.depth.kernel) < kAloneFlops ? serial : *c.pool;
  const int64_t threads = pool.size();
  // Tiles are divided while each thread has several units of them, for what they share is the weights; panels
  // otherwise, which share the transform of the input.
  Split split{1, 1};
  if (threads > 1 && images < 4 * threads) {
    const int64_t wanted = ceil_div(4 * threads, images);
    split = s.units >= 2 * wanted ? Split{wanted, 1}
            : s.units >= 2 * threads ? Split{threads, 1}
                                     : split_grid(s.units, g.panels(), threads);
  }
  const int64_t in_group = g.blocks() * kVec * s.in_plane, out_group = round_up(g.filters, kVec) * s.out_plane;
  pool.run(images * split.rows * split.cols, [&](int64_t task, int thread) {
    const int64_t across = task % split.cols, down = task / split.cols % split.rows;
    const int64_t slices = task / (split.cols * split.rows), image = slices / spans, group = image % g.groups;
    const Operands o{all.x + image * in_group, all.w + group * s.group_weights,
                     all.bias != nullptr ? all.bias + group * g.filters : nullptr,
                     all.z != nullptr ? all.z + image * out_group : nullptr, all.y + image * out_group,
                     tile_begin(s.depth.out, spans, slices % spans), tile_begin(s.depth.out, spans, slices % spans + 1)};
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
  const double tiles = static_cast<double>(s.g.batch * s.g.groups * s.tiles * s.depth.out);
  // Slices that two blocks share are transformed for both.
  const double vec_in = static_cast<double>(s.g.blocks() * s.squares * (s.span + s.depth.kernel - 1)) / static_cast<double>(s.span);
  const double vec_out = static_cast<double>(ceil_div(s.g.filters, kVec));
  double us = tiles * (s.out == 4 ? vec_in * 650 + vec_out * 450 : vec_in * 250 + vec_out * 200) / kVectorRate;
  us += static_cast<double>(q.in[0]->bytes() + q.out[0]->bytes()) * 1.5e-5;
  if (!s.epilogue.direct) us += static_cast<double>(q.out[0]->bytes()) * 1e-4;
  return us;
}

template void transform_tile<4>(const State&, const float*, int64_t, int64_t, float*);
template void finish_tiles<4>(const State&, const Operands&, int64_t, int64_t, int64_t, const float*);

}  // namespace winograd

namespace {

using namespace winograd;  // NOLINT: this file is about nothing else

#ifndef PN_TABLES_ONLY
static_assert(kSlots == kTilePixels, "a group of tiles is what one call of the microkernel takes");
#endif
// Channels that are summed at a time, of one slice of the kernel: their weights for a panel stay in L1, and the sums
// round less.
constexpr int64_t kPartChannels = PN_VEC == 16 ? 128 : 192;

int64_t part_count(const Geometry& g) { return ceil_div(g.blocks() * kVec, kPartChannels); }
int64_t vectors(const Geometry& g) { return ceil_div(g.filters, kVec); }
int64_t weight_floats(const State& s) {  // of a group
  return s.positions() * s.depth.kernel * s.squares * s.g.channels * vectors(s.g) * kVec;
}

template <int kOut>
int64_t packed_bytes(const KernelQuery& q) {
  State s;
  plan(q, kOut, kSlots, &s);
  return s.g.groups * weight_floats(s) * 4;
}

// Each group [position][slice of the kernel][square][part of the channels][panel][channel][filter].
PN_COLD void pack_for(int out, const KernelQuery& q, const void* plain, void* packed) {
  State s;
  plan(q, out, kSlots, &s);
  const Geometry& g = s.g;
  const float* w = static_cast<const float*>(plain);
  float* to = static_cast<float*>(packed);
  const int64_t own = g.channels / g.merged, own_filters = g.filters / g.merged;  // of the model's group
  const int64_t parts = part_count(g), width = vectors(g) * kVec, square = g.channels * width;
  const int64_t step = s.depth.kernel * s.squares * square, window = g.kernel_h * g.kernel_w;
  for (int64_t n = 0; n < g.groups; ++n, to += weight_floats(s)) {
    for (int64_t f = 0; f < g.filters; ++f) {
      const int64_t f0 = f / kPanel * kPanel, panel = width - f0 < kPanel ? kVec : kPanel;
      int64_t part = 0, c0 = 0, c1 = 0;
      for (int64_t c = f / own_filters * own, end = c + own; c < end; ++c) {
        while (c >= c1) {
          c0 = c1;
          c1 = tile_begin(g.blocks(), parts, ++part) * kVec;
          if (part == parts) c1 = g.channels;
        }
        float* at = to + c0 * width + f0 * (c1 - c0) + (c - c0) * panel + f - f0;
        for (int64_t k = 0; k < s.depth.kernel * s.squares; ++k, at += square) {
          const int64_t top = k % s.squares / s.across * 3, left = k % s.across * 3;
          float taps[9], u[36];
          for (int64_t i = 0; i < kTaps; ++i) {
            const int64_t r = top + i / 3, col = left + i % 3;
            taps[i] = r < g.kernel_h && col < g.kernel_w ? w[r * g.kernel_w + col] : 0;
          }
          transform_filter(out, taps, u);
          for (int64_t i = 0; i < s.positions(); ++i) at[i * step] = u[i];
          if ((k + 1) % s.squares == 0) w += window;
        }
      }
    }
  }
}
template <int kOut>
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  pack_for(kOut, q, plain, packed);
}

// Where AVX-512's 32 registers hold them, 16 tiles x one vector of filters: planes of 14 x 14 (of 8 x 8, with tiles of 2 x 2)
// in one call, so that weights, which pass but once, are wanted as slowly as can be.
#if defined(__AVX512F__)
constexpr int kTall = 16;
// Fetches a line of `ahead` for each channel.
__attribute__((noinline)) void tall_tile(const Walk& walk, const float* x, const float* w, int64_t w_step, const float* ahead, float* y,
                                         bool add) {
  constexpr int kBases = (kTall + 2) / 3;
  VF acc[kTall];
  PN_UNROLL for (int t = 0; t < kTall; ++t) acc[t] = VF{};
  for (int64_t a = 0; a < walk.a_count; ++a, x += walk.a_step) {
    const char* base[kBases];
    PN_UNROLL for (int i = 0; i < kBases; ++i) base[i] = reinterpret_cast<const char*>(x + 3 * i * kVec);
    for (int64_t left = a + 1 == walk.a_count ? walk.last : kVec; left > 0; --left) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += kVec;
      const VF wv = load(w);
      w += w_step;
      PN_UNROLL for (int t = 0; t < kTall; ++t) {
        acc[t] += splat(*reinterpret_cast<const float*>(base[t / 3] + t % 3 * kVec * 4)) * wv;
      }
      PN_UNROLL for (int i = 0; i < kBases; ++i) base[i] += 4;
    }
  }
  PN_UNROLL for (int t = 0; t < kTall; ++t) store(y + t * kVec, add ? acc[t] + load(y + t * kVec) : acc[t]);
}
#else
constexpr int kTall = kSlots;
#endif
int64_t group_count(const State& s, int64_t tiles) { return tiles <= kTall ? 1 : ceil_div(tiles, s.unit); }

// Floats of a channel block of a group of tiles: its positions, behind room for the products of the first.
int64_t room(const State& s) { return (s.positions() + 1) * kStep; }
int64_t rooms(const State& s) {
  const int64_t input = s.squares * s.g.blocks();
  return input > vectors(s.g) ? input : vectors(s.g);
}

// What lies in [slice][group of tiles]: input of a block, square by square, or in front of it its products. The input of a
// product with a slice of the kernel lies that many slices on.
void run_block(const State& s, const Operands& o, int64_t t0, int64_t t1, int64_t p0, int64_t p1, char* scratch) {
  const Geometry& g = s.g;
  const int64_t n = t1 - t0, groups = group_count(s, n), box = room(s), group = rooms(s) * box;
  float *m = reinterpret_cast<float*>(scratch), *v = m + kStep;
  const int64_t small = n / groups, larger = n % groups;
  const auto begin = [&](int64_t i) { return t0 + i * small + (i < larger ? i : larger); };
  const int64_t top = o.first - s.depth.pad, slices = o.end - o.first;  // the first slice of the input, perhaps outside

  State moved = s;  // by a square
  for (int64_t j = 0; j < (slices + s.depth.kernel - 1) * groups * s.squares; ++j) {
    // A tall tile is full: the last of its tiles may be there twice.
    const int64_t square = j % s.squares, slice = top + j / s.squares / groups, i = j / s.squares % groups;
    moved.g.pad_h = g.pad_h - square / s.across * 3;
    moved.g.pad_w = g.pad_w - square % s.across * 3;
    if (slice < 0 || slice >= s.depth.in) continue;
    const int64_t first = begin(i), last = begin(i + 1) - 1, end = last - first < kSlots ? last + 1 : first + kTall;
    for (int64_t block = 0; block < g.blocks(); ++block) {
      float* to = v + j / s.squares * group + (square * g.blocks() + block) * box;
      for (int64_t t = first; t < end; ++t, to += kVec) {
        s.transform_tile(moved, o.x + slice * g.in_h * g.in_w * kVec, block, t < last ? t : last, to);
      }
    }
  }

  Finish product;
  alignas(64) const float zeros[kPanel] = {};
  product.bias = zeros;
  product.clamp_act = product.clamp_post = false;
  product.out_vec = box;
  product.out_pixel = kVec;
  product.out_row = 0;
  const int64_t parts = part_count(g), width = vectors(g) * kVec;
  Walk walk{0, box, 1, 0, 1, 0, kVec, 0, kVec, 0};
  // Slices [first, end) of the output; those from `added` on have products of slices of the kernel before this one.
  const auto multiply = [&](const float* x, const float* w, const float* next, float* y, int vecs, int64_t first, int64_t end,
                            int64_t added) {
    const int64_t w_step = vecs * kVec, count = (end - first) * groups;
    product.ahead_step = count < w_step / 8 ? 16 : 8;
    x += first * groups * group;
    y += first * groups * group;
    for (int64_t j = 0; j < count; ++j, x += group, y += group) {
      const int64_t tiles = small + (j % groups < larger);
      const bool add = first + j / groups >= added;
#if defined(__AVX512F__)
      if (tiles > kSlots) {
        for (int i = 0; i < vecs; ++i) {
          tall_tile(walk, x, w + i * kVec, w_step, j == 0 ? next + i * walk.depth() * kVec : w, y + i * box, add);
        }
        continue;
      }
#endif
      product.ahead = j < w_step / product.ahead_step ? next + j * walk.depth() * product.ahead_step : w;
      tile_fn(1, static_cast<int>(tiles), vecs)(walk, x, w, product, y, add ? y : nullptr);
    }
  };
  for (int64_t position = 0; position < s.positions(); ++position, v += kStep, m += kStep) {
    for (int64_t i = 0; i < s.depth.kernel * s.squares; ++i) {
      const int64_t k = i / s.squares;
      const int64_t first = top + k < 0 ? -(top + k) : 0, left = s.depth.in - top - k, end = left < slices ? left : slices;
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t b0 = tile_begin(g.blocks(), parts, part), b1 = tile_begin(g.blocks(), parts, part + 1);
        walk.a_count = b1 - b0;
        walk.last = (b1 == g.blocks() ? g.channels : b1 * kVec) - (b1 - 1) * kVec;
        const float* from = o.w + ((position * s.depth.kernel * s.squares + i) * g.channels + b0 * kVec) * width + p0 * kPanel * walk.depth();
        for (int64_t p = p0; p < p1; ++p) {
          const int vecs = width - p * kPanel < kPanel ? 1 : kTileVecs;
          const float* next = from + walk.depth() * vecs * kVec;
          // What a thread that has some of the panels reads behind the last of them.
          const float* wanted = p + 1 < p1 ? next : next + ((p0 - p1) * kPanel + width) * walk.depth();
          multiply(v + k * groups * group + (i % s.squares * g.blocks() + b0) * box, from, wanted, m + p * kTileVecs * box, vecs, first, end,
                   part > 0 || i % s.squares > 0 ? first : k > 0 ? first + (top + k <= 0) : end);
          from = next;
        }
      }
    }
  }
  m -= s.positions() * kStep;
  for (int64_t f = p0 * kTileVecs; f < vectors(g) && f < p1 * kTileVecs; ++f) {
    for (int64_t j = 0; j < slices * groups; ++j) {
      const int64_t at = (o.first + j / groups) * g.out_h * g.out_w * kVec, i = j % groups;
      const Operands slice{nullptr, nullptr, o.bias, o.z != nullptr ? o.z + at : nullptr, o.y + at};
      s.finish_tiles(s, slice, f * kVec, begin(i), begin(i + 1), m + j * group + f * box);
    }
  }
}

PN_COLD void plan_all(const KernelQuery& q, int64_t out, State* s) {
  plan(q, out, kSlots, s);
  if (s->tiles <= kTall || vectors(s->g) == 1) s->unit = s->tiles < kTall ? s->tiles : kTall;
  s->units = ceil_div(s->tiles, s->unit);
  s->group_weights = weight_floats(*s);
  // Weights pass once for each block: it has two groups of tiles to share them, as far as those stay in L2; or as many
  // as come to a quarter of the weights, which through L2 cost less than another pass.
  const int64_t l2 = q.target->l2_bytes, bytes = rooms(*s) * room(*s) * 4;
  int64_t most = 2 * bytes < l2 * 5 / 8 ? 2 * bytes : l2 * 5 / 8;
  if (most < l2 / 4) most = l2 / 4;
  if (most < s->group_weights) most = s->group_weights;
  // Of a volume slices rather than tiles, as each is transformed for all that it meets in a block.
  const int64_t halo = s->depth.kernel - 1;
  if (halo > 0 && most < l2 * 5 / 8) most = l2 * 5 / 8;
  s->span = most / bytes - halo;
  if (s->span < 1) s->span = 1;
  if (s->span > s->depth.out) s->span = s->depth.out;
  s->span = ceil_div(s->depth.out, s->spans());
  plan_block(most, bytes * (s->span + halo), s);
}

template <int kOut>
int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  plan_all(q, kOut, &s);
  return (group_count(s, block_tiles(s)) * (s.span + s.depth.kernel - 1) * rooms(s) * room(s) + kStep) * 4;
}

template <int kOut>
Status prepare(const KernelQuery& q, void* state) {
  State& s = *static_cast<State*>(state);
  plan_all(q, kOut, &s);
  s.run_block = run_block;
  s.transform_tile = transform_tile<kOut>;
  s.finish_tiles = finish_tiles<kOut>;
  return Status::kOk;
}

// Microseconds: products, and what of the weights' way to L2 they do not hide.
PN_COLD double cost_of(int64_t out, const KernelQuery& q) {
  State s;
  plan_all(q, out, &s);
  const Geometry& g = s.g;
  const double images = static_cast<double>(g.batch * g.groups);
  const double blocks = static_cast<double>(ceil_div(s.units, s.block) * s.spans());
  int64_t met = 0;  // slices of the kernel, by all of the output
  for (int64_t d = 0; d < s.depth.out; ++d) {
    int64_t first, end;
    s.depth.taps_of(d, &first, &end);
    met += (end - first) * s.squares;
  }
  const double positions = static_cast<double>(s.positions()), filters = static_cast<double>(vectors(g));
  // A tall tile loads as much for each multiply-add as one of five pixels and two vectors.
  const int64_t tiles = s.tiles > kSlots && s.unit > kSlots ? 10 : s.tiles;
  const double rate = tile_rate(tiles, row_tiling(tiles, kTileVecs), kTileVecs);
  const double work = static_cast<double>(s.tiles * met) * positions * static_cast<double>(g.channels + 10) * filters / (rate * kVectorRate);
  const double bytes = static_cast<double>(s.group_weights) * 4, l2 = static_cast<double>(q.target->l2_bytes);
  // What is larger than some L2s comes from memory: other layers have used L3 since the last run.
  const double stream = blocks * bytes / (bytes * 2 <= l2 ? 150e3 : bytes <= l2 * 6 ? 25e3 : 11e3);
  return transform_cost(q, s) + images * (work > stream ? work + stream / 4 : stream + work / 4);
}
template <int kOut>
PN_COLD float cost(const KernelQuery& q) {
  return static_cast<float>(cost_of(kOut, q));
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(winograd)
#define PN_ROW(name, out)                                                                                                   \
  {                                                                                                                         \
    name, "Conv", PN_TIER::kBlocked, PN_TIER::kBlocked, 1, PN_CODE(sizeof(PN_TIER::winograd::State), PN_TIER::winograd::accepts,    \
        PN_TIER::cost<out>, PN_TIER::packed_bytes<out>, PN_TIER::pack<out>, nullptr, PN_TIER::thread_scratch_bytes<out>,    \
        PN_WIDE_RUN(PN_TIER::prepare<out>, PN_TIER::winograd::run))                                                          \
  }
PN_KERNEL_ROWS(winograd) = {
    PN_ROW("f32_conv_winograd4_" PN_BLOCK, 4),
    PN_ROW("f32_conv_winograd2_" PN_BLOCK, 2),
};
PN_KERNEL_COUNT(winograd);
#undef PN_ROW
static_assert(sizeof(PN_TIER::winograd::State) <= kMaxKernelState, "winograd state");

}  // namespace pyneo
