// SPDX-License-Identifier: Apache-2.0
#include <cinttypes>

#include "ops/narrow.h"
#include "ops/order.h"
#include "ops/strided.h"
#include "ops/values.h"

namespace pyneo {
namespace {

constexpr int64_t kTasks = 32;  // at most: each has a heap of its own in scratch, and room to sort it

struct Rows {
  int64_t outer, n, inner, k;
  Shape shape;
};

Status plan_topk(const InferContext& c, Rows* r) {
  const Shape& x = c.shape(0);
  if (c.dtype(0) == DType::kBool) return fail(Status::kUnsupported, "TopK: bool has no order");
  int axis = 0;
  PN_TRY(normalize_axis("TopK", c.attrs.i64("axis", -1), x.rank, &axis));
  PN_TRY(read_int_scalar(c, 1, 0, &r->k));
  r->n = x[axis];
  if (r->k < 0 || r->k > r->n) {
    return fail(Status::kInvalidModel, "TopK: k is %" PRId64 ", axis %d has %" PRId64 " elements",
                r->k, axis, r->n);
  }
  r->outer = x.product(0, axis);
  r->inner = x.product(axis + 1, x.rank);
  r->shape = x;
  r->shape[axis] = r->k;
  return Status::kOk;
}

Status infer_topk(InferContext& c) {
  Rows r;
  PN_TRY(plan_topk(c, &r));
  c.set(0, c.dtype(0), r.shape);
  c.set(1, DType::kI64, r.shape);
  return Status::kOk;
}

int64_t topk_tasks(const Rows& r) {
  return r.outer * r.inner < kTasks ? r.outer * r.inner : kTasks;
}

int64_t scratch_topk(const InferContext& c) {
  Rows r;
  if (plan_topk(c, &r) != Status::kOk) return 0;
  ScratchSize size;
  size.add(2 * topk_tasks(r) * r.k, sizeof(Ranked));
  return size.bytes();
}

// The first of the floats [at, n), `step` apart, that may come before `bar`: larger (or, with `flip`, smaller), or
// NaN on one side. Most elements of a long row end here.
int64_t skip_behind(const float* x, int64_t step, int64_t at, int64_t n, float bar, bool flip) {
  if (step == 1) {
    typedef float F4 __attribute__((vector_size(16), aligned(4)));
    typedef int64_t L2 __attribute__((vector_size(16)));
    const float sign = flip ? -1.0f : 1.0f, top = bar * sign;
    const F4 limit = F4{} + top, factor = F4{} + sign;
    for (; at + 16 <= n; at += 16) {
      const F4* v = reinterpret_cast<const F4*>(x + at);
      const auto behind = (v[0] * factor <= limit) & (v[1] * factor <= limit) & (v[2] * factor <= limit) &
                          (v[3] * factor <= limit);
      const L2 all = reinterpret_cast<L2>(behind);
      if ((all[0] & all[1]) != -1) break;
    }
  }
  for (; at < n; ++at) {
    const float v = x[at * step];
    if (flip ? !(v >= bar) : !(v <= bar)) break;
  }
  return at;
}

Status run_topk(RunContext& c) {
  const AsInfer again(c);
  Rows r;
  PN_TRY(plan_topk(again.context(), &r));
  const Tensor& x = *c.in[0];
  for (int o = 0; o < 2; ++o) {
    if (c.wants(o)) PN_TRY(expect_shape(c, o, r.shape));
  }
  if (r.shape.elements() == 0) return Status::kOk;
  const bool sorted = c.attrs.i64("sorted", 1) != 0, by_digits = r.k >= 48;
  const uint64_t flip = c.attrs.i64("largest", 1) != 0 ? 0 : ~uint64_t{0};
  const size_t size = dtype_size(x.desc.dtype);
  const int64_t rows = r.outer * r.inner, tasks = topk_tasks(r);
  c.pool->run(tasks, [&](int64_t task, int) {
    Ranked* heap = static_cast<Ranked*>(c.scratch) + 2 * task * r.k;
    for (int64_t row = rows * task / tasks; row < rows * (task + 1) / tasks; ++row) {
      const int64_t o = row / r.inner, i = row % r.inner;
      const int64_t from = o * r.n * r.inner + i, to = o * r.k * r.inner + i;
      auto at = [&](int64_t j) {
        return Ranked{order_key(x.desc.dtype, x.data, from + j * r.inner) ^ flip, j};
      };
      for (int64_t j = 0; j < r.k; ++j) heap[j] = at(j);
      if (r.k < r.n || !by_digits) make_heap(heap, r.k, false);
      for (int64_t j = r.k; j < r.n; ++j) {
        if (x.desc.dtype == DType::kF32) {
          const float* lane = x.as<const float>() + from;
          j = skip_behind(lane, r.inner, j, r.n, lane[heap[0].index * r.inner], flip != 0);
          if (j == r.n) break;
        }
        const Ranked next = at(j);
        if (next.key <= heap[0].key) continue;  // a later index loses a tie
        heap[0] = next;
        sift_down(heap, r.k, 0, false);
      }
      const Ranked* list = heap;
      if (sorted && by_digits) {
        list = sort_digits(heap, heap + r.k, r.k, r.k < r.n);
      } else if (sorted) {
        sort_heap(heap, r.k);
      }
      for (int64_t j = 0; j < r.k; ++j) {
        const int64_t place = to + j * r.inner;
        const int64_t source = from + list[j].index * r.inner;
        if (c.wants(0) && size == 4) {
          c.out[0]->as<uint32_t>()[place] = x.as<const uint32_t>()[source];
        } else if (c.wants(0)) {
          memcpy(c.out[0]->as<uint8_t>() + place * static_cast<int64_t>(size),
                 x.as<uint8_t>() + source * static_cast<int64_t>(size), size);
        }
        if (c.wants(1)) c.out[1]->as<int64_t>()[place] = list[j].index;
      }
    }
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_topk[] = {
    {"TopK", 2, 2, 1, 2, 0, infer_topk, run_topk, scratch_topk},
};
extern const int pn_ops_topk_count = sizeof(pn_ops_topk) / sizeof(OpDef);

}  // namespace pyneo
