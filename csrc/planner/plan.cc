// SPDX-License-Identifier: Apache-2.0
//
// From buffers and nodes to blocks with lives: alias families, in-place merges, the lower bound.
#include "core/tensor.h"
#include "core/vector.h"
#include "planner/place.h"
#include "planner/planner.h"

namespace pyneo {
namespace {

constexpr int64_t kMaxArena = int64_t{1} << 60;
constexpr int64_t kMaxSecondTry = 4000;  // blocks: beyond, one placement is long enough
constexpr int32_t kNever = INT32_MAX;

// What the members of one alias family have in common; kept at the index of its root.
struct Family {
  int32_t first = kNever,
          last = -1;         // nodes that use it; `last` is node_count when it must survive
  int32_t merged_into = -1;  // another root whose memory it takes over (in place)
};

class Planner {
 public:
  Planner(PlanBuffer* buffers, int32_t buffer_count, const PlanNode* nodes, int32_t node_count)
      : buffers_(buffers), buffer_count_(buffer_count), nodes_(nodes), node_count_(node_count) {}

  Status run(const int32_t* keep, int32_t keep_count, int64_t* arena_bytes, int64_t* lower_bound) {
    if (!roots_.resize(buffer_count_) || !relative_.resize(buffer_count_) ||
        !families_.resize(buffer_count_) || !slots_.resize(buffer_count_)) {
      return no_memory();
    }
    PN_TRY(resolve_aliases());
    PN_TRY(find_lives(keep, keep_count));
    // Sharing a dying input's memory is nearly always right, but a chain of merges is one long
    // block, which can be harder to place: if the bound is not met with them, it is tried without.
    merge_in_place();
    int64_t bound = 0, total = 0;
    PN_TRY(lowest_possible(&bound));
    PN_TRY(place(bound, &total));
    write_offsets();
    if (total > bound && merges_ > 0 && blocks_.size() <= kMaxSecondTry) {
      const int64_t merged_total = total;
      for (int32_t i = 0; i < buffer_count_; ++i) families_[i].merged_into = -1;
      PN_TRY(place(bound, &total));
      if (total < merged_total) {
        write_offsets();
      } else {
        total = merged_total;
      }
    }
    *arena_bytes = total;
    *lower_bound = bound;
    return Status::kOk;
  }

 private:
  Status no_memory() const {
    return fail(Status::kOutOfMemory,
                "memory plan: no memory for tables of %d buffers and %d nodes", buffer_count_,
                node_count_);
  }

  // roots_[i] and relative_[i] (offset in the root) for every buffer, with every size checked.
  Status resolve_aliases() {
    int64_t sum = 0;
    for (int32_t i = 0; i < buffer_count_; ++i) {
      const PlanBuffer& b = buffers_[i];
      if (b.bytes < 0 || b.bytes > kMaxArena) {
        return fail(Status::kInvalidArgument,
                    "memory plan: buffer %d has %lld bytes; expected 0 to 2^60", i,
                    static_cast<long long>(b.bytes));
      }
      if (b.alias_of < -1 || b.alias_of >= buffer_count_) {
        return fail(Status::kInvalidArgument,
                    "memory plan: buffer %d is a view of buffer %d, but there are %d buffers", i,
                    b.alias_of, buffer_count_);
      }
      roots_[i] = -1;
    }
    Vector<int32_t> chain;
    for (int32_t i = 0; i < buffer_count_; ++i) {
      chain.clear();
      int32_t at = i;
      while (roots_[at] == -1 && buffers_[at].alias_of >= 0) {
        roots_[at] = -2;  // on the chain now
        if (!chain.push(at)) return no_memory();
        at = buffers_[at].alias_of;
      }
      if (roots_[at] == -2) {
        return fail(Status::kInvalidArgument,
                    "memory plan: buffer %d is a view of itself through a chain of views", at);
      }
      if (roots_[at] == -1) roots_[at] = at;
      while (!chain.empty()) {
        const int32_t view = chain[chain.size() - 1];
        if (!chain.resize(chain.size() - 1)) return no_memory();
        const PlanBuffer& b = buffers_[view];
        const PlanBuffer& parent = buffers_[b.alias_of];
        if (b.alias_offset < 0 || b.alias_offset > parent.bytes ||
            b.bytes > parent.bytes - b.alias_offset) {
          return fail(Status::kInvalidArgument,
                      "memory plan: buffer %d is a view of %lld bytes at offset %lld of buffer %d, "
                      "which has only %lld",
                      view, static_cast<long long>(b.bytes), static_cast<long long>(b.alias_offset),
                      b.alias_of, static_cast<long long>(parent.bytes));
        }
        roots_[view] = roots_[b.alias_of];
        relative_[view] = relative_[b.alias_of] + b.alias_offset;
      }
    }
    for (int32_t i = 0; i < buffer_count_; ++i) {
      families_[i] = Family();
      if (buffers_[i].fixed != 0 && buffers_[roots_[i]].fixed == 0) {
        return fail(Status::kInvalidArgument,
                    "memory plan: buffer %d is fixed but a view of buffer %d, which is not", i,
                    roots_[i]);
      }
      if (!in_arena(i) || roots_[i] != i) continue;
      sum += size_of(i);
      if (sum > kMaxArena) {
        return fail(Status::kInvalidArgument,
                    "memory plan: the buffers add up to more than 2^60 bytes");
      }
    }
    return Status::kOk;
  }

  Status use(int32_t buffer, int32_t step, const char* what) {
    if (buffer < -1 || buffer >= buffer_count_) {
      return fail(Status::kInvalidArgument,
                  "memory plan: node %d has buffer %d as %s, but there are %d buffers", step,
                  buffer, what, buffer_count_);
    }
    if (buffer == -1) return Status::kOk;
    Family& f = families_[roots_[buffer]];
    if (step < f.first) f.first = step;
    if (step > f.last) f.last = step;
    return Status::kOk;
  }

  Status find_lives(const int32_t* keep, int32_t keep_count) {
    for (int32_t n = 0; n < node_count_; ++n) {
      const PlanNode& node = nodes_[n];
      for (int32_t i = 0; i < node.input_count; ++i) PN_TRY(use(node.inputs[i], n, "input"));
      for (int32_t i = 0; i < node.output_count; ++i) PN_TRY(use(node.outputs[i], n, "output"));
      PN_TRY(use(node.scratch, n, "scratch"));
    }
    for (int32_t i = 0; i < keep_count; ++i) {
      if (keep[i] < 0)
        return fail(Status::kInvalidArgument, "memory plan: keep[%d] is %d, not a buffer", i,
                    keep[i]);
      PN_TRY(use(keep[i], node_count_, "result to keep"));
    }
    return Status::kOk;
  }

  bool in_arena(int32_t buffer) const { return buffers_[roots_[buffer]].fixed == 0; }
  int64_t size_of(int32_t root) const { return round_up(buffers_[root].bytes, kArenaAlignment); }
  bool covers_family(int32_t b) const {
    return relative_[b] == 0 && buffers_[b].bytes == buffers_[roots_[b]].bytes;
  }

  // The root at the end of a chain of merges. Merges happen in execution order and the newest
  // points at the oldest directly, so one step is enough.
  int32_t slot(int32_t root) const {
    return families_[root].merged_into < 0 ? root : families_[root].merged_into;
  }

  bool may_take(const PlanNode& node, int32_t n, int32_t i, int32_t out) const {
    const int32_t in = node.inputs[i];
    if (in < 0 || !in_arena(in) || !covers_family(in) || buffers_[in].bytes != buffers_[out].bytes)
      return false;
    if (families_[roots_[in]].last != n || roots_[in] == roots_[out]) return false;
    // Other operands of the node must not look at the same family, unless they are allowed to as
    // well.
    for (int32_t k = 0; k < node.input_count; ++k) {
      const int32_t other = node.inputs[k];
      if (k == i || other < 0 || roots_[other] != roots_[in]) continue;
      if (k >= 32 || (node.in_place >> k & 1) == 0 || !covers_family(other)) return false;
    }
    for (int32_t k = 1; k < node.output_count; ++k) {
      if (node.outputs[k] >= 0 &&
          (roots_[node.outputs[k]] == roots_[in] || roots_[node.outputs[k]] == roots_[out])) {
        return false;
      }
    }
    return node.scratch < 0 || roots_[node.scratch] != roots_[in];
  }

  void merge_in_place() {
    for (int32_t n = 0; n < node_count_; ++n) {
      const PlanNode& node = nodes_[n];
      if (node.in_place == 0 || node.output_count < 1 || node.outputs[0] < 0) continue;
      const int32_t out = node.outputs[0];
      if (!in_arena(out) || !covers_family(out) || families_[roots_[out]].first != n) continue;
      for (int32_t i = 0; i < node.input_count && i < 32; ++i) {
        if ((node.in_place >> i & 1) == 0 || !may_take(node, n, i, out)) continue;
        families_[roots_[out]].merged_into = slot(roots_[node.inputs[i]]);
        ++merges_;
        break;
      }
    }
  }

  // The largest sum of bytes alive at one step, a merged pair counted once where it meets.
  Status lowest_possible(int64_t* bound) {
    Vector<int64_t> change;
    if (!change.resize(static_cast<int64_t>(node_count_) + 2)) return no_memory();
    for (int32_t i = 0; i < buffer_count_; ++i) {
      const Family& f = families_[i];
      if (roots_[i] != i || !in_arena(i) || f.last < 0) continue;
      change[f.first + (f.merged_into >= 0 ? 1 : 0)] += size_of(i);
      change[f.last + 1] -= size_of(i);
    }
    int64_t alive = 0;
    *bound = 0;
    for (int64_t i = 0; i < change.size(); ++i) {
      alive += change[i];
      if (alive > *bound) *bound = alive;
    }
    return Status::kOk;
  }

  Status place(int64_t bound, int64_t* total) {
    blocks_.clear();
    for (int32_t i = 0; i < buffer_count_; ++i) {
      slots_[i] = -1;
      if (roots_[i] != i || !in_arena(i) || families_[i].merged_into >= 0) continue;
      const Family& f = families_[i];
      if (f.last < 0) continue;
      slots_[i] = static_cast<int32_t>(blocks_.size());
      if (!blocks_.push({size_of(i), f.first, f.last, 0})) return no_memory();
    }
    for (int32_t i = 0; i < buffer_count_; ++i) {
      const Family& f = families_[i];
      if (f.merged_into < 0) continue;
      PlanBlock& block = blocks_[slots_[f.merged_into]];
      if (f.last > block.last) block.last = f.last;
    }
    PN_TRY(place_blocks(blocks_.data(), static_cast<int32_t>(blocks_.size()), bound, total));
    for (int32_t i = 0; i < buffer_count_; ++i) {  // what no node uses lies at 0, over anything
      if (roots_[i] == i && in_arena(i) && families_[i].last < 0 && size_of(i) > *total)
        *total = size_of(i);
    }
    return Status::kOk;
  }

  void write_offsets() {
    for (int32_t i = 0; i < buffer_count_; ++i) {
      PlanBuffer& b = buffers_[i];
      const int32_t block = in_arena(i) ? slots_[slot(roots_[i])] : -1;
      b.offset = !in_arena(i) ? -1 : relative_[i] + (block < 0 ? 0 : blocks_[block].offset);
    }
  }

  PlanBuffer* buffers_;
  const int32_t buffer_count_;
  const PlanNode* nodes_;
  const int32_t node_count_;
  int32_t merges_ = 0;
  Vector<int32_t> roots_;
  Vector<int64_t> relative_;
  Vector<Family> families_;
  Vector<int32_t> slots_;  // root -> block
  Vector<PlanBlock> blocks_;
};

}  // namespace

Status plan_memory(PlanBuffer* buffers, int32_t buffer_count, const PlanNode* nodes,
                   int32_t node_count, const int32_t* keep, int32_t keep_count,
                   int64_t* arena_bytes, int64_t* lower_bound) {
  if (buffer_count < 0 || node_count < 0 || keep_count < 0) {
    return fail(Status::kInvalidArgument,
                "memory plan: negative count (%d buffers, %d nodes, %d to keep)", buffer_count,
                node_count, keep_count);
  }
  return Planner(buffers, buffer_count, nodes, node_count)
      .run(keep, keep_count, arena_bytes, lower_bound);
}

}  // namespace pyneo
