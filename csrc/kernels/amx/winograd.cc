// SPDX-License-Identifier: Apache-2.0
//
// 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3), its products on AMX (tile.h says how).
//
// The input of a block of tiles is transformed, [16 tiles][channel block][36 positions][tile].
// Then, for each position and two groups of 16 tiles: the input becomes pieces, behind the products
// of the two groups before, and its products go where the input was. At the end they are
// transformed into the output. So pieces of the input stay in L1, and all that lies in L2 is
// written there once. Weights are stored as pieces of their transform, six times the bytes of the
// plain ones: making them in the run writes as much to L2 as the products read.
#include <immintrin.h>

#include "kernels/amx/tile.h"
#include "kernels/winograd/transforms.h"

namespace pyneo {
namespace PN_TIER {
namespace {

using namespace winograd;  // NOLINT: this file is about nothing else

constexpr int kOut = 4, kPositions = (kOut + 2) * (kOut + 2);
constexpr int64_t kBox = kPositions * kStep, kBoxBytes = kBox * 4;


int64_t steps(const Geometry& g) { return ceil_div(g.channels, kDepth); }
// Bytes of a position's weights, in pieces: [panel][step][piece][vector][channel %
// 16][filter][channel / 16].
int64_t panel_bytes(const Geometry& g) { return steps(g) * 6 * kTileBytes; }
int64_t position_bytes(const Geometry& g) { return g.panels() * panel_bytes(g); }
// Boxes of a group of tiles: of its input, then of its products.
int64_t boxes(const Geometry& g) { return 2 * (steps(g) > g.panels() ? steps(g) : g.panels()); }

PN_COLD bool accepts_planes(const KernelQuery& q) { return q.in[0]->shape.rank < 5 && accepts(q); }

int64_t packed_bytes(const KernelQuery& q) {
  Geometry g;
  read_geometry(q, &g);
  return g.groups * kPositions * position_bytes(g);
}

// [group][position]
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  Geometry g;
  read_geometry(q, &g);
  const int64_t own = g.channels / g.merged, own_filters = g.filters / g.merged,
                size = position_bytes(g) / 2;
  const float* w = static_cast<const float*>(plain);
  uint16_t* to = static_cast<uint16_t*>(packed);
  for (int64_t n = 0; n < g.groups; ++n, to += kPositions * size) {
    for (int64_t f = 0; f < g.filters; ++f) {
      for (int64_t c = f / own_filters * own, end = c + own; c < end; ++c, w += kTaps) {
        float u[kPositions];
        transform_filter(kOut, w, u);
        uint16_t* at = to + f / kPanel * panel_bytes(g) / 2 + c / kDepth * 3 * kTileBytes +
                       f / kVec % 2 * kTileBytes / 2 + c % kVec * kDepth + f % kVec * 2 +
                       c / kVec % 2;
        for (int i = 0; i < kPositions; ++i, at += size) {
          for (int piece = 0; piece < 3; ++piece) {
            uint32_t bits;
            __builtin_memcpy(&bits, u + i, 4);
            at[piece * kTileBytes] = static_cast<uint16_t>(bits >> 16);
            bits &= 0xffff0000u;
            float high;
            __builtin_memcpy(&high, &bits, 4);
            u[i] -= high;
          }
        }
      }
    }
  }
}

// What the next products want, a little of it behind each product of now: rows of the input become
// pieces, lines of the weights come from memory. Vector units have time for it, but for no more
// than what fits into the queue of instructions while those of the tiles wait: 64 of them behind
// four products are hidden, 256 behind sixteen are not.
class Ahead {
 public:
  // 32 channels `steps` times of up to two groups of tiles, the first at v and `group` floats
  // apart.
  void rows(const float* v, int64_t group, int64_t tiles, int64_t steps, char* to,
            int64_t products) {
    v_ = v;
    group_ = group;
    tiles_ = tiles;
    run_ = 0;
    end_ = steps * 2;
    pieces_ = to;
    each_ = ceil_div(tiles * steps, products);
  }
  void lines(const char* from, int64_t bytes, int64_t products) {
    fetch_ = from;
    lines_ = ceil_div(bytes, kRowBytes * products);
  }
  // Behind each product.
  __attribute__((always_inline)) void step() { work(each_); }
  void rest() {
    lines_ = 0;
    work(int64_t{1} << 60);
  }

 private:
  __attribute__((noinline)) void work(int64_t n) {
    for (int64_t i = 0; i < lines_; ++i, fetch_ += kRowBytes) __builtin_prefetch(fetch_, 0, 2);
    for (;;) {
      const int64_t now = min64(n, left_);
      for (int64_t i = 0; i < now; ++i, x_ += kVec, to_ += kRowBytes)
        split<3>(load(x_), load(x_ + kBox), to_, 2 * kTileBytes);
      left_ -= now;
      n -= now;
      if (n == 0 || run_ == end_) return;
      const int64_t i = run_ % 2, k = run_ / 2;
      ++run_;
      x_ = v_ + i * group_ + 2 * k * kBox;
      to_ = pieces_ + (k * 6 + i) * kTileBytes;
      left_ = min64(tiles_ - i * kTileRows, kTileRows);
      if (left_ < 0) left_ = 0;
    }
  }
  const float *v_, *x_ = nullptr;
  char *pieces_, *to_ = nullptr;
  const char* fetch_ = nullptr;
  int64_t group_, tiles_, run_, end_, left_ = 0, each_, lines_ = 0;
};

struct Product {
  const char *a, *b;
  int64_t steps;
  char* m;         // sums
  int64_t m_tile;  // bytes from one tile's to the next
};

// Sums in tiles 0 to 3, A in 4 and 5, B in 6 and 7.
template <int kTiles>
void multiply(const Product& j, Ahead* next) {
  // What was stored stays in front of the loads, which GCC takes for no access to memory.
  asm volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  if (kTiles == 2) _tile_zero(2);
  if (kTiles == 2) _tile_zero(3);
  const char *a = j.a, *b = j.b;
  const auto load_a = [&](int piece) __attribute__((always_inline)) {
    const char* at = a + piece * 2 * kTileBytes;
    _tile_loadd(4, at, kRowBytes);
    if (kTiles == 2) _tile_loadd(5, at + kTileBytes, kRowBytes);
  };
  const auto load_b = [&](int piece) __attribute__((always_inline)) {
    const char* at = b + piece * 2 * kTileBytes;
    _tile_loadd(6, at, kRowBytes);
    _tile_loadd(7, at + kTileBytes, kRowBytes);
  };
  const auto products = [&]() __attribute__((always_inline)) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (kTiles == 2) _tile_dpbf16ps(2, 5, 6);
    if (kTiles == 2) _tile_dpbf16ps(3, 5, 7);
    next->step();
  };
  for (int64_t k = 0; k < j.steps; ++k, a += 6 * kTileBytes, b += 6 * kTileBytes) {
    load_a(2);
    load_b(0);
    products();
    load_a(1);
    products();
    load_b(1);
    products();
    load_a(0);
    products();
    load_b(0);
    products();
    load_b(2);
    products();
  }
  _tile_stored(0, j.m, kRowBytes);
  _tile_stored(1, j.m + kBoxBytes, kRowBytes);
  if (kTiles == 2) _tile_stored(2, j.m + j.m_tile, kRowBytes);
  if (kTiles == 2) _tile_stored(3, j.m + j.m_tile + kBoxBytes, kRowBytes);
  asm volatile("" ::: "memory");
}

void run_block(const State& s, const Operands& o, int64_t t0, int64_t t1, int64_t p0, int64_t p1,
               char* scratch) {
  const Geometry& g = s.g;
  const int64_t n = t1 - t0, groups = ceil_div(n, int64_t{kTileRows}), group = boxes(g) * kBox,
                depth = steps(g);
  float* const v = reinterpret_cast<float*>(scratch);
  const int64_t a_bytes = depth * 6 * kTileBytes;
  char* const a = scratch + groups * boxes(g) * kBoxBytes;
  for (int64_t t = t0; t < t1; ++t) {
    float* to = v + (t - t0) / kTileRows * group + (t - t0) % kTileRows * kVec;
    for (int64_t block = 0; block < 2 * depth; ++block, to += kBox) {
      const int64_t left = g.channels - block * kVec;
      if (left > 0) transform_tile<kOut>(s, o.x, block, t, to);
      if (left >= kVec) continue;
      for (int p = 0; p < kPositions; ++p)
        store(to + p * kStep, left > 0 ? load_n(to + p * kStep, static_cast<int>(left)) : VF{});
    }
  }
  // A job is a pair of groups of tiles, of one position.
  const int64_t pairs = ceil_div(groups, int64_t{2}), jobs = kPositions * pairs, panels = p1 - p0,
                products = panels * depth * 6;
  const char* const w = reinterpret_cast<const char*>(o.w) + p0 * panel_bytes(g);
  Ahead next;
  const auto rows = [&](int64_t i) {
    const int64_t first = i % pairs * 2;
    next.rows(v + i / pairs * kStep + first * group, group,
              i < jobs ? min64(n - first * kTileRows, kPairRows) : 0, depth, a + i % 2 * a_bytes,
              products);
  };
  rows(0);
  next.rest();
  const TileScope tiles(kTileRows);
  for (int64_t i = 0; i < jobs; ++i) {
    const int64_t position = i / pairs, first = i % pairs * 2,
                  share = panels * panel_bytes(g) / pairs;
    rows(i + 1);
    // Part by part the weights of the next position.
    next.lines(w + (position + 1) * position_bytes(g) + i % pairs * share,
               position + 1 < kPositions ? share : 0, products);
    for (int64_t p = 0; p < panels; ++p) {
      const Product j{
          a + i % 2 * a_bytes, w + position * position_bytes(g) + p * panel_bytes(g), depth,
          reinterpret_cast<char*>(v + first * group + (p0 + p) * 2 * kBox + position * kStep),
          group * 4};
      groups - first > 1 ? multiply<2>(j, &next) : multiply<1>(j, &next);
    }
    next.rest();
  }
  for (int64_t filter = p0 * kPanel; filter < min64(p1 * kPanel, g.filters); filter += kVec) {
    for (int64_t i = 0; i < groups; ++i) {
      const int64_t t = t0 + i * kTileRows;
      finish_tiles<kOut>(s, o, filter, t, min64(t + kTileRows, t1), v + i * group + filter / kVec * kBox);
    }
  }
}

PN_COLD void plan_all(const KernelQuery& q, State* s) {
  plan(q, kOut, kPairRows, s);
  s->group_weights = kPositions * position_bytes(s->g) / 4;
  plan_block(q.target->l2_bytes * 10 / 16, 2 * boxes(s->g) * kBoxBytes, s);
}

int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  plan_all(q, &s);
  const int64_t groups = ceil_div(block_tiles(s), int64_t{kTileRows});
  return groups * boxes(s.g) * kBoxBytes + 2 * steps(s.g) * 6 * kTileBytes;
}

Status prepare(const KernelQuery& q, void* state) {
  plan_all(q, static_cast<State*>(state));
  static_cast<State*>(state)->run_block = run_block;
  return Status::kOk;
}

// Microseconds: products, a single group of tiles at two thirds of two, or the weights' way from
// memory where that takes longer. As in tile_cost, between those of a core to itself and beside a
// neighbour, in parts that vectors lose too.
PN_COLD float cost(const KernelQuery& q) {
  State s;
  plan_all(q, &s);
  const auto images = static_cast<double>(s.g.batch * s.g.groups),
             blocks = static_cast<double>(ceil_div(s.units, s.block));
  const double pairs =
      static_cast<double>(s.units) - ((s.tiles - 1) % kPairRows < kTileRows ? 0.33 : 0);
  const double products = pairs * static_cast<double>(kPositions * s.g.panels()) *
                          (0.08 + 0.42 * static_cast<double>(steps(s.g)));
  const double stream = blocks * static_cast<double>(kPositions * position_bytes(s.g)) / 11e3;
  return static_cast<float>(transform_cost(q, s) +
                            images * (products > stream ? products : stream));
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(amx_winograd)
PN_KERNEL_ROWS(amx_winograd) = {
    {"f32_conv_winograd_amx_" PN_BLOCK, "Conv", PN_TIER::kBlocked, PN_TIER::kBlocked, 1,
     PN_CODE(sizeof(PN_TIER::winograd::State), PN_TIER::accepts_planes, PN_TIER::cost,
     PN_TIER::packed_bytes, PN_TIER::pack, nullptr, PN_TIER::thread_scratch_bytes, PN_TIER::prepare,
     PN_TIER::winograd::run)},
};
PN_KERNEL_COUNT(amx_winograd);

}  // namespace pyneo
