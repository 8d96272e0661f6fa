// SPDX-License-Identifier: Apache-2.0
//
// Softmax, LogSoftmax, Hardmax along one axis (opset 13: the others are not flattened into it).
#include <cmath>
#include <cstring>

#include "ops/lanes.h"

namespace pyneo {
namespace {

Status infer_softmax(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  int axis = 0;
  if (c.shape(0).rank > 0) PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", -1), c.shape(0).rank, &axis));
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

enum class Kind { kSoftmax, kLogSoftmax, kHardmax };

// Groups of lanes go through the axis three times: maximum, sum, result. Nothing in between is kept, so
// narrow dtypes are rounded once and the output may lie on the input.
template <typename T>
void run_lanes(const RunContext& c, const Lanes& lanes, Cls cls, Kind kind) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  const DType t = x.desc.dtype;
  const int64_t size = static_cast<int64_t>(dtype_size(t));
  const uint8_t* src = x.as<const uint8_t>();
  uint8_t* dst = y.as<uint8_t>();
  lanes.each_group(c.pool, [&](int64_t first, int64_t n) {
    alignas(64) T row[kBlock];
    T top[kBlock], shift[kBlock];
    double sum[kBlock];
    int64_t where[kBlock];
    // One contiguous lane is read in blocks along the axis, several side by side in rows across it; both
    // as `rows` of `m` elements, element j of which belongs to lane j * spread.
    const bool alone = lanes.inner == 1;
    const int64_t spread = alone ? 0 : 1;
    const int64_t step = alone ? kBlock : 1;
    auto each_row = [&](auto&& f) {
      for (int64_t k = 0; k < lanes.length; k += step) {
        const int64_t m = !alone ? n : lanes.length - k < kBlock ? lanes.length - k : kBlock;
        const int64_t at = first + k * lanes.inner;
        load_block(t, src + at * size, m, cls, row);
        f(k, m, at);
      }
    };
    for (int64_t i = 0; i < n; ++i) {
      top[i] = -static_cast<T>(INFINITY);
      sum[i] = 0;
      where[i] = 0;
    }
    each_row([&](int64_t k, int64_t m, int64_t) {
      for (int64_t j = 0; j < m; ++j) {
        const int64_t lane = j * spread;
        if (row[j] > top[lane] || (row[j] != row[j] && top[lane] == top[lane])) {
          top[lane] = row[j];
          where[lane] = alone ? k + j : k;
        }
      }
    });
    if (kind != Kind::kHardmax) {
      each_row([&](int64_t, int64_t m, int64_t) {
        for (int64_t j = 0; j < m; ++j) sum[j * spread] += std::exp(row[j] - top[j * spread]);
      });
    }
    for (int64_t i = 0; i < n; ++i) {
      shift[i] = static_cast<T>(kind == Kind::kLogSoftmax ? std::log(sum[i]) : 1 / sum[i]);
    }
    each_row([&](int64_t k, int64_t m, int64_t at) {
      for (int64_t j = 0; j < m; ++j) {
        const int64_t lane = j * spread;
        if (kind == Kind::kSoftmax) {
          row[j] = std::exp(row[j] - top[lane]) * shift[lane];
        } else if (kind == Kind::kLogSoftmax) {
          row[j] = row[j] - top[lane] - shift[lane];
        } else {
          row[j] = (alone ? k + j : k) == where[lane];
        }
      }
      store_block(cls, row, m, t, dst + at * size);
    });
  });
}

Status run_softmax(RunContext& c) {
  const Tensor& x = *c.in[0];
  const Kind kind = c.op[0] == 'H'   ? Kind::kHardmax
                    : c.op[0] == 'L' ? Kind::kLogSoftmax
                                     : Kind::kSoftmax;
  int axis = 0;
  if (x.rank() > 0) PN_TRY(normalize_axis(c.op, c.attrs.i64("axis", -1), x.rank(), &axis));
  const Lanes lanes(x.shape(), axis);
  if (x.desc.dtype == DType::kF64) {
    run_lanes<double>(c, lanes, Cls::kF64, kind);
  } else {
    run_lanes<float>(c, lanes, Cls::kF32, kind);
  }
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_softmax[] = {
    {"Hardmax", 1, 1, 1, 1, kOpInPlace0, infer_softmax, run_softmax, nullptr},
    {"LogSoftmax", 1, 1, 1, 1, kOpInPlace0, infer_softmax, run_softmax, nullptr},
    {"Softmax", 1, 1, 1, 1, kOpInPlace0, infer_softmax, run_softmax, nullptr},
};
extern const int pn_ops_softmax_count = sizeof(pn_ops_softmax) / sizeof(OpDef);

}  // namespace pyneo
