// SPDX-License-Identifier: Apache-2.0
#include "kernels/arrange.h"

#include <cstring>

namespace pyneo {
namespace {

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
void collapse(Nest* n) {
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

// --- what a node's axes are ------------------------------------------------------------------------

// One axis of the walk for each axis of a tensor: steps in elements, a blocked tensor's channels in blocks.
void steps_of(const TensorDesc& t, int vec, int64_t* steps) {
  int64_t step = t.layout == Layout::kPlain ? 1 : vec;
  for (int i = t.shape.rank - 1; i >= 0; --i) {
    steps[i] = step;  // of channels: the step between blocks
    step *= i == 1 && t.layout != Layout::kPlain ? ceil_div(t.shape[1], vec) : t.shape[i];
  }
}

bool layout_fits(const KernelQuery& q, const TensorDesc& t) {
  return t.layout == Layout::kPlain || (t.layout == q.blocked() && t.dtype == DType::kF32 && t.shape.rank >= 3);
}

// y's axes in order, each with the axis of x that it is. False where the channels of both sides are
// blocked and are not the same axis.
bool fill_permuted(const KernelQuery& q, const int* perm, ArrangePlan* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  const int vec = q.vec();
  int64_t from[kMaxRank], to[kMaxRank];
  const bool x_blocked = x.layout != Layout::kPlain, y_blocked = y.layout != Layout::kPlain;
  const int rank = y.shape.rank;
  if (!layout_fits(q, x) || !layout_fits(q, y) || dtype_size(x.dtype) != 4 || x.dtype != y.dtype) return false;
  steps_of(x, vec, from);
  steps_of(y, vec, to);
  *s = ArrangePlan{};
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
      const int64_t channels = y.shape[i], from_block = split_x ? from[1] : from[perm[i]] * vec;
      const int64_t to_block = split_y ? to[1] : to[i] * vec, from_lane = split_x ? 1 : from[perm[i]];
      const int64_t to_lane = split_y ? 1 : to[i], both = split_x && split_y;
      const int64_t blocks = both ? ceil_div(channels, vec) : channels / vec, rest = both ? 0 : channels % vec;
      if (part == 0) {
        any = blocks > 0;
        n->add(blocks, from_block, to_block);
        n->add(vec, from_lane, to_lane);
        continue;
      }
      any = rest > 0;
      n->add(rest, from_lane, to_lane);
      s->tail_from = s->tail_to = static_cast<int32_t>(blocks);
      s->from_block = from_block;
      s->to_block = to_block;
      if (split_y && any) {
        const int64_t plane = y.shape.product(2, rank) * vec;
        s->pad_images = y.shape[0];
        s->pad_step = plane * ceil_div(channels, vec);
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

bool fill_transpose(const KernelQuery& q, ArrangePlan* s) {
  const int rank = q.in[0]->shape.rank;
  const Ints perm = q.attrs.ints("perm");
  int p[kMaxRank];
  for (int i = 0; i < rank; ++i) {
    const int64_t a = perm.size == rank ? perm[i] : rank - 1 - i;
    if (a < 0 || a >= rank) return false;
    p[i] = static_cast<int>(a);
  }
  return fill_permuted(q, p, s);
}

bool fill_reorder(const KernelQuery& q, ArrangePlan* s) {
  const int p[kMaxRank] = {0, 1, 2, 3, 4, 5, 6, 7};
  return q.in[0]->dtype == DType::kF32 && q.in[0]->shape == q.out[0]->shape && q.out[0]->layout == q.kernel->layout_out &&
         q.in[0]->layout != q.kernel->layout_out &&
         fill_permuted(q, p, s);
}

// Blocks of pixels and channels: (image, depth, block row, block column, row, column). Blocked only where
// `depth` is whole blocks and the innermost of the deep side's channels (mode DCR).
bool fill_blocks(const KernelQuery& q, bool to_space, ArrangePlan* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  const TensorDesc &deep = to_space ? x : y, &wide = to_space ? y : x;
  if (!layout_fits(q, x) || x.layout != y.layout || dtype_size(x.dtype) != 4 || x.shape.rank != 4) return false;
  const int64_t b = q.attrs.i64("blocksize", 0), depth = wide.shape[1];
  const bool crd = q.attrs.str("mode", "DCR") == "CRD";
  const bool blocked = x.layout != Layout::kPlain;
  const int vec = q.vec();
  if (b < 1 || (blocked && (crd || depth % vec != 0))) return false;
  const int64_t lanes = blocked ? vec : 1, height = deep.shape[2], width = deep.shape[3];
  const int64_t plane = height * width * lanes, line = wide.shape[3] * lanes, area = wide.shape[2] * line;
  const int64_t units = depth / lanes;  // of depth: channels, or blocks of them
  const int64_t dims[6] = {x.shape[0], units, b, b, height, width};
  const int64_t deep_steps[6] = {units * b * b * plane, crd ? b * b * plane : plane, (crd ? b : b * units) * plane,
                                 (crd ? 1 : units) * plane, width * lanes, lanes};
  const int64_t wide_steps[6] = {units * area, area, line, lanes, b * line, b * lanes};
  *s = ArrangePlan{};
  for (int i = 0; i < 6; ++i) s->whole.add(dims[i], to_space ? deep_steps[i] : wide_steps[i], to_space ? wide_steps[i] : deep_steps[i]);
  if (blocked) s->whole.add(vec, 1, 1);
  collapse(&s->whole);
  return true;
}

// Images and channels stay, pixels take another shape: the bytes of a blocked tensor do not move.
bool fill_reshape(const KernelQuery& q, ArrangePlan* s) {
  const TensorDesc &x = *q.in[0], &y = *q.out[0];
  if (x.layout != q.blocked() || y.layout != q.blocked() || !layout_fits(q, x) || !layout_fits(q, y)) return false;
  if (x.shape[0] != y.shape[0] || x.shape[1] != y.shape[1]) return false;
  const int vec = q.vec();
  *s = ArrangePlan{};
  s->whole.add(x.shape[0] * ceil_div(x.shape[1], vec) * x.shape.product(2, x.shape.rank) * vec, 1, 1);
  collapse(&s->whole);
  return true;
}

bool fill(const KernelQuery& q, ArrangePlan* s) {
  const auto is = [&](const char* op) { return strcmp(q.op(), op) == 0; };
  if (is("Transpose")) return fill_transpose(q, s);
  if (is("Reorder")) return fill_reorder(q, s);
  if (is("Reshape")) return fill_reshape(q, s);
  return fill_blocks(q, is("DepthToSpace"), s);
}

}  // namespace

bool arrange_accepts(const KernelQuery& q) {
  ArrangePlan s;
  return fill(q, &s);
}

Status arrange_prepare(const KernelQuery& q, void* state) {
  if (fill(q, static_cast<ArrangePlan*>(state))) return Status::kOk;
  return fail(Status::kInternal, "a change of order was prepared for operands it does not accept");
}

// A walk whose inner loop is scalar is the reference's as well; it is taken where it saves a reorder.
float arrange_cost(const KernelQuery& q) {
  ArrangePlan s;
  const float bytes = static_cast<float>(q.in[0]->bytes() + q.out[0]->bytes());
  if (!fill(q, &s)) return 0.3f + bytes * 5e-4f;
  const Nest& n = s.whole.rank > 0 ? s.whole : s.tail;
  const bool runs = n.rank > 0 && n.from[n.rank - 1] == 1 && n.to[n.rank - 1] == 1;
  return 0.3f + bytes * (runs ? 4e-5f : n.square ? 6e-5f : 1.2e-4f);
}

}  // namespace pyneo
