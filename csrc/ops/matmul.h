// SPDX-License-Identifier: Apache-2.0
//
// What MatMul, MatMulInteger and QLinearMatMul share: numpy's shape rules and one tile of the
// product.
#pragma once

#include "core/tensor.h"

namespace pyneo {

// (batch..., m, k) x (batch..., k, n) -> (batch..., m, n), batch dims broadcast; a 1-D left operand
// is a row, a 1-D right operand a column, and the dim added for it is dropped from y.
struct MatMulGeometry {
  int64_t m = 1, n = 1, k = 0;
  int64_t batches = 1;
  Shape y;

  // Which matrix of the left and right operand makes batch b of the output.
  void matrices(int64_t b, int64_t* left, int64_t* right) const;

  int32_t batch_rank = 0;
  int64_t batch_dims[kMaxRank] = {};
  int64_t left_step[kMaxRank] = {}, right_step[kMaxRank] = {};  // in matrices, 0: broadcast
};

Status read_matmul(const char* op, const Shape& a, const Shape& b, MatMulGeometry* g);

constexpr int64_t kTileRows = 4, kTileCols = 16;

// One operand: element (i, j) at data[i * row + j * col].
template <typename T>
struct Matrix {
  const T* data;
  int64_t row, col;
};

// y[i][j] = sum over k of a(i, k) * b(k, j), for i in [0, rows), j in [0, cols); rows <= kTileRows.
// Sums are in Acc; unsigned Acc gives two's complement products of signed In without overflow.
template <typename In, typename Acc>
void matmul_rows(const Matrix<In>& a, const Matrix<In>& b, int64_t rows, int64_t cols, int64_t k,
                 Acc* y, int64_t y_row) {
  for (int64_t j0 = 0; j0 < cols; j0 += kTileCols) {
    const int64_t width = cols - j0 < kTileCols ? cols - j0 : kTileCols;
    Acc sum[kTileRows][kTileCols] = {};
    for (int64_t p = 0; p < k; ++p) {
      Acc line[kTileCols] = {};
      const In* from = b.data + p * b.row + j0 * b.col;
      for (int64_t j = 0; j < width; ++j) line[j] = static_cast<Acc>(from[j * b.col]);
      for (int64_t i = 0; i < rows; ++i) {
        const Acc f = static_cast<Acc>(a.data[i * a.row + p * a.col]);
        for (int64_t j = 0; j < kTileCols; ++j) sum[i][j] += f * line[j];
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < width; ++j) y[i * y_row + j0 + j] = sum[i][j];
    }
  }
}

}  // namespace pyneo
