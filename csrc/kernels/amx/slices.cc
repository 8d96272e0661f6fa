// SPDX-License-Identifier: Apache-2.0
#include "kernels/amx/slices.h"

#include <immintrin.h>

namespace pyneo {
namespace PN_TIER {
namespace {

PN_INLINE __mmask16 first_of(int64_t n) { return static_cast<__mmask16>(n >= kVec ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }

// 64 numbers as a row of each slice. Low to high, the bytes of a rounded number become digits from -128 to 127 when
// each is moved by 128, with a carry into the next, and moved back without one.
PN_INLINE void slice_row(const VF (&x)[4], float scale, char* to, int64_t slice) {
  const VI half = splat_i(0x808080), words = splat_i(0xffff), bytes = splat_i(0x00ff00ff);
  const auto up = [](VI v, int n) __attribute__((always_inline)) { return reinterpret_cast<VI>(reinterpret_cast<VU>(v) << n); };
  const auto down = [](VI v, int n) __attribute__((always_inline)) { return reinterpret_cast<VI>(reinterpret_cast<VU>(v) >> n); };
  VI v[4];
  PN_UNROLL for (int i = 0; i < 4; ++i) {
    v[i] = (reinterpret_cast<VI>(_mm512_maskz_cvtps_epi32(0xffff, reinterpret_cast<__m512>(x[i] * scale))) + half) ^ half;
  }
  const VI low01 = (v[0] & words) | up(v[1], 16), low23 = (v[2] & words) | up(v[3], 16);
  const VI high01 = down(v[0], 16) | (v[1] & ~words), high23 = down(v[2], 16) | (v[3] & ~words);
  const auto put = [=](int i, VI b) __attribute__((always_inline)) { *reinterpret_cast<VIu*>(to + i * slice) = b; };
  put(0, (high01 & bytes) | up(high23 & bytes, 8));
  put(1, (down(low01, 8) & bytes) | (low23 & ~bytes));
  put(2, (low01 & bytes) | up(low23 & bytes, 8));
}

// Sums that are ready: three tiles of int32, a row of which becomes floats at a time.
struct Ready {
  const char* sums = nullptr;
  int64_t panel = 0, at = 0;
  int row = 0;
  VF to_column, bias;
  alignas(64) float out[kTileRows * kVec];

  __attribute__((always_inline)) void rows(const SliceJob& j, int n) {
    const auto sum = [&](int i) __attribute__((always_inline)) {
      return reinterpret_cast<VF>(_mm512_maskz_cvtepi32_ps(0xffff, _mm512_load_si512(sums + i * kSliceBytes + row * kRowBytes)));
    };
    for (; n > 0; --n, ++row) {
      const VF y = (sum(0) * 65536.0f + (sum(1) * 256.0f + sum(2))) * to_column;
      store(out + row * kVec, y * j.a_from[(at + row) * j.a_from_step] + bias);
    }
  }
  __attribute__((always_inline)) void step(const SliceJob& j) {
    if (sums == nullptr) return;
    rows(j, 4);
    if (row == kTileRows) end(j);
  }
  __attribute__((noinline)) void rest(const SliceJob& j) {
    if (sums == nullptr) return;
    rows(j, kTileRows - row);
    end(j);
  }
  __attribute__((noinline)) void end(const SliceJob& j) {
    sums = nullptr;
    row = 0;
    j.finish(j.self, panel, at, out);
  }
};

struct alignas(64) Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Config) == 64, "as the instruction reads it");

}  // namespace

void slice_columns(int64_t depth, int64_t columns, ElementAt at, const void* self, void* packed) {
  char* to = static_cast<char*>(packed);
  float* from = reinterpret_cast<float*>(to + round_up(columns, kVec) / kVec * depth * kSlices * kSliceBytes);
  for (int64_t n0 = 0; n0 < columns; n0 += kVec, from += kVec) {
    const int64_t live = min64(kVec, columns - n0);
    float scale[kVec];
    int32_t largest[kVec] = {};
    for (int64_t k = 0; k < depth * kSliceDepth; ++k) {
      for (int64_t j = 0; j < live; ++j) {
        const float v = __builtin_fabsf(at(self, k, n0 + j));
        int32_t bits;
        __builtin_memcpy(&bits, &v, sizeof(bits));
        largest[j] = bits > largest[j] ? bits : largest[j];
      }
    }
    for (int64_t j = 0; j < live; ++j) {
      const Scale s = scale_of(largest[j]);
      scale[j] = s.to == s.to ? s.to : 0;
      from[j] = s.from * 65536;
    }
    for (int64_t step = 0; step < depth; ++step, to += kSlices * kSliceBytes) {
      for (int64_t k = 0; k < kSliceDepth; ++k) {
        char* const place = to + k % kVec * kRowBytes + byte_of(k / kVec);
        for (int64_t j = 0; j < live; ++j) {
          const float x = scale[j] == 0 ? 0 : at(self, step * kSliceDepth + k, n0 + j) * scale[j];
          const int32_t v = (static_cast<int32_t>(__builtin_rintf(x)) + 0x808080) ^ 0x808080;
          for (int i = 0; i < kSlices; ++i) place[i * kSliceBytes + j * 4] = static_cast<char>(v >> (16 - 8 * i) & 255);
        }
      }
    }
  }
}

bool even_columns(int64_t depth, int64_t numbers, int64_t columns, ElementAt at, const void* self) {
  int64_t uneven = 0;
  for (int64_t n0 = 0; n0 < columns; n0 += kVec) {
    const int64_t live = min64(kVec, columns - n0);
    float largest[kVec] = {}, sum[kVec] = {};
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < live; ++j) {
        const float v = __builtin_fabsf(at(self, k, n0 + j));
        largest[j] = v > largest[j] ? v : largest[j];
        sum[j] += v;
      }
    }
    for (int64_t j = 0; j < live; ++j) uneven += sum[j] * 48 < largest[j] * static_cast<float>(numbers) ? 1 : 0;
  }
  return uneven * 16 <= columns;
}

void slice_rows(const Rows& rows, int64_t n, int64_t step, const float* to, int64_t to_step, char* out, int64_t slice) {
  const float* x = rows.x + step * 4 * rows.vec;
  __mmask16 live[4];
  for (int64_t i = 0; i < 4; ++i) live[i] = first_of(rows.numbers - step * kSliceDepth - i * kVec);
  for (; n > 0; --n, x += rows.row, to += to_step, out += kRowBytes) {
    VF v[4];
    PN_UNROLL for (int i = 0; i < 4; ++i) v[i] = reinterpret_cast<VF>(_mm512_maskz_loadu_ps(live[i], x + i * rows.vec));
    slice_row(v, *to, out, slice);
  }
}

void scale_rows(const Rows& rows, int64_t n, float* to, float* from) {
  const int64_t whole = rows.numbers / kVec, tail = rows.numbers % kVec;
  const float* x = rows.x;
  for (int64_t i = 0; i < n; ++i, x += rows.row) {
    int32_t most = largest_of(x, whole, rows.vec, kVec);
    if (tail > 0) most = static_cast<int32_t>(max64(most, largest_of(x + whole * rows.vec, 1, 0, tail)));
    const Scale scale = scale_of(most);
    to[i] = scale.to;
    from[i] = scale.from;
  }
}

int32_t largest_of(const float* x, int64_t n, int64_t step, int64_t live) {
  const __mmask16 mask = first_of(live);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i m[4] = {};
  const auto take = [&](int i) __attribute__((always_inline)) {
    m[i] = _mm512_maskz_max_epi32(0xffff, m[i], _mm512_and_si512(_mm512_maskz_loadu_epi32(mask, x + i * step), magnitude));
  };
  for (; n >= 4; n -= 4, x += 4 * step) {
    PN_UNROLL for (int i = 0; i < 4; ++i) take(i);
  }
  for (; n > 0; --n, x += step) take(0);
  m[0] = _mm512_maskz_max_epi32(0xffff, _mm512_maskz_max_epi32(0xffff, m[0], m[1]), _mm512_maskz_max_epi32(0xffff, m[2], m[3]));
  alignas(64) int32_t lanes[kVec];
  _mm512_store_si512(lanes, m[0]);
  int32_t most = 0;
  for (int32_t v : lanes) most = v > most ? v : most;
  return most;
}

TileScope::TileScope() {
  const Config config;
  // All of it is stored: GCC takes the instruction to read 8 bytes.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}
TileScope::~TileScope() { _tile_release(); }

void run_slices(const SliceJob& j) {
  const int64_t depth = j.steps * j.taps, tiles = ceil_div(j.rows, int64_t{kTileRows}), block = kSlices * kSliceBytes;
  const float* const b_from = reinterpret_cast<const float*>(j.b + round_up(j.columns, kVec) / kVec * j.b_depth * block);
  alignas(64) char sums[2][kSlices * kSliceBytes];
  Ready ready;
  int64_t done = 0;
  for (int64_t p = j.p0; p < j.p1; ++p) {
    alignas(64) float bias[kVec];
    for (int64_t i = 0; i < kVec; ++i) {
      const int64_t at = p * kVec + i;
      bias[i] = j.bias != nullptr && at < j.columns ? j.bias_scale * j.bias[at * j.bias_step] : 0;
    }
    const char* const panel = j.b + (p * j.b_depth + j.b_first) * block;
    // The next panel comes into L2 meanwhile, in equal shares of all steps.
    const char* ahead = p + 1 < j.p1 ? j.b + ((p + 1) * j.b_depth + j.b_first) * block : j.then;
    const int64_t lines = ahead != nullptr ? ceil_div(block / kRowBytes, tiles) : 0;
    for (int64_t t = 0; t < tiles; ++t, ++done) {
      const char *a = j.a + t * kTileRows * kRowBytes, *b = panel;
      asm volatile("" ::: "memory");  // GCC takes loads of tiles for no access to memory
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      int64_t tap = 0;
      for (int64_t d = 0; d < depth; ++d, b += block) {
        const char* const at = a + j.offsets[tap];
        if (++tap == j.taps) {
          tap = 0;
          a += j.a_step;
        }
        // Loads together, then products: beside a busy hardware thread each change between them costs, and so does what
        // a load of a tile has to wait for. What the next step reads of A comes into L1 while products run.
        const char* const next = a + j.offsets[tap];
        const auto fetch = [&](int64_t at) __attribute__((always_inline)) {
          PN_UNROLL for (int r = 0; r < kTileRows; ++r) __builtin_prefetch(next + at + r * kRowBytes, 0, 3);
        };
        _tile_loadd(3, at, kRowBytes);
        _tile_loadd(4, at + j.a_slice, kRowBytes);
        _tile_loadd(5, at + 2 * j.a_slice, kRowBytes);
        _tile_loadd(6, b, kRowBytes);
        _tile_loadd(7, b + kSliceBytes, kRowBytes);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(1, 4, 6);
        fetch(0);
        _tile_dpbssd(0, 3, 6);
        _tile_dpbssd(2, 4, 7);
        fetch(j.a_slice);
        _tile_loadd(6, b + 2 * kSliceBytes, kRowBytes);
        _tile_dpbssd(1, 3, 7);
        fetch(2 * j.a_slice);
        _tile_dpbssd(2, 3, 6);
        for (int64_t i = lines; i > 0; --i, ahead += kRowBytes) __builtin_prefetch(ahead, 0, 2);
        ready.step(j);
      }
      ready.rest(j);
      char* const to = sums[done % 2];
      _tile_stored(0, to, kRowBytes);
      _tile_stored(1, to + kSliceBytes, kRowBytes);
      _tile_stored(2, to + 2 * kSliceBytes, kRowBytes);
      asm volatile("" ::: "memory");
      ready.sums = to;
      ready.panel = p;
      ready.at = t * kTileRows;
      ready.to_column = load(b_from + p * kVec);
      ready.bias = load(bias);
    }
  }
  ready.rest(j);
}

}  // namespace PN_TIER
}  // namespace pyneo
