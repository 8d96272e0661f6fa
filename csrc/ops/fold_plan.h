// SPDX-License-Identifier: Apache-2.0
//
// A dense tensor split by a set of axes: what is kept (one result each) and what is folded under it.
#pragma once

#include "ops/elementwise.h"

namespace pyneo {

struct FoldPlan {
  // Dims and strides (in elements) of either kind, innermost first; one-element dims are dropped and
  // neighbours of one kind merged.
  int kept = 0, folded = 0;
  int64_t kept_dims[kMaxRank], kept_strides[kMaxRank];
  int64_t fold_dims[kMaxRank], fold_strides[kMaxRank];
  int64_t outputs = 1, folds = 1;  // results, and elements under each

  void build(const Shape& x, const bool* reduced) {
    int64_t stride = 1;
    int previous = -1;  // 1: folded, 0: kept
    for (int i = x.rank - 1; i >= 0; --i) {
      const int kind = reduced[i] ? 1 : 0;
      (kind ? folds : outputs) *= x[i];
      if (x[i] != 1) {
        int& count = kind ? folded : kept;
        int64_t* dims = kind ? fold_dims : kept_dims;
        int64_t* strides = kind ? fold_strides : kept_strides;
        if (previous == kind) {
          dims[count - 1] *= x[i];
        } else {
          dims[count] = x[i];
          strides[count++] = stride;
        }
        previous = kind;
      }
      stride *= x[i];
    }
  }

  // Whether the innermost dim is kept: neighbouring results have neighbouring elements under them.
  bool side_by_side() const { return kept > 0 && kept_strides[0] == 1; }
  // Offset of the first element under result `at`; and from there to its k-th element.
  int64_t base_of(int64_t at) const { return offset_of(at, kept, kept_dims, kept_strides); }
  int64_t fold_offset(int64_t k) const { return offset_of(k, folded, fold_dims, fold_strides); }

  // f(offset, count) for each run of at most kBlock contiguous elements under the result at `base`.
  template <typename F>
  void each_run(int64_t base, F&& f) const {
    if (folds == 0) return;
    const bool contiguous = folded > 0 && fold_strides[0] == 1;
    const int64_t inner = contiguous ? fold_dims[0] : 1;
    const int skip = contiguous ? 1 : 0;
    for (int64_t k = 0; k < folds / inner; ++k) {
      const int64_t at = base + offset_of(k, folded - skip, fold_dims + skip, fold_strides + skip);
      for (int64_t i = 0; i < inner; i += kBlock) f(at + i, inner - i < kBlock ? inner - i : kBlock);
    }
  }

 private:
  static int64_t offset_of(int64_t at, int rank, const int64_t* dims, const int64_t* strides) {
    int64_t offset = 0;
    for (int i = 0; i < rank; ++i) {
      offset += at % dims[i] * strides[i];
      at /= dims[i];
    }
    return offset;
  }
};

}  // namespace pyneo
