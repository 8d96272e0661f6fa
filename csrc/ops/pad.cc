// SPDX-License-Identifier: Apache-2.0
//
// Pad and CenterCropPad: a window onto the input that may reach past it.
#include <cinttypes>
#include <cstring>

#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

enum class Edge { kConstant, kEdge, kReflect, kWrap };

// Along each axis the output is: `before` made-up positions, `kept` input positions from `first`
// on, then made-up positions to the end.
struct Frame {
  Shape shape;
  int64_t before[kMaxRank];
  int64_t kept[kMaxRank];
  int64_t first[kMaxRank];
};

// Adds (or, where negative, cuts) `begin` and `end` positions along one axis.
Status frame_axis(const InferContext& c, int axis, int64_t begin, int64_t end, Frame* f) {
  const int64_t dim = c.shape(0)[axis];
  const int64_t cut_begin = begin < 0 ? begin : 0, cut_end = end < 0 ? end : 0;
  if (cut_begin < -dim || cut_end < -(dim + cut_begin)) {
    return fail(Status::kInvalidModel,
                "%s: axis %d of size %" PRId64 " cannot be padded by %" PRId64 " and %" PRId64,
                c.op, axis, dim, begin, end);
  }
  f->first[axis] = -cut_begin;
  f->kept[axis] = dim + cut_begin + cut_end;
  f->before[axis] = begin > 0 ? begin : 0;
  if (!checked_add(f->kept[axis], f->before[axis], &f->shape[axis]) ||
      !checked_add(f->shape[axis], end > 0 ? end : 0, &f->shape[axis])) {
    return fail(Status::kInvalidModel,
                "%s: axis %d with pads %" PRId64 " and %" PRId64 " overflows", c.op, axis, begin,
                end);
  }
  return Status::kOk;
}

void whole_frame(const Shape& x, Frame* f) {
  f->shape = x;
  for (int i = 0; i < x.rank; ++i) f->before[i] = 0, f->kept[i] = x[i], f->first[i] = 0;
}

// The kept position (0-based, of n) that made-up position i, counted from the first kept one,
// repeats.
int64_t source_of(Edge mode, int64_t i, int64_t n) {
  if (mode == Edge::kEdge || n == 1) return i < 0 ? 0 : i >= n ? n - 1 : i;
  const int64_t period = mode == Edge::kWrap ? n : 2 * (n - 1);
  int64_t r = i % period;
  r += r < 0 ? period : 0;
  return r < n ? r : period - r;
}

// Fills the output row by row: a row is the last framed axis with all axes behind it as one block.
Status run_frame(RunContext& c, const Frame& f, Edge mode, const void* value) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  if (y.desc.elements() == 0) return Status::kOk;
  const size_t size = dtype_size(x.desc.dtype);
  int axis = x.rank() - 1;
  while (axis > 0 && f.shape[axis] == x.dim(axis) && f.before[axis] == 0 && f.first[axis] == 0)
    --axis;
  if (x.rank() == 0) {
    memcpy(y.data, x.data, size);
    return Status::kOk;
  }
  const int64_t block = x.shape().product(axis + 1, x.rank()),
                bytes = block * static_cast<int64_t>(size);
  const int64_t rows = f.shape.product(0, axis), width = f.shape[axis];
  const int64_t before = f.before[axis], kept = f.kept[axis];
  split_range(*c.pool, rows, y.desc.bytes(), [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; ++row) {
      uint8_t* out = y.as<uint8_t>() + row * width * bytes;
      // Where the row comes from; no row of the input where an outer axis is outside it.
      int64_t at = 0, step = 1, rest = row;
      bool inside = kept > 0 || mode != Edge::kConstant;
      for (int k = axis - 1; k >= 0; --k) {
        int64_t i = rest % f.shape[k] - f.before[k];
        rest /= f.shape[k];
        if (mode == Edge::kConstant) {
          inside = inside && i >= 0 && i < f.kept[k];
        } else {
          i = source_of(mode, i, f.kept[k]);
        }
        at += (f.first[k] + i) * step;
        step *= x.dim(k);
      }
      if (!inside) {
        fill_elements(out, size, value, width * block);
        continue;
      }
      const uint8_t* in = x.as<uint8_t>() + (at * x.dim(axis) + f.first[axis]) * bytes;
      auto made_up = [&](int64_t i, int64_t n) {
        if (mode == Edge::kConstant) return fill_elements(out + i * bytes, size, value, n * block);
        for (int64_t k = i; k < i + n; ++k) {
          memcpy(out + k * bytes, in + source_of(mode, k - before, kept) * bytes,
                 static_cast<size_t>(bytes));
        }
      };
      made_up(0, before);
      memcpy(out + before * bytes, in, static_cast<size_t>(kept * bytes));
      made_up(before + kept, width - before - kept);
    }
  });
  return Status::kOk;
}

// --- Pad ----------------------------------------------------------------------------------------

Status read_mode(const Attrs& attrs, Edge* mode) {
  const Str name = attrs.str("mode", "constant");
  if (name == "constant") {
    *mode = Edge::kConstant;
  } else if (name == "edge") {
    *mode = Edge::kEdge;
  } else if (name == "reflect") {
    *mode = Edge::kReflect;
  } else if (name == "wrap") {
    *mode = Edge::kWrap;
  } else {
    return fail(Status::kInvalidModel,
                "Pad: mode '%.*s' is not one of constant, edge, reflect, wrap",
                static_cast<int>(name.size < 32 ? name.size : 32), name.data);
  }
  return Status::kOk;
}

Status plan_pad(const InferContext& c, Frame* f, Edge* mode) {
  const Shape& x = c.shape(0);
  PN_TRY(read_mode(c.attrs, mode));
  int64_t pads[2 * kMaxRank], given[kMaxRank];
  int n_pads = 0, n = x.rank, axes[kMaxRank];
  for (int i = 0; i < x.rank; ++i) given[i] = i;
  if (c.has(3)) PN_TRY(read_ints(c, 3, given, kMaxRank, &n));
  PN_TRY(resolve_axes("Pad", given, n, x.rank, axes));
  PN_TRY(read_ints(c, 1, pads, 2 * kMaxRank, &n_pads));
  if (n_pads != 2 * n)
    return fail(Status::kInvalidModel, "Pad: %d pads for %d axes, expected two an axis", n_pads, n);
  if (c.has(2) && (c.dtype(2) != c.dtype(0) || c.shape(2).elements() != 1)) {
    return fail(Status::kInvalidModel, "Pad: constant_value must be one %s",
                dtype_name(c.dtype(0)));
  }
  whole_frame(x, f);
  for (int i = 0; i < n; ++i) PN_TRY(frame_axis(c, axes[i], pads[i], pads[n + i], f));
  for (int i = 0; *mode != Edge::kConstant && i < x.rank; ++i) {
    if (f->kept[i] == 0 && f->shape[i] > 0) {
      return fail(Status::kInvalidModel,
                  "Pad: axis %d has nothing to repeat, only mode constant can pad it", i);
    }
  }
  return Status::kOk;
}

Status infer_pad(InferContext& c) {
  Frame f;
  Edge mode;
  PN_TRY(plan_pad(c, &f, &mode));
  c.set(0, c.dtype(0), f.shape);
  return Status::kOk;
}

Status run_pad(RunContext& c) {
  const AsInfer again(c);
  Frame f;
  Edge mode;
  PN_TRY(plan_pad(again.context(), &f, &mode));
  PN_TRY(expect_shape(c, 0, f.shape));
  const uint64_t zero = 0;
  return run_frame(c, f, mode, c.has(2) ? c.in[2]->data : &zero);
}

// --- CenterCropPad ------------------------------------------------------------------------------

Status plan_center(const InferContext& c, Frame* f) {
  const Shape& x = c.shape(0);
  int64_t want[kMaxRank], given[kMaxRank];
  int n = 0, axes[kMaxRank];
  PN_TRY(read_ints(c, 1, want, kMaxRank, &n));
  const Ints named = c.attrs.ints("axes");
  const int64_t n_axes = named.data != nullptr ? named.size : x.rank;
  if (n_axes != n || n_axes > x.rank) {
    return fail(Status::kInvalidModel,
                "CenterCropPad: %d sizes for %" PRId64 " axes of a tensor of rank %d", n, n_axes,
                x.rank);
  }
  for (int i = 0; i < n; ++i) given[i] = named.data != nullptr ? named[i] : i;
  PN_TRY(resolve_axes("CenterCropPad", given, n, x.rank, axes));
  whole_frame(x, f);
  for (int i = 0; i < n; ++i) {
    if (want[i] < 0)
      return fail(Status::kInvalidModel, "CenterCropPad: the size of axis %d is %" PRId64, axes[i],
                  want[i]);
    // An odd difference puts the extra position at the end, cutting and padding alike.
    const int64_t more = want[i] - x[axes[i]], begin = more / 2;
    PN_TRY(frame_axis(c, axes[i], begin, more - begin, f));
  }
  return Status::kOk;
}

Status infer_center(InferContext& c) {
  Frame f;
  PN_TRY(plan_center(c, &f));
  c.set(0, c.dtype(0), f.shape);
  return Status::kOk;
}

Status run_center(RunContext& c) {
  const AsInfer again(c);
  Frame f;
  PN_TRY(plan_center(again.context(), &f));
  PN_TRY(expect_shape(c, 0, f.shape));
  const uint64_t zero = 0;
  return run_frame(c, f, Edge::kConstant, &zero);
}

}  // namespace

extern const OpDef pn_ops_pad[] = {
    {"Pad", 2, 4, 1, 1, 0, infer_pad, run_pad, nullptr},
    {"CenterCropPad", 2, 2, 1, 1, 0, infer_center, run_center, nullptr},
};
extern const int pn_ops_pad_count = sizeof(pn_ops_pad) / sizeof(OpDef);

}  // namespace pyneo
