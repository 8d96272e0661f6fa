// SPDX-License-Identifier: Apache-2.0
//
// Replays a plan: every byte of the arena carries the name of the tensor family that wrote it last.
#include <cstdlib>

#include "core/vector.h"
#include "planner/planner.h"

namespace pyneo {
namespace {

constexpr int32_t kNobody = -1;
constexpr int32_t kMixed = -2;

struct Range {
  int64_t begin, end;
  int32_t family;  // the space the offsets count in, then the buffer
  int32_t buffer;
};

int compare(int64_t a, int64_t b) { return a < b ? -1 : a > b ? 1 : 0; }

int by_place(const void* a, const void* b) {
  const Range& x = *static_cast<const Range*>(a);
  const Range& y = *static_cast<const Range*>(b);
  return x.family != y.family ? compare(x.family, y.family) : compare(x.begin, y.begin);
}

int by_value(const void* a, const void* b) {
  return compare(*static_cast<const int64_t*>(a), *static_cast<const int64_t*>(b));
}

template <typename T>
void sort(Vector<T>& v, int (*order)(const void*, const void*)) {
  if (v.size() > 1) qsort(v.data(), static_cast<size_t>(v.size()), sizeof(T), order);
}

// Bytes of the arena cut where any buffer begins or ends, with the last writer of each piece: a
// segment tree whose inner nodes hold the writer of all pieces below, or kMixed.
class Writers {
 public:
  bool init(Vector<int64_t>& cuts) {
    sort(cuts, by_value);
    for (int64_t i = 0; i < cuts.size(); ++i) {
      if ((cuts_.empty() || cuts_[cuts_.size() - 1] != cuts[i]) && !cuts_.push(cuts[i]))
        return false;
    }
    while (leaves_ < cuts_.size()) leaves_ *= 2;
    if (!tags_.resize(2 * leaves_)) return false;
    for (int64_t i = 0; i < tags_.size(); ++i) tags_[i] = kNobody;
    return true;
  }
  void write(int64_t begin, int64_t end, int32_t writer) {
    if (begin < end) assign(1, 0, leaves_, index(begin), index(end), writer);
  }
  // The first byte in [begin, end) that `writer` did not write last and who did; -1 if there is
  // none.
  int64_t first_foreign(int64_t begin, int64_t end, int32_t writer, int32_t* found) {
    if (begin >= end) return -1;
    const int64_t piece = search(1, 0, leaves_, index(begin), index(end), writer, found);
    return piece < 0 ? -1 : cuts_[piece] < begin ? begin : cuts_[piece];
  }

 private:
  int64_t index(int64_t offset) const {  // offset is one of the cuts
    int64_t lo = 0, hi = cuts_.size();
    while (lo < hi) {
      const int64_t mid = (lo + hi) / 2;
      if (cuts_[mid] < offset)
        lo = mid + 1;
      else
        hi = mid;
    }
    return lo;
  }
  void assign(int64_t node, int64_t lo, int64_t hi, int64_t begin, int64_t end, int32_t writer) {
    if (end <= lo || hi <= begin) return;
    if (begin <= lo && hi <= end) {
      tags_[node] = writer;
      return;
    }
    if (tags_[node] != kMixed) tags_[2 * node] = tags_[2 * node + 1] = tags_[node];
    const int64_t mid = (lo + hi) / 2;
    assign(2 * node, lo, mid, begin, end, writer);
    assign(2 * node + 1, mid, hi, begin, end, writer);
    tags_[node] = tags_[2 * node] == tags_[2 * node + 1] ? tags_[2 * node] : kMixed;
  }
  int64_t search(int64_t node, int64_t lo, int64_t hi, int64_t begin, int64_t end, int32_t writer,
                 int32_t* found) const {
    if (end <= lo || hi <= begin || tags_[node] == writer) return -1;
    if (tags_[node] != kMixed) {
      *found = tags_[node];
      return lo < begin ? begin : lo;
    }
    const int64_t mid = (lo + hi) / 2;
    const int64_t left = search(2 * node, lo, mid, begin, end, writer, found);
    return left >= 0 ? left : search(2 * node + 1, mid, hi, begin, end, writer, found);
  }

  int64_t leaves_ = 1;
  Vector<int64_t> cuts_;
  Vector<int32_t> tags_;
};

class Checker {
 public:
  Checker(const PlanBuffer* buffers, int32_t buffer_count, const PlanNode* nodes,
          int32_t node_count, int64_t arena)
      : buffers_(buffers),
        buffer_count_(buffer_count),
        nodes_(nodes),
        node_count_(node_count),
        arena_(arena) {}

  Status run(const int32_t* keep, int32_t keep_count) {
    if (!places_.resize(buffer_count_) || !scratch_of_.resize(buffer_count_)) return no_memory();
    PN_TRY(check_places());
    PN_TRY(check_indices(keep, keep_count));
    PN_TRY(check_written_once());
    for (int32_t n = 0; n < node_count_; ++n) PN_TRY(replay(n));
    for (int32_t i = 0; i < keep_count; ++i) PN_TRY(check_read(keep[i], node_count_));
    return Status::kOk;
  }

 private:
  struct Place {
    int32_t root;
    int64_t in_root;  // offset in the root
  };

  Status no_memory() const {
    return fail(Status::kOutOfMemory, "memory plan check: no memory for tables of %d buffers",
                buffer_count_);
  }
  bool in_arena(int32_t b) const { return buffers_[places_[b].root].fixed == 0; }
  Range range(int32_t b) const {
    const int64_t begin = in_arena(b) ? buffers_[b].offset : places_[b].in_root;
    return {begin, begin + buffers_[b].bytes, in_arena(b) ? -1 : places_[b].root, b};
  }

  // Views lie inside what they are views of; roots are aligned; nothing reaches past the arena.
  Status check_places() {
    Vector<int64_t> cuts;
    for (int32_t i = 0; i < buffer_count_; ++i) {
      const PlanBuffer& b = buffers_[i];
      if (b.alias_of < -1 || b.alias_of >= buffer_count_ || b.bytes < 0) {
        return fail(Status::kInvalidPackage,
                    "memory plan: buffer %d has %lld bytes and is a view of %d, of %d buffers", i,
                    static_cast<long long>(b.bytes), b.alias_of, buffer_count_);
      }
      places_[i] = {-1, 0};
    }
    Vector<int32_t> path;
    for (int32_t i = 0; i < buffer_count_; ++i) {
      int32_t at = i;
      path.clear();
      for (; places_[at].root < 0 && buffers_[at].alias_of >= 0; at = buffers_[at].alias_of) {
        if (path.size() > buffer_count_) {
          return fail(Status::kInvalidPackage, "memory plan: the views of buffer %d form a cycle",
                      i);
        }
        if (!path.push(at)) return no_memory();
      }
      if (places_[at].root < 0) places_[at] = {at, 0};
      for (int64_t k = path.size() - 1; k >= 0; --k) {
        const PlanBuffer& view = buffers_[path[k]];
        const PlanBuffer& whole = buffers_[view.alias_of];
        if (view.alias_offset < 0 || view.alias_offset > whole.bytes ||
            view.bytes > whole.bytes - view.alias_offset) {
          return fail(Status::kInvalidPackage,
                      "memory plan: buffer %d reaches outside buffer %d, of which it is a view",
                      path[k], view.alias_of);
        }
        const Place& p = places_[view.alias_of];
        places_[path[k]] = {p.root, p.in_root + view.alias_offset};
      }
    }
    for (int32_t i = 0; i < buffer_count_; ++i) {
      const PlanBuffer& b = buffers_[i];
      const PlanBuffer& root = buffers_[places_[i].root];
      if (b.fixed != 0 && root.fixed == 0) {
        return fail(Status::kInvalidPackage,
                    "memory plan: buffer %d is fixed, but not buffer %d, of which it is a view", i,
                    places_[i].root);
      }
      if (root.fixed != 0) continue;
      if (b.offset < 0 || b.offset > arena_ || b.bytes > arena_ - b.offset) {
        return fail(Status::kInvalidPackage,
                    "memory plan: buffer %d of %lld bytes at offset %lld reaches outside the arena "
                    "of %lld bytes",
                    i, static_cast<long long>(b.bytes), static_cast<long long>(b.offset),
                    static_cast<long long>(arena_));
      }
      if (root.offset % kArenaAlignment != 0 || b.offset - root.offset != places_[i].in_root) {
        return fail(Status::kInvalidPackage,
                    "memory plan: buffer %d lies at offset %lld; expected %lld bytes into buffer "
                    "%d, which lies at %lld "
                    "(roots lie at multiples of %lld)",
                    i, static_cast<long long>(b.offset), static_cast<long long>(places_[i].in_root),
                    places_[i].root, static_cast<long long>(root.offset),
                    static_cast<long long>(kArenaAlignment));
      }
      if (!cuts.push(b.offset) || !cuts.push(b.offset + b.bytes)) return no_memory();
    }
    return writers_.init(cuts) ? Status::kOk : no_memory();
  }

  Status check_index(int32_t buffer, int32_t node, const char* what) const {
    if (buffer >= -1 && buffer < buffer_count_) return Status::kOk;
    return fail(Status::kInvalidPackage,
                "memory plan: node %d has buffer %d as %s, but there are %d buffers", node, buffer,
                what, buffer_count_);
  }

  // Indices in range, and the family of a scratch buffer is nobody else's.
  Status check_indices(const int32_t* keep, int32_t keep_count) {
    for (int32_t i = 0; i < buffer_count_; ++i) scratch_of_[i] = -1;
    for (int32_t n = 0; n < node_count_; ++n) {
      const int32_t s = nodes_[n].scratch;
      PN_TRY(check_index(s, n, "scratch"));
      if (s < 0) continue;
      int32_t& owner = scratch_of_[places_[s].root];
      if (owner >= 0) {
        return fail(Status::kInvalidPackage, "memory plan: nodes %d and %d share scratch buffer %d",
                    owner, n, s);
      }
      owner = n;
    }
    for (int32_t n = 0; n < node_count_; ++n) {
      for (int32_t i = 0; i < nodes_[n].input_count; ++i)
        PN_TRY(check_operand(nodes_[n].inputs[i], n, "input"));
      for (int32_t i = 0; i < nodes_[n].output_count; ++i)
        PN_TRY(check_operand(nodes_[n].outputs[i], n, "output"));
    }
    for (int32_t i = 0; i < keep_count; ++i) {
      PN_TRY(check_operand(keep[i], node_count_, "a result to keep"));
      if (keep[i] < 0)
        return fail(Status::kInvalidPackage, "memory plan: result %d to keep is no buffer", i);
    }
    return Status::kOk;
  }
  Status check_operand(int32_t buffer, int32_t node, const char* what) const {
    PN_TRY(check_index(buffer, node, what));
    if (buffer < 0 || scratch_of_[places_[buffer].root] < 0) return Status::kOk;
    return fail(Status::kInvalidPackage,
                "memory plan: node %d has buffer %d as %s, which is scratch of node %d", node,
                buffer, what, scratch_of_[places_[buffer].root]);
  }

  // No byte of a family has two producers.
  Status check_written_once() {
    Vector<Range> written;
    for (int32_t n = 0; n < node_count_; ++n) {
      for (int32_t i = 0; i < nodes_[n].output_count; ++i) {
        const int32_t b = nodes_[n].outputs[i];
        if (b < 0 || buffers_[b].bytes == 0) continue;
        const Place& p = places_[b];
        if (!written.push({p.in_root, p.in_root + buffers_[b].bytes, p.root, b}))
          return no_memory();
      }
    }
    sort(written, by_place);
    for (int64_t i = 1; i < written.size(); ++i) {
      if (written[i].family == written[i - 1].family && written[i].begin < written[i - 1].end) {
        return fail(Status::kInvalidPackage,
                    "memory plan: buffers %d and %d are both written, but share bytes of buffer %d",
                    written[i - 1].buffer, written[i].buffer, written[i].family);
      }
    }
    return Status::kOk;
  }

  Status check_read(int32_t b, int32_t node) {
    if (b < 0 || !in_arena(b)) return Status::kOk;
    const Range r = range(b);
    int32_t writer = kNobody;
    const int64_t at = writers_.first_foreign(r.begin, r.end, places_[b].root, &writer);
    if (at < 0) return Status::kOk;
    if (writer == kNobody) {
      return fail(Status::kInvalidPackage,
                  "memory plan: node %d reads buffer %d, but nobody wrote its byte %lld", node, b,
                  static_cast<long long>(at - r.begin));
    }
    return fail(Status::kInvalidPackage,
                "memory plan: node %d reads buffer %d, but its byte %lld was overwritten by a "
                "tensor of buffer %d",
                node, b, static_cast<long long>(at - r.begin), writer);
  }

  bool covers_family(int32_t b) const {
    return places_[b].in_root == 0 && buffers_[b].bytes == buffers_[places_[b].root].bytes;
  }
  bool is_allowed_pair(const PlanNode& node, int32_t input, const Range& out) const {
    const int32_t in = node.inputs[input];
    return input < 32 && (node.in_place >> input & 1) != 0 && out.buffer == node.outputs[0] &&
           in_arena(in) && covers_family(in) && covers_family(out.buffer) &&
           buffers_[in].bytes == buffers_[out.buffer].bytes && buffers_[in].offset == out.begin;
  }

  Status replay(int32_t n) {
    const PlanNode& node = nodes_[n];
    for (int32_t i = 0; i < node.input_count; ++i) PN_TRY(check_read(node.inputs[i], n));

    written_.clear();
    for (int32_t i = 0; i <= node.output_count; ++i) {
      const int32_t b = i < node.output_count ? node.outputs[i] : node.scratch;
      if (b >= 0 && buffers_[b].bytes > 0 && !written_.push(range(b))) return no_memory();
    }
    sort(written_, by_place);
    for (int64_t i = 1; i < written_.size(); ++i) {
      if (written_[i].family == written_[i - 1].family && written_[i].begin < written_[i - 1].end) {
        return fail(Status::kInvalidPackage,
                    "memory plan: node %d writes buffers %d and %d, which overlap", n,
                    written_[i - 1].buffer, written_[i].buffer);
      }
    }
    for (int32_t i = 0; i < node.input_count; ++i) {
      const int32_t b = node.inputs[i];
      if (b < 0 || buffers_[b].bytes == 0) continue;
      const Range r = range(b);
      // Written ranges are disjoint: the first one that ends beyond the operand's start decides,
      // and an allowed one has the very same bytes, so that none behind it can overlap.
      int64_t lo = 0, hi = written_.size();
      while (lo < hi) {
        const int64_t mid = (lo + hi) / 2;
        const Range& w = written_[mid];
        if (w.family < r.family || (w.family == r.family && w.end <= r.begin))
          lo = mid + 1;
        else
          hi = mid;
      }
      if (lo == written_.size() || written_[lo].family != r.family || written_[lo].begin >= r.end)
        continue;
      if (!is_allowed_pair(node, i, written_[lo])) {
        return fail(Status::kInvalidPackage,
                    "memory plan: node %d writes buffer %d over its own input %d (buffer %d)", n,
                    written_[lo].buffer, i, b);
      }
    }
    for (int64_t i = 0; i < written_.size(); ++i) {
      const Range& w = written_[i];
      if (w.family == -1) writers_.write(w.begin, w.end, places_[w.buffer].root);
    }
    return Status::kOk;
  }

  const PlanBuffer* buffers_;
  const int32_t buffer_count_;
  const PlanNode* nodes_;
  const int32_t node_count_;
  const int64_t arena_;
  Vector<Place> places_;
  Vector<int32_t> scratch_of_;  // by root: the node whose scratch it is, or -1
  Vector<Range> written_;
  Writers writers_;
};

}  // namespace

Status check_plan(const PlanBuffer* buffers, int32_t buffer_count, const PlanNode* nodes,
                  int32_t node_count, const int32_t* keep, int32_t keep_count,
                  int64_t arena_bytes) {
  if (buffer_count < 0 || node_count < 0 || keep_count < 0 || arena_bytes < 0) {
    return fail(Status::kInvalidPackage,
                "memory plan: negative count (%d buffers, %d nodes, %d to keep, %lld bytes)",
                buffer_count, node_count, keep_count, static_cast<long long>(arena_bytes));
  }
  return Checker(buffers, buffer_count, nodes, node_count, arena_bytes).run(keep, keep_count);
}

}  // namespace pyneo
