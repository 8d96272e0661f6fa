// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of float32 on AMX, whose tiles multiply bfloat16.
//
// A number is the sum of bfloat16 pieces: three hold all 24 bits of a float32, two hold 16 or more. A product is the
// sum of the products of pieces that count: six of three pieces (the three left out are below 2^-21 of it), three of
// two (error below 2^-14); sums are float32. With six, the result is as exact as a chain of float32 multiply-adds
// (Henry, Tang, Heinecke: Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations, ARITH 2019).
//
// A lies in rows of 32 values of k (64 bytes), each piece in a plane of its own, so that a tile of 16 rows is one
// load with any step between them. B stays float32 in the package; a block of it becomes pieces while the one before is
// used. What is infinite becomes NaN, as its pieces have no finite rest; what is denormal counts as zero.
#pragma once

#include "core/tensor.h"
#include "kernels/gemm/tile.h"
#include "kernels/kernel.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {

constexpr int kTileRows = 16;
constexpr int64_t kDepth = 32;                  // values of k in a row of a tile
constexpr int64_t kRowBytes = 64, kTileBytes = kTileRows * kRowBytes;
constexpr int64_t kPairRows = 2 * kTileRows;    // rows of A that are used together
constexpr int64_t kTilePanel = 2 * kVec;        // columns of a panel of B: two tiles side by side
constexpr int64_t kBlockSteps = 16;             // most steps of 32 k of a block of B
constexpr int64_t kMaxRows = 512;               // most rows of A of one run_panels
constexpr int kMaxTaps = 64;

constexpr int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// Vectors of the panel that begins `left` columns before the end.
constexpr int tile_vecs(int64_t left) { return left <= kVec ? 1 : 2; }
// Floats of B for `depth` steps: [panel][step][vector][k % 16][k / 16][column].
static inline int64_t tile_floats(int64_t depth, int64_t columns) { return depth * kDepth * round_up(columns, kVec); }
// Place of (k, column) of a step in a panel. In pieces, k and k + 16 lie side by side.
static inline int64_t tile_place(int64_t k, int64_t column) {
  return (column / kVec * kTileRows + k % kVec) * kDepth + k / kVec * kVec + column % kVec;
}

// Configures the tiles of this thread while it lives: 16 rows of 64 bytes, and `pairs` values of 4 bytes in a row of A.
class TileScope {
 public:
  explicit TileScope(int pairs);
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// 32 values as a row of each piece, x[i] beside y[i]. Three pieces are cut off: 8, 8 and 8 bits. Of two the first
// is rounded (halves away from zero), so that the second, with a sign of its own, holds a bit more; and the second
// is cut off after the addition of half a place on average, which leaves NaN what it is.
template <int kPieces>
PN_INLINE void split(VF x, VF y, char* to, int64_t piece) {
  const auto bits = [](VF v) __attribute__((always_inline)) { return reinterpret_cast<VI>(v); };
  const VI high = splat_i(static_cast<int32_t>(0xffff0000u));
  PN_UNROLL for (int p = 0; p < kPieces; ++p, to += piece) {
    VI a = bits(x), b = bits(y);
    if (kPieces == 2 && p == 0) {
      a += 0x8000;
      b += 0x8000;
    }
    const VI low = reinterpret_cast<VI>(reinterpret_cast<VU>(a) >> 16);
    *reinterpret_cast<VIu*>(to) = (b & high) | (low & ~high);
    if (p + 1 < kPieces) {
      x -= reinterpret_cast<VF>(a & high);
      y -= reinterpret_cast<VF>(b & high);
      if (kPieces == 2) {
        x += x * 0.0027f;
        y += y * 0.0027f;
      }
    }
  }
}

// n rows of pieces of 32 values: 16 at x + i * step, of which live[0] exist, and live[1] at x + second + i * step.
struct Halves {
  const float* x;
  int64_t second, step;
  int live[2];
};
void split_rows(int pieces, const Halves& h, int64_t n, char* to, int64_t piece);

// Rows [0, rows) of A by panels [p0, p1) of B. Steps in bytes.
struct PanelJob {
  int pieces;
  const char* a;
  int64_t a_step, a_piece;      // from one block of 32 k, one piece to the next
  int64_t a_row = kRowBytes;    // from one row to the next
  const int32_t* starts = nullptr;  // of each 16 rows, where they do not all lie at equal steps
  int pairs = 16;               // pairs of k in use in a row of A: none reads more
  int64_t steps, taps;          // the reduction index is (step, tap)
  const int32_t* offsets;       // of the taps
  int64_t rows;
  const float* b;               // packed, whole
  int64_t b_depth, b_first;     // steps x taps of it, and which of them is the job's first
  int64_t columns, p0, p1;
  const float* bias;            // [columns] or nullptr
  float bias_scale = 1;
  int64_t bias_step = 1;        // 0: one number for all columns
  // Takes finished sums: a vector of columns of up to 16 rows from `at` on.
  void (*finish)(const void* self, int64_t vec, int64_t at, float* sums);
  const void* self;
};
// Bytes of scratch that run_panels wants.
int64_t panel_scratch(int pieces, int64_t depth, int64_t rows);
void run_panels(const PanelJob& job, char* scratch);

// Tasks of a product for the threads of a pool. Its A comes in parts (bands of rows, and of each the chunks of k one
// after the other), each cut into pieces before it is used. Where bands are enough, each is one thread's; where not,
// all threads cut a part, into the scratch of the first, then share its products.
struct BandJob {
  struct Size {
    int64_t units, rows;        // what its pieces are cut in, and rows of its sums
  };
  int64_t bands, chunks, panels;
  int64_t piece_bytes;          // of a part, in front of the scratch of run_panels
  const void* self;
  Size (*size)(const void* self, int64_t part);
  // What is to be known of all units of a part before any is cut; nullptr: nothing.
  void (*scan)(const void* self, int64_t part, int64_t from, int64_t to, char* a);
  void (*cut)(const void* self, int64_t part, int64_t from, int64_t to, char* a);
  // Rows [r0, r1), r0 a multiple of kPairRows, by panels [p0, p1).
  void (*multiply)(const void* self, int64_t part, int64_t r0, int64_t r1, int64_t p0, int64_t p1, const char* a, char* scratch);
};
void run_bands(const BandJob& job, const Pool& pool, const RunContext& c);

// Part of a job's reduction for a pair of tiles.
struct Part {
  const char* a[2];             // with the steps in front added
  int64_t depth, first_tap;
  const char* b;
  const char* from;             // sums, or a row of biases with from_row 0: [tile][vector][row][16]
  int64_t from_tile, from_vec, from_row;
  char* to;
  int64_t ahead_rows;           // of the next block, to be split behind each product
};
// One part of `tiles` by `vecs` with B in pieces already: [step][piece][vector].
void run_ready(const PanelJob& job, const Part& part, int tiles, int vecs);

// Pieces that a node asks for: attribute "pieces", three unless told.
static inline int read_pieces(const Attrs& attrs) { return attrs.i64("pieces", 3) == 2 ? 2 : 3; }
// Microseconds of `bands` times `pairs` pairs of tiles of rows by `columns`. With six products AMX takes 0.55 of the time
// of vectors while the core's other thread rests, and 1.3 times as long while it works, which it does for three quarters of
// the time on the shared machines that this was measured on: costs are the geometric mean in these parts and, for six
// products, a little above it, so that these seldom win unless the machine at hand is measured (compile(tune=True)).
static inline double tile_cost(int pieces, int64_t bands, double pairs, int64_t depth, int64_t columns) {
  const auto blocks = static_cast<double>(bands * ceil_div(columns, int64_t{kVec})), steps = static_cast<double>(depth);
  const double split = steps * kTileRows * (pairs < 4 ? 0.005 : 0.003);
  return blocks * (pairs * (steps * (pieces == 3 ? 0.22 : 0.1) + 0.08) + split);
}

}  // namespace PN_TIER
}  // namespace pyneo
