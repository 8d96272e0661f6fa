// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/rows.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// Steps in bytes, lest they be scaled in the loop.
struct Steps {
  int64_t a, a_depth, from, y, k;
  const char* ahead;
  int64_t ahead_lines;  // fetched every unrolled(vecs) steps of k
};
using TileRows = void (*)(const Steps& s, const char* a, const char* w, const char* from, char* y);

constexpr int unrolled(int vecs) { return vecs == 3 ? 8 : 4; }
constexpr int64_t kLine = 64;

// acc += x * w. On AVX2 the tile takes all 16 registers, and GCC, which chooses the operand to overwrite, copies and
// spills; while the core's other thread is busy, each instruction counts.
PN_INLINE void add_product(VF& acc, VF x, VF w) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  asm("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
#else
  acc += x * w;
#endif
}

template <int kRows, int kVecs>
void tile(const Steps& s, const char* a, const char* w, const char* from, char* y) {
  const auto at = [](const char* p) __attribute__((always_inline)) { return load(reinterpret_cast<const float*>(p)); };
  constexpr int kBytes = kVec * 4, kUnroll = unrolled(kVecs);
  constexpr bool kNear = kVecs == 3;  // A's next k is its next number: an offset, and no step
  VF acc[kRows][kVecs];
  PN_UNROLL for (int r = 0; r < kRows; ++r) {
    PN_UNROLL for (int v = 0; v < kVecs; ++v) acc[r][v] = at(from + r * s.from + v * kBytes);
  }
  // One address register and multiples of the step reach all rows, by scaled addressing; hidden from the
  // compiler, which would keep a pointer for each row.
  int64_t step = s.a, step3 = s.a * 3, step5 = s.a * 5;
  asm("" : "+r"(step), "+r"(step3), "+r"(step5));
  const int64_t depth = s.a_depth;
  const char* ahead = s.ahead;
  const auto row = [=](const char* p, int r) __attribute__((always_inline)) {
    return r == 3 ? p + step3 : r == 5 ? p + step5 : p + r * step;
  };
  const auto one = [&](int k) __attribute__((always_inline)) {
    VF wv[kVecs];
    PN_UNROLL for (int v = 0; v < kVecs; ++v) wv[v] = at(w + (k * kVecs + v) * kBytes);
    PN_UNROLL for (int r = 0; r < kRows; ++r) {
      const VF x = splat(*reinterpret_cast<const float*>(row(a + (kNear ? k * 4 : 0), r)));
      PN_UNROLL for (int v = 0; v < kVecs; ++v) add_product(acc[r][v], x, wv[v]);
    }
    if (kNear) return;
    a += depth;
    asm("" : "+r"(a));  // one address, and not one for each k of a round
  };
  int64_t k = s.k;
  for (; k >= kUnroll; k -= kUnroll) {
    for (int64_t i = s.ahead_lines; i > 0; --i, ahead += kLine) __builtin_prefetch(ahead, 0, 2);
    if (kVecs == kRowVecs || (kRowVecs == 3 && kVecs == 2)) {
      PN_UNROLL for (int u = 0; u < kUnroll; ++u) one(u);
    } else {  // narrow panels come last: their code is kept small
#pragma GCC unroll 1
      for (int u = 0; u < kUnroll; ++u) one(u);
    }
    w += kUnroll * kVecs * kBytes;
    if (kNear) a += kUnroll * 4;
  }
  for (; k > 0; --k, w += kVecs * kBytes, a += kNear ? 4 : 0) one(0);
  PN_UNROLL for (int r = 0; r < kRows; ++r) {
    PN_UNROLL for (int v = 0; v < kVecs; ++v) store(reinterpret_cast<float*>(y + r * s.y + v * kBytes), acc[r][v]);
  }
}

template <int kVecs>
TileRows rows_fn(int rows) {
#if defined(__AVX2__) || defined(__aarch64__)
  switch (rows) {
    case 1: return tile<1, kVecs>;
    case 2: return tile<2, kVecs>;
    case 3: return tile<3, kVecs>;
    case 4: return tile<4, kVecs>;
    case 5: return tile<row_tile(kVecs) < 5 ? 4 : 5, kVecs>;
    default: return tile<row_tile(kVecs), kVecs>;
  }
#else
  return rows == 1 ? tile<1, kVecs> : tile<2, kVecs>;
#endif
}

TileRows tile_rows(int rows, int vecs) {
  if (vecs == 1) return rows_fn<1>(rows);
  return vecs == 2 ? rows_fn<2>(rows) : rows_fn<kRowVecs>(rows);
}

PN_INLINE VF load_some(const float* p, int64_t n) { return n >= kVec ? load(p) : load_n(p, static_cast<int>(n)); }
PN_INLINE void store_some(float* p, VF v, int64_t n) {
  if (n >= kVec) {
    store(p, v);
  } else {
    store_n(p, v, static_cast<int>(n));
  }
}

// One row of finished sums: act where that is a clamp, + z, post_act; from x (whole vectors) to y, of which
// n floats exist.
void finish_row(const Epilogue& e, const Finish& f, const float* x, const float* z, float* y, int64_t n) {
  const bool moves = x != y || f.clamp_act || f.clamp_post || z != nullptr;
  for (int64_t i = 0; moves && i < n; i += kVec) {
    VF v = load_some(x + i, n - i);
    if (f.clamp_act) v = vmin(vmax(v, splat(f.act_lo)), splat(f.act_hi));
    if (z != nullptr) v += load_some(z + i, n - i);
    if (f.clamp_post) v = vmin(vmax(v, splat(f.post_lo)), splat(f.post_hi));
    store_some(y + i, v, n - i);
  }
  if (!f.clamp_post) act_rows(e.post, y, n);
}

// The clamps that finish_row does. What is none runs over whole rows.
Finish clamps_of(const Epilogue& e) {
  Finish f;
  e.clamps(&f);
  f.clamp_act = f.clamp_act && e.act.kind <= Act::kClip;
  f.clamp_post = f.clamp_post && e.post.kind <= Act::kClip;
  return f;
}

}  // namespace

void run_panels_of_row(const PanelRun& run) {
  constexpr int kBytes = kVec * 4;
  VF acc[kRowTile][kRowVecs];
  PN_UNROLL for (int p = 0; p < kRowTile; ++p) {
    PN_UNROLL for (int v = 0; v < kRowVecs; ++v) acc[p][v] = load(run.bias + (p * kRowVecs + v) * kVec);
  }
  const char* w = reinterpret_cast<const char*>(run.w);
  int64_t step = run.k * kRowPanel * 4, step3 = step * 3, step5 = step * 5;
  asm("" : "+r"(step), "+r"(step3), "+r"(step5));  // as in `tile`
  for (int64_t k = 0; k < run.k; ++k, w += kRowVecs * kBytes) {
    const VF x = splat(run.a[k]);
    PN_UNROLL for (int p = 0; p < kRowTile; ++p) {
      const char* from = p == 3 ? w + step3 : p == 5 ? w + step5 : w + p * step;
      PN_UNROLL for (int v = 0; v < kRowVecs; ++v) acc[p][v] += x * load(reinterpret_cast<const float*>(from + v * kBytes));
    }
  }
  PN_UNROLL for (int p = 0; p < kRowTile; ++p) {
    PN_UNROLL for (int v = 0; v < kRowVecs; ++v) store(run.y + (p * kRowVecs + v) * kVec, acc[p][v]);
  }
  const Epilogue& e = *run.epilogue;
  if (e.act.kind > Act::kClip) act_rows(e.act, run.y, kRowTile * kRowPanel);
  finish_row(e, clamps_of(e), run.y, run.z, run.y, kRowTile * kRowPanel);
}

void run_panel(const PanelRun& run) {
  const int vecs = panel_vecs(run.live);
  const int64_t width = vecs * kVec, tiles = ceil_div(run.rows, int64_t{row_tile(vecs)});
  // Tiles wider than y go to a buffer, and so do those with an activation that is no clamp: it runs over
  // all their rows at once.
  const bool act = run.last && run.epilogue->act.kind > Act::kClip, whole = run.live == width && !act;
  alignas(64) float buffer[6 * kRowPanel];
  if (!whole) __builtin_memset(buffer, 0, sizeof(buffer));
  const Finish f = clamps_of(*run.epilogue);
  const bool plain = run.epilogue->act.kind == Act::kNone && run.epilogue->post.kind == Act::kNone && run.z == nullptr;

  Steps s;
  s.a = run.a_step * 4;
  s.a_depth = run.a_depth * 4;
  s.k = run.k;
  s.y = (whole ? run.y_step : width) * 4;
  s.from = run.first ? 0 : s.y;
  // The lines ahead, in equal shares for all steps. A single tile is bound by B itself: fetching more hurts.
  const int64_t steps = run.k / unrolled(vecs), lines = tiles > 1 ? run.ahead_bytes / kLine : 0;
  s.ahead_lines = steps > 0 && lines > 0 ? ceil_div(lines, steps * tiles) : 0;
  const char* const ahead = reinterpret_cast<const char*>(run.ahead);

  const int64_t small = tiles > 0 ? run.rows / tiles : 0, larger = run.rows - small * tiles;  // as tile_begin has them
  for (int64_t t = 0, r0 = 0; t < tiles; ++t) {
    const int rows = static_cast<int>(small + (t < larger ? 1 : 0));
    const int64_t fetched = t * steps * s.ahead_lines;
    if (fetched >= lines) s.ahead_lines = 0;
    s.ahead = ahead + fetched * kLine;
    float *y = run.y + r0 * run.y_step, *to = whole ? y : buffer;
    if (!whole && !run.first) {
      for (int r = 0; r < rows; ++r) {
        __builtin_memcpy(buffer + r * width, y + r * run.y_step, static_cast<size_t>(run.live) * sizeof(float));
      }
    }
    tile_rows(rows, vecs)(s, reinterpret_cast<const char*>(run.a + r0 * run.a_step), reinterpret_cast<const char*>(run.w),
                          reinterpret_cast<const char*>(run.first ? run.bias : to), reinterpret_cast<char*>(to));
    if (run.last && !plain) {
      if (act) act_rows(run.epilogue->act, buffer, rows * width);
      for (int r = 0; r < rows; ++r) {
        const int64_t at = r * run.y_step;
        finish_row(*run.epilogue, f, whole ? y + at : buffer + r * width,
                   run.z != nullptr ? run.z + r0 * run.y_step + at : nullptr, y + at, run.live);
      }
    } else if (!whole) {
      for (int r = 0; r < rows; ++r) {
        __builtin_memcpy(y + r * run.y_step, buffer + r * width, static_cast<size_t>(run.live) * sizeof(float));
      }
    }
    r0 += rows;
  }
}

}  // namespace PN_TIER
}  // namespace pyneo
