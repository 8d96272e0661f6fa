// SPDX-License-Identifier: Apache-2.0
//
// Normalisations over rows (LayerNormalization, RMSNormalization, with a residual added first) and by
// channel (BatchNormalization left unfused, Instance- and GroupNormalization).
//
// Mean first, then the squares of what is left: one pass with sum and sum of squares loses the variance
// of rows far from zero. A row stays in L1, so that the second pass is nearly free.
#include "kernels/norm.h"
#include "kernels/spread.h"
#include "simd/math.h"

namespace pyneo {
namespace PN_TIER {
namespace {


PN_INLINE VF load_any(const float* p, int64_t n) { return n >= kVec ? load(p) : load_n(p, static_cast<int>(n)); }
PN_INLINE void store_any(float* p, VF v, int64_t n) {
  if (n >= kVec) {
    store(p, v);
  } else {
    store_n(p, v, static_cast<int>(n));
  }
}

__attribute__((noinline)) float sum_of(const float* p, int64_t n) {
  VF a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 4 * kVec <= n; i += 4 * kVec) {
    a += load(p + i);
    b += load(p + i + kVec);
    c += load(p + i + 2 * kVec);
    d += load(p + i + 3 * kVec);
  }
  for (; i < n; i += kVec) a += load_any(p + i, n - i);
  return reduce_add((a + b) + (c + d));
}

struct Moments {
  float mean, rest, inverse;  // the mean is mean + rest: far from zero one float is too coarse
};

__attribute__((noinline)) Moments moments(const float* p, int64_t n, bool centred, float epsilon) {
  const float count = static_cast<float>(n), mean = centred ? sum_of(p, n) / count : 0;
  VF first{}, second{}, first2{}, second2{};
  int64_t i = 0;
  for (; i + 2 * kVec <= n; i += 2 * kVec) {
    const VF u = load(p + i) - mean, v = load(p + i + kVec) - mean;
    first += u;
    first2 += v;
    second += u * u;
    second2 += v * v;
  }
  for (; i < n; i += kVec) {
    VF u = load_any(p + i, n - i) - mean;
    if (n - i < kVec) u = keep_n(u, static_cast<int>(n - i));
    first += u;
    second += u * u;
  }
  const float rest = centred ? reduce_add(first + first2) / count : 0;
  const float variance = reduce_add(second + second2) / count - rest * rest;
  return {mean, rest, 1.0f / __builtin_sqrtf(variance + epsilon)};
}

// --- rows ----------------------------------------------------------------------------------------

Status run_rows(const void* state, RunContext& c) {
  const NormRows& s = *static_cast<const NormRows*>(state);
  const NormForm& f = *s.form;
  const auto in = [&](int i) { return i >= 0 && c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const float *x = in(0), *skip = in(f.skip), *extra = in(f.extra), *scale = in(f.scale), *bias = in(f.bias);
  float* y = c.out[0]->as<float>();
  float* sums = f.sum >= 0 && c.wants(f.sum) ? c.out[f.sum]->as<float>() : nullptr;
  const int64_t w = s.width;
  spread(*c.pool, s.rows, w * 3, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* p = x + r * w;
      float* out = y + r * w;
      if (f.skip >= 0) {
        float* to = sums ? sums + r * w : out;
        for (int64_t i = 0; i < w; i += kVec) {
          VF v = load_any(p + i, w - i) + load_any(skip + r * w + i, w - i);
          if (extra) v += load_any(extra + i, w - i);
          store_any(to + i, v, w - i);
        }
        p = to;
      }
      const Moments m = moments(p, w, f.centred, s.epsilon);
      for (int64_t i = 0; i < w; i += kVec) {
        VF v = (load_any(p + i, w - i) - m.mean - m.rest) * m.inverse * load_any(scale + i, w - i);
        if (bias) v += load_any(bias + i, w - i);
        store_any(out + i, v, w - i);
      }
    }
  });
  return Status::kOk;
}

// --- by channel ------------------------------------------------------------------------------------

// y = x * a + b over n floats.
__attribute__((noinline)) void affine(const float* x, float* y, int64_t n, VF a, VF b) {
  for (int64_t i = 0; i < n; i += kVec) store_any(y + i, load_any(x + i, n - i) * a + b, n - i);
}

// a and b of x * a + b from (x - mean) * inverse * scale + shift.
struct Affine {
  VF a, b;
};
PN_INLINE Affine combine(VF mean, VF inverse, VF scale, VF shift) { return {inverse * scale, shift - mean * (inverse * scale)}; }

// One block of channels, all pixels.
void block(const NormPlanes& s, const float* x, float* y, const float* const* p, int64_t live) {
  const VF scale = load_any(p[0], live), shift = load_any(p[1], live);
  VF mean{}, variance{};
  if (s.by == NormBy::kBatch) {
    mean = load_any(p[2], live);
    variance = load_any(p[3], live);
  } else {
    const float count = static_cast<float>(s.plane);
    for (int64_t i = 0; i < s.plane; ++i) mean += load(x + i * kVec);
    mean /= count;
    for (int64_t i = 0; i < s.plane; ++i) {
      const VF d = load(x + i * kVec) - mean;
      variance += d * d;
    }
    variance /= count;
  }
  const Affine f = combine(mean, 1.0f / vsqrt(variance + s.epsilon), scale, shift);
  affine(x, y, s.plane * kVec, f.a, f.b);
}

// Mean and mean square of what is left, of each channel of a block.
__attribute__((noinline)) void channel_moments(const float* x, int64_t plane, float* mean, float* square) {
  const float count = static_cast<float>(plane);
  VF a[4] = {}, b[4] = {};
  int64_t i = 0;
  for (; i + 4 <= plane; i += 4) {
    PN_UNROLL for (int k = 0; k < 4; ++k) a[k] += load(x + (i + k) * kVec);
  }
  for (; i < plane; ++i) a[0] += load(x + i * kVec);
  const VF m = ((a[0] + a[1]) + (a[2] + a[3])) / count;
  for (i = 0; i + 4 <= plane; i += 4) {
    PN_UNROLL for (int k = 0; k < 4; ++k) {
      const VF d = load(x + (i + k) * kVec) - m;
      b[k] += d * d;
    }
  }
  for (; i < plane; ++i) {
    const VF d = load(x + i * kVec) - m;
    b[0] += d * d;
  }
  store(mean, m);
  store(square, ((b[0] + b[1]) + (b[2] + b[3])) / count);
}

// Groups of channels over blocks: moments of every channel first (in scratch), then of the groups that a
// block's channels belong to. A group may be part of a block or reach over several.
Status run_groups(const NormPlanes& s, RunContext& c) {
  const float *x = c.in[0]->as<const float>(), *scale = c.in[1]->as<const float>(), *shift = c.in[2]->as<const float>();
  float *y = c.out[0]->as<float>(), *moments = static_cast<float*>(c.scratch);
  const int64_t blocks = ceil_div(s.channels, kVec), size = s.plane * kVec, group = s.channels / s.groups;
  spread(*c.pool, s.images * blocks, size * 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) channel_moments(x + i * size, s.plane, moments + 2 * i * kVec, moments + (2 * i + 1) * kVec);
  });
  spread(*c.pool, s.images * blocks, size, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t c0 = i % blocks * kVec, live = s.channels - c0;
      const float* of_image = moments + i / blocks * blocks * 2 * kVec;
      const auto at = [&](int64_t channel) { return of_image + channel / kVec * 2 * kVec + channel % kVec; };
      VF a{}, b{};
      for (int64_t l = 0; l < kVec && l < live;) {
        const int64_t g = (c0 + l) / group, first = g * group, last = first + group;
        float mean = 0, square = 0;
        for (int64_t k = first; k < last; ++k) mean += *at(k);
        mean /= static_cast<float>(group);
        for (int64_t k = first; k < last; ++k) {
          const float d = *at(k) - mean;
          square += at(k)[kVec] + d * d;
        }
        const float inverse = 1.0f / __builtin_sqrtf(square / static_cast<float>(group) + s.epsilon);
        for (; l < kVec && l < live && c0 + l < last; ++l) {
          a[l] = inverse * scale[c0 + l];
          b[l] = shift[c0 + l] - mean * a[l];
        }
      }
      affine(x + i * size, y + i * size, size, a, b);
    }
  });
  return Status::kOk;
}

Status run_planes(const void* state, RunContext& c) {
  const NormPlanes& s = *static_cast<const NormPlanes*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const float* p[4] = {};
  for (int i = 1; i < c.n_in; ++i) p[i - 1] = c.in[i]->as<const float>();
  if (s.blocked && s.by == NormBy::kGroup) return run_groups(s, c);
  if (s.blocked) {
    const int64_t blocks = ceil_div(s.channels, kVec), size = s.plane * kVec;
    spread(*c.pool, s.images * blocks, size * 3, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t c0 = i % blocks * kVec;
        const float* at[4];
        for (int k = 0; k < 4; ++k) at[k] = p[k] ? p[k] + c0 : nullptr;
        block(s, x + i * size, y + i * size, at, s.channels - c0);
      }
    });
    return Status::kOk;
  }
  const int64_t group = s.channels / s.groups, size = group * s.plane;
  spread(*c.pool, s.images * s.groups, size * 3, [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t c0 = g % s.groups * group;
      Moments m{};
      if (s.by == NormBy::kBatch) {
        m = {p[2][c0], 0, 1.0f / __builtin_sqrtf(p[3][c0] + s.epsilon)};
      } else {
        m = moments(x + g * size, size, true, s.epsilon);
      }
      for (int64_t k = 0; k < group; ++k) {
        const int64_t at = g * size + k * s.plane;
        const Affine f = combine(splat(m.mean + m.rest), splat(m.inverse), splat(p[0][c0 + k]), splat(p[1][c0 + k]));
        affine(x + at, y + at, s.plane, f.a, f.b);
      }
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROWS(name, op)                                \
  {name, op, Layout::kPlain, Layout::kPlain, -1,         \
   PN_CODE(sizeof(NormRows), norm_rows_accepts, norm_cost, nullptr, nullptr, nullptr, nullptr, norm_rows_prepare, PN_TIER::run_rows)}
#define PN_PLANES(name, op)                                                                                             \
  {name, op, Layout::kAny, Layout::kAny, -1,                                                                            \
   PN_CODE(sizeof(NormPlanes), norm_planes_accepts, norm_cost, nullptr, nullptr, norm_planes_scratch_bytes, nullptr, \
           norm_planes_prepare, PN_TIER::run_planes)}

PN_KERNEL_TABLE(norm)
PN_KERNEL_ROWS(norm) = {
    PN_ROWS("f32_layer_norm", "LayerNormalization"),
    PN_ROWS("f32_rms_norm", "RMSNormalization"),
    PN_ROWS("f32_simplified_layer_norm", "SimplifiedLayerNormalization"),
    PN_ROWS("f32_skip_layer_norm", "com.microsoft.SkipLayerNormalization"),
    PN_ROWS("f32_skip_rms_norm", "com.microsoft.SkipSimplifiedLayerNormalization"),
    PN_PLANES("f32_batch_norm", "BatchNormalization"),
    PN_PLANES("f32_instance_norm", "InstanceNormalization"),
    PN_PLANES("f32_group_norm", "GroupNormalization"),
};
PN_KERNEL_COUNT(norm);

}  // namespace pyneo
