// SPDX-License-Identifier: Apache-2.0
#include "ops/window.h"

#include <cinttypes>

namespace pyneo {
namespace {

Status read_list(const char* op, const Attrs& attrs, const char* name, int64_t low,
                 int64_t fallback, int n, int64_t* out) {
  const Ints v = attrs.ints(name);
  if (v.size != 0 && v.size != n) {
    return fail(Status::kInvalidModel, "%s: %s has %" PRId64 " entries, expected %d for this input",
                op, name, v.size, n);
  }
  for (int i = 0; i < n; ++i) {
    out[i] = v.size ? v[i] : fallback;
    if (out[i] < low || out[i] > kMaxWindow) {
      return fail(Status::kInvalidModel,
                  "%s: %s[%d] is %" PRId64 ", expected %" PRId64 " to %" PRId64, op, name, i,
                  out[i], low, kMaxWindow);
    }
  }
  return Status::kOk;
}

enum class AutoPad { kNotSet, kValid, kUpper, kLower };

Status read_auto_pad(const char* op, const Attrs& attrs, AutoPad* out) {
  const Str s = attrs.str("auto_pad", "NOTSET");
  if (s == "NOTSET" || s.size == 0) {
    *out = AutoPad::kNotSet;
  } else if (s == "VALID") {
    *out = AutoPad::kValid;
  } else if (s == "SAME_UPPER") {
    *out = AutoPad::kUpper;
  } else if (s == "SAME_LOWER") {
    *out = AutoPad::kLower;
  } else {
    return fail(Status::kInvalidModel,
                "%s: auto_pad is '%.*s', expected NOTSET, VALID, SAME_UPPER or SAME_LOWER", op,
                static_cast<int>(s.size), s.data);
  }
  return Status::kOk;
}

// Everything but pads and the output: dims, kernel, strides, dilations.
Status read_common(const char* op, const Attrs& attrs, const Shape& x, const int64_t* kernel,
                   Window* w) {
  *w = Window{};
  if (x.rank < 3 || x.rank > kMaxRank) {
    return fail(Status::kInvalidModel,
                "%s: the input has rank %d, expected 3 to %d (batch, channels, spatial dims)", op,
                x.rank, kMaxRank);
  }
  const int n = w->spatial = x.rank - 2;
  const Ints given = attrs.ints("kernel_shape");
  if (kernel == nullptr && given.size == 0)
    return fail(Status::kInvalidModel, "%s: kernel_shape is missing", op);
  PN_TRY(read_list(op, attrs, "kernel_shape", 1, 1, n, w->kernel));
  for (int i = 0; i < n; ++i) {
    w->in[i] = x[i + 2];
    if (w->in[i] > INT64_MAX / 4)
      return fail(Status::kInvalidModel, "%s: input dim %d overflows", op, i + 2);
    if (kernel == nullptr) continue;
    if (given.size != 0 && given[i] != kernel[i]) {
      return fail(Status::kInvalidModel,
                  "%s: kernel_shape[%d] is %" PRId64 " but the weights have %" PRId64, op, i,
                  given[i], kernel[i]);
    }
    w->kernel[i] = kernel[i];
    if (kernel[i] < 1 || kernel[i] > kMaxWindow) {
      return fail(Status::kInvalidModel, "%s: kernel dim %d is %" PRId64 ", expected 1 to %" PRId64,
                  op, i, kernel[i], kMaxWindow);
    }
  }
  PN_TRY(read_list(op, attrs, "strides", 1, 1, n, w->stride));
  return read_list(op, attrs, "dilations", 1, 1, n, w->dilation);
}

void split_same(int64_t total, bool extra_at_end, int64_t* begin, int64_t* end) {
  const int64_t small = total / 2, large = total - small;
  *begin = extra_at_end ? small : large;
  *end = extra_at_end ? large : small;
}

}  // namespace

Status read_window(const char* op, const Attrs& attrs, const Shape& x, const int64_t* kernel,
                   bool pool, Window* w) {
  PN_TRY(read_common(op, attrs, x, kernel, w));
  AutoPad mode;
  PN_TRY(read_auto_pad(op, attrs, &mode));
  const int n = w->spatial;
  int64_t pads[2 * kMaxSpatial] = {};
  if (mode == AutoPad::kNotSet) PN_TRY(read_list(op, attrs, "pads", 0, 0, 2 * n, pads));
  const bool ceil_mode = pool && attrs.i64("ceil_mode", 0) != 0;
  for (int i = 0; i < n; ++i) {
    const int64_t in = w->in[i], stride = w->stride[i], extent = w->extent(i);
    if (mode == AutoPad::kUpper || mode == AutoPad::kLower) {
      w->out[i] = ceil_div(in, stride);
      const int64_t total = (w->out[i] - 1) * stride + extent - in;
      split_same(total > 0 && in > 0 ? total : 0, mode == AutoPad::kUpper, &w->pad_begin[i],
                 &w->pad_end[i]);
      continue;
    }
    w->pad_begin[i] = pads[i];
    w->pad_end[i] = pads[i + n];
    const int64_t room = in + pads[i] + pads[i + n] - extent;
    if (room < 0) {
      if (in == 0) continue;  // no output, as numpy has it
      return fail(Status::kInvalidModel,
                  "%s: the kernel spans %" PRId64
                  " along spatial axis %d but the padded input has only %" PRId64,
                  op, extent, i, room + extent);
    }
    w->out[i] = room / stride + 1;
    if (ceil_mode && room % stride != 0 && w->out[i] * stride < in + pads[i]) ++w->out[i];
  }
  return Status::kOk;
}

Status read_transposed_window(const char* op, const Attrs& attrs, const Shape& x,
                              const int64_t* kernel, Window* w) {
  PN_TRY(read_common(op, attrs, x, kernel, w));
  AutoPad mode;
  PN_TRY(read_auto_pad(op, attrs, &mode));
  const int n = w->spatial;
  int64_t pads[2 * kMaxSpatial] = {}, extra[kMaxSpatial] = {};
  PN_TRY(read_list(op, attrs, "output_padding", 0, 0, n, extra));
  const Ints shape = attrs.ints("output_shape");
  // Some exporters write batch and channels too; only the spatial dims count.
  if (shape.size != 0 && shape.size != n && shape.size != n + 2) {
    return fail(Status::kInvalidModel, "%s: output_shape has %" PRId64 " entries, expected %d", op,
                shape.size, n);
  }
  if (mode == AutoPad::kNotSet && shape.size == 0)
    PN_TRY(read_list(op, attrs, "pads", 0, 0, 2 * n, pads));
  for (int i = 0; i < n; ++i) {
    if (extra[i] > 0 && extra[i] >= w->stride[i] && extra[i] >= w->dilation[i]) {
      return fail(Status::kInvalidModel,
                  "%s: output_padding[%d] is %" PRId64
                  ", expected less than the stride or the dilation",
                  op, i, extra[i]);
    }
    int64_t full;
    if (w->in[i] == 0) {
      full = 0;
    } else if (!checked_mul(w->in[i] - 1, w->stride[i], &full) ||
               !checked_add(full, w->extent(i) + extra[i], &full)) {
      return fail(Status::kInvalidModel, "%s: spatial output dim %d overflows", op, i);
    }
    if (shape.size == 0 && (mode == AutoPad::kNotSet || mode == AutoPad::kValid)) {
      w->pad_begin[i] = pads[i];
      w->pad_end[i] = pads[i + n];
      w->out[i] = full - pads[i] - pads[i + n];
      if (w->in[i] == 0 && w->out[i] < 0) w->out[i] = 0;
      if (w->out[i] < 0) {
        return fail(Status::kInvalidModel, "%s: pads leave spatial output dim %d at %" PRId64, op,
                    i, w->out[i]);
      }
      continue;
    }
    bool fits = true;
    if (shape.size != 0) {
      w->out[i] = shape[shape.size - n + i];
    } else {
      fits = checked_mul(w->in[i], w->stride[i], &w->out[i]);
    }
    if (!fits || w->out[i] < 0 || w->out[i] > INT64_MAX / 4) {
      return fail(Status::kInvalidModel, "%s: spatial output dim %d is %" PRId64, op, i, w->out[i]);
    }
    const int64_t total = full - w->out[i];
    split_same(total > 0 ? total : 0, mode == AutoPad::kUpper, &w->pad_begin[i], &w->pad_end[i]);
  }
  return Status::kOk;
}

Status read_conv(const char* op, const Attrs& attrs, const Shape& x, const Shape& w,
                 ConvGeometry* g) {
  char a[160], b[160];
  if (x.rank < 3 || w.rank != x.rank) {
    return fail(Status::kInvalidModel, "%s: X %s and W %s must have the same rank, 3 to %d", op,
                format_shape(x, a, sizeof(a)), format_shape(w, b, sizeof(b)), kMaxRank);
  }
  PN_TRY(read_window(op, attrs, x, w.dims + 2, false, &g->window));
  g->batch = x[0];
  g->channels = x[1];
  g->filters = w[0];
  g->groups = attrs.i64("group", 1);
  int64_t covered = 0;
  if (g->groups < 1 || g->filters % g->groups != 0 || !checked_mul(w[1], g->groups, &covered) ||
      covered != g->channels) {
    return fail(Status::kInvalidModel,
                "%s: group %" PRId64
                " does not fit X %s and W %s (C = group x W's dim 1, M a multiple)",
                op, g->groups, format_shape(x, a, sizeof(a)), format_shape(w, b, sizeof(b)));
  }
  g->y.rank = x.rank;
  g->y[0] = g->batch;
  g->y[1] = g->filters;
  for (int i = 0; i < g->window.spatial; ++i) g->y[i + 2] = g->window.out[i];
  return Status::kOk;
}

}  // namespace pyneo
