// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/tile.h"

namespace pyneo {
namespace PN_TIER {
namespace {

template <int n>
struct Lanes {
  static constexpr int kValue = n;
};

// Lanes of one round of the loop. Instructions beside the multiply-adds count, while another hardware thread takes
// half of the decoders, and so does the size of the loop: two lanes of up to 24 multiply-adds, none of 28.
#if defined(__AVX512F__)
template <int kVecs>
constexpr int kRound = kVecs > kTileVecs ? 2 : 1;
#elif defined(__AVX2__)
template <int kVecs>
constexpr int kRound = kVecs;
#else
template <int kVecs>
constexpr int kRound = 1;
#endif

// Bytes from one pixel to the next, and the multiples that scaled addressing does not reach.
struct Steps {
  int64_t one, three, five;
};
constexpr int kReach = 6;  // pixels for an address register

// What lies `lane` floats behind the q-th (of kReach) pixel from p, in all lanes of a vector; and acc += x * w. Written out
// on x86: GCC keeps a register for every multiple of a step, chooses another operand to overwrite, copies and spills.
#if defined(__AVX2__)
template <int lane>
PN_INLINE VF splat_pixel(const char* p, const Steps& s, int q) {
  VF x;
#define PN_FROM(address, step) \
  asm volatile("vbroadcastss %c[at](%[p]" address "), %[x]" : [x] "=v"(x) : [p] "r"(p), [i] "r"(step), [at] "i"(lane * 4))
  if (q == 0) PN_FROM("", s.one);
  if (q == 1) PN_FROM(",%[i]", s.one);
  if (q == 2) PN_FROM(",%[i],2", s.one);
  if (q == 3) PN_FROM(",%[i]", s.three);
  if (q == 4) PN_FROM(",%[i],4", s.one);
  if (q == 5) PN_FROM(",%[i]", s.five);
#undef PN_FROM
  return x;
}
PN_INLINE void add_product(VF& acc, VF x, VF w) { asm volatile("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w)); }
#else
template <int lane>
PN_INLINE VF splat_pixel(const char* p, const Steps& s, int q) {
  return splat(*reinterpret_cast<const float*>(p + q * s.one + lane * 4));
}
PN_INLINE void add_product(VF& acc, VF x, VF w) { acc += x * w; }
#endif
// Hides where v comes from: compilers would keep multiples of it, or work it out anew behind a loop.
template <typename T>
PN_INLINE void keep(T& v) { asm("" : "+r"(v)); }

template <int kRows, int kCols, int kVecs>
__attribute__((noinline)) void tile(const Walk& walk, const float* x, const float* w, const Finish& f, float* y, const float* z) {
  constexpr int kBases = (kCols + kReach - 1) / kReach, kPixels = kRows * kCols;
  VF acc[kPixels][kVecs];
  PN_UNROLL for (int p = 0; p < kPixels; ++p) {
    PN_UNROLL for (int v = 0; v < kVecs; ++v) acc[p][v] = load(f.bias + v * kVec);
  }
  // In bytes, lest index arithmetic be done a pixel.
  Steps pixel{walk.pixel * 4, walk.pixel * 12, walk.pixel * 20};
  int64_t near_step = pixel.one < 64 ? 64 : pixel.one, ahead_step = (kVecs > kTileVecs ? 8 : f.ahead_step) * 4 * kRound<kVecs>;
  keep(pixel.one), keep(pixel.three), keep(pixel.five), keep(near_step), keep(ahead_step);
  const int64_t row = walk.row * 4;
  // In memory, lest it be in a vector register, from where it comes only behind all multiply-adds before.
  struct {
    int64_t c, b, a;
  } step{walk.c_step * 4, (walk.b_step - walk.c_count * walk.c_step) * 4, (walk.a_step - walk.b_count * walk.b_step) * 4};
  const char *ahead = reinterpret_cast<const char*>(f.ahead), *xc = reinterpret_cast<const char*>(x);
  // One loop for the three of the reduction: what it costs beside the lanes counts.
  int64_t a = walk.a_count, b = walk.b_count, c = walk.c_count, lanes = walk.lanes, to_next = walk.a_step * 4;
  const auto enter_last = [&]() __attribute__((always_inline)) {
    lanes = walk.last;
    to_next = (kCols * walk.pixel - (walk.a_count - 1) * walk.a_step) * 4;
  };
  if (a == 1) enter_last();
  for (;;) {
    // What the next channel block, or the next tile, reads here: a line a round, of each row where rounds are few, into L1.
    const char* near = xc + to_next;
    const char* base[kRows][kBases];
    PN_UNROLL for (int r = 0; r < kRows; ++r) {
      PN_UNROLL for (int g = 0; g < kBases; ++g) base[r][g] = g == 0 ? xc + r * row : base[r][g - 1] + 2 * pixel.three;
    }
    const auto round = [&](auto number) __attribute__((always_inline)) {
      constexpr int kLanes = decltype(number)::kValue;
      __builtin_prefetch(ahead, 0, 2);
      ahead += ahead_step;
      PN_UNROLL for (int r = 0; r < (kRound<kVecs> == 1 ? 1 : kRows); ++r) __builtin_prefetch(near + r * row, 0, 3);
      near += near_step;
      PN_UNROLL for (int u = 0; u < kLanes; ++u) {
        VF wv[kVecs];
        PN_UNROLL for (int v = 0; v < kVecs; ++v) wv[v] = load(w + (u * kVecs + v) * kVec);
        PN_UNROLL for (int r = 0; r < kRows; ++r) {
          PN_UNROLL for (int q = 0; q < kCols; ++q) {
            const char* p = base[r][q / kReach];
            const VF xv = u == 0 ? splat_pixel<0>(p, pixel, q % kReach) : splat_pixel<1>(p, pixel, q % kReach);
            PN_UNROLL for (int v = 0; v < kVecs; ++v) add_product(acc[r * kCols + q][v], xv, wv[v]);
          }
        }
      }
      w += kLanes * kVecs * kVec;
      PN_UNROLL for (int r = 0; r < kRows; ++r) {
        PN_UNROLL for (int g = 0; g < kBases; ++g) base[r][g] += 4 * kLanes, keep(base[r][g]);
      }
      keep(w), keep(ahead), keep(near);
    };
    int64_t left = lanes;
    for (; left >= kRound<kVecs>; left -= kRound<kVecs>, keep(left)) round(Lanes<kRound<kVecs>>());
    if (kRound<kVecs> == 2 && left > 0) round(Lanes<1>());
    asm("" : "+m"(step));
    xc += step.c;
    if (--c != 0) continue;
    xc += step.b;
    c = walk.c_count;
    if (--b != 0) continue;
    xc += step.a;
    b = walk.b_count;
    if (--a > 1) continue;
    if (a == 0) break;
    enter_last();
  }
  // move(accumulator, offset in y or z), the offset a step at a time: hidden from the compiler, which would multiply.
  const int64_t out_vec = f.out_vec * 4, out_pixel = f.out_pixel * 4, out_row = f.out_row * 4;
  const auto each = [&](const void* begin, auto&& move) __attribute__((always_inline)) {
    const char* row = static_cast<const char*>(begin);
    PN_UNROLL for (int r = 0; r < kRows; ++r, row += out_row) {
      const char* at = row;
      PN_UNROLL for (int q = 0; q < kCols; ++q, at += out_pixel) {
        asm("" : "+r"(at));
        PN_UNROLL for (int v = 0; v < kVecs; ++v) move(acc[r * kCols + q][v], reinterpret_cast<const float*>(at + v * out_vec));
      }
    }
  };
  if (z != nullptr) {
    each(z, [](VF& a, const float* p) __attribute__((always_inline)) { a += load(p); });
  }
  if (const uint8_t clamp = z != nullptr ? f.clamp_post : f.clamp_act) {
    const VF lo = splat(z != nullptr ? f.post_lo : f.act_lo), hi = splat(z != nullptr ? f.post_hi : f.act_hi);
    // Many tiles have nothing above them. Wide ones lose more by a second pass than they gain without one.
    constexpr bool kOnePass = kVecs > kTileVecs;
    PN_UNROLL for (int p = 0; p < kPixels; ++p) {
      PN_UNROLL for (int v = 0; v < kVecs; ++v) acc[p][v] = kOnePass ? vmin(vmax(acc[p][v], lo), hi) : vmax(acc[p][v], lo);
    }
    if (!kOnePass && clamp > 1) {
      PN_UNROLL for (int p = 0; p < kPixels; ++p) {
        PN_UNROLL for (int v = 0; v < kVecs; ++v) acc[p][v] = vmin(acc[p][v], hi);
      }
    }
  }
  each(y, [](const VF& a, const float* p) __attribute__((always_inline)) { store(const_cast<float*>(p), a); });
}

// Panels of one vector come last if at all. Their large tiles are two small ones, which have multiply-adds
// enough in flight, and half of the code.
template <int kCols>
void two_narrow_rows(const Walk& walk, const float* x, const float* w, const Finish& f, float* y, const float* z) {
  tile<1, kCols, 1>(walk, x, w, f, y, z);
  tile<1, kCols, 1>(walk, x + walk.row, w, f, y + f.out_row, z != nullptr ? z + f.out_row : nullptr);
}
#if defined(__AVX512F__)
template <int kLeft, int kRight>
void narrow_row(const Walk& walk, const float* x, const float* w, const Finish& f, float* y, const float* z) {
  const int64_t at = kLeft * f.out_pixel;
  tile<1, kLeft, 1>(walk, x, w, f, y, z);
  tile<1, kRight, 1>(walk, x + kLeft * walk.pixel, w, f, y + at, z != nullptr ? z + at : nullptr);
}
#endif

template <int kCols>
TileFn row_fn(int vecs) {
#if defined(__AVX512F__)
  if constexpr (kCols > 7) {
    return vecs == 2 ? tile<1, kCols, 2> : narrow_row<(kCols + 1) / 2, kCols / 2>;
  }
#endif
  return vecs == 2 ? tile<1, kCols, 2> : tile<1, kCols <= 7 ? kCols : 1, 1>;
}

TileFn one_row(int cols, int vecs) {
#define PN_CASE(n) \
  case n:          \
    return row_fn<n>(vecs);
  switch (cols) {
    PN_CASE(1)
#if !defined(__AVX512F__) && !defined(__AVX2__) && !defined(__aarch64__)
    default: return row_fn<2>(vecs);
#else
    PN_CASE(2) PN_CASE(3) PN_CASE(4) PN_CASE(5)
#if !defined(__AVX512F__)
    default: return row_fn<6>(vecs);
#else
    PN_CASE(6) PN_CASE(7) PN_CASE(8) PN_CASE(9) PN_CASE(10) PN_CASE(11) PN_CASE(12) PN_CASE(13)
    default: return row_fn<14>(vecs);
#endif
#endif
  }
#undef PN_CASE
}

template <int kCols>
TileFn two_row_fn(int vecs) {
  return vecs == 2 ? tile<2, kCols, 2> : two_narrow_rows<kCols>;
}

TileFn two_rows(int cols, int vecs) {
#if defined(__AVX512F__)
  switch (cols) {
    case 4: return two_row_fn<4>(vecs);
    case 5: return two_row_fn<5>(vecs);
    case 6: return two_row_fn<6>(vecs);
    default: return two_row_fn<7>(vecs);
  }
#elif defined(__AVX2__) || defined(__aarch64__)
  return cols == 2 ? two_row_fn<2>(vecs) : two_row_fn<3>(vecs);
#else
  (void)cols;
  return two_row_fn<1>(vecs);
#endif
}

#if defined(__AVX512F__)
TileFn wide(int rows, int cols) {
  if (rows == 2) return cols == 2 ? tile<2, 2, kWideVecs> : tile<2, 3, kWideVecs>;
  switch (cols) {
    case 1: return tile<1, 1, kWideVecs>;
    case 2: return tile<1, 2, kWideVecs>;
    case 3: return tile<1, 3, kWideVecs>;
    case 4: return tile<1, 4, kWideVecs>;
    case 5: return tile<1, 5, kWideVecs>;
    default: return tile<1, 6, kWideVecs>;
  }
}
#endif

bool is_clamp(Act kind) { return kind <= Act::kClip; }

uint8_t set_clamp(const Activation& a, float* lo, float* hi) {
  *lo = a.kind == Act::kRelu ? 0 : a.alpha;
  *hi = a.kind == Act::kRelu ? __builtin_inff() : a.beta;
  return a.kind == Act::kNone ? 0 : *hi < __builtin_inff() ? 2 : 1;
}

}  // namespace

TileFn tile_fn(int rows, int cols, int vecs) {
#if defined(__AVX512F__)
  if (vecs == kWideVecs) return wide(rows, cols);
#endif
  return rows == 2 ? two_rows(cols, vecs) : one_row(cols, vecs);
}

void Epilogue::read(const Attrs& attrs, const char* op, const char* act_name) {
  if (read_activation(attrs, op, act_name, &act) != Status::kOk ||
      read_activation(attrs, op, "post_act", &post) != Status::kOk) {
    clear_error();
  }
  direct = is_clamp(act.kind) && is_clamp(post.kind);
}

bool Epilogue::in_registers(bool residual) const {
  return direct && (residual ? act : post).kind == Act::kNone;
}

void Epilogue::clamps(Finish* f) const {
  f->clamp_act = set_clamp(act, &f->act_lo, &f->act_hi);
  f->clamp_post = set_clamp(post, &f->post_lo, &f->post_hi);
}

namespace {

// Whole vectors are stored where they belong, and what is no clamp runs over them there, in L1.
void run_in_place(TileFn fn, int rows, int cols, int vecs, const Walk& walk, const float* x, const float* w,
                  const float* bias, const float* ahead, const Epilogue& e, const Scatter& s, float* y, const float* z) {
  Finish f{bias, false, false, 0, 0, 0, 0, s.out_vec, s.out_pixel, s.out_row, ahead};
  // In registers: z alone, or act where no z follows.
  const bool stored_sum = is_clamp(e.act.kind) && (z == nullptr || e.act.kind == Act::kNone);
  if (stored_sum) f.clamp_act = set_clamp(e.act, &f.act_lo, &f.act_hi);
  fn(walk, x, w, f, y, stored_sum ? z : nullptr);
  // Runs of adjacent floats: a row of blocked pixels, or the vectors of a plain one.
  const int across = s.out_pixel == kVec ? cols : 1, wide = across == 1 && s.out_vec == kVec ? vecs : 1;
  const int64_t n = int64_t{across} * wide * kVec;
  for (int p = 0; p < rows * cols; p += across) {
    for (int v = 0; v < vecs; v += wide) {
      const int64_t at = (p / cols) * s.out_row + (p % cols) * s.out_pixel + v * s.out_vec;
      if (stored_sum) {
        act_rows(e.post, y + at, n);
      } else {
        finish_rows(e.act, z != nullptr ? z + at : nullptr, e.post, y + at, n);
      }
    }
  }
}

}  // namespace

void run_buffered(TileFn fn, int rows, int cols, int vecs, const Walk& walk, const float* x, const float* w,
                  const float* bias, const float* ahead, const Epilogue& e, const Scatter& s, float* y, const float* z) {
  if (s.lane == 1 && s.live == vecs * kVec) {
    return run_in_place(fn, rows, cols, vecs, walk, x, w, bias, ahead, e, s, y, z);
  }
  alignas(64) float tile_buffer[kTilePixels * kPanel];
  const int width = vecs * kVec, pixels = rows * cols;
  const Finish f{bias, false, false, 0, 0, 0, 0, kVec, width, int64_t{cols} * width, ahead};
  fn(walk, x, w, f, tile_buffer, nullptr);
  act_rows(e.act, tile_buffer, int64_t{pixels} * width);
  const auto offset = [&](int p) { return (p / cols) * s.out_row + (p % cols) * s.out_pixel; };
  const auto each = [&](auto&& move) {  // move(buffer, offset in y or z, floats)
    for (int p = 0; p < pixels; ++p) {
      for (int k = 0; k < s.live; k += kVec) {
        move(tile_buffer + p * width + k, offset(p) + k / kVec * s.out_vec, s.live - k < kVec ? s.live - k : kVec);
      }
    }
  };
  if (z != nullptr) {
    each([&](float* b, int64_t at, int n) {
      for (int i = 0; i < n; ++i) b[i] += z[at + i * s.lane];
    });
  }
  act_rows(e.post, tile_buffer, int64_t{pixels} * width);
  if (s.lane == 1) {
    each([&](const float* b, int64_t at, int n) { __builtin_memcpy(y + at, b, static_cast<size_t>(n) * sizeof(float)); });
    return;
  }
  for (int k = 0; k < s.live; ++k) {  // channel by channel, so that stores run along the pixels
    float* yk = y + k / kVec * s.out_vec + k % kVec * s.lane;
    for (int p = 0; p < pixels; ++p) yk[offset(p)] = tile_buffer[p * width + k];
  }
}

}  // namespace PN_TIER
}  // namespace pyneo
