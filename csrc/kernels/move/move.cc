// SPDX-License-Identifier: Apache-2.0
//
// Moving data: Concat and Split as runs of bytes, in plain layouts of any dtype and in channel blocks.
#include <cstring>

#include "kernels/runs.h"
#include "kernels/spread.h"
#include "simd/vec.h"

namespace pyneo {
namespace PN_TIER {
namespace {


// --- Concat and Split ----------------------------------------------------------------------------

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

Status run_concat(const void* state, RunContext& c) {
  const Runs& r = *static_cast<const Runs*>(state);
  copy_runs(r, *c.pool, c.out[0]->as<uint8_t>(), c.out[0]->dim(r.axis), c.in, c.n_in, true);
  return Status::kOk;
}
Status run_split(const void* state, RunContext& c) {
  const Runs& r = *static_cast<const Runs*>(state);
  copy_runs(r, *c.pool, c.in[0]->as<uint8_t>(), c.in[0]->dim(r.axis), c.out, c.n_out, false);
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, run)                    \
  {name, op, Layout::kAny, Layout::kAny, -1,     \
   PN_CODE(sizeof(Runs), runs_accepts, runs_cost, nullptr, nullptr, nullptr, nullptr, runs_prepare, PN_TIER::run)}

PN_KERNEL_TABLE(move)
PN_KERNEL_ROWS(move) = {
    PN_ROW("concat", "Concat", run_concat),
    PN_ROW("split", "Split", run_split),
};
PN_KERNEL_COUNT(move);

}  // namespace pyneo
