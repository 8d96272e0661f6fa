// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of float32 on AMX, whose tiles multiply bytes and add them up in int32.
//
// Rows of A and columns of B are scaled by powers of two, so that their numbers become integers of 23 bits and a sign,
// and cut into three slices: bytes with signs of their own. Six of the nine products of slices count (those left out are
// below 2^-22 of the largest factors' product), and their sums are exact. So the error does not grow with the
// length of the reduction, and is that of a chain of float32 multiply-adds, or below, unless almost all of a column of B is
// smaller than its largest numbers by far: `even_columns` finds those matrices, which other kernels keep. (Ootomo, Ozaki,
// Yokota: DGEMM on Integer Matrix Multiplication Unit, 2024, the scheme of Ozaki et al., 2012.)
//
// A lies in rows of 64 bytes, each slice in a plane of its own, so that a tile of 16 rows is one load with any step
// between them. A row or column with something that is not finite gives NaN; so does a band of a convolution, whose rows share
// a scale.
#pragma once

#include "core/tensor.h"
#include "kernels/gemm/tile.h"
#include "kernels/kernel.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {

constexpr int kSlices = 3, kTileRows = 16;
constexpr int64_t kRowBytes = 64;                         // of a tile
constexpr int64_t kSliceDepth = 64;                       // values of k in a row of a tile
constexpr int64_t kSliceBytes = kTileRows * kRowBytes;    // of a tile
constexpr int64_t kMostDepth = 32768;                     // of a reduction: sums of 3 x 2^14 stay within int32

constexpr int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// Of 64 values, four vectors of 16: where in 4 bytes those of vector v lie, which slice_rows leaves in this order.
constexpr int64_t byte_of(int64_t v) { return v == 1 ? 2 : v == 2 ? 1 : v; }

// The power of two that makes numbers up to `largest`, the bits of a magnitude, integers of 23 bits, and its inverse; NaN where
// that is not finite.
struct Scale {
  float to, from;
};
static inline Scale scale_of(int32_t largest) {
  const auto power = [](int32_t biased) {
    biased <<= 23;
    float f;
    __builtin_memcpy(&f, &biased, sizeof(f));
    return f;
  };
  // Three bytes reach up to 2^23 - 32897: what is within 1/254 of a power of two counts as that.
  int32_t e = (largest + 0x10200) >> 23;
  if (e >= 255) return {__builtin_nanf(""), __builtin_nanf("")};
  if (e < 23) e = 23;
  return {power(276 - e), power(e - 22)};
}

// Bytes of B in slices: [16 columns][64 k][slice][k % 16][column][4 of k], then what each column is to be multiplied by.
static inline int64_t sliced_bytes(int64_t depth, int64_t columns) {
  return round_up(columns, kVec) * (depth * kSliceBytes / kVec * kSlices + 4);
}
// B by its element (k, column).
using ElementAt = float (*)(const void* self, int64_t k, int64_t column);
// Cuts B in blocks of 64 k, for which at() gives 0 behind its end; `packed` is zeroed.
void slice_columns(int64_t depth, int64_t columns, ElementAt at, const void* self, void* packed);
// Whether columns, of which `numbers` in front of `depth` are more than padding, hold enough of the size of their largest: the
// mean is 1/48 of it or more in 15 of 16.
bool even_columns(int64_t depth, int64_t numbers, int64_t columns, ElementAt at, const void* self);

// Rows `row` floats apart, of `numbers` each: vectors of them `vec` floats apart.
struct Rows {
  const float* x;
  int64_t row, vec, numbers;
};
// The scales of n rows.
void scale_rows(const Rows& rows, int64_t n, float* to, float* from);
// 64 numbers, of step `step`, of n rows, times to[i * to_step] in slices.
void slice_rows(const Rows& rows, int64_t n, int64_t step, const float* to, int64_t to_step, char* out, int64_t slice);
// The bits of the largest magnitude in n vectors, `step` floats apart, of which the first `live` numbers count. As integers
// they have the order of the magnitudes, with NaN above all.
int32_t largest_of(const float* x, int64_t n, int64_t step, int64_t live);

// Configures the tiles of this thread while it lives.
class TileScope {
 public:
  TileScope();
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// Rows [0, rows) of A by panels [p0, p1), of 16 columns each, of B. Steps in bytes.
struct SliceJob {
  const char* a;
  int64_t a_step, a_slice;      // from one block of 64 k, one slice to the next
  int64_t steps, taps;          // the reduction index is (step, tap)
  const int32_t* offsets;       // of the taps
  int64_t rows;
  const float* a_from;          // what a row is to be multiplied by
  int64_t a_from_step;          // 1, or 0: all rows alike
  const char* b;                // in slices, whole
  int64_t b_depth, b_first;     // steps x taps of it, and which of them is the job's first
  int64_t columns, p0, p1;
  const char* then = nullptr;   // what will be wanted behind B: a panel's bytes from here on come into L2
  const float* bias;            // [columns] or nullptr
  float bias_scale = 1;
  int64_t bias_step = 1;        // 0: one number for all columns
  // Takes finished sums: panel `vec` of up to 16 rows from `at` on.
  void (*finish)(const void* self, int64_t vec, int64_t at, float* sums);
  const void* self;
};
void run_slices(const SliceJob& job);  // within a TileScope

// Microseconds of `tiles` tiles of rows by `columns`, in the measure of kPeakFlops. A step of a tile takes 170 cycles while the
// core's other hardware thread rests and 400 while it works, 0.3 and 0.6 of the time of vectors; costs assume mostly the latter.
static inline double slice_cost(int64_t tiles, int64_t depth, int64_t columns) {
  return static_cast<double>(tiles * ceil_div(columns, int64_t{kVec})) * (static_cast<double>(depth) * 0.115 + 0.06);
}

}  // namespace PN_TIER
}  // namespace pyneo
