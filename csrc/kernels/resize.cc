// SPDX-License-Identifier: Apache-2.0
#include "kernels/resize.h"

namespace pyneo {
namespace {

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

bool fill_resample(const KernelQuery& q, ResamplePlan* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  if (x.dtype != DType::kF32 || x.layout != q.blocked() || x.shape.rank != 4) return false;
  *s = ResamplePlan{};
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
  s->planes = x.shape[0] * ceil_div(x.shape[1], q.vec());
  return true;
}


// Output o reads input o / factor: so do corners at 0 rounded down, and centres rounded to the nearest
// (by whole factors a centre never lies halfway).
bool reads_quotient(const Attrs& a) {
  const Str mode = a.str("coordinate_transformation_mode", "half_pixel"), rounding = a.str("nearest_mode", "round_prefer_floor");
  if (mode == "asymmetric") return rounding == "floor";
  return mode == "half_pixel" && (rounding == "round_prefer_floor" || rounding == "round_prefer_ceil");
}

bool fill_upsample(const KernelQuery& q, UpsamplePlan* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  if (x.dtype != DType::kF32 || x.layout != q.blocked() || y.layout != q.blocked() || x.shape.rank != 4) return false;
  if (q.attrs.str("mode", "nearest") != "nearest" || !reads_quotient(q.attrs) || q.attrs.ints("axes").size > 0) return false;
  if (q.attrs.str("keep_aspect_ratio_policy", "stretch") != "stretch" || x.shape[0] != y.shape[0] || x.shape[1] != y.shape[1]) return false;
  int64_t factor[2];
  for (int i = 0; i < 2; ++i) {
    const int64_t in = x.shape[i + 2], out = y.shape[i + 2];
    if (in < 1 || out < in || out % in != 0) return false;
    factor[i] = out / in;
  }
  // Scales must be those factors exactly: 2.01 can give the same shape from other pixels.
  if (q.has(2) && q.in[2]->elements() > 0) {
    if (!q.values || !q.values[2] || q.in[2]->dtype != DType::kF32 || q.in[2]->elements() != 4) return false;
    const float* v = static_cast<const float*>(q.values[2]);
    if (v[0] != 1 || v[1] != 1 || v[2] != static_cast<float>(factor[0]) || v[3] != static_cast<float>(factor[1])) return false;
  }
  *s = {x.shape[0] * ceil_div(x.shape[1], q.vec()), x.shape[2], x.shape[3], factor[0], factor[1]};
  return true;
}

}  // namespace

bool resample_accepts(const KernelQuery& q) {
  ResamplePlan s;
  return q.out[0]->layout == q.kernel->layout_out && fill_resample(q, &s);
}
float resample_cost(const KernelQuery& q) { return static_cast<float>(q.out[0]->bytes()) * 1.2e-4f + 1; }
Status resample_prepare(const KernelQuery& q, void* state) {
  if (fill_resample(q, static_cast<ResamplePlan*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Resize was prepared for operands it does not accept");
}
int64_t resample_scratch_bytes(const KernelQuery& q) {
  ResamplePlan s;
  return fill_resample(q, &s) ? resample_table_bytes(s, 0) + resample_table_bytes(s, 1) : 0;
}
// A combined row, and a square of results to be transposed.
int64_t resample_thread_scratch_bytes(const KernelQuery& q) {
  return (q.in[0]->shape[3] + q.vec()) * q.vec() * static_cast<int64_t>(sizeof(float));
}

bool upsample_accepts(const KernelQuery& q) {
  UpsamplePlan s;
  return fill_upsample(q, &s);
}
float upsample_cost(const KernelQuery& q) { return static_cast<float>(q.out[0]->bytes()) * 4e-5f + 0.1f; }
Status upsample_prepare(const KernelQuery& q, void* state) {
  if (fill_upsample(q, static_cast<UpsamplePlan*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Resize was prepared for operands it does not accept");
}

}  // namespace pyneo
