// SPDX-License-Identifier: Apache-2.0
#include "ops/strided.h"

#include <cstring>

namespace pyneo {
namespace {

// Elements of 16 bytes exist only here: two neighbouring 8-byte ones that always travel together.
struct alignas(1) Wide {
  uint8_t bytes[16];
};

template <typename T>
struct Unaligned {
  static T load(const uint8_t* p) {
    T v;
    memcpy(&v, p, sizeof(T));
    return v;
  }
  static void store(uint8_t* p, T v) { memcpy(p, &v, sizeof(T)); }
};

template <typename T>
void copy_line(const uint8_t* src, int64_t src_step, uint8_t* dst, int64_t dst_step, int64_t n) {
  constexpr int64_t kSize = sizeof(T);
  if (dst_step == 1 && src_step == 1) {
    memcpy(dst, src, static_cast<size_t>(n * kSize));
  } else if (dst_step == 1 && src_step == 0) {
    const T v = Unaligned<T>::load(src);
    for (int64_t i = 0; i < n; ++i) Unaligned<T>::store(dst + i * kSize, v);
  } else if (dst_step == 1) {
    for (int64_t i = 0; i < n; ++i)
      Unaligned<T>::store(dst + i * kSize, Unaligned<T>::load(src + i * src_step * kSize));
  } else {
    for (int64_t i = 0; i < n; ++i) {
      Unaligned<T>::store(dst + i * dst_step * kSize,
                          Unaligned<T>::load(src + i * src_step * kSize));
    }
  }
}

typedef uint32_t Quad __attribute__((vector_size(16)));
typedef uint32_t LooseQuad __attribute__((vector_size(16), aligned(1), may_alias));

// A square of 4 x 4 elements of 4 bytes: rows are contiguous in src, columns in dst. Steps in
// bytes.
inline void transpose_square(const uint8_t* src, int64_t src_step, uint8_t* dst, int64_t dst_step) {
  const auto load = [&](int k) {
    return Quad(*reinterpret_cast<const LooseQuad*>(src + k * src_step));
  };
  const Quad a = load(0), b = load(1), c = load(2), d = load(3);
  const Quad ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5),
             ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Quad cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5),
             cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const auto store = [&](int k, Quad v) { *reinterpret_cast<LooseQuad*>(dst + k * dst_step) = v; };
  store(0, __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5));
  store(1, __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7));
  store(2, __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5));
  store(3, __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7));
}

// dst[i * dst_step + j] = src[i + j * src_step]: rows of one operand are columns of the other.
// Blocks of 16 x 16 elements use up the cache lines of both sides while they are at hand.
template <typename T>
void copy_plane(const uint8_t* src, int64_t src_step, uint8_t* dst, int64_t dst_step, int64_t rows,
                int64_t columns) {
  constexpr int64_t kSize = sizeof(T), kBlock = 16;
  for (int64_t i0 = 0; i0 < rows; i0 += kBlock) {
    const int64_t ni = rows - i0 < kBlock ? rows - i0 : kBlock;
    for (int64_t j0 = 0; j0 < columns; j0 += kBlock) {
      const int64_t nj = columns - j0 < kBlock ? columns - j0 : kBlock;
      const uint8_t* s = src + (i0 + j0 * src_step) * kSize;
      uint8_t* d = dst + (i0 * dst_step + j0) * kSize;
      int64_t whole = 0;  // columns done by squares
      if constexpr (kSize == 4) {
        whole = nj & ~int64_t{3};
        for (int64_t i = 0; i + 4 <= ni; i += 4) {
          for (int64_t j = 0; j < whole; j += 4) {
            transpose_square(s + (i + j * src_step) * 4, src_step * 4, d + (i * dst_step + j) * 4,
                             dst_step * 4);
          }
        }
      }
      for (int64_t i = 0; i < ni; ++i) {
        for (int64_t j = kSize == 4 && i < (ni & ~int64_t{3}) ? whole : 0; j < nj; ++j) {
          Unaligned<T>::store(d + (i * dst_step + j) * kSize,
                              Unaligned<T>::load(s + (i + j * src_step) * kSize));
        }
      }
    }
  }
}

// Walks the outer dims; the last one or two are a line or a plane.
template <typename T>
void copy_nest(const StridedCopy& c, bool plane, const uint8_t* src, uint8_t* dst) {
  constexpr int64_t kSize = sizeof(T);
  const int outer = c.rank - (plane ? 2 : 1);
  int64_t at[kMaxCopyRank] = {};
  for (;;) {
    if (plane) {
      copy_plane<T>(src, c.src_step[outer + 1], dst, c.dst_step[outer], c.dims[outer],
                    c.dims[outer + 1]);
    } else {
      copy_line<T>(src, c.src_step[outer], dst, c.dst_step[outer], c.dims[outer]);
    }
    int k = outer - 1;
    for (; k >= 0; --k) {
      src += c.src_step[k] * kSize;
      dst += c.dst_step[k] * kSize;
      if (++at[k] < c.dims[k]) break;
      src -= c.src_step[k] * c.dims[k] * kSize;
      dst -= c.dst_step[k] * c.dims[k] * kSize;
      at[k] = 0;
    }
    if (k < 0) return;
  }
}

int64_t magnitude(int64_t v) { return v < 0 ? -v : v; }

// Drops dims of one, orders dims by dst step, merges neighbours that are one run in both operands.
StridedCopy collapse(const StridedCopy& c) {
  StridedCopy r;
  for (int k = 0; k < c.rank; ++k) {
    if (c.dims[k] != 1) r.add(c.dims[k], c.src_step[k], c.dst_step[k]);
  }
  for (int i = 1; i < r.rank; ++i) {  // insertion sort, stable: at most 16 dims
    for (int j = i; j > 0 && magnitude(r.dst_step[j - 1]) < magnitude(r.dst_step[j]); --j) {
      auto swap = [&](int64_t* v) {
        const int64_t t = v[j];
        v[j] = v[j - 1];
        v[j - 1] = t;
      };
      swap(r.dims);
      swap(r.src_step);
      swap(r.dst_step);
    }
  }
  int kept = 0;
  for (int k = 1; k < r.rank; ++k) {
    if (r.src_step[kept] == r.src_step[k] * r.dims[k] &&
        r.dst_step[kept] == r.dst_step[k] * r.dims[k]) {
      r.dims[kept] *= r.dims[k];
    } else {
      ++kept;
      r.dims[kept] = r.dims[k];
    }
    r.src_step[kept] = r.src_step[k];
    r.dst_step[kept] = r.dst_step[k];
  }
  if (r.rank > 0) r.rank = kept + 1;
  if (r.rank == 0) r.add(1, 1, 1);
  return r;
}

// A short innermost run (complex pairs, RGBA) becomes one wider element: returns the new size.
size_t widen(StridedCopy* c, size_t size) {
  const int last = c->rank - 1;
  if (last == 0 || c->src_step[last] != 1 || c->dst_step[last] != 1) return size;
  const int64_t n = c->dims[last];
  if (n != 2 && n != 4 && n != 8 && n != 16) return size;
  if (static_cast<int64_t>(size) * n > 16) return size;
  for (int k = 0; k < last; ++k) {
    if (c->src_step[k] % n != 0 || c->dst_step[k] % n != 0) return size;
  }
  for (int k = 0; k < last; ++k) {
    c->src_step[k] /= n;
    c->dst_step[k] /= n;
  }
  c->rank = last;
  return size * static_cast<size_t>(n);
}

void copy_sized(const StridedCopy& c, bool plane, size_t size, const uint8_t* src, uint8_t* dst) {
  switch (size) {
    case 1:
      return copy_nest<uint8_t>(c, plane, src, dst);
    case 2:
      return copy_nest<uint16_t>(c, plane, src, dst);
    case 4:
      return copy_nest<uint32_t>(c, plane, src, dst);
    case 8:
      return copy_nest<uint64_t>(c, plane, src, dst);
    default:
      return copy_nest<Wide>(c, plane, src, dst);
  }
}

}  // namespace

void StridedCopy::run(const Pool& pool, size_t size, const void* src, void* dst) const {
  int64_t total = 1;
  for (int k = 0; k < rank; ++k) total *= dims[k];
  if (total == 0) return;
  StridedCopy c = collapse(*this);
  const int64_t bytes = total * static_cast<int64_t>(size);
  size = widen(&c, size);

  // When the source runs along another dim than the destination, move that dim next to the last.
  bool plane = false;
  const int last = c.rank - 1;
  if (c.dst_step[last] == 1 && c.src_step[last] != 1 && c.src_step[last] != 0) {
    for (int k = 0; k < last && !plane; ++k) {
      if (c.src_step[k] != 1) continue;
      const int64_t d = c.dims[k], s = c.src_step[k], t = c.dst_step[k];
      for (int j = k; j + 1 < last; ++j) {
        c.dims[j] = c.dims[j + 1];
        c.src_step[j] = c.src_step[j + 1];
        c.dst_step[j] = c.dst_step[j + 1];
      }
      c.dims[last - 1] = d;
      c.src_step[last - 1] = s;
      c.dst_step[last - 1] = t;
      plane = true;
    }
  }

  // Threads share the first dim that gives each of them something, else the longest.
  int cut = 0;
  for (int k = 0; k < c.rank; ++k) {
    if (c.dims[k] >= pool.size()) {
      cut = k;
      break;
    }
    if (c.dims[k] > c.dims[cut]) cut = k;
  }
  const uint8_t* from = static_cast<const uint8_t*>(src);
  uint8_t* to = static_cast<uint8_t*>(dst);
  split_range(pool, c.dims[cut], bytes, [&](int64_t begin, int64_t end) {
    StridedCopy part = c;
    part.dims[cut] = end - begin;
    const int64_t width = static_cast<int64_t>(size);
    copy_sized(part, plane, size, from + begin * c.src_step[cut] * width,
               to + begin * c.dst_step[cut] * width);
  });
}

void dense_steps(const Shape& s, int64_t* steps) {
  int64_t step = 1;
  for (int k = s.rank - 1; k >= 0; --k) {
    steps[k] = step;
    step *= s[k];
  }
}

void fill_elements(void* dst, size_t size, const void* value, int64_t n) {
  uint8_t* to = static_cast<uint8_t*>(dst);
  const uint8_t* v = static_cast<const uint8_t*>(value);
  switch (size) {
    case 1:
      memset(to, *v, static_cast<size_t>(n));
      break;
    case 2:
      copy_line<uint16_t>(v, 0, to, 1, n);
      break;
    case 4:
      copy_line<uint32_t>(v, 0, to, 1, n);
      break;
    default:
      copy_line<uint64_t>(v, 0, to, 1, n);
      break;
  }
}

void copy_bytes(const Pool& pool, void* dst, const void* src, int64_t bytes) {
  split_range(pool, bytes, bytes, [&](int64_t from, int64_t to) {
    memcpy(static_cast<uint8_t*>(dst) + from, static_cast<const uint8_t*>(src) + from,
           static_cast<size_t>(to - from));
  });
}

}  // namespace pyneo
