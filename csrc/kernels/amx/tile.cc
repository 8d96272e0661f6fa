// SPDX-License-Identifier: Apache-2.0
#include "kernels/amx/tile.h"

#include <immintrin.h>

namespace pyneo {
namespace PN_TIER {
namespace {

struct alignas(64) Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Config) == 64, "as the instruction reads it");

template <int kPieces>
void split_all(const Halves& h, int64_t n, char* to, int64_t piece) {
  const float *x = h.x, *y = h.x + h.second;
  if (h.live[0] == kVec && h.live[1] == kVec) {
    for (int64_t i = 0; i < n; ++i, x += h.step, y += h.step, to += kRowBytes) split<kPieces>(load(x), load(y), to, piece);
    return;
  }
  const auto first = static_cast<__mmask16>((1u << h.live[0]) - 1), second = static_cast<__mmask16>((1u << h.live[1]) - 1);
  for (int64_t i = 0; i < n; ++i, x += h.step, y += h.step, to += kRowBytes) {
    split<kPieces>(reinterpret_cast<VF>(_mm512_maskz_loadu_ps(first, x)), reinterpret_cast<VF>(_mm512_maskz_loadu_ps(second, y)), to, piece);
  }
}

// B on its way into pieces: rows of 32 values, `group` of which (the vectors of a step) lie together in each piece.
struct Ahead {
  const float* from;
  char* to;
  int64_t left, group, in_group;  // rows
};

template <int kPieces>
PN_INLINE void split_ahead(Ahead* b, int64_t n) {
  for (int64_t i = n < b->left ? n : b->left; i > 0; --i) {
    split<kPieces>(load(b->from), load(b->from + kVec), b->to, b->group * kRowBytes);
    b->from += kDepth;
    b->to += kRowBytes;
    if (++b->in_group == b->group) {
      b->in_group = 0;
      b->to += (kPieces - 1) * b->group * kRowBytes;
    }
    --b->left;
  }
}

template <int kPieces>
__attribute__((noinline)) void call_split_ahead(Ahead* b, int64_t n) {
  split_ahead<kPieces>(b, n);
}

// Sums that are ready. They go out, a tile at a time, while the next pair multiplies.
struct Pending {
  float* sums = nullptr;
  int64_t panel = 0, at = 0;
  int tiles = 0, vecs = 0, tile = 0, vec = 0;

  __attribute__((always_inline)) void step(const PanelJob& j) {
    if (sums != nullptr) finish_one(j);
  }
  void rest(const PanelJob& j) {
    while (sums != nullptr) finish_one(j);
  }

 private:
  void finish_one(const PanelJob& j) {
    float* const from = sums + (tile * 2 + vec) * kTileRows * kVec;
    j.finish(j.self, panel * 2 + vec, at + tile * kTileRows, from);
    if (++vec < vecs) return;
    vec = 0;
    if (++tile == tiles) sums = nullptr;
  }
};

// Sums in tiles 0 to 3, A in 4 and 5, B in 6 and 7. The order of an element's sums is the same in all four forms: equal
// columns of B give equal results, wherever they stand.
template <int kPieces, int kTiles, int kVecs>
void run_part(const PanelJob& j, const Part& s, Ahead* next, Pending* ready) {
  // What was stored stays in front of the loads, which GCC takes for no access to memory.
  asm volatile("" ::: "memory");
  _tile_loadd(0, s.from, s.from_row);
  if (kVecs == 2) _tile_loadd(1, s.from + s.from_vec, s.from_row);
  if (kTiles == 2) _tile_loadd(2, s.from + s.from_tile, s.from_row);
  if (kTiles == 2 && kVecs == 2) _tile_loadd(3, s.from + s.from_tile + s.from_vec, s.from_row);
  const char *a0 = s.a[0], *a1 = s.a[1], *b = s.b;
  const char *p = nullptr, *q = nullptr;
  const auto load_a = [&](int64_t at) __attribute__((always_inline)) {
    _tile_loadd(4, p + at, j.a_row);
    if (kTiles == 2) _tile_loadd(5, q + at, j.a_row);
  };
  const auto load_b = [&](int64_t piece) __attribute__((always_inline)) {
    _tile_loadd(6, b + piece * kVecs * kTileBytes, kRowBytes);
    if (kVecs == 2) _tile_loadd(7, b + (piece * kVecs + 1) * kTileBytes, kRowBytes);
  };
  // The vector units have time for other things: a part of them behind every product.
  const auto multiply = [&]() __attribute__((always_inline)) {
    _tile_dpbf16ps(0, 4, 6);
    if (kVecs == 2) _tile_dpbf16ps(1, 4, 7);
    if (kTiles == 2) _tile_dpbf16ps(2, 5, 6);
    if (kTiles == 2 && kVecs == 2) _tile_dpbf16ps(3, 5, 7);
    if (kPieces == 3 && kTiles == 2 && kVecs == 2) {  // the usual one: a call would cost a tenth
      split_ahead<kPieces>(next, s.ahead_rows);
    } else {
      call_split_ahead<kPieces>(next, s.ahead_rows);
    }
    ready->step(j);
  };
  int64_t tap = s.first_tap;
  const int64_t piece = j.a_piece;
  for (int64_t k = 0; k < s.depth; ++k, b += kPieces * kVecs * kTileBytes) {
    p = a0 + j.offsets[tap];
    q = a1 + j.offsets[tap];
    if (++tap == j.taps) {
      tap = 0;
      a0 += j.a_step;
      a1 += j.a_step;
    }
    // Each product shares a factor with the one before it.
    load_a((kPieces - 1) * piece);
    load_b(0);
    multiply();
    if (kPieces == 3) {
      load_a(piece);
      multiply();
      load_b(1);
      multiply();
      load_a(0);
      multiply();
      load_b(0);
      multiply();
      load_b(2);
    } else {
      load_a(0);
      multiply();
      load_b(1);
    }
    multiply();
  }
  ready->rest(j);
  _tile_stored(0, s.to, kRowBytes);
  if (kVecs == 2) _tile_stored(1, s.to + kTileBytes, kRowBytes);
  if (kTiles == 2) _tile_stored(2, s.to + 2 * kTileBytes, kRowBytes);
  if (kTiles == 2 && kVecs == 2) _tile_stored(3, s.to + 3 * kTileBytes, kRowBytes);
}

template <int kPieces>
PN_INLINE void run_pair(const PanelJob& j, const Part& s, int tiles, int vecs, Ahead* next, Pending* ready) {
  if (tiles == 2) {
    vecs == 2 ? run_part<kPieces, 2, 2>(j, s, next, ready) : run_part<kPieces, 2, 1>(j, s, next, ready);
  } else {
    vecs == 2 ? run_part<kPieces, 1, 2>(j, s, next, ready) : run_part<kPieces, 1, 1>(j, s, next, ready);
  }
}

template <int kPieces>
void run_job(const PanelJob& j, char* scratch) {
  const int64_t depth = j.steps * j.taps, blocks = ceil_div(depth, kBlockSteps), pairs = ceil_div(j.rows, kPairRows);
  const int64_t buffer = (depth < kBlockSteps ? depth : kBlockSteps) * kPieces * 2 * kTileBytes;
  char* const sums = scratch + 2 * buffer;
  alignas(64) float bias[kTilePanel];
  const auto vecs_at = [&](int64_t p) { return tile_vecs(j.columns - p * kTilePanel); };
  const auto block_at = [&](int64_t i, int64_t parity) {  // i counts the blocks of all panels
    const int64_t p = j.p0 + i / blocks, d0 = tile_begin(depth, blocks, i % blocks);
    const int vecs = vecs_at(p);
    const int64_t n = p < j.p1 ? tile_begin(depth, blocks, i % blocks + 1) - d0 : 0;
    return Ahead{j.b + (p * kTilePanel * j.b_depth + (j.b_first + d0) * vecs * kVec) * kDepth, scratch + parity * buffer,
                 n * vecs * kTileRows, int64_t{vecs} * kTileRows, 0};
  };
  Ahead next = block_at(0, 0);
  call_split_ahead<kPieces>(&next, next.left);
  int64_t done = 0;
  Pending ready;
  for (int64_t p = j.p0; p < j.p1; ++p) {
    const int vecs = vecs_at(p);
    for (int64_t i = 0; i < kTilePanel; ++i) {
      const int64_t at = p * kTilePanel + i;
      bias[i] = j.bias != nullptr && at < j.columns ? j.bias_scale * j.bias[at * j.bias_step] : 0;
    }
    for (int64_t i = 0; i < blocks; ++i, ++done) {
      const int64_t d0 = tile_begin(depth, blocks, i);
      Part part;
      part.depth = tile_begin(depth, blocks, i + 1) - d0;
      part.first_tap = d0 % j.taps;
      part.b = scratch + done % 2 * buffer;
      next = block_at(done + 1, (done + 1) % 2);
      part.ahead_rows = ceil_div(next.left, pairs * part.depth * (kPieces == 3 ? 6 : 3));
      for (int64_t pair = 0; pair < pairs; ++pair) {
        const int64_t at = pair * kPairRows;
        const int tiles = j.rows - at <= kTileRows ? 1 : 2;
        char* const kept = sums + (blocks > 1 ? pair : pair % 2) * 4 * kTileBytes;
        for (int t = 0; t < tiles; ++t) {
          const int64_t start = j.starts != nullptr ? j.starts[at / kTileRows + t] : (at + t * kTileRows) * j.a_row;
          part.a[t] = j.a + d0 / j.taps * j.a_step + start;
        }
        part.from = i > 0 ? kept : reinterpret_cast<const char*>(bias);
        part.from_tile = i > 0 ? 2 * kTileBytes : 0;
        part.from_vec = i > 0 ? kTileBytes : kVec * 4;
        part.from_row = i > 0 ? kRowBytes : 0;
        part.to = kept;
        run_pair<kPieces>(j, part, tiles, vecs, &next, &ready);
        if (i + 1 == blocks) ready = Pending{reinterpret_cast<float*>(kept), p, at, tiles, vecs};
      }
      call_split_ahead<kPieces>(&next, next.left);
    }
  }
  ready.rest(j);
}

}  // namespace

TileScope::TileScope(int pairs) {
  Config config;
  config.row_bytes[4] = config.row_bytes[5] = static_cast<uint16_t>(pairs * 4);
  config.rows[6] = config.rows[7] = static_cast<uint8_t>(pairs);
  // All of it is stored: GCC takes the instruction to read 8 bytes.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}
TileScope::~TileScope() { _tile_release(); }

void split_rows(int pieces, const Halves& h, int64_t n, char* to, int64_t piece) {
  pieces == 3 ? split_all<3>(h, n, to, piece) : split_all<2>(h, n, to, piece);
}

int64_t panel_scratch(int pieces, int64_t depth, int64_t rows) {
  const int64_t pairs = depth > kBlockSteps ? ceil_div(rows, kPairRows) : 2;
  return (2 * pieces * 2 * (depth < kBlockSteps ? depth : kBlockSteps) + 4 * pairs) * kTileBytes;
}

void run_panels(const PanelJob& job, char* scratch) {
  const TileScope tiles(job.pairs);
  job.pieces == 3 ? run_job<3>(job, scratch) : run_job<2>(job, scratch);
}

void run_ready(const PanelJob& job, const Part& part, int tiles, int vecs) {
  Ahead none{nullptr, nullptr, 0, 1, 0};
  Pending nothing;
  job.pieces == 3 ? run_pair<3>(job, part, tiles, vecs, &none, &nothing) : run_pair<2>(job, part, tiles, vecs, &none, &nothing);
}

void run_bands(const BandJob& j, const Pool& pool, const RunContext& c) {
  constexpr int64_t kTasksPerThread = 4, kTaskPanels = 4;
  const int64_t threads = pool.size(), tasks = kTasksPerThread * threads;
  const auto pieces = [&](int64_t thread) { return reinterpret_cast<char*>(c.thread_scratch + thread * c.thread_stride); };
  const auto rest = [&](int64_t thread) { return pieces(thread) + j.piece_bytes; };
  if (threads == 1 || j.bands >= 2 * threads) {
    return pool.run(j.bands, [&](int64_t band, int thread) {
      for (int64_t part = band * j.chunks; part < (band + 1) * j.chunks; ++part) {
        const BandJob::Size size = j.size(j.self, part);
        if (j.scan != nullptr) j.scan(j.self, part, 0, size.units, pieces(thread));
        j.cut(j.self, part, 0, size.units, pieces(thread));
        j.multiply(j.self, part, 0, size.rows, 0, j.panels, pieces(thread), rest(thread));
      }
    });
  }
  for (int64_t part = 0; part < j.bands * j.chunks; ++part) {
    const BandJob::Size size = j.size(j.self, part);
    const int64_t cuts = min64(size.units, tasks);
    void (*const steps[])(const void*, int64_t, int64_t, int64_t, char*) = {j.scan, j.cut};
    for (const auto step : steps) {
      if (step == nullptr) continue;
      pool.run(cuts, [&](int64_t i, int) {
        step(j.self, part, tile_begin(size.units, cuts, i), tile_begin(size.units, cuts, i + 1), pieces(0));
      });
    }
    const int64_t pairs = ceil_div(size.rows, kPairRows), across = max64(1, min64(tasks, j.panels / kTaskPanels));
    const int64_t down = min64(pairs, ceil_div(tasks, across));
    pool.run(across * down, [&](int64_t i, int thread) {
      const int64_t col = i / down, row = i % down;
      j.multiply(j.self, part, tile_begin(pairs, down, row) * kPairRows,
                 min64(tile_begin(pairs, down, row + 1) * kPairRows, size.rows), tile_begin(j.panels, across, col),
                 tile_begin(j.panels, across, col + 1), pieces(0), rest(thread));
    });
  }
}

}  // namespace PN_TIER
}  // namespace pyneo
