// SPDX-License-Identifier: Apache-2.0
//
// Rearrangements of space and time: DepthToSpace, SpaceToDepth, ReverseSequence, Col2Im.
#include <cinttypes>
#include <cstring>

#include "ops/combine.h"
#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

// --- DepthToSpace and SpaceToDepth
// ----------------------------------------------------------------

// One of two orders of the depth axis: DCR = (block row, block column, depth), CRD = (depth, row,
// column).
Status read_block(const InferContext& c, int64_t* block, bool* crd) {
  const Shape& x = c.shape(0);
  if (x.rank != 4)
    return fail(Status::kInvalidModel, "%s: the input must be [N, C, H, W], found rank %d", c.op,
                x.rank);
  const Str mode = c.attrs.str("mode", "DCR");
  if (mode != "DCR" && mode != "CRD")
    return fail(Status::kInvalidModel, "%s: mode is neither DCR nor CRD", c.op);
  *crd = mode == "CRD";
  *block = c.attrs.i64("blocksize", 0);
  if (*block < 1 || *block > INT32_MAX) {
    return fail(Status::kInvalidModel, "%s: blocksize %" PRId64 " is not in [1, 2^31)", c.op,
                *block);
  }
  return Status::kOk;
}

Status infer_depth_to_space(InferContext& c) {
  int64_t b = 0;
  bool crd = false;
  PN_TRY(read_block(c, &b, &crd));
  Shape y = c.shape(0);
  if (y[1] % (b * b) != 0) {
    return fail(Status::kInvalidModel,
                "DepthToSpace: %" PRId64 " channels do not divide by blocks of %" PRId64
                " x %" PRId64,
                y[1], b, b);
  }
  y[1] /= b * b;
  if (!checked_mul(y[2], b, &y[2]) || !checked_mul(y[3], b, &y[3])) {
    return fail(Status::kInvalidModel, "DepthToSpace: the output overflows");
  }
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status infer_space_to_depth(InferContext& c) {
  int64_t b = 0;
  bool crd = false;
  PN_TRY(read_block(c, &b, &crd));
  Shape y = c.shape(0);
  if (y[2] % b != 0 || y[3] % b != 0) {
    return fail(Status::kInvalidModel,
                "SpaceToDepth: %" PRId64 " x %" PRId64 " does not divide by blocks of %" PRId64,
                y[2], y[3], b);
  }
  y[2] /= b;
  y[3] /= b;
  if (!checked_mul(y[1], b * b, &y[1]))
    return fail(Status::kInvalidModel, "SpaceToDepth: the output overflows");
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

// `deep` is the side with many channels, `wide` the one with much space; the walk is over
// (image, depth, block row, block column, row, column) and only the direction differs.
Status run_blocks(RunContext& c, bool to_space) {
  const AsInfer again(c);
  int64_t b = 0;
  bool crd = false;
  PN_TRY(read_block(again.context(), &b, &crd));
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const Shape& deep = to_space ? x.shape() : y.shape();
  const Shape& wide = to_space ? y.shape() : x.shape();
  const int64_t depth = wide[1], plane = deep[2] * deep[3], width = wide[3];
  const int64_t deep_depth = crd ? b * b * plane : plane, deep_row = (crd ? b : b * depth) * plane;
  const int64_t deep_column = (crd ? 1 : depth) * plane;
  const int64_t dims[6] = {deep[0], depth, b, b, deep[2], deep[3]};
  const int64_t deep_steps[6] = {deep[1] * plane, deep_depth, deep_row, deep_column, deep[3], 1};
  const int64_t wide_steps[6] = {depth * wide[2] * width, wide[2] * width, width, 1, b * width, b};
  StridedCopy copy;
  for (int i = 0; i < 6; ++i) {
    copy.add(dims[i], to_space ? deep_steps[i] : wide_steps[i],
             to_space ? wide_steps[i] : deep_steps[i]);
  }
  copy.run(*c.pool, dtype_size(x.desc.dtype), x.data, y.data);
  return Status::kOk;
}

Status run_depth_to_space(RunContext& c) { return run_blocks(c, true); }
Status run_space_to_depth(RunContext& c) { return run_blocks(c, false); }

// --- ReverseSequence
// ------------------------------------------------------------------------------

Status infer_reverse(InferContext& c) {
  const Shape& x = c.shape(0);
  PN_TRY(expect_dtype(c, 1, {DType::kI64, DType::kI32}));
  const int64_t batch = c.attrs.i64("batch_axis", 1), time = c.attrs.i64("time_axis", 0);
  if (x.rank < 2)
    return fail(Status::kInvalidModel,
                "ReverseSequence: the input must have two axes, found rank %d", x.rank);
  if (batch < 0 || batch > 1 || time != 1 - batch) {
    return fail(Status::kInvalidModel,
                "ReverseSequence: batch_axis %" PRId64 " and time_axis %" PRId64
                " must be 0 and 1 or 1 and 0",
                batch, time);
  }
  if (c.shape(1).rank != 1 || c.shape(1)[0] != x[static_cast<int>(batch)]) {
    char text[160];
    return fail(
        Status::kInvalidModel,
        "ReverseSequence: sequence_lens of shape %s must hold one length for each of %" PRId64
        " sequences",
        format_shape(c.shape(1), text, sizeof(text)), x[static_cast<int>(batch)]);
  }
  c.set(0, c.dtype(0), x);
  return Status::kOk;
}

Status run_reverse(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const bool time_first = c.attrs.i64("time_axis", 0) == 0;
  const int64_t steps = x.dim(time_first ? 0 : 1), sequences = x.dim(time_first ? 1 : 0);
  const int64_t bytes =
      x.shape().product(2, x.rank()) * static_cast<int64_t>(dtype_size(x.desc.dtype));
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t length = int_at(*c.in[1], s);
    if (length < 0 || length > steps) {
      return fail(Status::kInvalidModel,
                  "ReverseSequence: length %" PRId64 " of sequence %" PRId64
                  " is outside [0, %" PRId64 "]",
                  length, s, steps);
    }
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t from = t < length ? length - 1 - t : t;
      const int64_t a = time_first ? from * sequences + s : s * steps + from;
      const int64_t b = time_first ? t * sequences + s : s * steps + t;
      memcpy(y.as<uint8_t>() + b * bytes, x.as<uint8_t>() + a * bytes, static_cast<size_t>(bytes));
    }
  }
  return Status::kOk;
}

// --- Col2Im: overlapping blocks summed into an image
// ------------------------------------------------

constexpr int kMaxSpace = kMaxRank - 2;

struct Blocks {
  int n = 0;  // spatial axes
  int64_t image[kMaxSpace], block[kMaxSpace], stride[kMaxSpace], dilation[kMaxSpace],
      pad[kMaxSpace];
  int64_t count[kMaxSpace];  // blocks along each axis
  int64_t block_size = 1;    // elements of a block
  Shape shape;
};

Status read_space(const InferContext& c, const char* name, int64_t fallback, int64_t least,
                  int count, int64_t* out) {
  const Ints v = c.attrs.ints(name);
  if (v.data != nullptr && v.size != count) {
    return fail(Status::kInvalidModel, "Col2Im: %s has %" PRId64 " entries, expected %d", name,
                v.size, count);
  }
  for (int i = 0; i < count; ++i) {
    out[i] = v.data != nullptr ? v[i] : fallback;
    if (out[i] < least || out[i] > INT32_MAX) {
      return fail(Status::kInvalidModel,
                  "Col2Im: entry %d of %s is %" PRId64 ", outside [%" PRId64 ", 2^31)", i, name,
                  out[i], least);
    }
  }
  return Status::kOk;
}

Status plan_blocks(const InferContext& c, Blocks* p) {
  const Shape& x = c.shape(0);
  if (x.rank != 3)
    return fail(Status::kInvalidModel, "Col2Im: the input must be [N, C * block, L], found rank %d",
                x.rank);
  int n = 0;
  PN_TRY(read_ints(c, 1, p->image, kMaxSpace, &p->n));
  PN_TRY(read_ints(c, 2, p->block, kMaxSpace, &n));
  if (p->n < 1 || n != p->n) {
    return fail(Status::kInvalidModel, "Col2Im: image_shape has %d entries, block_shape %d", p->n,
                n);
  }
  int64_t pads[2 * kMaxSpace], blocks = 1;
  PN_TRY(read_space(c, "strides", 1, 1, n, p->stride));
  PN_TRY(read_space(c, "dilations", 1, 1, n, p->dilation));
  PN_TRY(read_space(c, "pads", 0, 0, 2 * n, pads));
  for (int i = 0; i < n; ++i) {
    if (p->image[i] < 0 || p->image[i] > INT32_MAX || p->block[i] < 1 || p->block[i] > INT32_MAX) {
      return fail(Status::kInvalidModel,
                  "Col2Im: axis %d has an image of %" PRId64 " and a block of %" PRId64, i,
                  p->image[i], p->block[i]);
    }
    // All of it fits in 63 bits: every factor is below 2^31.
    const int64_t room =
        p->image[i] + pads[i] + pads[n + i] - p->dilation[i] * (p->block[i] - 1) - 1;
    p->count[i] = room < 0 ? 0 : room / p->stride[i] + 1;
    p->pad[i] = pads[i];
    if (!checked_mul(p->block_size, p->block[i], &p->block_size) ||
        !checked_mul(blocks, p->count[i], &blocks)) {
      return fail(Status::kInvalidModel, "Col2Im: the number of block elements overflows");
    }
  }
  if (x[1] % p->block_size != 0 || x[2] != blocks) {
    return fail(Status::kInvalidModel,
                "Col2Im: %" PRId64 " rows and %" PRId64 " columns where blocks of %" PRId64
                " elements, %" PRId64 " of them, are needed",
                x[1], x[2], p->block_size, blocks);
  }
  p->shape.rank = n + 2;
  p->shape[0] = x[0];
  p->shape[1] = x[1] / p->block_size;
  for (int i = 0; i < n; ++i) p->shape[i + 2] = p->image[i];
  return Status::kOk;
}

Status infer_col2im(InferContext& c) {
  Blocks p;
  PN_TRY(plan_blocks(c, &p));
  c.set(0, c.dtype(0), p.shape);
  return Status::kOk;
}

// Adds row `offset` of the blocks (one element of every block) to one image.
void add_block_element(const Blocks& p, DType t, int64_t offset, const uint8_t* col,
                       uint8_t* image) {
  const int64_t size = static_cast<int64_t>(dtype_size(t));
  const int last = p.n - 1;
  int64_t base[kMaxSpace], at[kMaxSpace] = {}, lines = 1;
  for (int i = last; i >= 0; --i) {  // where block 0 has this element
    base[i] = offset % p.block[i] * p.dilation[i] - p.pad[i];
    offset /= p.block[i];
    lines *= i < last ? p.count[i] : 1;
  }
  for (int64_t line = 0; line < lines; ++line, col += p.count[last] * size) {
    int64_t row = 0;
    bool inside = true;
    for (int i = 0; i < last; ++i) {
      const int64_t v = base[i] + at[i] * p.stride[i];
      inside = inside && v >= 0 && v < p.image[i];
      row = row * p.image[i] + v;
    }
    for (int i = last - 1; i >= 0 && ++at[i] == p.count[i]; --i) at[i] = 0;
    if (!inside) continue;
    const int64_t stride = p.stride[last], start = base[last], width = p.image[last];
    const int64_t from = start >= 0 ? 0 : ceil_div(-start, stride);
    int64_t to = start >= width ? 0 : ceil_div(width - start, stride);
    to = to < p.count[last] ? to : p.count[last];
    uint8_t* out = image + (row * width + start) * size;
    if (stride == 1) {
      if (to > from) combine(Combine::kAdd, t, out + from * size, col + from * size, to - from);
    } else {
      for (int64_t k = from; k < to; ++k)
        combine(Combine::kAdd, t, out + k * stride * size, col + k * size, 1);
    }
  }
}

Status run_col2im(RunContext& c) {
  const AsInfer again(c);
  Blocks p;
  PN_TRY(plan_blocks(again.context(), &p));
  PN_TRY(expect_shape(c, 0, p.shape));
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const DType t = x.desc.dtype;
  const int64_t size = static_cast<int64_t>(dtype_size(t)), columns = x.dim(2);
  const int64_t image = y.shape().product(2, y.rank()) * size;
  if (y.desc.elements() == 0) return Status::kOk;
  memset(y.data, 0, static_cast<size_t>(y.desc.bytes()));
  if (columns == 0) return Status::kOk;
  split_range(*c.pool, p.shape[0] * p.shape[1], x.desc.bytes(), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      for (int64_t k = 0; k < p.block_size; ++k) {
        add_block_element(p, t, k, x.as<uint8_t>() + (i * p.block_size + k) * columns * size,
                          y.as<uint8_t>() + i * image);
      }
    }
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_space[] = {
    {"DepthToSpace", 1, 1, 1, 1, 0, infer_depth_to_space, run_depth_to_space, nullptr},
    {"SpaceToDepth", 1, 1, 1, 1, 0, infer_space_to_depth, run_space_to_depth, nullptr},
    {"ReverseSequence", 2, 2, 1, 1, 0, infer_reverse, run_reverse, nullptr},
    {"Col2Im", 3, 3, 1, 1, 0, infer_col2im, run_col2im, nullptr},
};
extern const int pn_ops_space_count = sizeof(pn_ops_space) / sizeof(OpDef);

}  // namespace pyneo
