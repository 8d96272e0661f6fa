// SPDX-License-Identifier: Apache-2.0
#include "core/step_time.h"

#include <cstring>

namespace pyneo {
namespace {

int64_t elements(const RunContext& c, int operand) {
  return operand < c.n_in && c.in[operand] != nullptr ? c.in[operand]->shape().elements() : 0;
}

int64_t dim(const RunContext& c, int operand, int from_end) {
  if (operand >= c.n_in || c.in[operand] == nullptr || c.in[operand]->rank() < from_end) return 0;
  return c.in[operand]->dim(c.in[operand]->rank() - from_end);
}

// Multiply-adds of the operators that are made of them. Packed weights keep the shape of the plain ones.
int64_t multiply_adds(const RunContext& c) {
  const int64_t out = c.n_out > 0 && c.out[0] != nullptr ? c.out[0]->shape().elements() : 0;
  const bool weights = c.n_in > 1 && c.in[1] != nullptr && c.in[1]->rank() > 0 && c.in[1]->dim(0) > 0;
  const auto is = [&](const char* name) { return strcmp(c.op, name) == 0; };
  if (is("Conv")) return weights ? out * (elements(c, 1) / c.in[1]->dim(0)) : 0;
  if (is("ConvTranspose")) return weights ? elements(c, 0) * (elements(c, 1) / c.in[1]->dim(0)) : 0;
  if (is("PointwiseDepthwise")) {
    // For each of E channels the weights hold a filter over the C of the input, then a window.
    const int64_t wide = c.attrs.i64("group", 1), channels = dim(c, 0, 3);
    return elements(c, 0) * wide + out * (elements(c, 1) / wide - channels);
  }
  if (is("MatMul")) return out * dim(c, 0, 1);
  if (is("Gemm")) return out * dim(c, 0, c.attrs.i64("transA", 0) != 0 ? 2 : 1);
  if (is("Attention")) return 2 * out * dim(c, 1, 2);
  if (is("LSTM") || is("GRU") || is("RNN")) return dim(c, 0, 3) * dim(c, 0, 2) * (elements(c, 1) + elements(c, 2));
  return 0;
}

int64_t bytes_of(const Tensor& t) {
  const int64_t bytes = t.desc.bytes();  // 0 where packed
  return bytes > 0 ? bytes : t.shape().elements() * static_cast<int64_t>(dtype_size(t.desc.dtype));
}

}  // namespace

void StepTime::add_work(const RunContext& run) {
  flops += static_cast<uint64_t>(2 * multiply_adds(run));
  for (int32_t k = 0; k < run.n_in; ++k) {
    if (run.in[k] != nullptr) bytes_read += static_cast<uint64_t>(bytes_of(*run.in[k]));
  }
  for (int32_t k = 0; k < run.n_out; ++k) {
    if (run.out[k] != nullptr) bytes_written += static_cast<uint64_t>(bytes_of(*run.out[k]));
  }
}

}  // namespace pyneo
