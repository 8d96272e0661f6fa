// SPDX-License-Identifier: Apache-2.0
//
// RoiAlign and MaxRoiPool: every region of interest pooled to one size.
#include <cinttypes>
#include <cmath>

#include "ops/narrow.h"
#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

int64_t scratch_roi(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  return size.bytes();
}

// Checks what both share: [N, C, H, W] features, [regions, columns] regions, both of one float
// dtype.
Status check_roi(const InferContext& c, int64_t columns) {
  PN_TRY(expect_dtype(c, 0, {DType::kF32, DType::kF16, DType::kBF16}));
  const Shape &x = c.shape(0), &r = c.shape(1);
  if (x.rank != 4 || r.rank != 2 || r[1] != columns || c.dtype(1) != c.dtype(0)) {
    char a[160], b[160];
    return fail(Status::kInvalidModel,
                "%s: input %s and rois %s; expected [N, C, H, W] and [regions, %" PRId64
                "] of one dtype",
                c.op, format_shape(x, a, sizeof(a)), format_shape(r, b, sizeof(b)), columns);
  }
  if (x[2] * x[3] == 0 && r[0] > 0)
    return fail(Status::kInvalidModel, "%s: the input has no elements to pool", c.op);
  return Status::kOk;
}

Status set_output(InferContext& c, int64_t height, int64_t width) {
  if (height < 1 || width < 1 || height > INT32_MAX || width > INT32_MAX) {
    return fail(Status::kInvalidModel, "%s: an output of %" PRId64 " x %" PRId64 " is not possible",
                c.op, height, width);
  }
  Shape y;
  y.rank = 4;
  y[0] = c.shape(1)[0];
  y[1] = c.shape(0)[1];
  y[2] = height;
  y[3] = width;
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status bad_batch(const char* op, int64_t region, double batch, int64_t batches) {
  return fail(Status::kInvalidModel,
              "%s: region %" PRId64 " names image %g, outside [0, %" PRId64 ")", op, region, batch,
              batches);
}

// --- RoiAlign
// -------------------------------------------------------------------------------------

Status infer_align(InferContext& c) {
  PN_TRY(check_roi(c, 4));
  PN_TRY(expect_dtype(c, 2, {DType::kI64, DType::kI32}));
  if (c.shape(2).rank != 1 || c.shape(2)[0] != c.shape(1)[0]) {
    return fail(Status::kInvalidModel,
                "RoiAlign: batch_indices must hold one index for each of %" PRId64 " regions",
                c.shape(1)[0]);
  }
  const Str mode = c.attrs.str("mode", "avg"),
            pixels = c.attrs.str("coordinate_transformation_mode", "half_pixel");
  if (mode != "avg" && mode != "max")
    return fail(Status::kInvalidModel, "RoiAlign: mode is neither avg nor max");
  if (pixels != "half_pixel" && pixels != "output_half_pixel") {
    return fail(
        Status::kInvalidModel,
        "RoiAlign: coordinate_transformation_mode is neither half_pixel nor output_half_pixel");
  }
  const int64_t samples = c.attrs.i64("sampling_ratio", 0);
  if (samples < 0 || samples > 1024)
    return fail(Status::kInvalidModel, "RoiAlign: sampling_ratio %" PRId64 " is outside [0, 1024]",
                samples);
  return set_output(c, c.attrs.i64("output_height", 1), c.attrs.i64("output_width", 1));
}

struct Corner {  // two neighbours on one axis, and the weight of the second
  int64_t low, high;
  float part;
  bool inside;
};

Corner corner(float v, int64_t n) {
  if (!(v >= -1 && v <= static_cast<float>(n))) return Corner{0, 0, 0, false};
  v = v > 0 ? v : 0;
  const int64_t low = static_cast<int64_t>(v);
  if (low >= n - 1) return Corner{n - 1, n - 1, 0, true};
  return Corner{low, low + 1, v - static_cast<float>(low), true};
}

struct Bins {
  float start, size;  // of the region's first bin, along one axis
  int64_t samples;    // points in a bin
};

Bins bins(float from, float to, bool half_pixel, int64_t count, int64_t ratio) {
  float length = to - from;
  if (!half_pixel) length = length > 1 ? length : 1;
  Bins b{from, length / static_cast<float>(count), ratio};
  if (ratio == 0) {
    const float n = ceilf(b.size);
    b.samples = n > 0 ? static_cast<int64_t>(n < 0x1p30f ? n : 0x1p30f) : 0;
  }
  return b;
}

struct Run {
  int64_t from, to;
};

// The points of bin k that can lie on the map: a region may reach far beyond it, and points outside
// count but add nothing.
Run points_on_map(const Bins& b, int64_t k, int64_t n) {
  const float step = b.size / static_cast<float>(b.samples),
              start = b.start + static_cast<float>(k) * b.size;
  auto bounded = [&](float v) {
    return v > 0 ? (v < static_cast<float>(b.samples) ? static_cast<int64_t>(v) : b.samples) : 0;
  };
  if (!(step > 0)) return Run{0, b.samples};
  return Run{bounded((-1 - start) / step - 2), bounded((static_cast<float>(n) - start) / step + 2)};
}

float pool_bin(const float* plane, int64_t height, int64_t width, const Bins& down,
               const Bins& across, int64_t ph, int64_t pw, bool average) {
  const int64_t count = down.samples * across.samples;
  if (count == 0) return 0;
  const Run rows = points_on_map(down, ph, height), columns = points_on_map(across, pw, width);
  float sum = 0;
  bool any =
      (rows.to - rows.from) * (columns.to - columns.from) < count;  // a point outside is a zero
  for (int64_t i = rows.from; i < rows.to; ++i) {
    const float y = down.start + static_cast<float>(ph) * down.size +
                    (static_cast<float>(i) + 0.5f) * down.size / static_cast<float>(down.samples);
    const Corner v = corner(y, height);
    for (int64_t j = columns.from; j < columns.to; ++j) {
      const float x =
          across.start + static_cast<float>(pw) * across.size +
          (static_cast<float>(j) + 0.5f) * across.size / static_cast<float>(across.samples);
      const Corner h = corner(x, width);
      float a = 0, b = 0, d = 0,
            e = 0;  // weighted corners: top left, top right, bottom left, bottom right
      if (v.inside && h.inside) {
        const float *top = plane + v.low * width, *bottom = plane + v.high * width;
        a = (1 - v.part) * (1 - h.part) * top[h.low];
        b = (1 - v.part) * h.part * top[h.high];
        d = v.part * (1 - h.part) * bottom[h.low];
        e = v.part * h.part * bottom[h.high];
      }
      if (average) {
        sum += a + b + d + e;
      } else {  // ONNX takes the largest weighted corner, not the largest interpolated value
        const float ab = a > b ? a : b, de = d > e ? d : e, most = ab > de ? ab : de;
        sum = !any || most > sum ? most : sum;
      }
      any = true;
    }
  }
  return average ? sum / static_cast<float>(count) : sum;
}

Status run_align(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t regions = y.dim(0), channels = y.dim(1), height = x.dim(2), width = x.dim(3);
  for (int64_t r = 0; r < regions; ++r) {
    const int64_t image = int_at(*c.in[2], r);
    if (image < 0 || image >= x.dim(0))
      return bad_batch("RoiAlign", r, static_cast<double>(image), x.dim(0));
  }
  if (y.desc.elements() == 0) return Status::kOk;
  const bool half_pixel =
      c.attrs.str("coordinate_transformation_mode", "half_pixel") == "half_pixel";
  const bool average = c.attrs.str("mode", "avg") == "avg";
  const float scale = c.attrs.f32("spatial_scale", 1), shift = half_pixel ? 0.5f : 0;
  const int64_t ratio = c.attrs.i64("sampling_ratio", 0);
  Scratch scratch(c);
  F32Operands operands(c, &scratch);
  const float *features = operands.in(0), *rois = operands.in(1);
  float* out = operands.out(0);
  split_range(*c.pool, regions * channels, y.desc.elements() * 64, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t r = i / channels, image = int_at(*c.in[2], r);
      const float* box = rois + r * 4;
      const Bins across =
          bins(box[0] * scale - shift, box[2] * scale - shift, half_pixel, y.dim(3), ratio);
      const Bins down =
          bins(box[1] * scale - shift, box[3] * scale - shift, half_pixel, y.dim(2), ratio);
      const float* plane = features + (image * channels + i % channels) * height * width;
      float* bin = out + i * y.dim(2) * y.dim(3);
      for (int64_t ph = 0; ph < y.dim(2); ++ph) {
        for (int64_t pw = 0; pw < y.dim(3); ++pw)
          *bin++ = pool_bin(plane, height, width, down, across, ph, pw, average);
      }
    }
  });
  operands.flush();
  return Status::kOk;
}

// --- MaxRoiPool
// -----------------------------------------------------------------------------------

Status infer_max_roi(InferContext& c) {
  PN_TRY(check_roi(c, 5));
  const Ints size = c.attrs.ints("pooled_shape");
  if (size.size != 2)
    return fail(Status::kInvalidModel,
                "MaxRoiPool: pooled_shape must be [height, width], found %" PRId64 " entries",
                size.size);
  return set_output(c, size[0], size[1]);
}

// Rounds half away from zero and keeps the result an int32: a region may lie anywhere.
int64_t to_pixel(float v) {
  return v > -0x1p30f && v < 0x1p30f ? static_cast<int64_t>(roundf(v))
         : v > 0                     ? 1 << 30
                                     : -(1 << 30);
}

struct Span {
  int64_t from, to;
};

// Bin k of `count` that cut up pixels [start, end], in the input's bounds.
Span bin_span(int64_t start, int64_t end, int64_t k, int64_t count, int64_t n) {
  const int64_t length = end - start + 1 > 1 ? end - start + 1 : 1;
  const float size = static_cast<float>(length) / static_cast<float>(count);
  auto clip = [n](int64_t v) { return v < 0 ? 0 : v > n ? n : v; };
  return Span{clip(static_cast<int64_t>(floorf(static_cast<float>(k) * size)) + start),
              clip(static_cast<int64_t>(ceilf(static_cast<float>(k + 1) * size)) + start)};
}

Status run_max_roi(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t regions = y.dim(0), channels = y.dim(1), height = x.dim(2), width = x.dim(3);
  if (y.desc.elements() == 0) return Status::kOk;
  const float scale = c.attrs.f32("spatial_scale", 1);
  Scratch scratch(c);
  F32Operands operands(c, &scratch);
  const float *features = operands.in(0), *rois = operands.in(1);
  float* out = operands.out(0);
  for (int64_t r = 0; r < regions; ++r) {
    const float image = rois[r * 5];
    if (!(image >= 0 && image < static_cast<float>(x.dim(0))))
      return bad_batch("MaxRoiPool", r, static_cast<double>(image), x.dim(0));
  }
  split_range(*c.pool, regions * channels, y.desc.elements() * 64, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const float* box = rois + i / channels * 5;
      const int64_t left = to_pixel(box[1] * scale), top = to_pixel(box[2] * scale);
      const int64_t right = to_pixel(box[3] * scale), bottom = to_pixel(box[4] * scale);
      const float* plane =
          features + (static_cast<int64_t>(box[0]) * channels + i % channels) * height * width;
      float* bin = out + i * y.dim(2) * y.dim(3);
      for (int64_t ph = 0; ph < y.dim(2); ++ph) {
        const Span rows = bin_span(top, bottom, ph, y.dim(2), height);
        for (int64_t pw = 0; pw < y.dim(3); ++pw) {
          const Span columns = bin_span(left, right, pw, y.dim(3), width);
          const bool empty = rows.to <= rows.from || columns.to <= columns.from;
          float most = empty ? 0 : plane[rows.from * width + columns.from];
          for (int64_t h = rows.from; h < rows.to; ++h) {
            for (int64_t w = columns.from; w < columns.to; ++w)
              most = plane[h * width + w] > most ? plane[h * width + w] : most;
          }
          *bin++ = most;
        }
      }
    }
  });
  operands.flush();
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_roi[] = {
    {"RoiAlign", 3, 3, 1, 1, 0, infer_align, run_align, scratch_roi},
    {"MaxRoiPool", 2, 2, 1, 1, 0, infer_max_roi, run_max_roi, scratch_roi},
};
extern const int pn_ops_roi_count = sizeof(pn_ops_roi) / sizeof(OpDef);

}  // namespace pyneo
