// SPDX-License-Identifier: Apache-2.0
//
// Trees: an ensemble of decision trees as constant tensors. Compiler-made: frontends turn the tree
// operators of ai.onnx.ml and other libraries' models into it, once, so that nothing is decoded at
// run time.
//
//   0  X        (rows, features)  float32 or float64
//   1  splits   (nodes)           float32 or float64
//   2  nodes    (nodes, 4) int32  feature, test, child if true, child if false
//   3  roots    (trees)    int32
//   4  leaves   (leaves + 1) int32  first vote of each leaf, and the number of votes
//   5  targets  (votes)    int32
//   6  weights  (votes)           float32 or float64
//   7  base     (targets)         optional, of the weights' dtype: added after aggregation
//
// test: 0 <=, 1 <, 2 >=, 3 >, 4 ==, 5 !=, plus 8 where a NaN counts as true. A child (or root) >= 0
// is a node, greater than its parent, so that walks end; a negative one is the leaf ~child.
// Attributes: targets; aggregate SUM, AVERAGE, MIN or MAX; post_transform NONE, SOFTMAX, LOGISTIC,
// SOFTMAX_ZERO or PROBIT. Output: (rows, targets) of the weights' dtype; sums are in float64.
#include <cinttypes>
#include <cmath>

#include "ops/narrow.h"
#include "ops/trees.h"

namespace pyneo {
namespace {

using Aggregate = TreeAggregate;

constexpr int64_t kRows = 16;  // rows of a task

template <typename E, int n>
Status read_name(const Attrs& attrs, const char* attr, const char* const (&names)[n], E* out) {
  const Str s = attrs.str(attr, names[0]);
  for (int i = 0; i < n; ++i) {
    if (s == names[i]) {
      *out = static_cast<E>(i);
      return Status::kOk;
    }
  }
  return fail(Status::kInvalidModel,
              "Trees: %s is '%.*s', expected %s or another that the operator lists", attr,
              static_cast<int>(s.size), s.data, names[0]);
}

Status infer_trees(InferContext& c) {
  TreeSettings s;
  PN_TRY(s.read(c.attrs));
  PN_TRY(expect_dtype(c, 0, {DType::kF32, DType::kF64}));
  PN_TRY(expect_dtype(c, 1, {DType::kF32, DType::kF64}));
  for (int i : {2, 3, 4, 5}) PN_TRY(expect_dtype(c, i, {DType::kI32}));
  PN_TRY(expect_dtype(c, 6, {DType::kF32, DType::kF64}));
  if (c.has(7)) PN_TRY(expect_dtype(c, 7, {c.dtype(6)}));
  const int ranks[] = {2, 1, 2, 1, 1, 1, 1, 1};
  for (int i = 0; i < c.n_in; ++i) {
    if (c.has(i) && c.shape(i).rank != ranks[i]) {
      return fail(Status::kInvalidModel, "Trees: input %d has rank %d, expected %d", i,
                  c.shape(i).rank, ranks[i]);
    }
  }
  const int64_t n = c.shape(1)[0], votes = c.shape(5)[0];
  if (c.shape(2)[0] != n || c.shape(2)[1] != 4 || c.shape(4)[0] < 1 || c.shape(6)[0] != votes ||
      (c.has(7) && c.shape(7)[0] != s.targets)) {
    return fail(Status::kInvalidModel,
                "Trees: the sizes of splits, nodes, leaves, votes and base do not fit together");
  }
  Shape y = c.shape(0);
  y[1] = s.targets;
  c.set(0, c.dtype(6), y);
  return Status::kOk;
}

int64_t scratch_trees(const InferContext& c) {
  ScratchSize size;
  int64_t sums = 0;
  if (!checked_mul(c.shape(0)[0], c.attrs.i64("targets", 1), &sums)) sums = INT64_MAX;
  size.add(sums, 8);
  return size.bytes();
}

// float32 compares as it does in float64, so there is one form of all that follows.
double load_number(const void* p, bool wide, int64_t i) {
  return wide ? static_cast<const double*>(p)[i] : static_cast<double>(static_cast<const float*>(p)[i]);
}

bool holds(int test, double x, double split) {
  switch (test & 7) {
    case 0:
      return x <= split;
    case 1:
      return x < split;
    case 2:
      return x >= split;
    case 3:
      return x > split;
    case 4:
      return x == split;
    default:
      return x != split;
  }
}

struct Forest {
  const int32_t *nodes, *roots, *leaves, *targets;
  int64_t n_nodes, n_roots, n_leaves, n_votes;
  const void *x, *splits, *weights;
  bool wide_x, wide_splits, wide_weights;

  double weight(int64_t i) const { return load_number(weights, wide_weights, i); }
};

// The leaf of a row in a tree, or -1 if the tree is broken.
int64_t find_leaf(const Forest& f, int64_t root, int64_t row, int64_t features) {
  int64_t at = root, last = -1;
  while (at >= 0) {
    if (at >= f.n_nodes || at <= last) return -1;
    const int32_t* node = f.nodes + at * 4;
    if (static_cast<uint64_t>(static_cast<int64_t>(node[0])) >= static_cast<uint64_t>(features))
      return -1;
    const double v = load_number(f.x, f.wide_x, row * features + node[0]);
    last = at;
    at = holds(node[1], v, load_number(f.splits, f.wide_splits, at)) || ((node[1] & 8) != 0 && v != v) ? node[2] : node[3];
  }
  return ~at < f.n_leaves ? ~at : -1;
}

void merge(Aggregate how, double weight, double* sum) {
  if (*sum != *sum) {  // NaN: no vote yet
    *sum = weight;
  } else if (how == Aggregate::kMin) {
    if (weight < *sum) *sum = weight;
  } else if (how == Aggregate::kMax) {
    if (weight > *sum) *sum = weight;
  } else {
    *sum += weight;
  }
}

// Inverse of the normal distribution: sqrt(2) erfinv(2 p - 1), by Giles's approximation of erfinv
// ("Approximating the erfinv function", 2010), then one Newton step.
double probit(double p) {
  const double x = 2 * p - 1;
  if (!(x > -1 && x < 1)) return x == 1 ? INFINITY : x == -1 ? -INFINITY : NAN;
  double w = -log((1 - x) * (1 + x)), r;
  if (w < 5) {
    const double c[] = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                        -4.39150654e-06, 0.00021858087,  -0.00125372503,
                        -0.00417768164,  0.246640727,    1.50140941};
    w -= 2.5;
    r = c[0];
    for (int i = 1; i < 9; ++i) r = r * w + c[i];
  } else {
    const double c[] = {-0.000200214257, 0.000100950558, 0.00134934322,
                        -0.00367342844,  0.00573950773,  -0.0076224613,
                        0.00943887047,   1.00167406,     2.83297682};
    w = sqrt(w) - 3;
    r = c[0];
    for (int i = 1; i < 9; ++i) r = r * w + c[i];
  }
  r *= x;
  r -= (erf(r) - x) / (1.1283791670955126 * exp(-r * r));
  return 1.4142135623730951 * r;
}

Status run_trees(RunContext& c) {
  TreeSettings s;
  PN_TRY(s.read(c.attrs));
  const int64_t rows = c.in[0]->dim(0), features = c.in[0]->dim(1);
  const Forest f{c.in[2]->as<const int32_t>(),
                 c.in[3]->as<const int32_t>(),
                 c.in[4]->as<const int32_t>(),
                 c.in[5]->as<const int32_t>(),
                 c.in[1]->dim(0),
                 c.in[3]->dim(0),
                 c.in[4]->dim(0) - 1,
                 c.in[5]->dim(0),
                 c.in[0]->data,
                 c.in[1]->data,
                 c.in[6]->data,
                 c.in[0]->desc.dtype == DType::kF64,
                 c.in[1]->desc.dtype == DType::kF64,
                 c.in[6]->desc.dtype == DType::kF64};
  Scratch scratch(c);
  double* sums = scratch.take<double>(rows * s.targets);
  int broken = -1;  // a tree whose records are inconsistent
  c.pool->run(ceil_div(rows, kRows), [&](int64_t task, int) {
    const int64_t from = task * kRows, to = from + kRows < rows ? from + kRows : rows;
    for (int64_t i = from * s.targets; i < to * s.targets; ++i) sums[i] = NAN;
    for (int64_t t = 0; t < f.n_roots; ++t) {
      for (int64_t row = from; row < to; ++row) {
        const int64_t leaf = find_leaf(f, f.roots[t], row, features);
        bool sound = leaf >= 0 && f.leaves[leaf] >= 0 && f.leaves[leaf + 1] <= f.n_votes;
        for (int64_t v = sound ? f.leaves[leaf] : 0; sound && v < f.leaves[leaf + 1]; ++v) {
          sound = f.targets[v] >= 0 && f.targets[v] < s.targets;
          if (sound) merge(s.aggregate, f.weight(v), &sums[row * s.targets + f.targets[v]]);
        }
        if (!sound) __atomic_store_n(&broken, static_cast<int>(t), __ATOMIC_RELAXED);
      }
    }
    for (int64_t row = from; row < to; ++row) {
      double* y = sums + row * s.targets;
      for (int64_t i = 0; i < s.targets; ++i) {
        if (y[i] != y[i]) y[i] = 0;
        if (s.aggregate == Aggregate::kAverage && f.n_roots > 0)
          y[i] /= static_cast<double>(f.n_roots);
        if (!c.has(7)) continue;
        y[i] += load_number(c.in[7]->data, f.wide_weights, i);
      }
      tree_transform(s.post, y, s.targets);
      for (int64_t i = 0; i < s.targets; ++i) {
        if (f.wide_weights) {
          c.out[0]->as<double>()[row * s.targets + i] = y[i];
        } else {
          c.out[0]->as<float>()[row * s.targets + i] = static_cast<float>(y[i]);
        }
      }
    }
  });
  if (broken >= 0) {
    return fail(Status::kInvalidModel,
                "Trees: tree %d has a feature, child, leaf or target out of range, or a child "
                "before its parent",
                broken);
  }
  return Status::kOk;
}

}  // namespace

Status TreeSettings::read(const Attrs& attrs) {
  targets = attrs.i64("targets", 1);
  if (targets < 1 || targets > (1 << 24)) {
    return fail(Status::kInvalidModel, "Trees: targets is %" PRId64 ", expected 1 to 2^24",
                targets);
  }
  PN_TRY(read_name(attrs, "aggregate", {"SUM", "AVERAGE", "MIN", "MAX"}, &aggregate));
  return read_name(attrs, "post_transform",
                   {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"}, &post);
}

void tree_transform(TreePost post, double* y, int64_t n) {
  if (post == TreePost::kNone) return;
  if (post == TreePost::kLogistic || post == TreePost::kProbit) {
    for (int64_t i = 0; i < n; ++i)
      y[i] = post == TreePost::kLogistic ? 1 / (1 + exp(-y[i])) : probit(y[i]);
    return;
  }
  double top = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; ++i) top = y[i] > top ? y[i] : top;
  for (int64_t i = 0; i < n; ++i) {
    // SOFTMAX_ZERO leaves a score of zero at zero.
    y[i] = post == TreePost::kSoftmaxZero && fabs(y[i]) <= 1e-7 ? 0 : exp(y[i] - top);
    sum += y[i];
  }
  for (int64_t i = 0; i < n && sum != 0; ++i) y[i] /= sum;
}

extern const OpDef pn_ops_trees[] = {
    {"Trees", 7, 8, 1, 1, 0, infer_trees, run_trees, scratch_trees},
};
extern const int pn_ops_trees_count = sizeof(pn_ops_trees) / sizeof(OpDef);

}  // namespace pyneo
