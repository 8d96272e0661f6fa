// SPDX-License-Identifier: Apache-2.0
#include "kernels/frame.h"

namespace pyneo {
namespace {

bool fill(const KernelQuery& q, FramePlan* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  const int rank = x.shape.rank;
  if (x.dtype != DType::kF32 || x.layout != q.blocked() || y.layout != q.blocked() || (rank != 3 && rank != 4)) return false;
  const Str mode = q.attrs.str("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge") return false;
  s->mode = mode == "constant" ? Edge::kConstant : mode == "edge" ? Edge::kEdge : Edge::kReflect;
  if (q.has(3) || !q.values || !q.values[1] || q.in[1]->dtype != DType::kI64 || q.in[1]->elements() != 2 * rank) return false;
  const int64_t* pads = static_cast<const int64_t*>(q.values[1]);
  // Channels: only behind the last one, and only when nothing is repeated.
  if (pads[0] != 0 || pads[rank] != 0 || pads[1] != 0 || (pads[rank + 1] != 0 && s->mode != Edge::kConstant)) return false;
  for (int i = 0; i < 2 * rank; ++i) {
    if (pads[i] < 0) return false;
  }
  s->images = x.shape[0];
  s->channels = x.shape[1];
  s->blocks_in = ceil_div(x.shape[1], q.vec());
  s->blocks_out = ceil_div(y.shape[1], q.vec());
  s->height = rank == 4 ? x.shape[2] : 1;
  s->rows = rank == 4 ? y.shape[2] : 1;
  s->width = x.shape[rank - 1];
  s->columns = y.shape[rank - 1];
  s->top = rank == 4 ? pads[2] : 0;
  s->left = pads[rank - 1];
  if (s->height < 1 || s->width < 1) return false;
  // One reflection is enough, so that a source is never computed by a remainder.
  return s->mode != Edge::kReflect || (s->top < s->height && s->left < s->width && s->rows - s->top - s->height < s->height &&
                                       s->columns - s->left - s->width < s->width);
}

}  // namespace

bool frame_accepts(const KernelQuery& q) {
  FramePlan s;
  return fill(q, &s);
}
float frame_cost(const KernelQuery& q) { return static_cast<float>(q.in[0]->bytes() + q.out[0]->bytes()) * 4e-5f + 0.3f; }
Status frame_prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<FramePlan*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Pad was prepared for operands it does not accept");
}

}  // namespace pyneo
