// SPDX-License-Identifier: Apache-2.0
//
// Resize of two spatial axes over channel blocks, any mode whose weights do not depend on the data: an
// output row is first combined from rows of the input, then along itself. Which positions count and how
// much is in tables that the operator's own functions make (ops/resample.h). The result is in blocks or plain: a net
// that ends in a Resize to the size of its input would spend as long on a Reorder of its largest tensor.
#include <cstring>

#include "kernels/resize.h"
#include "kernels/spread.h"
#include "simd/transpose.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// Positions and weights of an axis; nearest is one tap of weight 1.
struct Table {
  int64_t* first;
  float* weights;
};
Table make_table(const ResamplePlan& s, int i, uint8_t* at) {
  const Axis& a = s.axis[i];
  const Table t{reinterpret_cast<int64_t*>(at), reinterpret_cast<float*>(at + a.out * 8)};
  if (s.mode.filter != Filter::kNearest) {
    weight_table(a, s.mode, t.first, t.weights);
    return t;
  }
  nearest_table(a, s.mode, t.first);
  for (int64_t j = 0; j < a.out; ++j) t.weights[j] = 1;
  return t;
}

// y[j] = sum of taps vectors of x, `step` vectors apart, for n vectors that are `move` vectors apart.
PN_INLINE VF combine(const float* x, int64_t step, const float* w, int taps) {
  VF v = load(x) * w[0];
  for (int t = 1; t < taps; ++t) v += load(x + t * step) * w[t];
  return v;
}

// to[c * step + p] = square[p][c] for p < n and c < planes.
PN_INLINE void turn(const float* square, float* to, int64_t step, int n, int planes) {
  VF r[kVec];
#pragma GCC unroll 16
  for (int i = 0; i < kVec; ++i) r[i] = load(square + i * kVec);
  transpose_square(r);
  if (n == kVec && planes == kVec) {
#pragma GCC unroll 16
    for (int i = 0; i < kVec; ++i) store(to + i * step, r[i]);
  } else {
    for (int i = 0; i < planes; ++i) store_n(to + i * step, r[i], n);
  }
}

Status run(const void* state, RunContext& c) {
  const ResamplePlan& s = *static_cast<const ResamplePlan*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  uint8_t* scratch = static_cast<uint8_t*>(c.scratch);
  const Table rows = make_table(s, 0, scratch), columns = make_table(s, 1, scratch + resample_table_bytes(s, 0));
  const int64_t height = s.axis[0].out, width = s.axis[1].out, line = s.axis[1].in * kVec;
  const int64_t blocks = ceil_div(s.channels, kVec);
  spread(*c.pool, s.planes * height, width * (s.taps[0] + s.taps[1]) * kVec / 2, [&](int64_t begin, int64_t end, int thread) {
    float* row = reinterpret_cast<float*>(c.thread_scratch + thread * c.thread_stride);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t j = i % height;
      const float* from = x + (i / height * s.axis[0].in + rows.first[j]) * line;
      const float* w = rows.weights + j * s.taps[0];
      if (s.taps[0] == 1 && w[0] == 1) {
        // Read in place.
      } else {
        for (int64_t k = 0; k < line; k += kVec) store(row + k, combine(from + k, line, w, s.taps[0]));
        from = row;
      }
      const float* v = columns.weights;
      if (s.channels == 0) {
        float* to = y + i * width * kVec;
        for (int64_t k = 0; k < width; ++k, v += s.taps[1]) store(to + k * kVec, combine(from + columns.first[k] * kVec, kVec, v, s.taps[1]));
        continue;
      }
      const int64_t block = i / height % blocks * kVec, left = s.channels - block;
      float* to = y + ((i / height / blocks * s.channels + block) * height + j) * width;
      float* square = row + line;
      const int planes = left < kVec ? static_cast<int>(left) : kVec;
      for (int64_t k = 0; k < width; k += kVec) {
        const int n = width - k < kVec ? static_cast<int>(width - k) : kVec;
        if (n < kVec) memset(square, 0, kVec * kVec * sizeof(float));
        for (int p = 0; p < n; ++p, v += s.taps[1]) {
          store(square + p * kVec, combine(from + columns.first[k + p] * kVec, kVec, v, s.taps[1]));
        }
        turn(square, to + k, height * width, n, planes);
      }
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, to)                             \
  {name, "Resize", PN_TIER::kBlocked, to, -1,        \
   PN_CODE(sizeof(ResamplePlan), resample_accepts, resample_cost, nullptr, nullptr, resample_scratch_bytes, \
           resample_thread_scratch_bytes, PN_WIDE_RUN(resample_prepare, PN_TIER::run))}

PN_KERNEL_TABLE(resample)
PN_KERNEL_ROWS(resample) = {
    PN_ROW("f32_resample_" PN_BLOCK, PN_TIER::kBlocked),
    PN_ROW("f32_resample_" PN_BLOCK "_plain", Layout::kPlain),
};
PN_KERNEL_COUNT(resample);

}  // namespace pyneo
