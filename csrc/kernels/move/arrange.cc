// SPDX-License-Identifier: Apache-2.0
//
// Nodes that put elements of 4 bytes into another order: Transpose, Reorder, DepthToSpace, SpaceToDepth.
//
// A channel-blocked tensor is a plain one with an axis more (C is C/V and V), so all of these are one
// walk over axes with a step for each operand. The two innermost axes decide how fast it is: runs that
// lie together on both sides are copied as vectors; where a run of the source is spread over the
// destination and the other way round, squares are transposed in registers.
#include <cstring>

#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "simd/transpose.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int kAxes = kMaxRank + 1;
constexpr int64_t kStrip = 128;  // elements along a source run that one task transposes

struct Nest {
  int64_t dims[kAxes] = {}, from[kAxes] = {}, to[kAxes] = {};  // outer axes first; steps in elements
  int32_t rank = 0;
  bool square = false;  // the last two axes: runs of the source, runs of the destination

  void add(int64_t dim, int64_t from_step, int64_t to_step) {
    dims[rank] = dim;
    from[rank] = from_step;
    to[rank++] = to_step;
  }
};

struct State {
  Nest whole, tail;                             // tail: the channels of the last, unfilled block; rank 0: none
  int32_t tail_from = 0, tail_to = 0;                   // where they begin, in blocks of V channels ...
  int64_t from_block = 0, to_block = 0;                 // ... of so many elements
  int64_t pad_images = 0, pad_step = 0, pad_at = 0, pad_n = 0;  // lanes of the destination that hold no channel: zeros
};
static_assert(sizeof(State) <= kMaxKernelState, "the state of a kernel is bounded");

void exchange(int64_t* v, int i, int j) {
  const int64_t t = v[i];
  v[i] = v[j];
  v[j] = t;
}
void exchange(Nest* n, int i, int j) {
  exchange(n->dims, i, j);
  exchange(n->from, i, j);
  exchange(n->to, i, j);
}

// Drops axes of one, orders by the destination's steps, joins axes that are one run on both sides, and
// brings the two that move together to the end.
PN_COLD __attribute__((noinline)) void collapse(Nest* n) {
  int r = 0;
  for (int i = 0; i < n->rank; ++i) {
    if (n->dims[i] != 1) exchange(n, r++, i);
  }
  for (int i = 1; i < r; ++i) {
    for (int j = i; j > 0 && n->to[j - 1] < n->to[j]; --j) exchange(n, j - 1, j);
  }
  int kept = 0;
  for (int i = 1; i < r; ++i) {
    if (n->from[kept] == n->from[i] * n->dims[i] && n->to[kept] == n->to[i] * n->dims[i]) {
      n->dims[kept] *= n->dims[i];
      n->from[kept] = n->from[i];
      n->to[kept] = n->to[i];
    } else {
      exchange(n, ++kept, i);
    }
  }
  n->rank = r > 0 ? kept + 1 : 0;
  while (n->rank < 2) {  // always an outer and an inner axis
    for (int i = n->rank; i > 0; --i) exchange(n, i - 1, i);
    n->dims[0] = 1;
    n->from[0] = n->to[0] = n->rank == 0 ? 1 : 0;
    ++n->rank;
  }
  const int last = n->rank - 1;
  n->square = n->from[last] != 1 && n->to[last] == 1;
  for (int i = last - 1; n->square && i >= 0; --i) {
    if (n->from[i] != 1) continue;
    for (; i < last - 1; ++i) exchange(n, i, i + 1);
    return;
  }
  n->square = false;
}

PN_INLINE void copy_run(const float* x, float* y, int64_t n) {
  if (n == kVec) return store(y, load(x));
  if (n >= 8 * kVec) {
    memcpy(y, x, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  int64_t i = 0;
  for (; i + kVec <= n; i += kVec) store(y + i, load(x + i));
  for (; i < n; ++i) y[i] = x[i];
}

// The last two axes, or a strip of the source's runs.
void copy_inner(const Nest& n, const float* x, float* y, int64_t begin, int64_t end) {
  const int a = n.rank - 2, b = n.rank - 1;
  const int64_t xa = n.from[a], ya = n.to[a], xb = n.from[b], yb = n.to[b], count = n.dims[b];
  if (n.square) {
    for (int64_t i = begin; i < end; i += kVec) {
      const int columns = end - i < kVec ? static_cast<int>(end - i) : kVec;
      for (int64_t k = 0; k < count; k += kVec) {
        const int rows = count - k < kVec ? static_cast<int>(count - k) : kVec;
        transpose_part(x + i + k * xb, xb, y + i * ya + k, ya, rows, columns);
      }
    }
  } else if (xb == 1 && yb == 1) {
    for (int64_t i = begin; i < end; ++i) copy_run(x + i * xa, y + i * ya, count);
  } else {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t k = 0; k < count; ++k) y[i * ya + k * yb] = x[i * xa + k * xb];
    }
  }
}

__attribute__((noinline)) void walk(const Nest& n, const Pool& pool, const float* x, float* y) {
  const int outer = n.rank - 2;
  int64_t items = 1;
  for (int i = 0; i < outer; ++i) items *= n.dims[i];
  const int64_t rows = n.dims[outer], strips = ceil_div(rows, kStrip), columns = n.dims[outer + 1];
  spread(pool, items * strips, (rows < kStrip ? rows : kStrip) * columns, [&](int64_t begin, int64_t end, int) {
    int64_t at[kAxes], item = begin / strips, strip = begin % strips;
    const float* src = x;
    float* dst = y;
    for (int i = outer - 1; i >= 0; --i) {
      at[i] = item % n.dims[i];
      item /= n.dims[i];
      src += at[i] * n.from[i];
      dst += at[i] * n.to[i];
    }
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = strip * kStrip;
      copy_inner(n, src, dst, first, first + kStrip < rows ? first + kStrip : rows);
      if (++strip < strips) continue;
      strip = 0;
      for (int i = outer - 1; i >= 0; --i) {
        src += n.from[i];
        dst += n.to[i];
        if (++at[i] < n.dims[i]) break;
        src -= n.from[i] * n.dims[i];
        dst -= n.to[i] * n.dims[i];
        at[i] = 0;
      }
    }
  });
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const float* x = c.in[0]->as<const float>();
  float* y = c.out[0]->as<float>();
  if (c.out[0]->desc.elements() == 0) return Status::kOk;
  for (int64_t i = 0; i < s.pad_images; ++i) {
    memset(y + i * s.pad_step + s.pad_at, 0, static_cast<size_t>(s.pad_n) * sizeof(float));
  }
  if (s.whole.rank > 0) walk(s.whole, *c.pool, x, y);
  if (s.tail.rank > 0) walk(s.tail, *c.pool, x + s.tail_from * s.from_block, y + s.tail_to * s.to_block);
  return Status::kOk;
}

// --- what a node's axes are ------------------------------------------------------------------------

// One axis of the walk for each axis of a tensor: steps in elements, a blocked tensor's channels in blocks.
PN_COLD void steps_of(const TensorDesc& t, int64_t* steps) {
  int64_t step = t.layout == Layout::kPlain ? 1 : kVec;
  for (int i = t.shape.rank - 1; i >= 0; --i) {
    steps[i] = step;  // of channels: the step between blocks
    step *= i == 1 && t.layout != Layout::kPlain ? ceil_div(t.shape[1], kVec) : t.shape[i];
  }
}

bool layout_fits(const TensorDesc& t) {
  return t.layout == Layout::kPlain || (t.layout == kBlocked && t.dtype == DType::kF32 && t.shape.rank >= 3);
}

// y's axes in order, each with the axis of x that it is. False where the channels of both sides are
// blocked and are not the same axis.
PN_COLD __attribute__((noinline)) bool fill_permuted(const TensorDesc& x, const TensorDesc& y, const int* perm, State* s) {
  int64_t from[kMaxRank], to[kMaxRank];
  const bool x_blocked = x.layout != Layout::kPlain, y_blocked = y.layout != Layout::kPlain;
  const int rank = y.shape.rank;
  if (!layout_fits(x) || !layout_fits(y) || dtype_size(x.dtype) != 4 || x.dtype != y.dtype) return false;
  steps_of(x, from);
  steps_of(y, to);
  *s = State{};
  for (int part = 0; part < 2; ++part) {  // whole blocks, then the rest
    Nest* n = part == 0 ? &s->whole : &s->tail;
    bool any = true, split_seen = false;
    for (int i = 0; i < rank; ++i) {
      const bool split_x = x_blocked && perm[i] == 1, split_y = y_blocked && i == 1;
      if (!split_x && !split_y) {
        n->add(y.shape[i], from[perm[i]], to[i]);
        continue;
      }
      if (split_seen) return false;
      split_seen = true;
      const int64_t channels = y.shape[i], from_block = split_x ? from[1] : from[perm[i]] * kVec;
      const int64_t to_block = split_y ? to[1] : to[i] * kVec, from_lane = split_x ? 1 : from[perm[i]];
      const int64_t to_lane = split_y ? 1 : to[i], both = split_x && split_y;
      const int64_t blocks = both ? ceil_div(channels, kVec) : channels / kVec, rest = both ? 0 : channels % kVec;
      if (part == 0) {
        any = blocks > 0;
        n->add(blocks, from_block, to_block);
        n->add(kVec, from_lane, to_lane);
        continue;
      }
      any = rest > 0;
      n->add(rest, from_lane, to_lane);
      s->tail_from = s->tail_to = static_cast<int32_t>(blocks);
      s->from_block = from_block;
      s->to_block = to_block;
      if (split_y && any) {
        const int64_t plane = y.shape.product(2, rank) * kVec;
        s->pad_images = y.shape[0];
        s->pad_step = plane * ceil_div(channels, kVec);
        s->pad_at = plane * blocks;
        s->pad_n = plane;
      }
    }
    if (part == 1 && !split_seen) any = false;
    if (any) {
      collapse(n);
    } else {
      n->rank = 0;
    }
  }
  return true;
}

PN_COLD __attribute__((noinline)) bool fill_transpose(const KernelQuery& q, State* s) {
  const int rank = q.in[0]->shape.rank;
  const Ints perm = q.attrs.ints("perm");
  int p[kMaxRank];
  for (int i = 0; i < rank; ++i) {
    const int64_t a = perm.size == rank ? perm[i] : rank - 1 - i;
    if (a < 0 || a >= rank) return false;
    p[i] = static_cast<int>(a);
  }
  return fill_permuted(*q.in[0], *q.out[0], p, s);
}

template <Layout to>
PN_COLD __attribute__((noinline)) bool fill_reorder(const KernelQuery& q, State* s) {
  const int p[kMaxRank] = {0, 1, 2, 3, 4, 5, 6, 7};
  return q.in[0]->dtype == DType::kF32 && q.in[0]->shape == q.out[0]->shape && q.out[0]->layout == to && q.in[0]->layout != to &&
         fill_permuted(*q.in[0], *q.out[0], p, s);
}

// Blocks of pixels and channels: (image, depth, block row, block column, row, column). Blocked only where
// `depth` is whole blocks and the innermost of the deep side's channels (mode DCR).
template <bool to_space>
PN_COLD __attribute__((noinline)) bool fill_blocks(const KernelQuery& q, State* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  const TensorDesc &deep = to_space ? x : y, &wide = to_space ? y : x;
  if (!layout_fits(x) || x.layout != y.layout || dtype_size(x.dtype) != 4 || x.shape.rank != 4) return false;
  const int64_t b = q.attrs.i64("blocksize", 0), depth = wide.shape[1];
  const bool crd = q.attrs.str("mode", "DCR") == "CRD";
  const bool blocked = x.layout != Layout::kPlain;
  if (b < 1 || (blocked && (crd || depth % kVec != 0))) return false;
  const int64_t lanes = blocked ? kVec : 1, height = deep.shape[2], width = deep.shape[3];
  const int64_t plane = height * width * lanes, line = wide.shape[3] * lanes, area = wide.shape[2] * line;
  const int64_t units = depth / lanes;  // of depth: channels, or blocks of them
  const int64_t dims[6] = {x.shape[0], units, b, b, height, width};
  const int64_t deep_steps[6] = {units * b * b * plane, crd ? b * b * plane : plane, (crd ? b : b * units) * plane,
                                 (crd ? 1 : units) * plane, width * lanes, lanes};
  const int64_t wide_steps[6] = {units * area, area, line, lanes, b * line, b * lanes};
  *s = State{};
  for (int i = 0; i < 6; ++i) s->whole.add(dims[i], to_space ? deep_steps[i] : wide_steps[i], to_space ? wide_steps[i] : deep_steps[i]);
  if (blocked) s->whole.add(kVec, 1, 1);
  collapse(&s->whole);
  return true;
}

// Images and channels stay, pixels take another shape: the bytes of a blocked tensor do not move.
PN_COLD __attribute__((noinline)) bool fill_reshape(const KernelQuery& q, State* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  if (x.layout != kBlocked || y.layout != kBlocked || !layout_fits(x) || !layout_fits(y)) return false;
  if (x.shape[0] != y.shape[0] || x.shape[1] != y.shape[1]) return false;
  *s = State{};
  s->whole.add(x.shape[0] * ceil_div(x.shape[1], kVec) * x.shape.product(2, x.shape.rank) * kVec, 1, 1);
  collapse(&s->whole);
  return true;
}

// A walk whose inner loop is scalar is the reference's as well; it is taken where it saves a reorder.
template <bool (*fill)(const KernelQuery&, State*)>
PN_COLD bool accepts(const KernelQuery& q) {
  State s;
  return fill(q, &s);
}
template <bool (*fill)(const KernelQuery&, State*)>
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "a change of order was prepared for operands it does not accept");
}
template <bool (*fill)(const KernelQuery&, State*)>
PN_COLD float cost(const KernelQuery& q) {
  State s;
  const float bytes = static_cast<float>(q.in[0]->bytes() + q.out[0]->bytes());
  if (!fill(q, &s)) return 0.3f + bytes * 5e-4f;
  const Nest& n = s.whole.rank > 0 ? s.whole : s.tail;
  const bool runs = n.rank > 0 && n.from[n.rank - 1] == 1 && n.to[n.rank - 1] == 1;
  return 0.3f + bytes * (runs ? 4e-5f : n.square ? 6e-5f : 1.2e-4f);
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, in, out, fill)                                                                          \
  {name, op, in, out, -1, sizeof(PN_TIER::State), PN_TIER::accepts<PN_TIER::fill>, PN_TIER::cost<PN_TIER::fill>,  \
   nullptr, nullptr, nullptr, nullptr, PN_TIER::prepare<PN_TIER::fill>, PN_TIER::run}
PN_KERNEL_TABLE(arrange)
PN_KERNEL_ROWS(arrange) = {
    PN_ROW("x32_transpose", "Transpose", Layout::kAny, Layout::kAny, fill_transpose),
    PN_ROW("f32_reorder_plain_" PN_BLOCK, "Reorder", Layout::kPlain, PN_TIER::kBlocked, fill_reorder<PN_TIER::kBlocked>),
    PN_ROW("f32_reorder_" PN_BLOCK "_plain", "Reorder", PN_TIER::kBlocked, Layout::kPlain, fill_reorder<Layout::kPlain>),
    PN_ROW("f32_reshape_" PN_BLOCK, "Reshape", PN_TIER::kBlocked, PN_TIER::kBlocked, fill_reshape),
    PN_ROW("x32_depth_to_space", "DepthToSpace", Layout::kAny, Layout::kAny, fill_blocks<true>),
    PN_ROW("x32_space_to_depth", "SpaceToDepth", Layout::kAny, Layout::kAny, fill_blocks<false>),
};
PN_KERNEL_COUNT(arrange);

}  // namespace pyneo
