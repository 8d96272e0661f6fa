// SPDX-License-Identifier: Apache-2.0
//
// The planner behind the C interface.
#include <cstddef>

#include "core/abi.h"
#include "planner/planner.h"

namespace pyneo {
namespace {

static_assert(sizeof(pn_plan_buffer) == sizeof(PlanBuffer) &&
                  offsetof(pn_plan_buffer, offset) == offsetof(PlanBuffer, offset) &&
                  offsetof(pn_plan_buffer, fixed) == offsetof(PlanBuffer, fixed),
              "the C records are the core's");
static_assert(sizeof(pn_plan_node) == sizeof(PlanNode) &&
                  offsetof(pn_plan_node, in_place) == offsetof(PlanNode, in_place) &&
                  offsetof(pn_plan_node, scratch) == offsetof(PlanNode, scratch),
              "the C records are the core's");

const PlanBuffer* cast(const pn_plan_buffer* b) { return reinterpret_cast<const PlanBuffer*>(b); }
const PlanNode* cast(const pn_plan_node* n) { return reinterpret_cast<const PlanNode*>(n); }

Status check_counts(const void* buffers, uint32_t buffer_count, const void* nodes,
                    uint32_t node_count, const void* keep, uint32_t keep_count) {
  constexpr uint32_t kMax = INT32_MAX - 16;
  if (buffer_count > kMax || node_count > kMax || keep_count > kMax) {
    return fail(Status::kInvalidArgument,
                "memory plan: %u buffers, %u nodes, %u results to keep; at most %u of each",
                buffer_count, node_count, keep_count, kMax);
  }
  if ((buffers == nullptr && buffer_count != 0) || (nodes == nullptr && node_count != 0) ||
      (keep == nullptr && keep_count != 0)) {
    return fail(Status::kInvalidArgument,
                "memory plan: buffers, nodes or keep is NULL although its count is not 0");
  }
  return Status::kOk;
}

}  // namespace
}  // namespace pyneo

using pyneo::cast;
using pyneo::Status;

extern "C" pn_status pn_plan_memory(pn_plan_buffer* buffers, uint32_t buffer_count,
                                    const pn_plan_node* nodes, uint32_t node_count,
                                    const int32_t* keep, uint32_t keep_count, uint64_t* arena_bytes,
                                    uint64_t* lower_bound) {
  Status s = pyneo::check_counts(buffers, buffer_count, nodes, node_count, keep, keep_count);
  if (s == Status::kOk && (arena_bytes == nullptr || lower_bound == nullptr)) {
    s = pyneo::fail(Status::kInvalidArgument,
                    "memory plan: arena_bytes and lower_bound must not be NULL");
  }
  if (s != Status::kOk) return pyneo::to_c(s);
  const auto nb = static_cast<int32_t>(buffer_count), nn = static_cast<int32_t>(node_count);
  const auto nk = static_cast<int32_t>(keep_count);
  int64_t arena = 0, bound = 0;
  s = pyneo::plan_memory(reinterpret_cast<pyneo::PlanBuffer*>(buffers), nb, cast(nodes), nn, keep,
                         nk, &arena, &bound);
  if (s == Status::kOk) s = pyneo::check_plan(cast(buffers), nb, cast(nodes), nn, keep, nk, arena);
  *arena_bytes = static_cast<uint64_t>(arena);
  *lower_bound = static_cast<uint64_t>(bound);
  return pyneo::to_c(s);
}

extern "C" pn_status pn_plan_check(const pn_plan_buffer* buffers, uint32_t buffer_count,
                                   const pn_plan_node* nodes, uint32_t node_count,
                                   const int32_t* keep, uint32_t keep_count, uint64_t arena_bytes) {
  Status s = pyneo::check_counts(buffers, buffer_count, nodes, node_count, keep, keep_count);
  if (s == Status::kOk && arena_bytes > INT64_MAX) {
    s = pyneo::fail(Status::kInvalidPackage, "memory plan: an arena of %llu bytes is too large",
                    static_cast<unsigned long long>(arena_bytes));
  }
  if (s != Status::kOk) return pyneo::to_c(s);
  return pyneo::to_c(pyneo::check_plan(cast(buffers), static_cast<int32_t>(buffer_count),
                                       cast(nodes), static_cast<int32_t>(node_count), keep,
                                       static_cast<int32_t>(keep_count),
                                       static_cast<int64_t>(arena_bytes)));
}
