// SPDX-License-Identifier: Apache-2.0
//
// Trees as csrc/kernels/tree reads them: every table of the operator in one block of 32-bit words.
//
// All tests have one form, `x <= split`: a comparison with the float below turns < into <=, children
// change sides for > and >=, == takes two nodes. A row's features are laid out in slots first: where
// a NaN must count as true, the feature has a second slot that holds -infinity for a NaN.
//
//   TreeHeader | int32 slots[slots]: feature, or ~feature if a NaN is -infinity there | Tree[trees]
//   | lists[lists + 1] and TreeVote[votes] if leaves have lists | bodies of the trees, each from a
//   64-byte border
//
// A complete tree has every node of its levels, i's children at 2 i and 2 i + 1, the root at 1. With
// width = 2^levels, at least 16: float split[width], int32 slot[width], leaf[width]; the leaf
// reached at i is i mod width. Any other tree is TreeNode[nodes]: the child where the test fails lies
// behind the one where it holds. A node that always fails tests the slot behind the last, which is
// NaN: a leaf's second child is itself, its split the leaf's value, and a step to nowhere else joins
// paths. So a walk of `steps` steps ends at a leaf and needs no test for it.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

struct TreeHeader {
  uint32_t trees, slots, features;  // features: the columns that X has at least
  uint32_t slot_bits;               // of TreeNode::link
  uint32_t leaf_lists;              // a leaf is the number of a list of votes, not the vote
  uint32_t lists, votes;
  uint32_t slots_at, trees_at, lists_at, votes_at;  // in words
  uint32_t reserved[5];
};

struct Tree {
  uint32_t at;      // in lines of 64 bytes
  uint32_t nodes;   // 0: complete
  uint32_t target;  // of all leaves, where they have no lists
  uint16_t steps, least;  // levels; every path of a tree that is not complete has at least `least`
};

struct TreeNode {
  float split;
  uint32_t link;  // first child << slot_bits | slot
};

struct TreeVote {
  uint32_t target;
  float weight;
};

constexpr uint32_t kTreeLevels = 6;  // most of a complete tree
constexpr int64_t kTreeSteps = 65535;
constexpr uint32_t kTreeNodes = 1u << 29;  // a node's words are counted in 31 bits

// Bytes of the packed form; -1 if the trees have none (MIN and MAX, doubles that are no floats, splits
// that are not finite, weights that are not), which the reference runs.
int64_t tree_packed_bytes(const KernelQuery& q);
void tree_pack(const KernelQuery& q, const void* plain, void* packed);
// That no walk leaves `packed`, whatever its bytes.
Status tree_check(const Attrs& attrs, const void* packed, int64_t bytes);

}  // namespace pyneo
