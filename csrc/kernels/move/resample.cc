// SPDX-License-Identifier: Apache-2.0
//
// Resize of two spatial axes over channel blocks, any mode whose weights do not depend on the data: an
// output row is first combined from rows of the input, then along itself. Which positions count and how
// much is in tables that the operator's own functions make (ops/resample.h). The result is in blocks or plain: a net
// that ends in a Resize to the size of its input would spend as long on a Reorder of its largest tensor.
#include <cstring>

#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "ops/resample.h"
#include "simd/transpose.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {


struct State {
  int64_t planes;    // blocks of channels, of all images
  int64_t channels;  // of an image whose result is plain; 0: it is in blocks
  Axis axis[2];  // rows, columns
  ResampleMode mode;
  int32_t taps[2];
};
static_assert(sizeof(State) <= kMaxKernelState, "the state of a kernel is bounded");

struct Named {
  const char* name;
  Coordinates coordinates;
};
constexpr Named kCoordinates[] = {{"half_pixel", Coordinates::kHalfPixel},
                                  {"half_pixel_symmetric", Coordinates::kHalfPixelSymmetric},
                                  {"pytorch_half_pixel", Coordinates::kPytorchHalfPixel},
                                  {"align_corners", Coordinates::kAlignCorners},
                                  {"asymmetric", Coordinates::kAsymmetric}};

bool read_mode(const Attrs& a, ResampleMode* m) {
  const Str filter = a.str("mode", "nearest"), where = a.str("coordinate_transformation_mode", "half_pixel");
  const Str rounding = a.str("nearest_mode", "round_prefer_floor");
  m->filter = filter == "nearest" ? Filter::kNearest : filter == "linear" ? Filter::kLinear : Filter::kCubic;
  m->rounding = rounding == "floor"               ? Rounding::kFloor
                : rounding == "ceil"              ? Rounding::kCeil
                : rounding == "round_prefer_ceil" ? Rounding::kPreferCeil
                                                  : Rounding::kPreferFloor;
  m->antialias = a.i64("antialias", 0) != 0;
  m->exclude_outside = a.i64("exclude_outside", 0) != 0;
  m->cubic_a = a.f32("cubic_coeff_a", -0.75f);
  for (const Named& n : kCoordinates) {
    if (where == n.name) {
      m->coordinates = n.coordinates;
      return true;
    }
  }
  return false;
}

PN_COLD __attribute__((noinline)) bool fill(const KernelQuery& q, State* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  if (x.dtype != DType::kF32 || x.layout != kBlocked || x.shape.rank != 4) return false;
  *s = State{};
  s->channels = y.layout == Layout::kPlain ? y.shape[1] : 0;
  if (!read_mode(q.attrs, &s->mode) || q.attrs.ints("axes").size > 0) return false;
  if (q.attrs.str("keep_aspect_ratio_policy", "stretch") != "stretch" || x.shape[0] != y.shape[0] || x.shape[1] != y.shape[1]) return false;
  const float* scales = nullptr;
  if (q.has(2) && q.in[2]->elements() > 0) {
    if (!q.values || !q.values[2] || q.in[2]->dtype != DType::kF32 || q.in[2]->elements() != 4) return false;
    scales = static_cast<const float*>(q.values[2]);
    if (scales[0] != 1 || scales[1] != 1) return false;
  }
  for (int i = 0; i < 2; ++i) {
    Axis& a = s->axis[i];
    a.in = x.shape[i + 2];
    a.out = y.shape[i + 2];
    if (a.in < 1) return false;
    a.scale = scales ? static_cast<double>(scales[i + 2]) : static_cast<double>(a.out) / static_cast<double>(a.in);
    if (!(a.scale > 0)) return false;
    s->taps[i] = static_cast<int32_t>(a.taps(s->mode));
  }
  s->planes = x.shape[0] * ceil_div(x.shape[1], kVec);
  return true;
}

int64_t table_bytes(const State& s, int i) { return round_up(s.axis[i].out * (8 + 4 * int64_t{s.taps[i]}), 64); }

template <Layout to>
PN_COLD bool accepts(const KernelQuery& q) {
  State s;
  return q.out[0]->layout == to && fill(q, &s);
}
PN_COLD float cost(const KernelQuery& q) { return static_cast<float>(q.out[0]->bytes()) * 1.2e-4f + 1; }
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Resize was prepared for operands it does not accept");
}
PN_COLD int64_t scratch_bytes(const KernelQuery& q) {
  State s;
  return fill(q, &s) ? table_bytes(s, 0) + table_bytes(s, 1) : 0;
}
// A combined row, and a square of results to be transposed.
PN_COLD int64_t thread_scratch_bytes(const KernelQuery& q) { return (q.in[0]->shape[3] + kVec) * kVec * static_cast<int64_t>(sizeof(float)); }

// Positions and weights of an axis; nearest is one tap of weight 1.
struct Table {
  int64_t* first;
  float* weights;
};
Table make_table(const State& s, int i, uint8_t* at) {
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
  const State& s = *static_cast<const State*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  uint8_t* scratch = static_cast<uint8_t*>(c.scratch);
  const Table rows = make_table(s, 0, scratch), columns = make_table(s, 1, scratch + table_bytes(s, 0));
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

#define PN_ROW(name, to)                                                                                    \
  {name, "Resize", PN_TIER::kBlocked, to, -1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts<to>, PN_TIER::cost,   \
   nullptr, nullptr, PN_TIER::scratch_bytes, PN_TIER::thread_scratch_bytes,                                 \
   PN_WIDE_RUN(PN_TIER::prepare, PN_TIER::run))}

PN_KERNEL_TABLE(resample)
PN_KERNEL_ROWS(resample) = {
    PN_ROW("f32_resample_" PN_BLOCK, PN_TIER::kBlocked),
    PN_ROW("f32_resample_" PN_BLOCK "_plain", Layout::kPlain),
};
PN_KERNEL_COUNT(resample);

}  // namespace pyneo
