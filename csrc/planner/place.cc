// SPDX-License-Identifier: Apache-2.0
//
// Greedy packing of blocks by an order of preference, each into the smallest (or lowest) gap among
// the blocks already placed that live at the same time; several orders are tried, then the order of
// the best one is improved by moving the block that ends highest to the front. (The family of
// heuristics is surveyed in Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
// Inference", 2020.)
#include "planner/place.h"

#include <cstdlib>
#include <initializer_list>

#include "core/tensor.h"
#include "core/vector.h"

namespace pyneo {
namespace {

constexpr int64_t kWorkBudget = 1500000;  // visits of a neighbour, over all orders after the first
constexpr int64_t kMaxWork =
    400000000;  // one order may not cost more: the blocks are stacked instead
constexpr int kMaxImprovements = 64;
constexpr int32_t kMaxBreadthSteps = 200000;

struct SortKey {
  double major, minor;
  int32_t id;
};

int by_key(const void* a, const void* b) {  // descending, then by id: the same plan everywhere
  const SortKey& x = *static_cast<const SortKey*>(a);
  const SortKey& y = *static_cast<const SortKey*>(b);
  if (x.major != y.major) return x.major > y.major ? -1 : 1;
  if (x.minor != y.minor) return x.minor > y.minor ? -1 : 1;
  return x.id < y.id ? -1 : 1;
}

struct Span {
  int64_t begin, end;
  int32_t first, last;
};

int by_begin(const void* a, const void* b) {
  const int64_t x = static_cast<const Span*>(a)->begin, y = static_cast<const Span*>(b)->begin;
  return x < y ? -1 : x > y ? 1 : 0;
}

void sort_spans(Vector<Span>& spans) {
  if (spans.size() > 24) {
    qsort(spans.data(), static_cast<size_t>(spans.size()), sizeof(Span), by_begin);
    return;
  }
  for (int64_t i = 1; i < spans.size(); ++i) {
    const Span s = spans[i];
    int64_t k = i;
    for (; k > 0 && spans[k - 1].begin > s.begin; --k) spans[k] = spans[k - 1];
    spans[k] = s;
  }
}

enum class Fit { kBest, kLowest };

// Offset for `bytes` bytes among spans in ascending order of begin; spans that do not live with
// [first, last] are skipped.
int64_t find_gap(const Span* spans, int64_t count, int64_t bytes, int32_t first, int32_t last,
                 Fit fit) {
  int64_t cursor = 0, best = -1, best_gap = INT64_MAX;
  for (int64_t i = 0; i < count; ++i) {
    const Span& s = spans[i];
    if (s.last < first || s.first > last) continue;
    const int64_t gap = s.begin - cursor;
    if (gap >= bytes && gap < best_gap) {
      best = cursor;
      best_gap = gap;
      if (fit == Fit::kLowest) return best;
    }
    if (s.end > cursor) cursor = s.end;
  }
  return best >= 0 ? best : cursor;
}

class Placer {
 public:
  Placer(const PlanBlock* blocks, int32_t count) : blocks_(blocks), count_(count) {}

  // False: out of memory.
  bool prepare() {
    Vector<SortKey> starts, ends;
    if (!starts.resize(count_) || !ends.resize(count_) || !spans_.reserve(count_)) return false;
    for (int32_t i = 0; i < count_; ++i) {
      starts[i] = {-static_cast<double>(blocks_[i].first), 0, i};
      ends[i] = {-static_cast<double>(blocks_[i].last), 0, i};
    }
    qsort(starts.data(), static_cast<size_t>(count_), sizeof(SortKey), by_key);
    qsort(ends.data(), static_cast<size_t>(count_), sizeof(SortKey), by_key);
    int64_t pairs = 0;
    for (int32_t i = 0, gone = 0; i < count_; ++i) {
      while (gone < count_ && blocks_[ends[gone].id].last < blocks_[starts[i].id].first) ++gone;
      pairs += i - gone;
    }
    // Few blocks, or nearly all alive together: one sorted array of what is placed. Otherwise:
    // lists of neighbours in time, made once.
    const int64_t all_pairs = static_cast<int64_t>(count_) * count_ / 2;
    linear_ = pairs > all_pairs / 32 || count_ < 256;
    work_ = linear_ ? all_pairs : pairs * 8;
    if (linear_ || work_ > kMaxWork) return true;

    if (!list_begin_.resize(count_ + 1) || !lists_.resize(2 * pairs)) return false;
    Vector<int32_t> active, fill;
    if (!active.reserve(count_) || !fill.resize(count_)) return false;
    for (int pass = 0; pass < 2; ++pass) {  // count, then fill
      active.clear();
      for (int32_t i = 0; i < count_; ++i) {
        const int32_t b = starts[i].id;
        int64_t kept = 0;
        for (int64_t k = 0; k < active.size(); ++k) {
          const int32_t a = active[k];
          if (blocks_[a].last < blocks_[b].first) continue;
          active[kept++] = a;
          if (pass == 0) {
            ++list_begin_[a + 1];
            ++list_begin_[b + 1];
          } else {
            lists_[list_begin_[a] + fill[a]++] = b;
            lists_[list_begin_[b] + fill[b]++] = a;
          }
        }
        if (!active.resize(kept) || !active.push(b)) return false;
      }
      if (pass == 0) {
        for (int32_t i = 0; i < count_; ++i) list_begin_[i + 1] += list_begin_[i];
      }
    }
    return true;
  }

  int64_t work() const { return work_; }

  // Places all blocks in this order; false: out of memory.
  bool place(const int32_t* order, Fit fit, int64_t* offsets, int64_t* total) {
    *total = 0;
    spans_.clear();
    if (!linear_) {
      for (int32_t i = 0; i < count_; ++i) offsets[i] = -1;
    }
    for (int32_t i = 0; i < count_; ++i) {
      const int32_t b = order[i];
      const PlanBlock& block = blocks_[b];
      if (!linear_) {
        spans_.clear();
        for (int64_t k = list_begin_[b]; k < list_begin_[b + 1]; ++k) {
          const int32_t n = lists_[k];
          if (offsets[n] < 0 || blocks_[n].bytes == 0) continue;
          if (!spans_.push({offsets[n], offsets[n] + blocks_[n].bytes, 0, INT32_MAX})) return false;
        }
        sort_spans(spans_);
      }
      const int64_t at =
          find_gap(spans_.data(), spans_.size(), block.bytes, block.first, block.last, fit);
      offsets[b] = at;
      if (at + block.bytes > *total) *total = at + block.bytes;
      if (linear_ && block.bytes > 0) {
        int64_t lo = 0, hi = spans_.size();
        while (lo < hi) {
          const int64_t mid = (lo + hi) / 2;
          if (spans_[mid].begin < at)
            lo = mid + 1;
          else
            hi = mid;
        }
        if (!spans_.insert(lo, {at, at + block.bytes, block.first, block.last})) return false;
      }
    }
    return true;
  }

 private:
  const PlanBlock* blocks_;
  const int32_t count_;
  bool linear_ = true;
  int64_t work_ = 0;
  Vector<Span> spans_;
  Vector<int64_t> list_begin_;
  Vector<int32_t> lists_;
};

// Bytes alive at the busiest step of each block's life, by a sparse table of range maxima.
bool breadths(const PlanBlock* blocks, int32_t count, Vector<double>& out) {
  int32_t steps = 0;
  for (int32_t i = 0; i < count; ++i) {
    if (blocks[i].last + 1 > steps) steps = blocks[i].last + 1;
  }
  int levels = 1;
  while ((steps >> levels) > 0) ++levels;
  Vector<int64_t> table;
  if (!out.resize(count)) return false;
  if (steps > kMaxBreadthSteps) return true;  // the order is only a preference
  if (!table.resize(static_cast<int64_t>(levels) * (steps + 1))) return false;
  for (int32_t i = 0; i < count; ++i) {
    table[blocks[i].first] += blocks[i].bytes;
    table[blocks[i].last + 1] -= blocks[i].bytes;
  }
  for (int32_t i = 1; i < steps; ++i) table[i] += table[i - 1];
  const int64_t row = steps + 1;
  for (int l = 1; l < levels; ++l) {
    const int64_t* below = table.data() + (l - 1) * row;
    int64_t* here = table.data() + l * row;
    for (int32_t i = 0; i + (1 << l) <= steps; ++i) {
      const int64_t a = below[i], b = below[i + (1 << (l - 1))];
      here[i] = a > b ? a : b;
    }
  }
  for (int32_t i = 0; i < count; ++i) {
    const int32_t length = blocks[i].last - blocks[i].first + 1;
    const int l = 31 - __builtin_clz(static_cast<unsigned>(length));
    const int64_t a = table[l * row + blocks[i].first],
                  b = table[l * row + blocks[i].last + 1 - (1 << l)];
    out[i] = static_cast<double>(a > b ? a : b);
  }
  return true;
}

Status out_of_memory(int32_t count) {
  return fail(Status::kOutOfMemory, "memory plan: no memory for the planner's tables (%d blocks)",
              count);
}

// Tries orders of the blocks and keeps the best placement in `blocks`. Its functions return false when out of memory.
class Search {
 public:
  Search(Placer& placer, PlanBlock* blocks, int32_t count, int64_t bound)
      : placer_(placer), blocks_(blocks), count_(count), bound_(bound) {}

  bool prepare() {
    return breadths(blocks_, count_, breadth_) && keys_.resize(count_) && order_.resize(count_) &&
           best_order_.resize(count_) && offsets_.resize(count_);
  }

  bool in_known_orders() {
    for (int o = kBySize; o < kOrders; ++o) {
      for (int32_t i = 0; i < count_; ++i) keys_[i] = key(static_cast<Order>(o), i);
      qsort(keys_.data(), static_cast<size_t>(count_), sizeof(SortKey), by_key);
      for (int32_t i = 0; i < count_; ++i) order_[i] = keys_[i].id;
      for (const Fit fit : {Fit::kBest, Fit::kLowest}) {
        if (best_ <= bound_ || (spent_ > 0 && spent_ + placer_.work() > kWorkBudget)) continue;
        if (!attempt(fit)) return false;
      }
    }
    return true;
  }

  // The best order, with the block that ends highest (or any block) moved to an earlier turn.
  bool improve() {
    uint32_t random = 12345;  // fixed seed: the same model gives the same plan
    const auto below = [&](int32_t n) {
      random = random * 1664525u + 1013904223u;
      return static_cast<int32_t>((static_cast<uint64_t>(random) * static_cast<uint64_t>(n)) >> 32);
    };
    for (int n = 0; n < kMaxImprovements && best_ > bound_ && spent_ + placer_.work() <= kWorkBudget; ++n) {
      int32_t from = below(count_);
      for (int32_t i = 0; i < count_ && n % 2 == 0; ++i) {
        const PlanBlock& b = blocks_[best_order_[i]];
        if (b.offset + b.bytes == best_) from = i;
      }
      const int32_t to = n == 0 ? 0 : below(from + 1);
      memcpy(order_.data(), best_order_.data(), static_cast<size_t>(count_) * sizeof(int32_t));
      memmove(order_.data() + to + 1, order_.data() + to, static_cast<size_t>(from - to) * sizeof(int32_t));
      order_[to] = best_order_[from];
      const Fit other = best_fit_ == Fit::kBest ? Fit::kLowest : Fit::kBest;
      if (!attempt(n % 4 < 2 ? best_fit_ : other)) return false;
    }
    return true;
  }

  int64_t best() const { return best_; }

 private:
  enum Order { kBySize, kBySizeTimesLife, kByBreadth, kByFirstUse, kByLife, kOrders };

  SortKey key(Order order, int32_t i) const {
    const PlanBlock& b = blocks_[i];
    const double size = static_cast<double>(b.bytes), life = static_cast<double>(b.last - b.first + 1);
    switch (order) {
      case kBySize: return {size, life, i};
      case kBySizeTimesLife: return {size * life, size, i};
      case kByBreadth: return {breadth_[i], size, i};
      case kByFirstUse: return {-static_cast<double>(b.first), size, i};
      default: return {life, size, i};
    }
  }

  bool attempt(Fit fit) {
    int64_t size = 0;
    if (!placer_.place(order_.data(), fit, offsets_.data(), &size)) return false;
    spent_ += placer_.work();
    if (size < best_) {
      best_ = size;
      best_fit_ = fit;
      for (int32_t i = 0; i < count_; ++i) {
        blocks_[i].offset = offsets_[i];
        best_order_[i] = order_[i];
      }
    }
    return true;
  }

  Placer& placer_;
  PlanBlock* blocks_;
  int32_t count_;
  int64_t bound_;
  Vector<double> breadth_;
  Vector<SortKey> keys_;
  Vector<int32_t> order_, best_order_;
  Vector<int64_t> offsets_;
  int64_t best_ = INT64_MAX, spent_ = 0;
  Fit best_fit_ = Fit::kBest;
};

}  // namespace

Status place_blocks(PlanBlock* blocks, int32_t count, int64_t bound, int64_t* total) {
  *total = 0;
  if (count == 0) return Status::kOk;
  Placer placer(blocks, count);
  if (!placer.prepare()) return out_of_memory(count);
  if (placer.work() > kMaxWork) {  // a hostile size: correct, but without reuse
    for (int32_t i = 0; i < count; ++i) {
      blocks[i].offset = *total;
      *total += blocks[i].bytes;
    }
    return Status::kOk;
  }
  Search search(placer, blocks, count, bound);
  if (!search.prepare() || !search.in_known_orders() || !search.improve()) return out_of_memory(count);
  *total = search.best();
  return Status::kOk;
}

}  // namespace pyneo
