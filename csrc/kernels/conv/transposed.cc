// SPDX-License-Identifier: Apache-2.0
//
// ConvTranspose over one or two spatial axes, float32, as direct convolutions.
//
// Outputs whose positions have the same remainder by the stride see the same taps of the kernel. Each such
// phase is a convolution of stride 1 with every stride-th tap, in reverse, that writes every stride-th output.
#include "kernels/conv/direct.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kMostPhases = 4096;

struct State {
  Geometry g;  // of the whole: in, out, kernel, stride, dilation, padding of the output
  Epilogue epilogue;
  int64_t l2_bytes;
};

struct Axis {
  int64_t in, out, kernel, stride, dilation, pad;
};
Axis rows(const Geometry& g) { return {g.in_h, g.out_h, g.kernel_h, g.stride_h, g.dilation_h, g.pad_h}; }
Axis cols(const Geometry& g) { return {g.in_w, g.out_w, g.kernel_w, g.stride_w, g.dilation_w, g.pad_w}; }

// Outputs first + stride * j, j < count: the j-th reads input j - pad + m * dilation with tap `last` - m * stride.
struct Phase {
  int64_t first, count, taps, last, pad;
  bool empty;  // no tap: one of zeros stands in
};

// Of outputs o with (o + pad) mod stride = r.
__attribute__((noinline)) Phase phase_at(const Axis& a, int64_t r) {
  Phase p;
  p.first = ((r - a.pad) % a.stride + a.stride) % a.stride;
  p.count = a.out > p.first ? ceil_div(a.out - p.first, a.stride) : 0;
  p.empty = r >= a.kernel;
  p.taps = p.empty ? 1 : ceil_div(a.kernel - r, a.stride);
  p.last = r + (p.taps - 1) * a.stride;
  p.pad = (p.taps - 1) * a.dilation - (p.first + a.pad - r) / a.stride;
  return p;
}

int64_t phases(const State& s) { return s.g.stride_h * s.g.stride_w; }

// The i-th phase; false if it has no outputs. Filters of the phases lie one behind the other, those of phases
// without outputs too: where the image's size is open, it must not decide how the filters are packed.
struct Part {
  Direct d;
  Phase v, h;

  int64_t floats() const { return d.g.groups * d.g.group_floats(); }
};
__attribute__((noinline)) bool part_at(const State& s, int64_t i, Part* p) {
  p->v = phase_at(rows(s.g), i / s.g.stride_w);
  p->h = phase_at(cols(s.g), i % s.g.stride_w);
  Direct& d = p->d;
  d.g = s.g;
  d.g.kernel_h = p->v.taps;
  d.g.kernel_w = p->h.taps;
  if (p->v.count == 0 || p->h.count == 0) return false;
  d.epilogue = s.epilogue;
  set_dense(&d);
  d.out_row *= s.g.stride_h;
  d.out_step = s.g.stride_w;
  d.out_first = p->v.first * s.g.out_w + p->h.first;
  d.g.out_h = p->v.count;
  d.g.out_w = p->h.count;
  d.g.pad_h = p->v.pad;
  d.g.pad_w = p->h.pad;
  d.g.stride_h = d.g.stride_w = 1;
  set_end_padding(&d.g);
  plan_direct(s.l2_bytes, kTileVecs, &d);
  return true;
}

PN_COLD bool read(const KernelQuery& q, State* s) {
  const Shape &x = q.in[0]->shape, &w = q.in[1]->shape;
  Window window;
  if (x.rank > 4 || read_transposed_window("ConvTranspose", q.attrs, x, w.dims + 2, &window) != Status::kOk) {
    clear_error();
    return false;
  }
  const int64_t groups = q.attrs.i64("group", 1);
  s->g = plane_geometry(q, window, x[0], groups, x[1], w[1] * groups);
  s->epilogue.read(q.attrs, "ConvTranspose");
  s->l2_bytes = q.target->l2_bytes;
  return true;
}

PN_COLD bool accepts(const KernelQuery& q, bool blocked_in, bool blocked_out) {
  State s;
  if (!accepts_operands(q, blocked_in, blocked_out) || !read(q, &s) || !accepts_groups(s.g)) return false;
  const Geometry& g = s.g;
  return (g.stride_h == 1 || g.dilation_h == 1) && (g.stride_w == 1 || g.dilation_w == 1) && g.stride_h <= kMostPhases &&
         g.stride_w <= kMostPhases && g.stride_h * g.stride_w <= kMostPhases;
}
bool accepts_blocked(const KernelQuery& q) { return accepts(q, true, true); }
bool accepts_first(const KernelQuery& q) { return accepts(q, false, true); }
bool accepts_last(const KernelQuery& q) { return accepts(q, true, false); }
bool accepts_plain(const KernelQuery& q) { return accepts(q, false, false); }

PN_COLD Status prepare(const KernelQuery& q, void* state) {
  read(q, static_cast<State*>(state));
  return Status::kOk;
}

// Over all phases: bytes of filters, most thread scratch, microseconds.
struct Sums {
  int64_t packed, scratch;
  double us;
};
PN_COLD Sums sums(const KernelQuery& q) {
  State s;
  read(q, &s);
  Sums r{};
  Part p;
  for (int64_t i = 0; i < phases(s); ++i) {
    const bool some = part_at(s, i, &p);
    r.packed += p.floats() * 4;
    if (!some) continue;
    const int64_t bytes = direct_scratch_bytes(p.d);
    r.scratch = bytes > r.scratch ? bytes : r.scratch;
    r.us += 0.3 + direct_cost(p.d);
  }
  return r;
}
PN_COLD int64_t thread_scratch_bytes(const KernelQuery& q) { return sums(q).scratch; }
PN_COLD int64_t packed_bytes(const KernelQuery& q) { return sums(q).packed; }
PN_COLD float cost(const KernelQuery& q) { return static_cast<float>(sums(q).us); }

// W is [channel][filter of a group][kernel row][kernel column].
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  State s;
  read(q, &s);
  const float* w = static_cast<const float*>(plain);
  float* to = static_cast<float*>(packed);
  const int64_t filter = s.g.kernel_h * s.g.kernel_w, channel = s.g.filters * filter;
  const FilterSteps steps{s.g.channels * channel, filter, channel, -s.g.stride_h * s.g.kernel_w, -s.g.stride_w};
  Part p;
  for (int64_t i = 0; i < phases(s); ++i) {
    part_at(s, i, &p);
    if (!p.v.empty && !p.h.empty) pack_direct(p.d.g, kTileVecs, w + p.v.last * s.g.kernel_w + p.h.last, steps, to);
    to += p.floats();
  }
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float* bias = c.has(2) ? c.in[2]->as<const float>() : nullptr;
  const float* w = c.in[1]->as<const float>();
  Part p;
  for (int64_t i = 0; i < phases(s); ++i) {
    if (part_at(s, i, &p)) run_direct(p.d, {c.in[0]->as<const float>(), w, bias, nullptr, c.out[0]->as<float>()}, c);
    w += p.floats();
  }
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, in, out, accept)                                                                            \
  {                                                                                                              \
    name, "ConvTranspose", in, out, 1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accept, PN_TIER::cost, PN_TIER::packed_bytes, \
        PN_TIER::pack, nullptr, PN_TIER::thread_scratch_bytes, PN_TIER::prepare, PN_TIER::run)                    \
  }

PN_KERNEL_TABLE(transposed)
PN_KERNEL_ROWS(transposed) = {
    PN_ROW("f32_conv_transpose_" PN_BLOCK, PN_TIER::kBlocked, PN_TIER::kBlocked, accepts_blocked),
    PN_ROW("f32_conv_transpose_first_" PN_BLOCK, Layout::kPlain, PN_TIER::kBlocked, accepts_first),
    PN_ROW("f32_conv_transpose_last_" PN_BLOCK, PN_TIER::kBlocked, Layout::kPlain, accepts_last),
    PN_ROW("f32_conv_transpose_plain_" PN_BLOCK, Layout::kPlain, Layout::kPlain, accepts_plain),
};
PN_KERNEL_COUNT(transposed);
#undef PN_ROW
static_assert(sizeof(PN_TIER::State) <= kMaxKernelState, "state of a transposed convolution");

}  // namespace pyneo
