// SPDX-License-Identifier: Apache-2.0
//
// Unique and NonZero: operators whose output is as long as the data says.
#include <cinttypes>

#include "ops/narrow.h"
#include "ops/order.h"
#include "ops/strided.h"
#include "ops/values.h"
#include "ops/workspace.h"

namespace pyneo {
namespace {

// --- Unique -------------------------------------------------------------------------------------

// The input as `n` items, each of outer x inner elements that lie `stride` apart.
struct Items {
  DType dtype;
  const void* data;
  int64_t outer, n, inner;
  int axis;  // -1: flat
};

Status read_items(const InferContext& c, Items* it) {
  const Shape& x = c.shape(0);
  it->dtype = c.dtype(0);
  it->data = c.value(0);
  it->axis = -1;
  if (c.attrs.has("axis"))
    PN_TRY(normalize_axis("Unique", c.attrs.i64("axis", 0), x.rank, &it->axis));
  it->outer = it->axis < 0 ? 1 : x.product(0, it->axis);
  it->n = it->axis < 0 ? x.elements() : x[it->axis];
  it->inner = it->axis < 0 ? 1 : x.product(it->axis + 1, x.rank);
  return Status::kOk;
}

int compare_items(const Items& it, int64_t a, int64_t b) {
  for (int64_t o = 0; o < it.outer; ++o) {
    for (int64_t i = 0; i < it.inner; ++i) {
      const uint64_t ka = order_key(it.dtype, it.data, (o * it.n + a) * it.inner + i);
      const uint64_t kb = order_key(it.dtype, it.data, (o * it.n + b) * it.inner + i);
      if (ka != kb) return ka < kb ? -1 : 1;
    }
  }
  return 0;
}

// order: item numbers, equal ones together and in order of occurrence. Returns the number of
// groups.
int64_t group_items(const Items& it, int64_t* order, int64_t* spare) {
  for (int64_t i = 0; i < it.n; ++i) order[i] = i;
  merge_sort(order, spare, it.n, [&](int64_t a, int64_t b) { return compare_items(it, a, b) < 0; });
  int64_t groups = 0;
  for (int64_t i = 0; i < it.n; ++i)
    groups += i == 0 || compare_items(it, order[i - 1], order[i]) != 0;
  return groups;
}

Status infer_unique(InferContext& c) {
  Items it;
  PN_TRY(read_items(c, &it));
  PN_TRY(need_value(c, 0));
  Workspace space;
  int64_t bytes = 0;
  if (!checked_mul(it.n, 2 * sizeof(int64_t), &bytes))
    return fail(Status::kOutOfMemory, "Unique: the input is too large");
  PN_TRY(space.allocate("Unique", bytes));
  int64_t* order = static_cast<int64_t*>(space.data());
  const int64_t groups = group_items(it, order, order + it.n);
  Shape y = c.shape(0), per_group, per_item;
  if (it.axis < 0) y.rank = 1;
  y[it.axis < 0 ? 0 : it.axis] = groups;
  per_group.rank = per_item.rank = 1;
  per_group[0] = groups;
  per_item[0] = it.n;
  c.set(0, it.dtype, y);
  c.set(1, DType::kI64, per_group);
  c.set(2, DType::kI64, per_item);
  c.set(3, DType::kI64, per_group);
  return Status::kOk;
}

int64_t scratch_unique(const InferContext& c) {
  Items it;
  if (read_items(c, &it) != Status::kOk) return 0;
  ScratchSize size;
  for (int i = 0; i < 3; ++i) size.add(it.n, sizeof(int64_t));
  return size.bytes();
}

Status run_unique(RunContext& c) {
  const AsInfer again(c);
  Items it;
  PN_TRY(read_items(again.context(), &it));
  const bool sorted = c.attrs.i64("sorted", 1) != 0;
  Scratch scratch(c);
  int64_t* order = scratch.take<int64_t>(it.n);
  int64_t* group = scratch.take<int64_t>(it.n);  // of item i; first the merge sort's spare
  int64_t* rank = scratch.take<int64_t>(it.n);   // place of group g in the output
  const int64_t groups = group_items(it, order, group);
  for (int o = 0; o < 4; ++o) {
    if (!c.wants(o)) continue;
    const int along = o == 0 && it.axis > 0 ? it.axis : 0;
    if (c.out[o]->dim(along) != (o == 2 ? it.n : groups)) {
      return fail(Status::kInvalidModel,
                  "Unique: the data holds %" PRId64 " distinct items, the plan has another number",
                  groups);
    }
  }
  int64_t g = -1;
  for (int64_t i = 0; i < it.n; ++i) {
    g += i == 0 || compare_items(it, order[i - 1], order[i]) != 0;
    group[order[i]] = g;
    rank[g] = sorted ? g : -1;
  }
  if (c.wants(3)) {
    for (int64_t i = 0; i < groups; ++i) c.out[3]->as<int64_t>()[i] = 0;
  }
  const int64_t bytes = it.inner * static_cast<int64_t>(dtype_size(it.dtype));
  int64_t seen = 0;
  // `order` is not needed any more: it marks the groups whose first item has been met.
  for (int64_t i = 0; i < groups; ++i) order[i] = 0;
  for (int64_t i = 0; i < it.n; ++i) {
    const int64_t which = group[i];
    if (order[which] == 0) {
      order[which] = 1;
      if (!sorted) rank[which] = seen;
      ++seen;
      if (c.wants(1)) c.out[1]->as<int64_t>()[rank[which]] = i;
      for (int64_t o = 0; c.wants(0) && o < it.outer; ++o) {
        memcpy(c.out[0]->as<uint8_t>() + (o * groups + rank[which]) * bytes,
               static_cast<const uint8_t*>(it.data) + (o * it.n + i) * bytes,
               static_cast<size_t>(bytes));
      }
    }
    if (c.wants(2)) c.out[2]->as<int64_t>()[i] = rank[which];
    if (c.wants(3)) ++c.out[3]->as<int64_t>()[rank[which]];
  }
  return Status::kOk;
}

// --- NonZero ------------------------------------------------------------------------------------

// Walks the elements that are not zero; NaN is not, -0 is. `visit(flat index)`.
template <typename F>
void each_nonzero(DType t, const void* data, int64_t n, F&& visit) {
  const uint64_t zero_bits = 0;
  const uint64_t zero = order_key(t, &zero_bits, 0);
  for (int64_t i = 0; i < n; ++i) {
    if (order_key(t, data, i) != zero) visit(i);
  }
}

Status infer_nonzero(InferContext& c) {
  PN_TRY(need_value(c, 0));
  Shape y;
  y.rank = 2;
  y[0] = c.shape(0).rank;
  each_nonzero(c.dtype(0), c.value(0), c.shape(0).elements(), [&](int64_t) { ++y[1]; });
  c.set(0, DType::kI64, y);
  return Status::kOk;
}

Status run_nonzero(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t count = y.dim(1), n = x.desc.elements();
  int64_t found = 0;
  each_nonzero(x.desc.dtype, x.data, n, [&](int64_t i) {
    if (found < count) {
      for (int k = x.rank() - 1; k >= 0; --k) {
        y.as<int64_t>()[k * count + found] = i % x.dim(k);
        i /= x.dim(k);
      }
    }
    ++found;
  });
  if (found == count) return Status::kOk;
  return fail(Status::kInvalidModel,
              "NonZero: %" PRId64 " elements are not zero, the plan has %" PRId64, found, count);
}

}  // namespace

extern const OpDef pn_ops_unique[] = {
    {"Unique", 1, 1, 1, 4, 0, infer_unique, run_unique, scratch_unique},
    {"NonZero", 1, 1, 1, 1, 0, infer_nonzero, run_nonzero, nullptr},
};
extern const int pn_ops_unique_count = sizeof(pn_ops_unique) / sizeof(OpDef);

}  // namespace pyneo
