// SPDX-License-Identifier: Apache-2.0
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "ops/elementwise.h"
#include "ops/narrow.h"
#include "ops/resample.h"
#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

struct Plan {
  ResampleMode mode;
  int rank = 0;
  Axis axes[kMaxRank];
  Shape shape;
};

// One of a list of names, by its place.
Status pick(const Attrs& attrs, const char* name, const char* fallback,
            std::initializer_list<const char*> names, int* out) {
  const Str v = attrs.str(name, fallback);
  *out = 0;
  for (const char* n : names) {
    if (v == n) return Status::kOk;
    ++*out;
  }
  return fail(Status::kInvalidModel, "Resize: %s '%.*s' is not defined", name,
              static_cast<int>(v.size < 48 ? v.size : 48), v.data);
}

Status read_mode(const Attrs& attrs, ResampleMode* m) {
  int k = 0;
  PN_TRY(pick(attrs, "mode", "nearest", {"nearest", "linear", "cubic"}, &k));
  m->filter = static_cast<Filter>(k);
  PN_TRY(pick(attrs, "coordinate_transformation_mode", "half_pixel",
              {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
               "asymmetric", "tf_crop_and_resize"},
              &k));
  m->coordinates = static_cast<Coordinates>(k);
  PN_TRY(pick(attrs, "nearest_mode", "round_prefer_floor",
              {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}, &k));
  m->rounding = static_cast<Rounding>(k);
  m->antialias = attrs.i64("antialias", 0) != 0;
  m->exclude_outside = attrs.i64("exclude_outside", 0) != 0;
  m->cubic_a = attrs.f32("cubic_coeff_a", -0.75f);
  m->extrapolation = attrs.f32("extrapolation_value", 0);
  if (m->antialias && m->filter == Filter::kNearest) {
    return fail(Status::kInvalidModel, "Resize: antialias needs mode linear or cubic");
  }
  return Status::kOk;
}

bool present(const InferContext& c, int i) { return c.has(i) && c.shape(i).elements() > 0; }

Status expect_count(const InferContext& c, int i, int64_t n) {
  if (c.shape(i).rank == 1 && c.shape(i)[0] == n) return Status::kOk;
  char text[160];
  return fail(Status::kInvalidModel, "Resize: input %d of shape %s must have %" PRId64 " entries",
              i, format_shape(c.shape(i), text, sizeof(text)), n);
}

Status read_scales(const InferContext& c, int n, const int* axes, Plan* p) {
  PN_TRY(expect_dtype(c, 2, {DType::kF32}));
  PN_TRY(expect_count(c, 2, n));
  PN_TRY(need_value(c, 2));
  for (int i = 0; i < n; ++i) {
    Axis& a = p->axes[axes[i]];
    const float scale = static_cast<const float*>(c.value(2))[i];
    // The product is rounded to float before the floor: 0.7f * 10 is 7 to the engines that wrote
    // the model.
    const float out = floorf(scale * static_cast<float>(a.in));
    if (!(scale > 0) || !(out < 0x1p62f)) {
      return fail(Status::kInvalidModel, "Resize: axis %d cannot be scaled by %g", axes[i],
                  static_cast<double>(scale));
    }
    a.scale = static_cast<double>(scale);
    a.out = static_cast<int64_t>(out);
  }
  return Status::kOk;
}

Status read_sizes(const InferContext& c, int n, const int* axes, Plan* p) {
  int policy = 0, count = 0;
  PN_TRY(pick(c.attrs, "keep_aspect_ratio_policy", "stretch",
              {"stretch", "not_larger", "not_smaller"}, &policy));
  int64_t sizes[kMaxRank];
  PN_TRY(expect_count(c, 3, n));
  PN_TRY(read_ints(c, 3, sizes, kMaxRank, &count));
  double common = 0;
  for (int i = 0; i < n; ++i) {
    Axis& a = p->axes[axes[i]];
    if (sizes[i] < 0 || sizes[i] >= int64_t{1} << 40) {
      return fail(Status::kInvalidModel,
                  "Resize: the size of axis %d is %" PRId64 ", outside [0, 2^40)", axes[i],
                  sizes[i]);
    }
    a.out = sizes[i];
    a.scale = a.in > 0 ? static_cast<double>(a.out) / static_cast<double>(a.in) : 1;
    if (i == 0 || (policy == 1 ? a.scale < common : a.scale > common)) common = a.scale;
  }
  for (int i = 0; policy != 0 && i < n; ++i) {
    Axis& a = p->axes[axes[i]];
    a.scale = common;
    const double out = floor(common * static_cast<double>(a.in) + 0.5);
    if (!(out < 0x1p62))
      return fail(Status::kInvalidModel, "Resize: axis %d grows beyond memory", axes[i]);
    a.out = static_cast<int64_t>(out);
  }
  return Status::kOk;
}

Status read_region(const InferContext& c, int n, const int* axes, Plan* p) {
  if (p->mode.coordinates != Coordinates::kCrop) return Status::kOk;
  if (!present(c, 1))
    return fail(Status::kInvalidModel, "Resize: tf_crop_and_resize needs input 1 (roi)");
  PN_TRY(expect_dtype(c, 1, {DType::kF32, DType::kF16, DType::kF64, DType::kBF16}));
  PN_TRY(expect_count(c, 1, 2 * n));
  PN_TRY(need_value(c, 1));
  for (int i = 0; i < n; ++i) {
    p->axes[axes[i]].begin = load_double(c.dtype(1), c.value(1), i);
    p->axes[axes[i]].end = load_double(c.dtype(1), c.value(1), n + i);
  }
  return Status::kOk;
}

Status plan_resize(const InferContext& c, Plan* p) {
  const Shape& x = c.shape(0);
  if (c.dtype(0) == DType::kBool || c.dtype(0) == DType::kNone)
    return fail(Status::kUnsupported, "Resize: %s cannot be resized", dtype_name(c.dtype(0)));
  PN_TRY(read_mode(c.attrs, &p->mode));
  const Ints named = c.attrs.ints("axes");
  if (named.size > x.rank)
    return fail(Status::kInvalidModel, "Resize: %" PRId64 " axes for a tensor of rank %d",
                named.size, x.rank);
  int axes[kMaxRank], n = x.rank;
  for (int i = 0; i < n; ++i) axes[i] = i;
  if (named.data != nullptr) {
    n = static_cast<int>(named.size);
    PN_TRY(resolve_axes("Resize", named.data, n, x.rank, axes));
  }
  p->rank = x.rank;
  for (int i = 0; i < x.rank; ++i) p->axes[i].in = p->axes[i].out = x[i];
  const bool by_scale = present(c, 2), by_size = present(c, 3);
  if (by_scale == by_size && n > 0) {
    return fail(Status::kInvalidModel,
                "Resize: one of the inputs 2 (scales) and 3 (sizes) must be given, found %s",
                by_size ? "both" : "neither");
  }
  if (by_scale) PN_TRY(read_scales(c, n, axes, p));
  if (by_size) PN_TRY(read_sizes(c, n, axes, p));
  PN_TRY(read_region(c, n, axes, p));
  p->shape.rank = x.rank;
  for (int i = 0; i < x.rank; ++i) {
    Axis& a = p->axes[i];
    if (a.in == 0 && a.out > 0)
      return fail(Status::kInvalidModel, "Resize: axis %d is empty and cannot become %" PRId64, i,
                  a.out);
    // A scale near 1 that keeps the length still shifts samples; an exact 1 does not.
    a.identity = a.out == a.in && a.scale == 1 && a.begin == 0 && a.end == 1;
    p->shape[i] = a.out;
  }
  return Status::kOk;
}

Status infer_resize(InferContext& c) {
  Plan p;
  PN_TRY(plan_resize(c, &p));
  c.set(0, c.dtype(0), p.shape);
  return Status::kOk;
}

// --- nearest: index tables, elements moved whole
// --------------------------------------------------

template <typename T>
void gather_row(const uint8_t* in, const int64_t* at, int64_t n, uint8_t* out) {
  for (int64_t j = 0; j < n; ++j)
    memcpy(out + j * static_cast<int64_t>(sizeof(T)), in + at[j] * static_cast<int64_t>(sizeof(T)),
           sizeof(T));
}

// The commonest case by far: every 4-byte element twice.
void double_row(const uint8_t* in, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t v;
    memcpy(&v, in + i * 4, 4);
    const uint64_t pair = v | static_cast<uint64_t>(v) << 32;
    memcpy(out + i * 8, &pair, 8);
  }
}

bool doubles(const int64_t* at, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    if (at[j] != j / 2) return false;
  }
  return n % 2 == 0;
}

void run_nearest(const RunContext& c, const Plan& p) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const DType t = x.desc.dtype;
  const int64_t size = static_cast<int64_t>(dtype_size(t));
  Scratch scratch(c);
  int64_t* tables[kMaxRank];
  bool crop = false;
  for (int i = 0; i < p.rank; ++i) {
    tables[i] = scratch.take<int64_t>(p.axes[i].out);
    if (p.axes[i].identity) {
      for (int64_t j = 0; j < p.axes[i].out; ++j) tables[i][j] = j;
    } else {
      nearest_table(p.axes[i], p.mode, tables[i]);
      crop = crop || p.mode.coordinates == Coordinates::kCrop;
    }
  }
  uint64_t beyond = 0;  // the extrapolation value in the tensor's dtype
  store_block(Cls::kF32, &p.mode.extrapolation, 1, t, &beyond);
  int last = p.rank - 1;  // the last axis that changes: those behind it move as one block
  while (last > 0 && p.axes[last].identity) --last;
  const int64_t block = x.shape().product(last + 1, p.rank) * size, n = y.dim(last);
  const int64_t* at = tables[last];
  const bool twice = block == 4 && doubles(at, n);
  split_range(*c.pool, p.shape.product(0, last), y.desc.bytes(), [&](int64_t from, int64_t to) {
    int64_t before = kOutside;  // source of the previous row of this task: repeated rows are copied
    for (int64_t row = from; row < to; ++row) {
      int64_t source = 0, step = 1, rest = row;
      for (int k = last - 1; k >= 0 && source >= 0; --k) {
        const int64_t i = tables[k][rest % p.shape[k]];
        source = i == kOutside ? kOutside : source + i * step;
        rest /= p.shape[k];
        step *= p.axes[k].in;
      }
      uint8_t* out = y.as<uint8_t>() + row * n * block;
      if (source == kOutside) {
        fill_elements(out, static_cast<size_t>(size), &beyond, n * block / size);
      } else if (source == before && row > from) {
        memcpy(out, out - n * block, static_cast<size_t>(n * block));
      } else {
        const uint8_t* in = x.as<uint8_t>() + source * p.axes[last].in * block;
        if (twice) {
          double_row(in, n / 2, out);
        } else if (crop || (block != 1 && block != 2 && block != 4 && block != 8)) {
          for (int64_t j = 0; j < n; ++j) {
            if (at[j] == kOutside) {
              fill_elements(out + j * block, static_cast<size_t>(size), &beyond, block / size);
            } else {
              memcpy(out + j * block, in + at[j] * block, static_cast<size_t>(block));
            }
          }
        } else if (block == 1) {
          gather_row<uint8_t>(in, at, n, out);
        } else if (block == 2) {
          gather_row<uint16_t>(in, at, n, out);
        } else if (block == 4) {
          gather_row<uint32_t>(in, at, n, out);
        } else {
          gather_row<uint64_t>(in, at, n, out);
        }
      }
      before = source;
    }
  });
}

// --- linear and cubic: one pass an axis, in float32
// -------------------------------------------------

// Axes in the order they are resampled: those that shrink most first, so that later passes see
// less.
int pass_order(const Plan& p, int* order) {
  int n = 0;
  for (int i = p.rank - 1; i >= 0; --i) {
    if (p.axes[i].identity) continue;
    auto growth = [&](int k) {
      return static_cast<double>(p.axes[k].out) / static_cast<double>(p.axes[k].in);
    };
    int at = n++;
    for (; at > 0 && growth(order[at - 1]) > growth(i); --at) order[at] = order[at - 1];
    order[at] = i;
  }
  return n;
}

struct Pass {
  int64_t outer, inner;
  const Axis* axis;
  const ResampleMode* mode;
  int64_t taps;
  const int64_t* first;
  const float* weights;
};

// Rows of `inner` floats: the sum runs over whole rows.
void resample_rows(const Pool& pool, const Pass& s, const float* x, float* y) {
  const int64_t rows = s.outer * s.axis->out, inner = s.inner;
  split_range(pool, rows, rows * inner * 4, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; ++row) {
      const int64_t o = row / s.axis->out, j = row % s.axis->out;
      float* out = y + row * inner;
      if (s.first[j] == kOutside) {
        fill_elements(out, 4, &s.mode->extrapolation, inner);
        continue;
      }
      const float* in = x + (o * s.axis->in + s.first[j]) * inner;
      const float* w = s.weights + j * s.taps;
      if (s.taps == 2) {
        const float *next = in + inner, a = w[0], b = w[1];
        for (int64_t i = 0; i < inner; ++i) out[i] = a * in[i] + b * next[i];
        continue;
      }
      for (int64_t i = 0; i < inner; ++i) out[i] = w[0] * in[i];
      for (int64_t t = 1; t < s.taps; ++t) {
        const float *next = in + t * inner, b = w[t];
        for (int64_t i = 0; i < inner; ++i) out[i] += b * next[i];
      }
    }
  });
}

// The innermost axis: the sum runs along it.
void resample_line(const Pool& pool, const Pass& s, const float* x, float* y) {
  split_range(pool, s.outer, s.outer * s.axis->out * 4, [&](int64_t from, int64_t to) {
    for (int64_t o = from; o < to; ++o) {
      const float* in = x + o * s.axis->in;
      float* out = y + o * s.axis->out;
      for (int64_t j = 0; j < s.axis->out; ++j) {
        const float* w = s.weights + j * s.taps;
        if (s.first[j] == kOutside) {
          out[j] = s.mode->extrapolation;
          continue;
        }
        const float* near = in + s.first[j];
        float sum = w[0] * near[0];
        for (int64_t t = 1; t < s.taps; ++t) sum += w[t] * near[t];
        out[j] = sum;
      }
    }
  });
}

// Rounds to the nearest integer and cuts off what an integer dtype does not hold.
void store_rounded(const float* from, int64_t n, DType t, void* to) {
  if (dtype_is_float(t)) return from_f32(t, from, to, n);
  const int bits = static_cast<int>(dtype_size(t)) * 8;
  const bool sign = dtype_is_signed(t);
  const double top = ldexp(1.0, sign ? bits - 1 : bits);
  for (int64_t i = 0; i < n; ++i) {
    double v = rint(static_cast<double>(from[i]));
    v = v >= sign * -top ? v : sign * -top;  // NaN becomes the lowest value
    const uint64_t whole = v >= top ? (uint64_t{1} << (bits - 1)) * (sign ? 1 : 2) - 1
                           : v < 0  ? static_cast<uint64_t>(static_cast<int64_t>(v))
                                    : static_cast<uint64_t>(v);
    memcpy(static_cast<uint8_t*>(to) + i * (bits / 8), &whole, static_cast<size_t>(bits / 8));
  }
}

void run_smooth(const RunContext& c, const Plan& p) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const DType t = x.desc.dtype;
  const bool direct = t == DType::kF32;
  int order[kMaxRank];
  const int passes = pass_order(p, order);
  Scratch scratch(c);
  const float* from = x.as<float>();
  if (!direct) {
    float* image = scratch.take<float>(x.desc.elements());
    const int64_t size = static_cast<int64_t>(dtype_size(t));
    for (int64_t i = 0; i < x.desc.elements(); i += kBlock) {
      const int64_t n = x.desc.elements() - i < kBlock ? x.desc.elements() - i : kBlock;
      load_block(t, x.as<uint8_t>() + i * size, n, Cls::kF32, image + i);
    }
    from = image;
  }
  Shape now = x.shape();
  for (int k = 0; k < passes; ++k) {
    const Axis& a = p.axes[order[k]];
    Pass s{now.product(0, order[k]),
           now.product(order[k] + 1, p.rank),
           &a,
           &p.mode,
           a.taps(p.mode),
           nullptr,
           nullptr};
    int64_t* first = scratch.take<int64_t>(a.out);
    float* weights = scratch.take<float>(a.out * s.taps);
    weight_table(a, p.mode, first, weights);
    s.first = first;
    s.weights = weights;
    now[order[k]] = a.out;
    float* to = direct && k == passes - 1 ? y.as<float>() : scratch.take<float>(now.elements());
    if (s.inner == 1) {
      resample_line(*c.pool, s, from, to);
    } else {
      resample_rows(*c.pool, s, from, to);
    }
    from = to;
  }
  if (!direct) {
    store_rounded(from, y.desc.elements(), t, y.data);
  } else if (passes == 0) {
    copy_bytes(*c.pool, y.data, x.data, x.desc.bytes());
  }
}

int64_t scratch_resize(const InferContext& c) {
  Plan p;
  if (plan_resize(c, &p) != Status::kOk || p.shape.elements() == 0) return 0;
  ScratchSize size;
  if (p.mode.filter == Filter::kNearest) {
    for (int i = 0; i < p.rank; ++i) size.add(p.axes[i].out, sizeof(int64_t));
    return size.bytes();
  }
  const bool direct = c.dtype(0) == DType::kF32;
  int order[kMaxRank];
  const int passes = pass_order(p, order);
  Shape now = c.shape(0);
  if (!direct) size.add(now.elements(), sizeof(float));
  for (int k = 0; k < passes; ++k) {
    const Axis& a = p.axes[order[k]];
    int64_t weights = 0;
    if (!checked_mul(a.out, a.taps(p.mode), &weights)) weights = INT64_MAX / 8;
    now[order[k]] = a.out;
    size.add(a.out, sizeof(int64_t));
    size.add(weights, sizeof(float));
    if (!direct || k < passes - 1) size.add(now.elements(), sizeof(float));
  }
  return size.bytes();
}

Status run_resize(RunContext& c) {
  const AsInfer again(c);
  Plan p;
  PN_TRY(plan_resize(again.context(), &p));
  PN_TRY(expect_shape(c, 0, p.shape));
  const Tensor &x = *c.in[0], &y = *c.out[0];
  if (y.desc.elements() == 0) return Status::kOk;
  if (p.rank == 0) {
    memcpy(y.data, x.data, dtype_size(x.desc.dtype));
  } else if (p.mode.filter == Filter::kNearest) {
    run_nearest(c, p);
  } else {
    run_smooth(c, p);
  }
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_resize[] = {
    {"Resize", 1, 4, 1, 1, 0, infer_resize, run_resize, scratch_resize},
};
extern const int pn_ops_resize_count = sizeof(pn_ops_resize) / sizeof(OpDef);

}  // namespace pyneo
