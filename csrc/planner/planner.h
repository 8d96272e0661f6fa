// SPDX-License-Identifier: Apache-2.0
//
// Memory planner: offsets in one arena for every tensor that lives only inside a run.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace pyneo {

// A tensor to place. `bytes` >= 0; an empty tensor takes no memory. `alias_of` >= 0: a view, `alias_offset`
// bytes into that buffer and wholly inside it (chains are allowed, cycles are an error): concat parts, split
// results, reshapes. A root's life is the union of its family's. `fixed`: lives elsewhere (constant, caller's
// buffer, state), takes no arena, and so do all views of it. A buffer that no node uses still gets a place.
struct PlanBuffer {
  int64_t bytes;
  int32_t alias_of;
  int32_t fixed;
  int64_t alias_offset;
  int64_t offset;  // out: arena offset, a multiple of 64 for roots; -1 in a fixed family
};

struct PlanNode {
  const int32_t* inputs;
  const int32_t* outputs;
  int32_t input_count, output_count;
  int32_t scratch;    // written and read by this node only; -1: none
  uint32_t in_place;  // bit i: output 0 may take the memory of input i when that input's family dies here, both
                      // are in the arena and cover the whole of their families, and their sizes agree
};

constexpr int64_t kArenaAlignment = 64;

// Places every buffer. `keep`: buffers that must survive the last node. Uses malloc for its own work
// (never called during a run). `lower_bound`: the largest sum of bytes live at one node, each root rounded
// up to 64 bytes and an in-place pair counted once. O(n log n) unless very many buffers live together.
Status plan_memory(PlanBuffer* buffers, int32_t buffer_count, const PlanNode* nodes, int32_t node_count,
                   const int32_t* keep, int32_t keep_count, int64_t* arena_bytes, int64_t* lower_bound);

// Independent check of a finished plan, whoever made it: replays the nodes over the arena's bytes and
// proves that whatever is read was last written by the tensor it claims to be (each byte of a family
// exactly once, so all parts of a concat before it is read), that nothing reaches past `arena_bytes`, and that
// no output or scratch overlaps an operand of the same node except for an allowed in-place pair. Indices
// may come from a file. Shares no code with plan_memory. O(n log n).
Status check_plan(const PlanBuffer* buffers, int32_t buffer_count, const PlanNode* nodes, int32_t node_count,
                  const int32_t* keep, int32_t keep_count, int64_t arena_bytes);

}  // namespace pyneo
