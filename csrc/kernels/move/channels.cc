// SPDX-License-Identifier: Apache-2.0
//
// Moves of whole channel blocks: Concat and Split along the channels, nearest upsampling by whole factors.
// Without them a detector's necks would leave the blocked layout at every branch.
#include <cstring>

#include "kernels/kernel.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr Layout kBlocked = PN_VEC == 16 ? Layout::kC16 : Layout::kC8;
constexpr double kUsPerByte = 1.0e-4;

bool blocked_f32(const TensorDesc* d) {
  return d != nullptr && d->dtype == DType::kF32 && d->layout == kBlocked && d->shape.rank >= 3;
}

bool channel_axis(const KernelQuery& q, int rank) {
  const int64_t axis = q.attrs.i64("axis", 0);
  return axis == 1 || axis + rank == 1;
}

// Every part but the last must end at a block's end: a part that starts inside a block would be shifted.
bool whole_blocks(const TensorDesc* const* parts, int count) {
  for (int i = 0; i < count; ++i) {
    if (!blocked_f32(parts[i]) || (i + 1 < count && parts[i]->shape[1] % kVec != 0)) return false;
  }
  return true;
}

float cost(const KernelQuery& q) {
  int64_t bytes = 0;
  for (int o = 0; o < q.n_out; ++o) bytes += q.out[o] ? q.out[o]->bytes() : 0;
  return static_cast<float>(0.3 + 2 * kUsPerByte * static_cast<double>(bytes));
}

bool accepts_concat(const KernelQuery& q) {
  return blocked_f32(q.out[0]) && channel_axis(q, q.out[0]->shape.rank) && whole_blocks(q.in, q.n_in);
}

bool accepts_split(const KernelQuery& q) {
  return blocked_f32(q.in[0]) && channel_axis(q, q.in[0]->shape.rank) && whole_blocks(q.out, q.n_out);
}

int64_t block_floats(const Tensor& t) { return t.shape().product(2, t.rank()) * kVec; }

// Copies between a whole tensor and its parts, image by image.
template <typename Parts>
void copy_parts(float* whole, const Parts* parts, int count, int64_t batch, int64_t whole_blocks_, int64_t floats,
                bool gather, const Pool& pool) {
  pool.run(batch * count, [&](int64_t task, int) {
    const int64_t n = task / count, i = task % count;
    int64_t begin = 0;
    for (int64_t k = 0; k < i; ++k) begin += ceil_div(parts[k]->dim(1), kVec);
    const int64_t blocks = ceil_div(parts[i]->dim(1), kVec);
    float* inside = whole + (n * whole_blocks_ + begin) * floats;
    float* part = static_cast<float*>(parts[i]->data) + n * blocks * floats;
    memcpy(gather ? inside : part, gather ? part : inside, static_cast<size_t>(blocks * floats) * sizeof(float));
  });
}

Status run_concat(const void*, RunContext& c) {
  const Tensor& y = *c.out[0];
  copy_parts(y.as<float>(), c.in, c.n_in, y.dim(0), ceil_div(y.dim(1), kVec), block_floats(y), true, *c.pool);
  return Status::kOk;
}

Status run_split(const void*, RunContext& c) {
  const Tensor& x = *c.in[0];
  copy_parts(x.as<float>(), c.out, c.n_out, x.dim(0), ceil_div(x.dim(1), kVec), block_floats(x), false, *c.pool);
  return Status::kOk;
}

// Nearest upsampling by whole factors, in the two conventions that then mean y[i] = x[i / factor].
bool accepts_upsample(const KernelQuery& q) {
  if (!blocked_f32(q.in[0]) || !blocked_f32(q.out[0]) || q.in[0]->shape.rank != 4) return false;
  const Shape &x = q.in[0]->shape, &y = q.out[0]->shape;
  if (q.attrs.str("mode", "nearest") != "nearest" || q.attrs.ints("axes").size != 0 || q.attrs.i64("antialias", 0) != 0) return false;
  const Str where = q.attrs.str("coordinate_transformation_mode", "half_pixel");
  const Str round = q.attrs.str("nearest_mode", "round_prefer_floor");
  if (!(where == "asymmetric" && round == "floor") && !(where == "half_pixel" && round == "round_prefer_floor")) return false;
  if (x[0] != y[0] || x[1] != y[1] || x[2] == 0 || x[3] == 0 || y[2] % x[2] != 0 || y[3] % x[3] != 0) return false;
  if (!q.has(2) || q.in[2]->shape.elements() == 0) return true;  // sizes: the factors are exact
  if (q.values == nullptr || q.values[2] == nullptr || q.in[2]->dtype != DType::kF32 || q.in[2]->shape.elements() != 4) return false;
  const float* scales = static_cast<const float*>(q.values[2]);
  return scales[2] == static_cast<float>(y[2] / x[2]) && scales[3] == static_cast<float>(y[3] / x[3]);
}

Status run_upsample(const void*, RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t h = x.dim(2), w = x.dim(3), fy = y.dim(2) / h, fx = y.dim(3) / w;
  const int64_t planes = x.dim(0) * ceil_div(x.dim(1), kVec), row = y.dim(3) * kVec;
  c.pool->run(planes * h, [&](int64_t task, int) {
    const float* from = x.as<const float>() + task * w * kVec;
    float* to = y.as<float>() + task * fy * row;
    for (int64_t i = 0; i < w; ++i) {
      const VF v = load(from + i * kVec);
      for (int64_t k = 0; k < fx; ++k) store(to + (i * fx + k) * kVec, v);
    }
    for (int64_t k = 1; k < fy; ++k) memcpy(to + k * row, to, static_cast<size_t>(row) * sizeof(float));
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#if PN_VEC == 16
#define PN_BLOCK "c16"
#else
#define PN_BLOCK "c8"
#endif
#define PN_ROW(name, op, accepts, run)                                                                            \
  {name PN_BLOCK, op, PN_TIER::kBlocked, PN_TIER::kBlocked, -1, 0, PN_TIER::accepts, PN_TIER::cost, nullptr, nullptr, \
   nullptr, nullptr, nullptr, PN_TIER::run}

PN_KERNEL_TABLE(channels)
PN_KERNEL_ROWS(channels) = {
    PN_ROW("f32_concat_", "Concat", accepts_concat, run_concat),
    PN_ROW("f32_split_", "Split", accepts_split, run_split),
    PN_ROW("f32_upsample_nearest_", "Resize", accepts_upsample, run_upsample),
};
PN_KERNEL_COUNT(channels);

}  // namespace pyneo
