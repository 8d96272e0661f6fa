// SPDX-License-Identifier: Apache-2.0
//
// Order of elements of any dtype, and sorting without allocation.
#pragma once

#include <cstring>

#include "ops/op.h"

namespace pyneo {

// A number that grows with the element: NaN is above everything, -0 equals 0. One sorting routine
// over keys serves every dtype.
inline uint64_t order_key(DType t, const void* data, int64_t i) {
  constexpr uint64_t kTop = uint64_t{1} << 63;
  // Sign and magnitude to two's complement order; `inf` is the bits of infinity.
  auto of_float = [](uint64_t bits, uint64_t sign, uint64_t inf) {
    const uint64_t magnitude = bits & (sign - 1);
    if (magnitude > inf) return ~uint64_t{0};
    return bits & sign ? kTop - magnitude : kTop + magnitude;
  };
  switch (t) {
    case DType::kF32: {
      uint32_t bits;
      memcpy(&bits, static_cast<const float*>(data) + i, 4);
      return of_float(bits, uint64_t{1} << 31, 0x7f800000u);
    }
    case DType::kF64: {
      uint64_t bits;
      memcpy(&bits, static_cast<const double*>(data) + i, 8);
      return of_float(bits, kTop, uint64_t{0x7ff} << 52);
    }
    case DType::kF16:
      return of_float(static_cast<const uint16_t*>(data)[i], 0x8000, 0x7c00);
    case DType::kBF16:
      return of_float(static_cast<const uint16_t*>(data)[i], 0x8000, 0x7f80);
    case DType::kI8:
      return kTop + static_cast<uint64_t>(int64_t{static_cast<const int8_t*>(data)[i]});
    case DType::kI16:
      return kTop + static_cast<uint64_t>(int64_t{static_cast<const int16_t*>(data)[i]});
    case DType::kI32:
      return kTop + static_cast<uint64_t>(int64_t{static_cast<const int32_t*>(data)[i]});
    case DType::kI64:
      return kTop + static_cast<uint64_t>(static_cast<const int64_t*>(data)[i]);
    case DType::kU16:
      return static_cast<const uint16_t*>(data)[i];
    case DType::kU32:
      return static_cast<const uint32_t*>(data)[i];
    case DType::kU64:
      return static_cast<const uint64_t*>(data)[i];
    default:
      return static_cast<const uint8_t*>(data)[i];
  }
}

struct Ranked {
  uint64_t key;
  int64_t index;
  // Larger key first, then lower index.
  bool before(const Ranked& o) const { return key > o.key || (key == o.key && index < o.index); }
};

// A binary heap whose root is the element that comes last (`first` false) or first in that order.
inline void sift_down(Ranked* heap, int64_t n, int64_t at, bool first) {
  const Ranked moving = heap[at];
  for (;;) {
    int64_t child = 2 * at + 1;
    if (child >= n) break;
    if (child + 1 < n && heap[child + 1].before(heap[child]) == first) ++child;
    if (heap[child].before(moving) != first) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moving;
}

inline void make_heap(Ranked* heap, int64_t n, bool first) {
  for (int64_t i = n / 2 - 1; i >= 0; --i) sift_down(heap, n, i, first);
}

// Turns a heap whose root comes last into a list in order.
inline void sort_heap(Ranked* heap, int64_t n) {
  for (int64_t end = n - 1; end > 0; --end) {
    const Ranked last = heap[0];
    heap[0] = heap[end];
    heap[end] = last;
    sift_down(heap, end, 0, false);
  }
}

// The same for any list, in time that does not depend on the order it comes in: digit by digit, the index's before the
// key's, if it is not in the index's order as it is. `spare` has room for n; returns the sorted list, which is one of the two.
inline Ranked* sort_digits(Ranked* v, Ranked* spare, int64_t n, bool by_index) {
  for (int word = by_index ? 0 : 1; word < 2; ++word) {
    auto bits = [=](const Ranked& r) { return word == 0 ? static_cast<uint64_t>(r.index) : ~r.key; };  // larger keys first
    uint64_t differ = 0;
    for (int64_t i = 1; i < n; ++i) differ |= bits(v[i]) ^ bits(v[0]);
    for (int shift = 0; shift < 64; shift += 8) {
      if ((differ >> shift & 255) == 0) continue;
      int64_t place[256] = {}, next = 0;
      for (int64_t i = 0; i < n; ++i) ++place[bits(v[i]) >> shift & 255];
      for (int64_t& p : place) {
        const int64_t count = p;
        p = next;
        next += count;
      }
      for (int64_t i = 0; i < n; ++i) spare[place[bits(v[i]) >> shift & 255]++] = v[i];
      Ranked* const from = v;
      v = spare;
      spare = from;
    }
  }
  return v;
}

// Stable bottom-up merge sort of indices; `spare` has room for n. less(a, b) compares what they
// stand for.
template <typename Less>
void merge_sort(int64_t* v, int64_t* spare, int64_t n, Less&& less) {
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t from = 0; from < n; from += 2 * width) {
      const int64_t mid = from + width < n ? from + width : n,
                    to = from + 2 * width < n ? from + 2 * width : n;
      int64_t a = from, b = mid;
      for (int64_t k = from; k < to; ++k)
        spare[k] = b >= to || (a < mid && !less(v[b], v[a])) ? v[a++] : v[b++];
    }
    memcpy(v, spare, static_cast<size_t>(n) * sizeof(*v));
  }
}

}  // namespace pyneo
