// SPDX-License-Identifier: Apache-2.0
//
// Normalisations over rows (LayerNormalization, RMSNormalization, with a residual added first) and by
// channel (BatchNormalization left unfused, Instance- and GroupNormalization).
//
// Mean first, then the squares of what is left: one pass with sum and sum of squares loses the variance
// of rows far from zero. A row stays in L1, so that the second pass is nearly free.
#include "kernels/kernel.h"
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

// Where an operator has its operands; -1: nowhere. As in ops/layer_norm.cc.
struct Form {
  const char* op;
  bool centred;
  float epsilon;
  int skip, extra, scale, bias, sum;
};
constexpr Form kForms[] = {
    {"LayerNormalization", true, 1e-5f, -1, -1, 1, 2, -1},
    {"RMSNormalization", false, 1e-5f, -1, -1, 1, -1, -1},
    {"SimplifiedLayerNormalization", false, 1e-5f, -1, -1, 1, -1, -1},
    {"com.microsoft.SkipLayerNormalization", true, 1e-12f, 1, 4, 2, 3, 3},
    {"com.microsoft.SkipSimplifiedLayerNormalization", false, 1e-12f, 1, 3, 2, -1, 3},
};

struct RowState {
  int64_t rows, width;
  float epsilon;
  int form;  // of kForms
};

bool plain_f32(const TensorDesc* t) { return t->dtype == DType::kF32 && t->layout == Layout::kPlain; }

PN_COLD __attribute__((noinline)) bool fill_rows(const KernelQuery& q, int form, RowState* s) {
  const Form& f = kForms[form];
  const Shape& x = q.in[0]->shape;
  for (int i = 0; i < q.n_in; ++i) {
    if (q.has(i) && !plain_f32(q.in[i])) return false;
  }
  for (int o = 0; o < q.n_out; ++o) {
    if (q.out[o] && (o == 0 || o == f.sum) ? !plain_f32(q.out[o]) : q.out[o] && q.out[o]->dtype != DType::kNone) return false;
  }
  int64_t axis = q.attrs.i64("axis", -1);
  if (axis < 0) axis += x.rank;
  if (axis < 0 || axis >= x.rank) return false;
  *s = {x.product(0, static_cast<int>(axis)), x.product(static_cast<int>(axis), x.rank), q.attrs.f32("epsilon", f.epsilon), form};
  // Parameters are whole rows: the shape of the normalised axes.
  for (int i : {f.scale, f.bias, f.extra}) {
    if (i < 0 || !q.has(i)) continue;
    const Shape& p = q.in[i]->shape;
    if (p.elements() != s->width || p.rank > x.rank) return false;
  }
  return f.skip < 0 || (q.has(f.skip) && q.in[f.skip]->shape == x);
}

Status run_rows(const void* state, RunContext& c) {
  const RowState& s = *static_cast<const RowState*>(state);
  const Form& f = kForms[s.form];
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

template <int F>
PN_COLD bool accepts_rows(const KernelQuery& q) {
  RowState s;
  return fill_rows(q, F, &s);
}
template <int F>
PN_COLD Status prepare_rows(const KernelQuery& q, void* state) {
  if (fill_rows(q, F, static_cast<RowState*>(state))) return Status::kOk;
  return fail(Status::kInternal, "%s was prepared for operands it does not accept", kForms[F].op);
}

// --- by channel ------------------------------------------------------------------------------------

enum class By : uint8_t { kBatch, kInstance, kGroup };

struct PlaneState {
  int64_t images, channels, plane, groups;
  float epsilon;
  By by;
  bool blocked;
};

PN_COLD __attribute__((noinline)) bool fill_planes(const KernelQuery& q, By by, PlaneState* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  const Shape& n = x.shape;
  if (x.dtype != DType::kF32 || n.rank < 2 || x.layout != y.layout || q.n_out != 1) return false;
  const bool blocked = x.layout == kBlocked && n.rank >= 3;
  if (x.layout != Layout::kPlain && !blocked) return false;
  for (int i = 1; i < q.n_in; ++i) {
    if (!q.has(i) || !plain_f32(q.in[i])) return false;
  }
  if (by == By::kBatch && q.attrs.i64("training_mode", 0) != 0) return false;
  *s = {n[0], n[1], n.product(2, n.rank), by == By::kGroup ? q.attrs.i64("num_groups", 0) : n[1],
        q.attrs.f32("epsilon", 1e-5f), by, blocked};
  return s->groups > 0 && s->plane > 0 && s->channels % s->groups == 0;
}

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
void block(const PlaneState& s, const float* x, float* y, const float* const* p, int64_t live) {
  const VF scale = load_any(p[0], live), shift = load_any(p[1], live);
  VF mean{}, variance{};
  if (s.by == By::kBatch) {
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
Status run_groups(const PlaneState& s, RunContext& c) {
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

PN_COLD int64_t planes_scratch(const KernelQuery& q) {
  return q.in[0]->layout == Layout::kPlain ? 0 : q.in[0]->shape[0] * round_up(q.in[0]->shape[1], kVec) * 2 * static_cast<int64_t>(sizeof(float));
}

Status run_planes(const void* state, RunContext& c) {
  const PlaneState& s = *static_cast<const PlaneState*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  const float* p[4] = {};
  for (int i = 1; i < c.n_in; ++i) p[i - 1] = c.in[i]->as<const float>();
  if (s.blocked && s.by == By::kGroup) return run_groups(s, c);
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
      if (s.by == By::kBatch) {
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

template <By by>
PN_COLD bool accepts_planes(const KernelQuery& q) {
  PlaneState s;
  return fill_planes(q, by, &s);
}
template <By by>
PN_COLD Status prepare_planes(const KernelQuery& q, void* state) {
  if (fill_planes(q, by, static_cast<PlaneState*>(state))) return Status::kOk;
  return fail(Status::kInternal, "a normalisation was prepared for operands it does not accept");
}

PN_COLD float cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes()) * 1e-4f + 0.1f; }

}  // namespace
}  // namespace PN_TIER

#define PN_ROWS(name, F)                                                                                       \
  {name, PN_TIER::kForms[F].op, Layout::kPlain, Layout::kPlain, -1, PN_CODE(sizeof(PN_TIER::RowState),                 \
   PN_TIER::accepts_rows<F>, PN_TIER::cost, nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare_rows<F>,      \
   PN_TIER::run_rows)}
#define PN_PLANES(name, op, by)                                                                                \
  {name, op, Layout::kAny, Layout::kAny, -1, PN_CODE(sizeof(PN_TIER::PlaneState),                                      \
   PN_TIER::accepts_planes<PN_TIER::By::by>, PN_TIER::cost, nullptr, nullptr, PN_TIER::planes_scratch, nullptr, \
   PN_TIER::prepare_planes<PN_TIER::By::by>, PN_TIER::run_planes)}

PN_KERNEL_TABLE(norm)
PN_KERNEL_ROWS(norm) = {
    PN_ROWS("f32_layer_norm", 0),
    PN_ROWS("f32_rms_norm", 1),
    PN_ROWS("f32_simplified_layer_norm", 2),
    PN_ROWS("f32_skip_layer_norm", 3),
    PN_ROWS("f32_skip_rms_norm", 4),
    PN_PLANES("f32_batch_norm", "BatchNormalization", kBatch),
    PN_PLANES("f32_instance_norm", "InstanceNormalization", kInstance),
    PN_PLANES("f32_group_norm", "GroupNormalization", kGroup),
};
PN_KERNEL_COUNT(norm);

}  // namespace pyneo
