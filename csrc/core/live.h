// SPDX-License-Identifier: Apache-2.0
//
// What lives between the segments of a dynamic model's run: inputs, outputs, whatever a later segment or a
// subgraph reads.
#pragma once

#include "core/memory.h"
#include "core/tensor.h"

namespace pyneo {

// One for each tensor of the plan; those inside a segment have none in use.
struct Live {
  TensorDesc desc;
  uint8_t* data;   // where it is now: `own`, a caller's buffer, another value's memory, a constant
  Buffer own;      // grows to the largest it has held
  bool known;      // follows from shapes and constants alone: shapes may be bound with its value
};

// Values above this size are data, whatever they follow from.
constexpr int64_t kMaxKeptBytes = 1 << 10;

// The memory that one segment at a time runs in, shared by all segments and graphs of a context.
struct RunMemory {
  Block arena, thread_scratch;
  int64_t thread_stride = 0;
  uint32_t epoch = 0;  // changes when memory moves: bindings are attached anew

  Status reserve(int64_t arena_bytes, int64_t thread_bytes, int threads) {
    if (arena.data() == nullptr || arena_bytes > arena.bytes()) {
      ++epoch;
      PN_TRY(arena.allocate(arena_bytes, "the arena"));
      populate_block(arena.data(), static_cast<size_t>(arena_bytes));
    }
    if (thread_bytes > thread_stride) {
      // An odd number of cache lines apart, so that threads do not meet in the same sets.
      const int64_t stride = thread_bytes + 64;
      ++epoch;
      thread_stride = 0;
      PN_TRY(thread_scratch.allocate(stride * threads, "per-thread scratch"));
      populate_block(thread_scratch.data(), static_cast<size_t>(stride));  // the caller's own share
      thread_stride = stride;
    }
    return Status::kOk;
  }
};

}  // namespace pyneo
