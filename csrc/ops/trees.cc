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

namespace pyneo {
namespace {

constexpr int64_t kRows = 16;  // rows of a task

enum class Aggregate { kSum, kAverage, kMin, kMax };
enum class Post { kNone, kSoftmax, kLogistic, kSoftmaxZero, kProbit };

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

struct Settings {
  int64_t targets = 1;
  Aggregate aggregate = Aggregate::kSum;
  Post post = Post::kNone;
};

Status read_settings(const Attrs& attrs, Settings* s) {
  s->targets = attrs.i64("targets", 1);
  if (s->targets < 1 || s->targets > (1 << 24)) {
    return fail(Status::kInvalidModel, "Trees: targets is %" PRId64 ", expected 1 to 2^24",
                s->targets);
  }
  PN_TRY(read_name(attrs, "aggregate", {"SUM", "AVERAGE", "MIN", "MAX"}, &s->aggregate));
  return read_name(attrs, "post_transform",
                   {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"}, &s->post);
}

Status infer_trees(InferContext& c) {
  Settings s;
  PN_TRY(read_settings(c.attrs, &s));
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

template <typename X, typename S>
bool holds(int test, X x, S split) {
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
  const void* splits;
  const void* weights;
  bool wide_weights;

  double weight(int64_t i) const {
    return wide_weights ? static_cast<const double*>(weights)[i]
                        : static_cast<double>(static_cast<const float*>(weights)[i]);
  }
};

// The leaf of a row in a tree, or -1 if the tree is broken.
template <typename X, typename S>
int64_t find_leaf(const Forest& f, int64_t root, const X* x, int64_t features) {
  const S* splits = static_cast<const S*>(f.splits);
  int64_t at = root, last = -1;
  while (at >= 0) {
    if (at >= f.n_nodes || at <= last) return -1;
    const int32_t* node = f.nodes + at * 4;
    if (static_cast<uint64_t>(static_cast<int64_t>(node[0])) >= static_cast<uint64_t>(features))
      return -1;
    const X v = x[node[0]];
    last = at;
    at = holds(node[1], v, splits[at]) || ((node[1] & 8) != 0 && v != v) ? node[2] : node[3];
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

void transform(Post post, double* y, int64_t n) {
  if (post == Post::kNone) return;
  if (post == Post::kLogistic || post == Post::kProbit) {
    for (int64_t i = 0; i < n; ++i)
      y[i] = post == Post::kLogistic ? 1 / (1 + exp(-y[i])) : probit(y[i]);
    return;
  }
  double top = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; ++i) top = y[i] > top ? y[i] : top;
  for (int64_t i = 0; i < n; ++i) {
    // SOFTMAX_ZERO leaves a score of zero at zero.
    y[i] = post == Post::kSoftmaxZero && fabs(y[i]) <= 1e-7 ? 0 : exp(y[i] - top);
    sum += y[i];
  }
  for (int64_t i = 0; i < n && sum != 0; ++i) y[i] /= sum;
}

template <typename X, typename S>
Status run_typed(RunContext& c) {
  Settings s;
  PN_TRY(read_settings(c.attrs, &s));
  const int64_t rows = c.in[0]->dim(0), features = c.in[0]->dim(1);
  const Forest f{c.in[2]->as<const int32_t>(),
                 c.in[3]->as<const int32_t>(),
                 c.in[4]->as<const int32_t>(),
                 c.in[5]->as<const int32_t>(),
                 c.in[1]->dim(0),
                 c.in[3]->dim(0),
                 c.in[4]->dim(0) - 1,
                 c.in[5]->dim(0),
                 c.in[1]->data,
                 c.in[6]->data,
                 c.in[6]->desc.dtype == DType::kF64};
  Scratch scratch(c);
  double* sums = scratch.take<double>(rows * s.targets);
  int broken = -1;  // a tree whose records are inconsistent
  c.pool->run(ceil_div(rows, kRows), [&](int64_t task, int) {
    const int64_t from = task * kRows, to = from + kRows < rows ? from + kRows : rows;
    for (int64_t i = from * s.targets; i < to * s.targets; ++i) sums[i] = NAN;
    for (int64_t t = 0; t < f.n_roots; ++t) {
      for (int64_t row = from; row < to; ++row) {
        const int64_t leaf =
            find_leaf<X, S>(f, f.roots[t], c.in[0]->as<const X>() + row * features, features);
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
        y[i] += f.wide_weights ? c.in[7]->as<const double>()[i]
                               : static_cast<double>(c.in[7]->as<const float>()[i]);
      }
      transform(s.post, y, s.targets);
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

Status run_trees(RunContext& c) {
  const bool wide_x = c.in[0]->desc.dtype == DType::kF64,
             wide_split = c.in[1]->desc.dtype == DType::kF64;
  if (wide_x) return wide_split ? run_typed<double, double>(c) : run_typed<double, float>(c);
  return wide_split ? run_typed<float, double>(c) : run_typed<float, float>(c);
}

}  // namespace

extern const OpDef pn_ops_trees[] = {
    {"Trees", 7, 8, 1, 1, 0, infer_trees, run_trees, scratch_trees},
};
extern const int pn_ops_trees_count = sizeof(pn_ops_trees) / sizeof(OpDef);

}  // namespace pyneo
