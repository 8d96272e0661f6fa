// SPDX-License-Identifier: Apache-2.0
//
// Moving data: Concat and Split as runs of bytes, in plain layouts of any dtype and in channel blocks.
#include <cstring>

#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {


// --- Concat and Split ----------------------------------------------------------------------------

struct Runs {
  int64_t outer;  // runs of each part
  int64_t unit;   // bytes of a run for one step along the axis (a block of channels where blocked)
  int32_t axis;
  int32_t divide; // steps of the axis per unit: channels of a block, or 1
};

// The whole tensor and its parts along `axis`, all in one layout.
PN_COLD bool fill_runs(const KernelQuery& q, const TensorDesc& whole, const TensorDesc* const* parts, int count, Runs* r) {
  const Shape& s = whole.shape;
  int64_t axis = q.attrs.i64("axis", 0);
  if (axis < 0) axis += s.rank;
  if (axis < 0 || axis >= s.rank || count < 1) return false;
  const int a = static_cast<int>(axis);
  for (int i = 0; i < count; ++i) {
    if (parts[i] == nullptr || parts[i]->layout != whole.layout || parts[i]->dtype != whole.dtype) return false;
  }
  const int64_t size = static_cast<int64_t>(dtype_size(whole.dtype));
  r->axis = a;
  r->divide = 1;
  if (whole.layout == Layout::kPlain) {
    r->outer = s.product(0, a);
    r->unit = s.product(a + 1, s.rank) * size;
    return true;
  }
  if (whole.layout != kBlocked || whole.dtype != DType::kF32 || s.rank < 3) return false;
  if (a == 1) {
    for (int i = 0; i + 1 < count; ++i) {  // the last part's padding is the whole's
      if (parts[i]->shape[1] % kVec != 0) return false;
    }
    r->outer = s[0];
    r->unit = s.product(2, s.rank) * kVec * size;
    r->divide = kVec;
    return true;
  }
  const int64_t blocks = ceil_div(s[1], kVec);
  r->outer = a == 0 ? 1 : s[0] * blocks * s.product(2, a);
  r->unit = (a == 0 ? blocks * s.product(2, s.rank) : s.product(a + 1, s.rank)) * kVec * size;
  return true;
}

// Copies the parts into the whole (`join`) or out of it.
void copy_runs(const Runs& r, const Pool& pool, uint8_t* whole, int64_t extent, const Tensor* const* parts, int count, bool join) {
  const int64_t stride = ceil_div(extent, r.divide) * r.unit;
  int64_t at = 0;
  for (int i = 0; i < count; ++i) {
    const int64_t bytes = ceil_div(parts[i]->dim(r.axis), r.divide) * r.unit;
    uint8_t* part = parts[i]->as<uint8_t>();
    // Long runs are cut, so that one part alone keeps all threads busy.
    const int64_t piece = 1 << 16, pieces = ceil_div(bytes, piece);
    spread(pool, r.outer * pieces, (bytes < piece ? bytes : piece) / 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t k = begin; k < end; ++k) {
        int64_t o = k, from = 0, n = bytes;
        if (pieces > 1) {
          o = k / pieces;
          from = k % pieces * piece;
          n = bytes - from < piece ? bytes - from : piece;
        }
        uint8_t *w = whole + o * stride + at + from, *p = part + o * bytes + from;
        uint8_t *to = join ? w : p, *source = join ? p : w;
        if (n == kVec * 4) {  // a vector is shorter than the call of a copy
          store(reinterpret_cast<float*>(to), load(reinterpret_cast<const float*>(source)));
        } else {
          memcpy(to, source, static_cast<size_t>(n));
        }
      }
    });
    at += bytes;
  }
}

PN_COLD bool accepts_concat(const KernelQuery& q) {
  Runs r;
  return fill_runs(q, *q.out[0], q.in, q.n_in, &r);
}
PN_COLD Status prepare_concat(const KernelQuery& q, void* state) {
  if (fill_runs(q, *q.out[0], q.in, q.n_in, static_cast<Runs*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Concat was prepared for operands it does not accept");
}
Status run_concat(const void* state, RunContext& c) {
  const Runs& r = *static_cast<const Runs*>(state);
  copy_runs(r, *c.pool, c.out[0]->as<uint8_t>(), c.out[0]->dim(r.axis), c.in, c.n_in, true);
  return Status::kOk;
}
PN_COLD bool accepts_split(const KernelQuery& q) {
  Runs r;
  return fill_runs(q, *q.in[0], q.out, q.n_out, &r);
}
PN_COLD Status prepare_split(const KernelQuery& q, void* state) {
  if (fill_runs(q, *q.in[0], q.out, q.n_out, static_cast<Runs*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Split was prepared for operands it does not accept");
}
Status run_split(const void* state, RunContext& c) {
  const Runs& r = *static_cast<const Runs*>(state);
  copy_runs(r, *c.pool, c.in[0]->as<uint8_t>(), c.in[0]->dim(r.axis), c.out, c.n_out, false);
  return Status::kOk;
}

PN_COLD float cost(const KernelQuery& q) {
  int64_t bytes = 0;
  for (int i = 0; i < q.n_in; ++i) bytes += q.has(i) ? q.in[i]->bytes() : 0;
  return static_cast<float>(bytes) * 8e-5f + 0.1f;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, layout, State, what)                                                                \
  {name, op, layout, layout, -1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts_##what, PN_TIER::cost, nullptr,    \
   nullptr, nullptr, nullptr, PN_TIER::prepare_##what, PN_TIER::run_##what)}

PN_KERNEL_TABLE(move)
PN_KERNEL_ROWS(move) = {
    PN_ROW("concat", "Concat", Layout::kAny, Runs, concat),
    PN_ROW("split", "Split", Layout::kAny, Runs, split),
};
PN_KERNEL_COUNT(move);

}  // namespace pyneo
