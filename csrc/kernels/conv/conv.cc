// SPDX-License-Identifier: Apache-2.0
//
// Conv over one or two spatial axes, float32, input in blocked channels or plain, output in blocked
// channels or plain.
#include "kernels/conv/direct.h"

namespace pyneo {
namespace PN_TIER {
namespace {

PN_COLD bool accepts(const KernelQuery& q, bool blocked_in, bool blocked_out) {
  Geometry g;
  return accepts_conv(q, blocked_in, blocked_out, &g);
}
bool accepts_blocked(const KernelQuery& q) { return accepts(q, true, true); }
bool accepts_first(const KernelQuery& q) { return accepts(q, false, true); }
bool accepts_last(const KernelQuery& q) { return accepts(q, true, false); }
bool accepts_plain(const KernelQuery& q) { return accepts(q, false, false); }
#if defined(__AVX512F__)
PN_COLD bool accepts_wide(const KernelQuery& q) {
  Geometry g;
  return accepts_conv(q, true, true, &g) && ceil_div(g.filters, kVec) >= kWideVecs;
}
#endif

// For an accepted query: what can fail has been checked.
PN_COLD void plan(const KernelQuery& q, int vecs, Direct* d) {
  read_geometry(q, &d->g);
  d->epilogue.read(q.attrs, "Conv");
  set_dense(d);
  plan_direct(q.target->l2_bytes, vecs, d);
}

template <int kVecs>
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  plan(q, kVecs, static_cast<Direct*>(state));
  return Status::kOk;
}

template <int kVecs>
PN_COLD int64_t thread_scratch_bytes(const KernelQuery& q) {
  Direct d;
  plan(q, kVecs, &d);
  return direct_scratch_bytes(d);
}

PN_COLD int64_t packed_bytes(const KernelQuery& q) {
  Geometry g;
  read_geometry(q, &g);
  return g.groups * g.group_floats() * 4;
}

template <int kVecs>
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  Geometry g;
  read_geometry(q, &g);
  const int64_t taps = g.kernel_h * g.kernel_w, filter = g.channels / g.merged * taps;
  const FilterSteps steps{g.filters * filter, filter, taps, g.kernel_w, 1};
  pack_direct(g, kVecs, static_cast<const float*>(plain), steps, static_cast<float*>(packed));
}

Status run(const void* state, RunContext& c) {
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  run_direct(*static_cast<const Direct*>(state), {in(0), in(1), in(2), in(3), c.out[0]->as<float>()}, c);
  return Status::kOk;
}

template <int kVecs>
PN_COLD float cost(const KernelQuery& q) {
  Direct d;
  plan(q, kVecs, &d);
  return static_cast<float>(direct_cost(d));
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, in, out, accept, vecs)                                                                     \
  {                                                                                                             \
    name, "Conv", in, out, 1, PN_CODE(sizeof(PN_TIER::Direct), PN_TIER::accept, PN_TIER::cost<PN_TIER::vecs>,           \
        PN_TIER::packed_bytes, PN_TIER::pack<PN_TIER::vecs>, nullptr, PN_TIER::thread_scratch_bytes<PN_TIER::vecs>, \
        PN_TIER::prepare<PN_TIER::vecs>, PN_TIER::run)                                                           \
  }

PN_KERNEL_TABLE(conv)
PN_KERNEL_ROWS(conv) = {
    PN_ROW("f32_conv_" PN_BLOCK, PN_TIER::kBlocked, PN_TIER::kBlocked, accepts_blocked, kTileVecs),
    PN_ROW("f32_conv_first_" PN_BLOCK, Layout::kPlain, PN_TIER::kBlocked, accepts_first, kTileVecs),
    PN_ROW("f32_conv_last_" PN_BLOCK, PN_TIER::kBlocked, Layout::kPlain, accepts_last, kTileVecs),
    PN_ROW("f32_conv_plain_" PN_BLOCK, Layout::kPlain, Layout::kPlain, accepts_plain, kTileVecs),
#if defined(__AVX512F__)
    PN_ROW("f32_conv_wide_" PN_BLOCK, PN_TIER::kBlocked, PN_TIER::kBlocked, accepts_wide, kWideVecs),
#endif
};
PN_KERNEL_COUNT(conv);
#undef PN_ROW
static_assert(sizeof(PN_TIER::Direct) <= kMaxKernelState, "state of a convolution");

}  // namespace pyneo
