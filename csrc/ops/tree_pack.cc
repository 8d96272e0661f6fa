// SPDX-License-Identifier: Apache-2.0
#include "ops/tree_pack.h"

#include <cmath>
#include <cstring>

#include "core/memory.h"
#include "core/vector.h"
#include "ops/trees.h"

namespace pyneo {
namespace {

constexpr int64_t kLine = 16;  // words

float next_below(float x) { return nextafterf(x, -INFINITY); }

// The largest float that is at most s, or less than s.
float floor_float(double s) {
  const float f = static_cast<float>(s);
  return static_cast<double>(f) > s ? next_below(f) : f;
}
float below_float(double s) {
  const float f = static_cast<float>(s);
  return static_cast<double>(f) >= s ? next_below(f) : f;
}

// x <= split ? yes : no. Children: a step of the tree, or ~leaf.
struct Step {
  float split;
  int32_t slot;
  int32_t yes, no;
};

class Packer {
 public:
  // Fills words_; false if the trees have no packed form or memory is out.
  bool build(const KernelQuery& q);
  int64_t bytes() const { return words_.size() * 4; }
  const uint32_t* words() const { return words_.data(); }

 private:
  bool read(const KernelQuery& q);
  bool assign_slots();
  bool check_votes();
  bool add_steps(int32_t root);
  bool measure();
  bool tree_target(int64_t tree, uint32_t* target);
  bool add_complete(int32_t child, uint32_t levels);
  void fill(float* split, int32_t* slot, uint32_t* leaf, uint32_t i, uint32_t level, int32_t child);
  bool add_nodes(Tree* tree);
  bool normal(int32_t node, Step* first, Step* second, int* count);
  double split(int64_t i) const {
    return wide_splits_ ? static_cast<const double*>(splits_)[i]
                        : static_cast<double>(static_cast<const float*>(splits_)[i]);
  }
  uint32_t leaf_value(int32_t child) const;
  bool append(const void* data, int64_t words) {
    const int64_t at = words_.size();
    if (words_.size() + words > (int64_t{1} << 34) || !words_.resize(at + words)) return false;
    memcpy(words_.data() + at, data, static_cast<size_t>(words) * 4);
    return true;
  }
  bool pad_to_line() { return words_.resize(round_up(words_.size(), kLine)); }

  const int32_t *nodes_ = nullptr, *roots_ = nullptr, *leaves_ = nullptr, *targets_ = nullptr;
  const void* splits_ = nullptr;
  const float* weights_ = nullptr;
  bool wide_splits_ = false, lists_ = false;
  int64_t n_nodes_ = 0, n_roots_ = 0, n_leaves_ = 0, n_votes_ = 0, features_ = 0, n_targets_ = 1;
  uint32_t slot_count_ = 0, slot_bits_ = 0, used_features_ = 0;
  Vector<int32_t> slot_of_;   // of (feature, NaN is true), -1: none
  Vector<int32_t> first_;     // of a source node: its first step in the tree being added, -1: not reached
  Vector<Step> steps_;        // of that tree
  Vector<int32_t> deepest_;   // of a step
  Vector<int32_t> least_;
  Vector<int32_t> place_;     // of a step among the tree's nodes
  Vector<TreeNode> body_;
  int64_t most_ = 0, fewest_ = 0;  // steps to a leaf
  Vector<uint32_t> words_;
};

bool Packer::read(const KernelQuery& q) {
  if (q.values == nullptr) return false;
  for (int i = 1; i < 7; ++i) {
    if (q.values[i] == nullptr) return false;
  }
  TreeSettings s;
  if (s.read(q.attrs) != Status::kOk) return false;
  splits_ = q.values[1];
  wide_splits_ = q.in[1]->dtype == DType::kF64;
  nodes_ = static_cast<const int32_t*>(q.values[2]);
  roots_ = static_cast<const int32_t*>(q.values[3]);
  leaves_ = static_cast<const int32_t*>(q.values[4]);
  targets_ = static_cast<const int32_t*>(q.values[5]);
  weights_ = static_cast<const float*>(q.values[6]);
  n_nodes_ = q.in[1]->shape[0];
  n_roots_ = q.in[3]->shape[0];
  n_leaves_ = q.in[4]->shape[0] - 1;
  n_votes_ = q.in[5]->shape[0];
  features_ = q.in[0]->shape[1];
  n_targets_ = s.targets;
  return n_nodes_ < INT32_MAX / 4 && n_leaves_ < INT32_MAX / 4 && n_votes_ < INT32_MAX / 4 && n_roots_ < INT32_MAX / 4;
}

// One or two steps for a node's test; slots hold 2 * feature + (a NaN is true) until they are assigned.
bool Packer::normal(int32_t at, Step* first, Step* second, int* count) {
  const int32_t* node = nodes_ + int64_t{at} * 4;
  const double s = split(at);
  const int test = node[1] & 7;
  const bool nan_is_true = (node[1] & 8) != 0;
  if (node[0] < 0 || node[0] >= features_ || (node[1] & ~15) != 0 || test > 5 || !(s - s == 0)) return false;
  for (int i = 2; i < 4; ++i) {
    if (node[i] < 0 ? ~node[i] >= n_leaves_ : node[i] <= at || node[i] >= n_nodes_) return false;
  }
  const int32_t slot = node[0] * 2, yes = node[2], no = node[3];
  *count = test < 4 ? 1 : 2;
  switch (test) {
    case 0:  // <=
      *first = Step{floor_float(s), slot + nan_is_true, yes, no};
      break;
    case 1:  // <
      *first = Step{below_float(s), slot + nan_is_true, yes, no};
      break;
    case 2:  // >= is not <
      *first = Step{below_float(s), slot + !nan_is_true, no, yes};
      break;
    case 3:
      *first = Step{floor_float(s), slot + !nan_is_true, no, yes};
      break;
    case 4:  // == is <= and not <
      *first = Step{floor_float(s), slot + nan_is_true, at, no};
      *second = Step{below_float(s), slot, no, yes};
      break;
    default:  // a NaN differs from every number
      *first = Step{floor_float(s), slot, at, yes};
      *second = Step{below_float(s), slot, yes, no};
  }
  return true;
}

bool Packer::assign_slots() {
  if (features_ >= 1 << 24 || !slot_of_.resize(features_ * 2)) return false;
  for (int32_t i = 0; i < n_nodes_; ++i) {
    Step s[2];
    int count = 0;
    if (!normal(i, s, s + 1, &count)) return false;
    for (int k = 0; k < count; ++k) slot_of_[s[k].slot] = 1;
  }
  for (int64_t i = 0; i < slot_of_.size(); ++i) {
    if (slot_of_[i] == 0) continue;
    const int32_t feature = static_cast<int32_t>(i / 2), entry = i % 2 != 0 ? ~feature : feature;
    slot_of_[i] = static_cast<int32_t>(slot_count_++);
    used_features_ = static_cast<uint32_t>(feature) + 1;
    if (!append(&entry, 1)) return false;
  }
  while ((slot_count_ >> slot_bits_) != 0) ++slot_bits_;  // slot_count_ itself is the slot of NaN
  return slot_count_ < 1 << 20;
}

// Sound lists of votes; and whether a leaf has one vote at most, and those of a tree one target.
bool Packer::check_votes() {
  if (leaves_[n_leaves_] > n_votes_) return false;
  for (int64_t i = 0; i < n_leaves_; ++i) {
    const int64_t n = int64_t{leaves_[i + 1]} - leaves_[i];
    if (leaves_[i] < 0 || n < 0) return false;
    lists_ |= n > 1;
  }
  for (int64_t i = 0; i < n_votes_; ++i) {
    if (targets_[i] < 0 || targets_[i] >= n_targets_ || !(weights_[i] - weights_[i] == 0)) return false;
  }
  return true;
}

// The steps of the tree under `root`, in the order of the source, so that children follow parents.
bool Packer::add_steps(int32_t root) {
  steps_.clear();
  if (root < 0) return ~root < n_leaves_;
  if (root >= n_nodes_) return false;
  int32_t last = root;
  first_[root] = 0;
  for (int32_t at = root; at <= last; ++at) {
    if (first_[at] < 0) continue;
    Step s[2];
    int count = 0;
    if (!normal(at, s, s + 1, &count)) return false;
    first_[at] = static_cast<int32_t>(steps_.size());
    for (int k = 0; k < count; ++k) {
      s[k].slot = slot_of_[s[k].slot];
      if (!steps_.push(s[k])) return false;
      for (int32_t child : {s[k].yes, s[k].no}) {
        if (child <= at) continue;
        if (child > last) last = child;
        first_[child] = 0;
      }
    }
  }
  // From source nodes to steps. A first step of == names its own node where it means its second step.
  for (int32_t at = root; at <= last; ++at) {
    if (first_[at] < 0) continue;
    const int count = (nodes_[int64_t{at} * 4 + 1] & 7) < 4 ? 1 : 2;
    for (int k = 0; k < count; ++k) {
      Step& s = steps_[first_[at] + k];
      for (int32_t* child : {&s.yes, &s.no}) {
        if (*child >= 0) *child = *child == at ? first_[at] + 1 : first_[*child];
      }
    }
  }
  for (int32_t at = root; at <= last; ++at) first_[at] = -1;
  return true;
}

// The longest path of steps_.
bool Packer::measure() {
  deepest_.clear();
  most_ = 0;
  if (!deepest_.resize(steps_.size())) return false;
  for (int64_t i = 0; i < steps_.size(); ++i) {
    for (int32_t child : {steps_[i].yes, steps_[i].no}) {
      const int32_t depth = deepest_[i] + 1;
      if (child < 0) {
        most_ = depth > most_ ? depth : most_;
      } else if (depth > deepest_[child]) {
        deepest_[child] = depth;
      }
    }
  }
  return true;
}

uint32_t Packer::leaf_value(int32_t child) const {
  const int32_t leaf = ~child;
  if (lists_) return static_cast<uint32_t>(leaf);
  uint32_t bits = 0;
  if (leaves_[leaf + 1] > leaves_[leaf]) memcpy(&bits, weights_ + leaves_[leaf], 4);
  return bits;
}

// The target of all leaves of the tree in steps_; false if they have several.
bool Packer::tree_target(int64_t tree, uint32_t* target) {
  int32_t found = -1;
  bool one = true;
  auto see = [&](int32_t child) {
    if (child >= 0 || leaves_[~child + 1] == leaves_[~child]) return;
    const int32_t t = targets_[leaves_[~child]];
    one &= found < 0 || found == t;
    found = t;
  };
  if (steps_.empty()) see(roots_[tree]);
  for (const Step& s : steps_) {
    see(s.yes);
    see(s.no);
  }
  *target = found < 0 ? 0 : static_cast<uint32_t>(found);
  return one;
}

void Packer::fill(float* split, int32_t* slot, uint32_t* leaf, uint32_t i, uint32_t level, int32_t child) {
  if (level == 0) {
    leaf[0] = leaf_value(child);
    return;
  }
  // Below a leaf that comes early both ways lead to it.
  const bool early = child < 0;
  split[i] = early ? 0 : steps_[child].split;
  slot[i] = early ? 0 : steps_[child].slot;
  const uint32_t half = 1u << (level - 1);
  fill(split, slot, leaf, 2 * i, level - 1, early ? child : steps_[child].yes);
  fill(split, slot, leaf + half, 2 * i + 1, level - 1, early ? child : steps_[child].no);
}

bool Packer::add_complete(int32_t child, uint32_t levels) {
  const uint32_t width = levels < 4 ? 16 : 1u << levels;
  const int64_t at = words_.size();
  if (!words_.resize(at + width * 3)) return false;
  uint32_t* to = words_.data() + at;
  fill(reinterpret_cast<float*>(to), reinterpret_cast<int32_t*>(to + width), to + width * 2 + ((1u << levels) & (width - 1)),
       1, levels, child);
  return true;
}

bool Packer::add_nodes(Tree* tree) {
  const int64_t n = steps_.size();
  const uint64_t room = uint64_t{1} << (32 - slot_bits_);
  body_.clear();
  place_.clear();
  deepest_.clear();
  least_.clear();
  if (!body_.resize(1) || !place_.resize(n) || !deepest_.resize(n) || !least_.resize(n)) return false;
  for (int64_t i = 0; i < n; ++i) least_[i] = INT32_MAX;
  least_[0] = 0;
  most_ = 0;
  fewest_ = INT32_MAX;
  auto reach = [&](int32_t step, int32_t most, int32_t fewest) {
    if (most > deepest_[step]) deepest_[step] = most;
    if (fewest < least_[step]) least_[step] = fewest;
  };
  for (int64_t i = 0; i < n; ++i) {
    const int64_t pair = body_.size();
    if (static_cast<uint64_t>(pair) + 2 > room || pair + 2 > kTreeNodes || !body_.resize(pair + 2)) return false;
    const Step& s = steps_[i];
    body_[place_[i]] = TreeNode{s.split, static_cast<uint32_t>(pair) << slot_bits_ | static_cast<uint32_t>(s.slot)};
    for (int side = 0; side < 2; ++side) {
      const int32_t child = side == 0 ? s.yes : s.no;
      const int64_t at = pair + side;
      int64_t to = at;
      TreeNode node{};
      if (child < 0) {
        const uint32_t value = leaf_value(child);
        memcpy(&node.split, &value, 4);
        most_ = deepest_[i] + 1 > most_ ? deepest_[i] + 1 : most_;
        fewest_ = least_[i] + 1 < fewest_ ? least_[i] + 1 : fewest_;
      } else if (place_[child] == 0) {
        place_[child] = static_cast<int32_t>(at);
        reach(child, deepest_[i] + 1, least_[i] + 1);
        continue;
      } else {  // reached on another path before
        to = place_[child];
        reach(child, deepest_[i] + 2, least_[i] + 2);
      }
      node.link = static_cast<uint32_t>(to - 1) << slot_bits_ | slot_count_;
      body_[at] = node;
    }
  }
  if (most_ > kTreeSteps) return false;
  tree->nodes = static_cast<uint32_t>(body_.size());
  tree->steps = static_cast<uint16_t>(most_);
  tree->least = static_cast<uint16_t>(fewest_);
  return append(body_.data(), body_.size() * 2);
}

bool Packer::build(const KernelQuery& q) {
  if (!read(q) || !check_votes()) return false;
  const int64_t header_words = sizeof(TreeHeader) / 4, tree_words = sizeof(Tree) / 4;
  if (!words_.resize(header_words) || !assign_slots() || !first_.resize(n_nodes_)) return false;
  for (int64_t i = 0; i < n_nodes_; ++i) first_[i] = -1;
  for (int64_t t = 0; t < n_roots_ && !lists_; ++t) {
    uint32_t target = 0;
    if (!add_steps(roots_[t])) return false;
    lists_ = !tree_target(t, &target);
  }
  TreeHeader h{};
  h.trees = static_cast<uint32_t>(n_roots_);
  h.slots = slot_count_;
  h.features = used_features_;
  h.slot_bits = slot_bits_;
  h.leaf_lists = lists_;
  h.slots_at = static_cast<uint32_t>(header_words);
  h.trees_at = static_cast<uint32_t>(words_.size());
  if (!words_.resize(words_.size() + n_roots_ * tree_words)) return false;
  if (lists_) {
    h.lists = static_cast<uint32_t>(n_leaves_);
    h.votes = static_cast<uint32_t>(n_votes_);
    h.lists_at = static_cast<uint32_t>(words_.size());
    if (!append(leaves_, n_leaves_ + 1)) return false;
    h.votes_at = static_cast<uint32_t>(words_.size());
    for (int64_t i = 0; i < n_votes_; ++i) {
      const TreeVote vote{static_cast<uint32_t>(targets_[i]), weights_[i]};
      if (!append(&vote, 2)) return false;
    }
  }
  for (int64_t t = 0; t < n_roots_; ++t) {
    Tree tree{};
    if (!pad_to_line() || !add_steps(roots_[t]) || !measure()) return false;
    if (!lists_ && !tree_target(t, &tree.target)) return false;
    tree.at = static_cast<uint32_t>(words_.size() / kLine);
    tree.steps = static_cast<uint16_t>(most_);
    const int32_t child = steps_.empty() ? roots_[t] : 0;
    if (!(most_ <= kTreeLevels ? add_complete(child, static_cast<uint32_t>(most_)) : add_nodes(&tree))) return false;
    memcpy(words_.data() + h.trees_at + t * tree_words, &tree, sizeof(tree));
  }
  memcpy(words_.data(), &h, sizeof(h));
  return pad_to_line();
}

Status bad(const char* what) {
  return fail(Status::kInvalidPackage, "Trees: the packed trees are broken (%s): compile the model again", what);
}

}  // namespace

int64_t tree_packed_bytes(const KernelQuery& q) {
  Packer p;
  return p.build(q) ? p.bytes() : -1;
}

void tree_pack(const KernelQuery& q, const void*, void* packed) {
  Packer p;
  if (p.build(q)) memcpy(packed, p.words(), static_cast<size_t>(p.bytes()));
}

Status tree_check(const Attrs& attrs, const void* packed, int64_t bytes) {
  TreeSettings settings;
  PN_TRY(settings.read(attrs));
  const uint32_t* const words = static_cast<const uint32_t*>(packed);
  const uint64_t total = static_cast<uint64_t>(bytes) / 4;
  if (bytes < static_cast<int64_t>(sizeof(TreeHeader))) return bad("no header");
  const TreeHeader& h = *static_cast<const TreeHeader*>(packed);
  auto inside = [&](uint64_t at, uint64_t size) { return at <= total && size <= total - at; };
  if (!inside(h.slots_at, h.slots) || !inside(h.trees_at, uint64_t{h.trees} * (sizeof(Tree) / 4)) ||
      (h.leaf_lists != 0 && (!inside(h.lists_at, uint64_t{h.lists} + 1) || !inside(h.votes_at, uint64_t{h.votes} * 2)))) {
    return bad("a table reaches past the end");
  }
  if (h.features > 1 << 24 || h.slots >= 1 << 20 || h.slot_bits > 20 || (h.slots >> h.slot_bits) != 0) return bad("slots");
  for (uint32_t i = 0; i < h.slots; ++i) {
    const int32_t s = static_cast<int32_t>(words[h.slots_at + i]);
    if (static_cast<uint32_t>(s < 0 ? ~s : s) >= h.features) return bad("a feature");
  }
  // Where a walk through nodes ends only the kernel sees: it takes list 0 for one that is not there.
  if (h.leaf_lists != 0 && h.lists == 0 && h.trees != 0) return bad("no list of votes");
  for (uint32_t i = 0; h.leaf_lists != 0 && i < h.lists; ++i) {
    const uint32_t* list = words + h.lists_at + i;
    if (list[0] > list[1] || list[1] > h.votes) return bad("a list of votes");
  }
  for (uint32_t i = 0; h.leaf_lists != 0 && i < h.votes; ++i) {
    if (words[h.votes_at + i * uint64_t{2}] >= settings.targets) return bad("a vote's target");
  }
  for (uint32_t t = 0; t < h.trees; ++t) {
    const Tree& tree = reinterpret_cast<const Tree*>(words + h.trees_at)[t];
    const uint64_t at = uint64_t{tree.at} * kLine;
    if (tree.target >= settings.targets) return bad("a target");
    if (tree.nodes == 0) {
      if (tree.steps > kTreeLevels) return bad("levels");
      const uint32_t width = tree.steps < 4 ? 16 : 1u << tree.steps;
      if (!inside(at, width * 3)) return bad("a tree reaches past the end");
      for (uint32_t i = 0; i < width; ++i) {
        if (words[at + width + i] > h.slots) return bad("a slot");
        if (h.leaf_lists != 0 && words[at + 2 * width + i] >= h.lists) return bad("a leaf");
      }
      continue;
    }
    if (tree.nodes > kTreeNodes || !inside(at, uint64_t{tree.nodes} * 2)) return bad("a tree reaches past the end");
    const TreeNode* nodes = reinterpret_cast<const TreeNode*>(words + at);
    const uint32_t slots = (1u << h.slot_bits) - 1;
    for (uint32_t i = 0; i < tree.nodes; ++i) {
      const uint32_t child = nodes[i].link >> h.slot_bits, slot = nodes[i].link & slots;
      if (slot > h.slots || uint64_t{child} + 1 >= tree.nodes) return bad("a child");
    }
  }
  return Status::kOk;
}

}  // namespace pyneo
