// SPDX-License-Identifier: Apache-2.0
//
// Reductions over any set of axes: ReduceSum, Mean, Max, Min, Prod, L1, L2, SumSquare, LogSum, LogSumExp.
//
// Floats are accumulated in double whatever their dtype, integers in 64 bits, wrapping around. Axes are
// input 1, so run() reads them again: it trusts the output's shape only after it has derived it anew.
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "ops/fold_plan.h"

namespace pyneo {
namespace {

// The output of a reduction of x over axes (null: none given): which axes go, and the shape left.
Status plan_axes(const char* op, const Attrs& attrs, const Shape& x, const int64_t* axes, int n, bool* reduced,
                 Shape* y) {
  for (int i = 0; i < kMaxRank; ++i) reduced[i] = false;
  for (int i = 0; i < n; ++i) {
    int a = 0;
    PN_TRY(normalize_axis(op, axes[i], x.rank, &a));
    reduced[a] = true;
  }
  if (n == 0 && attrs.i64("noop_with_empty_axes", 0) == 0) {
    for (int i = 0; i < x.rank; ++i) reduced[i] = true;
  }
  const bool keep = attrs.i64("keepdims", 1) != 0;
  *y = Shape{};
  for (int i = 0; i < x.rank; ++i) {
    if (!reduced[i]) {
      y->dims[y->rank++] = x[i];
    } else if (keep) {
      y->dims[y->rank++] = 1;
    }
  }
  return Status::kOk;
}

// --- what is done to elements: T is double, int64_t or uint64_t ----------------------------------------

// `empty` is the value of a reduction over nothing; `step` folds one element in.
struct SumOp {
  template <typename T>
  static T step(T a, T x) {
    return a + x;
  }
};
struct ProdOp {
  template <typename T>
  static T step(T a, T x) {
    return a * x;
  }
};
struct AbsSumOp {
  template <typename T>
  static T step(T a, T x) {
    return a + (x < 0 ? 0 - x : x);
  }
};
struct SquareSumOp {
  template <typename T>
  static T step(T a, T x) {
    return a + x * x;
  }
};
struct MaxOp {  // NaN wins, as in numpy
  template <typename T>
  static T step(T a, T x) {
    return x > a || x != x ? x : a;
  }
};
struct MinOp {
  template <typename T>
  static T step(T a, T x) {
    return x < a || x != x ? x : a;
  }
};
// Signed sums and products wrap around: their loops run on unsigned numbers, whose bits are the same.
// |x| of the most negative number is itself, so that AbsSum needs the sign: see the i64 column below.
struct SignedAbsSumOp {
  template <typename T>
  static T step(T a, T x) {
    return a + (x >> 63 ? 0 - x : x);
  }
};

// Folds n contiguous elements into *total.
using Fold = void (*)(const void* x, int64_t n, void* total);
// total[i] = step(total[i], x[i])
using FoldEach = void (*)(const void* x, int64_t n, void* total);

template <typename Op, typename T>
void fold(const void* x, int64_t n, void* total) {
  const T* v = static_cast<const T*>(x);
  T a = *static_cast<T*>(total);
  for (int64_t i = 0; i < n; ++i) a = Op::step(a, v[i]);
  *static_cast<T*>(total) = a;
}
template <typename Op, typename T>
void fold_each(const void* x, int64_t n, void* total) {
  const T* v = static_cast<const T*>(x);
  T* a = static_cast<T*>(total);
  for (int64_t i = 0; i < n; ++i) a[i] = Op::step(a[i], v[i]);
}

struct Folds {
  Fold all;
  FoldEach each;
};
template <typename Op, typename T>
constexpr Folds folds() {
  return {fold<Op, T>, fold_each<Op, T>};
}

enum class Finish : uint8_t { kNone, kMean, kSqrt, kLog, kLogSumExp };

struct Row {
  uint32_t types;
  Folds f64, i64, u64;
  double start;        // of sums and products
  int extreme;         // +1: Max, -1: Min start from the dtype's other end
  Finish finish;
};

constexpr uint32_t kWide = kFloatTypes | dtype_bit(DType::kI32) | dtype_bit(DType::kI64) | dtype_bit(DType::kU32) |
                           dtype_bit(DType::kU64);
constexpr uint32_t kOrdered = kNumericTypes | kBoolType;

template <typename Op>
constexpr Row sums(Finish finish, double start = 0) {
  return {kWide, folds<Op, double>(), folds<Op, uint64_t>(), folds<Op, uint64_t>(), start, 0, finish};
}
constexpr Row kSum = sums<SumOp>(Finish::kNone);
constexpr Row kMean = sums<SumOp>(Finish::kMean);
constexpr Row kProd = sums<ProdOp>(Finish::kNone, 1);
constexpr Row kL1 = {kWide, folds<AbsSumOp, double>(), folds<SignedAbsSumOp, uint64_t>(), folds<SumOp, uint64_t>(), 0, 0,
                     Finish::kNone};
constexpr Row kL2 = {kWide, folds<SquareSumOp, double>(), {}, {}, 0, 0, Finish::kSqrt};
constexpr Row kSumSquare = sums<SquareSumOp>(Finish::kNone);
constexpr Row kLogSum = {kWide, folds<SumOp, double>(), {}, {}, 0, 0, Finish::kLog};
// First the maximum, then the sum of exp(x - maximum): no overflow.
constexpr Row kLogSumExp = {kWide, folds<MaxOp, double>(), {}, {}, -INFINITY, 0, Finish::kLogSumExp};
constexpr Row kMax = {kOrdered, folds<MaxOp, double>(), folds<MaxOp, int64_t>(), folds<MaxOp, uint64_t>(), 0, 1, Finish::kNone};
constexpr Row kMin = {kOrdered, folds<MinOp, double>(), folds<MinOp, int64_t>(), folds<MinOp, uint64_t>(), 0, -1, Finish::kNone};

// The start value in class `cls`, written to *v: for Max the lowest number of the dtype, for Min the highest.
void start_value(const Row& row, DType t, Cls cls, void* v) {
  if (cls == Cls::kF64) {
    *static_cast<double*>(v) = row.extreme == 0 ? row.start : row.extreme > 0 ? -INFINITY : INFINITY;
    return;
  }
  const int bits = t == DType::kBool ? 1 : static_cast<int>(dtype_size(t)) * 8;
  const uint64_t ones = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  uint64_t low = 0, high = ones;
  if (dtype_is_signed(t)) {
    high = ones >> 1;
    low = ~high;
  }
  *static_cast<uint64_t*>(v) = row.extreme == 0 ? static_cast<uint64_t>(row.start) : row.extreme > 0 ? low : high;
}

void finish(Finish how, Cls cls, DType t, int64_t count, void* totals, int64_t n) {
  if (how == Finish::kNone) return;
  if (cls == Cls::kF64) {
    double* v = static_cast<double*>(totals);
    for (int64_t i = 0; i < n; ++i) {
      if (how == Finish::kMean) v[i] /= static_cast<double>(count);
      if (how == Finish::kSqrt) v[i] = std::sqrt(v[i]);
      if (how == Finish::kLog) v[i] = std::log(v[i]);
    }
  } else if (how == Finish::kMean) {  // truncates; of nothing: zero
    for (int64_t i = 0; i < n; ++i) {
      uint64_t& v = static_cast<uint64_t*>(totals)[i];
      if (count == 0) {
        v = 0;
      } else if (t == DType::kU64) {
        v /= static_cast<uint64_t>(count);
      } else {
        v = static_cast<uint64_t>(static_cast<int64_t>(v) / count);
      }
    }
  }
}

// One reduction at work: a block of n outputs from flat output index `at`, into totals (class e.cls).
struct Engine {
  const Row* row;
  FoldPlan plan;
  Cls cls;
  Folds fold;
  DType t;
  int64_t size;
  const uint8_t* x;

  const uint8_t* element(int64_t offset) const { return x + offset * size; }

  // exp(x - top) summed; infinities of either sign are their own result.
  void log_sum_exp(int64_t at, int64_t step, int64_t n, double* totals) const {
    double block[kBlock];
    for (int64_t i = 0; i < n; ++i) {
      const double top = totals[i];
      if (std::isinf(top) || top != top) continue;
      double sum = 0;
      plan.each_run(at + i * step, [&](int64_t offset, int64_t count) {
        load_block(t, element(offset), count, Cls::kF64, block);
        for (int64_t k = 0; k < count; ++k) sum += std::exp(block[k] - top);
      });
      totals[i] = top + std::log(sum);
    }
  }

  // Outputs [at, at + n), n <= kBlock, neighbours in memory if the innermost dim is kept.
  void outputs(int64_t at, int64_t n, uint8_t* totals) const {
    alignas(64) uint8_t block[kBlock * 8];
    uint64_t start = 0;
    start_value(*row, t, cls, &start);
    for (int64_t i = 0; i < n; ++i) memcpy(totals + i * 8, &start, 8);
    if (plan.side_by_side()) {
      const int64_t base = plan.base_of(at);
      for (int64_t k = 0; k < plan.folds; ++k) {
        const int64_t offset = base + plan.fold_offset(k);
        load_block(t, element(offset), n, cls, block);
        fold.each(block, n, totals);
      }
      if (row->finish == Finish::kLogSumExp) log_sum_exp(base, 1, n, reinterpret_cast<double*>(totals));
    } else {
      for (int64_t i = 0; i < n; ++i) {
        const int64_t base = plan.base_of(at + i);
        plan.each_run(base, [&](int64_t offset, int64_t count) {
          load_block(t, element(offset), count, cls, block);
          fold.all(block, count, totals + i * 8);
        });
        if (row->finish == Finish::kLogSumExp) log_sum_exp(base, 0, 1, reinterpret_cast<double*>(totals) + i);
      }
    }
    finish(row->finish, cls, t, plan.folds, totals, n);
  }
};

template <const Row& row>
Status infer_reduce(InferContext& c) {
  PN_TRY(expect_types(c, 0, row.types));
  int64_t axes[kMaxRank];
  int n = 0;
  if (c.has(1)) PN_TRY(read_ints(c, 1, axes, kMaxRank, &n));
  bool reduced[kMaxRank];
  Shape y;
  PN_TRY(plan_axes(c.op, c.attrs, c.shape(0), axes, n, reduced, &y));
  c.set(0, c.dtype(0), y);
  return Status::kOk;
}

Status run_reduce_row(RunContext& c, const Row& row) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  int64_t axes[kMaxRank];
  int n = 0;
  if (c.has(1)) {
    n = static_cast<int>(c.in[1]->desc.elements());  // at most kMaxRank: infer checked
    load_block(c.in[1]->desc.dtype, c.in[1]->data, n, Cls::kI64, axes);
  }
  bool reduced[kMaxRank];
  Shape shape;
  PN_TRY(plan_axes(c.op, c.attrs, x.shape(), axes, n, reduced, &shape));
  if (shape != y.shape()) {
    char a[160], b[160];
    return fail(Status::kInvalidModel, "%s: the axes give shape %s, the model was planned for %s", c.op,
                format_shape(shape, a, sizeof(a)), format_shape(y.shape(), b, sizeof(b)));
  }

  Engine e;
  e.row = &row;
  e.plan.build(x.shape(), reduced);
  e.t = x.desc.dtype;
  e.size = static_cast<int64_t>(dtype_size(e.t));
  e.x = x.as<const uint8_t>();
  const Cls natural = compute_class(e.t);
  e.cls = natural == Cls::kF32 || row.i64.all == nullptr ? Cls::kF64 : natural;
  e.fold = e.cls == Cls::kF64 ? row.f64 : e.cls == Cls::kU64 ? row.u64 : row.i64;

  // A block never crosses the innermost kept dim, so that neighbours in the output are neighbours in x.
  const FoldPlan& p = e.plan;
  if (p.outputs == 0) return Status::kOk;
  const int64_t line = p.side_by_side() ? p.kept_dims[0] : p.outputs;
  const int64_t width = p.folds > kTaskElements / kBlock && !p.side_by_side() ? 1 : kBlock;
  const int64_t blocks = ceil_div(line, width);
  const Pool serial = Pool::serial();
  const Pool& pool = x.desc.elements() > kTaskElements ? *c.pool : serial;
  pool.run(p.outputs / line * blocks, [&](int64_t task, int) {
    alignas(64) uint8_t totals[kBlock * 8];
    const int64_t inside = task % blocks * width, at = task / blocks * line + inside;
    const int64_t count = line - inside < width ? line - inside : width;
    e.outputs(at, count, totals);
    store_block(e.cls, totals, count, e.t, y.as<uint8_t>() + at * e.size);
  });
  return Status::kOk;
}

template <const Row& row>
Status run_reduce(RunContext& c) {
  return run_reduce_row(c, row);
}

}  // namespace

#define PN_ROW(name, row) \
  { name, 1, 2, 1, 1, 0, infer_reduce<row>, run_reduce<row>, nullptr }

extern const OpDef pn_ops_reduce[] = {
    PN_ROW("ReduceL1", kL1),
    PN_ROW("ReduceL2", kL2),
    PN_ROW("ReduceLogSum", kLogSum),
    PN_ROW("ReduceLogSumExp", kLogSumExp),
    PN_ROW("ReduceMax", kMax),
    PN_ROW("ReduceMean", kMean),
    PN_ROW("ReduceMin", kMin),
    PN_ROW("ReduceProd", kProd),
    PN_ROW("ReduceSum", kSum),
    PN_ROW("ReduceSumSquare", kSumSquare),
};
extern const int pn_ops_reduce_count = sizeof(pn_ops_reduce) / sizeof(OpDef);

}  // namespace pyneo
