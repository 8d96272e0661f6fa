// SPDX-License-Identifier: Apache-2.0
//
// Ensembles of decision trees, float32, over the packed form of ops/tree_pack.h.
//
// A block of rows is brought into slots; then every tree takes the whole block, so that a tree is read
// once and the rows stay in L1. In a tile the rows lie across the lanes of a vector and walk together:
// levels of a complete tree are looked up in registers, all else is gathered. Few rows walk one by one;
// the tests are free of branches, so that walks through several trees overlap. Sums are in float64 in
// the order of the trees, as in the reference: no bit depends on the path taken or on threads.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 takes the intrinsics' "any value" for a fault
#endif
#include "kernels/kernel.h"
#include "kernels/spread.h"
#include "ops/tree_pack.h"
#include "ops/trees.h"
#include "simd/gather.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kFew = 5;        // fewer rows than this walk one by one
constexpr int64_t kMostTiles = 16;  // of a block
constexpr int64_t kBlockBytes = 24 << 10;

struct State {
  TreeSettings settings;
  int64_t rows, features;
  int64_t slots;  // and one more for NaN
  int64_t block_tiles;
};

const TreeHeader& header(const void* packed) { return *static_cast<const TreeHeader*>(packed); }

// One block of rows on its way through the trees.
struct Block {
  const uint32_t* words;  // the packed trees
  float* x;               // slots: [tile][slot][lane], or [row][slot]
  uint32_t* leaf;         // of each row, in the present tree
  double* sums;           // [target][row], or [row][target] where leaves have lists
  int64_t rows, lanes;    // rows are a whole number of tiles
  int64_t row_slots;
};

// Rows of X into slots. Rows past the end repeat the last.
void load_tiles(const int32_t* slots, int64_t count, const float* x, int64_t features, int64_t rows, int64_t tiles, float* to) {
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int32_t live = static_cast<int32_t>(rows - tile * kVec);
    VI lanes = lane_numbers();
    lanes = select(lanes < splat_i(live), lanes, splat_i(live - 1));
    const VI row = lanes * splat_i(static_cast<int32_t>(features));
    for (int64_t s = 0; s < count; ++s, to += kVec) {
      const int32_t f = slots[s];
      VF v = gather(x + (f < 0 ? ~f : f), row);
      if (f < 0) v = select(v == v, v, splat(-__builtin_inff()));
      store(to, v);
    }
    store(to, splat(__builtin_nanf("")));
    to += kVec;
    x += kVec * features;
  }
}

void load_rows(const int32_t* slots, int64_t count, const float* x, int64_t features, int64_t rows, float* to) {
  for (int64_t r = 0; r < rows; ++r, x += features) {
    for (int64_t s = 0; s < count; ++s) {
      const int32_t f = slots[s];
      const float v = x[f < 0 ? ~f : f];
      *to++ = f < 0 && v != v ? -__builtin_inff() : v;
    }
    *to++ = __builtin_nanf("");
  }
}

// The leaf of one row in a complete tree. Unrolled: every instruction of it counts when there is one row.
template <uint32_t kLevels>
PN_INLINE uint32_t walk_levels(const uint32_t* body, const float* x) {
  constexpr uint32_t kWidth = kLevels < 4 ? 16 : 1u << kLevels;
  const float* split = reinterpret_cast<const float*>(body);
  uint64_t i = 1;
  PN_UNROLL
  for (uint32_t level = 0; level < kLevels; ++level) i = 2 * i + !(x[body[kWidth + i]] <= split[i]);
  return body[2 * kWidth + (i & (kWidth - 1))];
}

// The leaf of one row.
PN_INLINE uint32_t walk_row(const Tree& tree, const uint32_t* body, const float* x, uint32_t slot_bits) {
  if (tree.nodes == 0) {
    switch (tree.steps) {
      case 6:
        return walk_levels<6>(body, x);
      case 5:
        return walk_levels<5>(body, x);
      case 4:
        return walk_levels<4>(body, x);
      case 3:
        return walk_levels<3>(body, x);
      case 2:
        return walk_levels<2>(body, x);
      case 1:
        return walk_levels<1>(body, x);
      default:
        return walk_levels<0>(body, x);
    }
  }
  const TreeNode* nodes = reinterpret_cast<const TreeNode*>(body);
  const uint32_t slots = (1u << slot_bits) - 1;
  uint32_t i = 0;
  for (uint32_t step = 0; step < tree.steps; ++step) {
    const TreeNode& n = nodes[i];
    const uint32_t next = (n.link >> slot_bits) + !(x[n.link & slots] <= n.split);
    if (next == i) break;
    i = next;
  }
  uint32_t leaf;
  __builtin_memcpy(&leaf, &nodes[i].split, 4);
  return leaf;
}

#if PN_GATHER
#if PN_VEC == 16
// A vector's lanes from a table of 16, 32 or 64 in registers.
struct Table {
  __m512 r[4];
  static inline Table read(const uint32_t* p, uint32_t width) {
    Table t;
    t.r[0] = _mm512_loadu_ps(p);
    t.r[1] = t.r[2] = t.r[3] = t.r[0];
    if (width > 16) t.r[1] = _mm512_loadu_ps(p + 16);
    if (width > 32) {
      t.r[2] = _mm512_loadu_ps(p + 32);
      t.r[3] = _mm512_loadu_ps(p + 48);
    }
    return t;
  }
};

void walk_complete(const Tree& tree, const uint32_t* body, const Block& b) {
  const uint32_t levels = tree.steps, width = levels < 4 ? 16 : 1u << levels;
  const Table split = Table::read(body, width), slot = Table::read(body + width, width), leaf = Table::read(body + 2 * width, width);
  int64_t at[8];
  for (int i = 1; i < 8; ++i) at[i] = static_cast<int64_t>(body[width + i]) * 16;
  const __m512i lanes = reinterpret_cast<__m512i>(lane_numbers()), one = _mm512_set1_epi32(1);
  const int64_t stride = b.row_slots * 16, tiles = b.rows / 16;
  const float* x = b.x;
  for (int64_t tile = 0; tile < tiles; ++tile, x += stride) {
    __m512i i = one;
    // The test of a level, its splits and features in registers.
    const auto descend = [&](__m512 v, __m512 s) {
      const __mmask16 right = _mm512_cmp_ps_mask(v, s, _CMP_NLE_UQ);
      i = _mm512_add_epi32(i, i);
      i = _mm512_mask_add_epi32(i, right, i, one);
      return right;
    };
    const auto fetch = [&](__m512 slots) {
      const __m512i places = _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(slots), 4), lanes);
      return _mm512_i32gather_ps(places, x, 4);
    };
    const auto load_x = [&](int node) { return _mm512_loadu_ps(x + at[node]); };
    if (levels > 0) {
      const __mmask16 r0 = descend(load_x(1), _mm512_permutexvar_ps(i, split.r[0]));
      if (levels > 1) {
        const __mmask16 r1 = descend(_mm512_mask_blend_ps(r0, load_x(2), load_x(3)), _mm512_permutexvar_ps(i, split.r[0]));
        if (levels > 2) {
          const __m512 left = _mm512_mask_blend_ps(r1, load_x(4), load_x(5)), right = _mm512_mask_blend_ps(r1, load_x(6), load_x(7));
          descend(_mm512_mask_blend_ps(r0, left, right), _mm512_permutexvar_ps(i, split.r[0]));
          if (levels > 3) {
            descend(fetch(_mm512_permutexvar_ps(i, slot.r[0])), _mm512_permutexvar_ps(i, split.r[0]));
            if (levels > 4) {
              descend(fetch(_mm512_permutexvar_ps(i, slot.r[1])), _mm512_permutexvar_ps(i, split.r[1]));
              if (levels > 5) {
                descend(fetch(_mm512_permutex2var_ps(slot.r[2], i, slot.r[3])), _mm512_permutex2var_ps(split.r[2], i, split.r[3]));
              }
            }
          }
        }
      }
    }
    __m512 found = _mm512_permutex2var_ps(leaf.r[0], i, leaf.r[1]);
    if (levels > 5) {
      const __mmask16 upper = _mm512_test_epi32_mask(i, _mm512_set1_epi32(32));
      found = _mm512_mask_mov_ps(found, upper, _mm512_permutex2var_ps(leaf.r[2], i, leaf.r[3]));
    }
    _mm512_storeu_ps(b.leaf + tile * 16, found);
  }
}
#else
void walk_complete(const Tree& tree, const uint32_t* body, const Block& b) {
  const uint32_t levels = tree.steps, width = levels < 4 ? 16 : 1u << levels;
  const float* split = reinterpret_cast<const float*>(body);
  const int32_t* slot = reinterpret_cast<const int32_t*>(body + width);
  const VI lanes = lane_numbers(), mask = splat_i(static_cast<int32_t>(width - 1));
  const int64_t stride = b.row_slots * kVec, tiles = b.rows / kVec;
  const float* x = b.x;
  for (int64_t tile = 0; tile < tiles; ++tile, x += stride) {
    VI i = splat_i(1);
    for (uint32_t level = 0; level < levels; ++level) {
      const VF v = gather(x, gather_i(slot, i) * splat_i(kVec) + lanes);
      i = i + i + 1 + (v <= gather(split, i));
    }
    store(reinterpret_cast<float*>(b.leaf) + tile * kVec, gather(reinterpret_cast<const float*>(body + 2 * width), i & mask));
  }
}
#endif

// kTwo: two tiles at a time, so that one's loads are under way while the other waits.
template <bool kTwo>
PN_INLINE void walk_tiles(const Tree& tree, const uint32_t* body, const Block& b, uint32_t slot_bits, int64_t tile) {
  const float* split = reinterpret_cast<const float*>(body);
  const int32_t* link = reinterpret_cast<const int32_t*>(body) + 1;
  const VI lanes = lane_numbers(), slots = splat_i(static_cast<int32_t>((1u << slot_bits) - 1));
  const int32_t bits = static_cast<int32_t>(slot_bits);
  const float* x0 = b.x + tile * b.row_slots * kVec;
  const float* x1 = x0 + b.row_slots * kVec;
  VI i0{}, i1{};
  const auto step = [&](VI i, const float* x) {
    const VI k = gather_i(link, i + i);
    const VF v = gather(x, (k & slots) * splat_i(kVec) + lanes);
    const VI child = cast<VI>(cast<VU>(k) >> bits);
    return child + 1 + (v <= gather(split, i + i));
  };
  for (uint32_t n = 0; n < tree.steps; ++n) {
    const VI n0 = step(i0, x0), n1 = kTwo ? step(i1, x1) : i1;
    const bool done = n >= tree.least && none((n0 != i0) | (n1 != i1));
    i0 = n0;
    i1 = n1;
    if (done) break;
  }
  float* leaf = reinterpret_cast<float*>(b.leaf) + tile * kVec;
  store(leaf, gather(split, i0 + i0));
  if (kTwo) store(leaf + kVec, gather(split, i1 + i1));
}

void walk_nodes(const Tree& tree, const uint32_t* body, const Block& b, uint32_t slot_bits) {
  const int64_t tiles = b.rows / kVec;
  for (int64_t tile = 0; tile + 1 < tiles; tile += 2) walk_tiles<true>(tree, body, b, slot_bits, tile);
  if (tiles % 2 != 0) walk_tiles<false>(tree, body, b, slot_bits, tiles - 1);
}
#endif

void add_leaves(const TreeHeader& h, const Tree& tree, const Block& b, int64_t targets) {
  if (h.leaf_lists == 0) {
    const float* leaf = reinterpret_cast<const float*>(b.leaf);
    double* sums = b.sums + static_cast<int64_t>(tree.target) * b.rows;
    for (int64_t r = 0; r < b.rows; ++r) sums[r] += static_cast<double>(leaf[r]);
    return;
  }
  const TreeVote* votes = reinterpret_cast<const TreeVote*>(b.words + h.votes_at);
  for (int64_t r = 0; r < b.rows; ++r) {
    const uint32_t* list = b.words + h.lists_at + (b.leaf[r] < h.lists ? b.leaf[r] : 0);
    double* sums = b.sums + r * targets;
    for (uint32_t v = list[0]; v < list[1]; ++v) sums[votes[v].target] += static_cast<double>(votes[v].weight);
  }
}

void run_block(const State& s, const Block& b) {
  const TreeHeader& h = header(b.words);
  const Tree* trees = reinterpret_cast<const Tree*>(b.words + h.trees_at);
  if (b.rows == 1 && h.leaf_lists == 0 && s.settings.targets == 1) {  // the sum stays in a register
    double sum = 0;
    for (uint32_t t = 0; t < h.trees; ++t) {
      const uint32_t leaf = walk_row(trees[t], b.words + int64_t{trees[t].at} * 16, b.x, h.slot_bits);
      float value;
      __builtin_memcpy(&value, &leaf, sizeof(value));
      sum += static_cast<double>(value);
    }
    b.sums[0] = sum;
    return;
  }
  for (uint32_t t = 0; t < h.trees; ++t) {
    const Tree& tree = trees[t];
    const uint32_t* body = b.words + int64_t{tree.at} * 16;
#if PN_GATHER
    if (b.lanes > 1) {
      if (tree.nodes == 0) {
        walk_complete(tree, body, b);
      } else {
        walk_nodes(tree, body, b, h.slot_bits);
      }
      add_leaves(h, tree, b, s.settings.targets);
      continue;
    }
#endif
    for (int64_t r = 0; r < b.rows; ++r) b.leaf[r] = walk_row(tree, body, b.x + r * b.row_slots, h.slot_bits);
    add_leaves(h, tree, b, s.settings.targets);
  }
}

// Sums into results; `row` holds one row's.
void finish(const State& s, const TreeHeader& h, const Tensor* base, const Block& b, int64_t rows, double* row, float* y) {
  const int64_t targets = s.settings.targets;
  const bool average = s.settings.aggregate == TreeAggregate::kAverage && h.trees > 0;
  const int64_t row_step = h.leaf_lists ? targets : 1, target_step = h.leaf_lists ? 1 : b.rows;
  for (int64_t r = 0; r < rows; ++r, y += targets) {
    for (int64_t t = 0; t < targets; ++t) {
      double v = b.sums[r * row_step + t * target_step];
      if (average) v /= static_cast<double>(h.trees);
      if (base != nullptr) v += static_cast<double>(base->as<const float>()[t]);
      row[t] = v;
    }
    tree_transform(s.settings.post, row, targets);
    for (int64_t t = 0; t < targets; ++t) y[t] = static_cast<float>(row[t]);
  }
}

PN_COLD bool accepts(const KernelQuery& q) {
  for (int i : {0, 6}) {
    if (q.in[i]->dtype != DType::kF32) return false;
  }
  if (q.in[0]->layout != Layout::kPlain || q.out[0]->layout != Layout::kPlain) return false;
  TreeSettings s;
  if (s.read(q.attrs) != Status::kOk || s.aggregate == TreeAggregate::kMin || s.aggregate == TreeAggregate::kMax) return false;
  if (s.targets > 4096 || q.in[0]->shape[1] > 1 << 24) return false;
  return q.in[2]->layout == Layout::kPacked || tree_packed_bytes(q) >= 0;
}

PN_COLD float cost(const KernelQuery& q) {
  return static_cast<float>(q.in[0]->shape[0] * (q.in[3]->shape[0] + q.in[0]->shape[1])) * 2e-3f + 0.1f;
}

// A thread's memory: slots of a block, leaves, sums, and one row's results. Slots are known from packed data
// only; there are two for a feature at most, and the one of NaN.
struct Room {
  int64_t x, leaf, sums, row;  // bytes
  int64_t tiles;               // that have room for their sums
};

Room room(int64_t features, int64_t targets) {
  Room r;
  const int64_t tile = (2 * features + 1) * kVec * 4, want = kVec * targets * 8;
  r.x = tile > kBlockBytes ? round_up(tile, 64) : kBlockBytes;
  r.tiles = want > kBlockBytes ? 1 : kBlockBytes / want;
  if (r.tiles > kMostTiles) r.tiles = kMostTiles;
  r.leaf = r.tiles * kVec * 4;
  r.sums = round_up(r.tiles * want, 64);
  r.row = targets * 8;
  return r;
}

PN_COLD int64_t thread_scratch_bytes(const KernelQuery& q) {
  const Room r = room(q.in[0]->shape[1], q.attrs.i64("targets", 1));
  return r.x + r.leaf + r.sums + r.row;
}

PN_COLD Status prepare(const KernelQuery& q, void* state) {
  State& s = *static_cast<State*>(state);
  PN_TRY(s.settings.read(q.attrs));
  const TreeHeader& h = header(q.packed);
  s.rows = q.in[0]->shape[0];
  s.features = q.in[0]->shape[1];
  s.slots = h.slots;
  if (h.features > s.features || s.slots > 2 * s.features) {
    return fail(Status::kInvalidModel, "Trees: X has %d columns, the trees test %u", static_cast<int>(s.features), h.features);
  }
  const Room r = room(s.features, s.settings.targets);
  s.block_tiles = r.x / ((s.slots + 1) * kVec * 4);
  if (s.block_tiles > r.tiles) s.block_tiles = r.tiles;
  return Status::kOk;
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const uint32_t* words = c.in[2]->as<const uint32_t>();
  const TreeHeader& h = header(words);
  const int32_t* slots = reinterpret_cast<const int32_t*>(words + h.slots_at);
  const Tensor* base = c.has(7) ? c.in[7] : nullptr;
  const Room space = room(s.features, s.settings.targets);
  const int64_t targets = s.settings.targets;
  const bool alone = !PN_GATHER || s.rows < kFew;
  spread(*c.pool, ceil_div(s.rows, kVec), int64_t{h.trees} * kVec * 4 + s.features * kVec, [&](int64_t begin, int64_t end, int thread) {
    uint8_t* memory = c.thread_scratch + thread * c.thread_stride;
    Block b;
    b.words = words;
    b.x = reinterpret_cast<float*>(memory);
    b.leaf = reinterpret_cast<uint32_t*>(memory + space.x);
    b.sums = reinterpret_cast<double*>(memory + space.x + space.leaf);
    double* row = reinterpret_cast<double*>(memory + space.x + space.leaf + space.sums);
    b.row_slots = s.slots + 1;
    b.lanes = alone ? 1 : kVec;
    for (int64_t tile = begin; tile < end; tile += s.block_tiles) {
      const int64_t from = tile * kVec, to = (tile + s.block_tiles < end ? tile + s.block_tiles : end) * kVec;
      const int64_t live = to < s.rows ? to - from : s.rows - from;
      const float* x = c.in[0]->as<const float>() + from * s.features;
      b.rows = alone ? live : round_up(live, kVec);
      if (alone) {
        load_rows(slots, s.slots, x, s.features, live, b.x);
      } else {
        load_tiles(slots, s.slots, x, s.features, live, b.rows / kVec, b.x);
      }
      __builtin_memset(b.sums, 0, static_cast<size_t>(b.rows * targets) * sizeof(double));
      run_block(s, b);
      finish(s, h, base, b, live, row, c.out[0]->as<float>() + from * targets);
    }
  });
  return Status::kOk;
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(tree)
PN_KERNEL_ROWS(tree) = {
    {"f32_trees", "Trees", Layout::kPlain, Layout::kPlain, 2,
     PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts, PN_TIER::cost, tree_packed_bytes, tree_pack, nullptr,
             PN_TIER::thread_scratch_bytes, PN_TIER::prepare, PN_TIER::run, tree_check,
             1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6)},
};
PN_KERNEL_COUNT(tree);

}  // namespace pyneo
