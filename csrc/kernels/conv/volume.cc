// SPDX-License-Identifier: Apache-2.0
//
// Conv over three spatial axes, float32: each slice of the output is a sum of convolutions over two axes, one for
// each slice of the kernel that meets the image. Of a plain image with few channels it is one convolution of all these
// slices.
#include "kernels/conv/direct.h"
#include "kernels/gemm/partition.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kShortDepth = 80;  // of one slice
constexpr double kSliceFlops = 8e6;

struct State {
  Direct slice;     // of one image: of g.taps slices of the kernel, which is all of them or one
  Slices depth;
  int64_t batch;
  Activation act, post;
  bool whole;

  int64_t tap_floats() const { return slice.g.groups * slice.g.group_floats(); }
};

PN_COLD bool read(const KernelQuery& q, State* s) {
  Direct& d = s->slice;
  if (q.in[0]->shape.rank != 5 || !read_geometry(q, &d.g, &s->depth)) return false;
  s->batch = d.g.batch;
  d.g.batch = 1;
  set_dense(&d);
  d.tap_plane = d.in_plane * s->depth.dilation;
  d.in_plane *= s->depth.in;
  d.out_plane *= s->depth.out;
  d.epilogue = Epilogue{{}, {}, true};
  if (s->depth.kernel == 1 || (d.g.depth() <= kShortDepth && !d.g.blocked_in)) {
    d.g.taps = s->depth.kernel;
    d.g.channels *= d.g.taps;
    d.epilogue.read(q.attrs, "Conv");
  }
  plan_direct(q.target->l2_bytes, kTileVecs, &d);
  Epilogue e;
  e.read(q.attrs, "Conv");
  s->act = e.act;
  s->post = e.post;
  s->whole = d.g.taps == s->depth.kernel;
  return true;
}

PN_COLD bool accepts(const KernelQuery& q, bool blocked_in, bool blocked_out) {
  State s;
  return accepts_operands(q, blocked_in, blocked_out) && read(q, &s) && accepts_groups(s.slice.g) && s.depth.met();
}
bool accepts_blocked(const KernelQuery& q) { return accepts(q, true, true); }
bool accepts_first(const KernelQuery& q) { return accepts(q, false, true); }

PN_COLD Status prepare(const KernelQuery& q, void* state) {
  read(q, static_cast<State*>(state));
  return Status::kOk;
}

PN_COLD int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  read(q, &s);
  return direct_scratch_bytes(s.slice);
}

PN_COLD int64_t packed_bytes(const KernelQuery& q) {
  State s;
  read(q, &s);
  return s.depth.kernel / s.slice.g.taps * s.tap_floats() * 4;
}

PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  State s;
  read(q, &s);
  const Geometry& g = s.slice.g;
  const int64_t plane = g.kernel_h * g.kernel_w, channel = s.depth.kernel * plane;
  const int64_t filter = g.channels / g.taps / g.merged * channel;
  const FilterSteps steps{g.filters * filter, filter, channel, g.kernel_w, 1, plane};
  for (int64_t k = 0; k < s.depth.kernel / g.taps; ++k) {
    pack_direct(g, kTileVecs, static_cast<const float*>(plain) + k * plane, steps, static_cast<float*>(packed) + k * s.tap_floats());
  }
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const Geometry& g = s.slice.g;
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const int64_t channels = round_up(g.groups * g.filters, kVec), own = g.groups * (g.channels / g.taps);
  const int64_t in_image = (g.blocked_in ? round_up(own, kVec) : own) * s.slice.in_plane;
  const auto slice = [&](int64_t n, int64_t d, RunContext& own_c) {
    const int64_t at = n * channels * s.slice.out_plane + d * g.out_h * g.out_w * kVec;
    const float *z = c.has(3) ? in(3) + at : nullptr, *sum = nullptr;
    float* y = c.out[0]->as<float>() + at;
    int64_t first, end;
    s.depth.taps_of(d, &first, &end);
    const int64_t at_once = s.whole ? end - first : 1;
    for (int64_t k = first; k < end; k += at_once) {
      const float* x = in(0) + n * in_image + (d * s.depth.stride + k * s.depth.dilation - s.depth.pad) * g.in_h * g.in_w * g.block();
      const int64_t packed = s.whole ? 0 : k;
      run_direct(s.slice, {x, in(1) + packed * s.tap_floats(), sum == nullptr ? in(2) : nullptr, s.whole ? z : sum, y,
                           k - packed, k - packed + at_once}, own_c);
      sum = y;
    }
    if (s.whole || (s.act.kind == Act::kNone && s.post.kind == Act::kNone && z == nullptr)) return;
    const int64_t size = g.out_h * g.out_w * kVec;
    own_c.pool->run(channels / kVec, [&](int64_t block, int) {
      const int64_t from = block * s.slice.out_plane * kVec;
      finish_rows(s.act, z != nullptr ? z + from : nullptr, s.post, y + from, size);
    });
  };
  const int64_t slices = s.batch * s.depth.out;
  // Threads divide slices of little work, and every slice otherwise.
  const double work = g.flops() * static_cast<double>(s.depth.kernel / g.taps);
  if (work > kSliceFlops || work * static_cast<double>(slices) < kAloneFlops || slices < c.pool->size()) {
    for (int64_t i = 0; i < slices; ++i) slice(i / s.depth.out, i % s.depth.out, c);
    return Status::kOk;
  }
  c.pool->run(slices, [&](int64_t i, int thread) {
    Pool serial = Pool::serial();
    RunContext alone = c;
    alone.pool = &serial;
    alone.thread_scratch += thread * c.thread_stride;
    slice(i / s.depth.out, i % s.depth.out, alone);
  });
  return Status::kOk;
}

PN_COLD float cost(const KernelQuery& q) {
  State s;
  read(q, &s);
  return static_cast<float>(direct_cost(s.slice) * static_cast<double>(s.batch * s.depth.out * (s.depth.kernel / s.slice.g.taps)));
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, in, accept)                                                                              \
  {                                                                                                           \
    name, "Conv", in, PN_TIER::kBlocked, 1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accept, PN_TIER::cost,            \
        PN_TIER::packed_bytes, PN_TIER::pack, nullptr, PN_TIER::thread_scratch_bytes, PN_TIER::prepare, PN_TIER::run) \
  }

PN_KERNEL_TABLE(volume)
PN_KERNEL_ROWS(volume) = {
    PN_ROW("f32_conv_volume_" PN_BLOCK, PN_TIER::kBlocked, accepts_blocked),
    PN_ROW("f32_conv_volume_first_" PN_BLOCK, Layout::kPlain, accepts_first),
};
PN_KERNEL_COUNT(volume);
#undef PN_ROW
static_assert(sizeof(PN_TIER::State) <= kMaxKernelState, "state of a convolution over three axes");

}  // namespace pyneo
