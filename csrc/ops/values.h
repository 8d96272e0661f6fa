// SPDX-License-Identifier: Apache-2.0
//
// Data values that shapes and addresses depend on: reading them, checking them, and, when an
// operator runs, making sure that they still say what they said when its output was sized.
#pragma once

#include "ops/op.h"

namespace pyneo {

// Element i of an int32 or int64 tensor.
inline int64_t int_at(DType t, const void* data, int64_t i) {
  return t == DType::kI32 ? static_cast<const int32_t*>(data)[i]
                          : static_cast<const int64_t*>(data)[i];
}
inline int64_t int_at(const Tensor& t, int64_t i) { return int_at(t.desc.dtype, t.data, i); }

// "Gather: index 7 at position 3 is outside [-5, 4]".
Status bad_index(const char* op, int64_t index, int64_t position, int64_t size);

// Brings an index in [-size, size) into [0, size); false if it is outside.
inline bool wrap_index(int64_t* index, int64_t size) {
  *index += *index < 0 ? size : 0;
  return static_cast<uint64_t>(*index) < static_cast<uint64_t>(size);
}

// Error unless input i holds exactly one element; `fallback` if it is absent, else its value.
Status read_int_scalar(const InferContext& c, int i, int64_t fallback, int64_t* out);

// Axes from an optional list of ints (`given` of `count`): [0, rank) if absent. Checks range and
// that none is named twice. `axes` has room for kMaxRank.
Status resolve_axes(const char* op, const int64_t* given, int64_t count, int rank, int* axes);

// A running operator seen as infer saw it, values included, so that both use the same function to
// turn values into a plan.
class AsInfer {
 public:
  static constexpr int kMaxInputs = 8;  // of the operators that need it
  explicit AsInfer(const RunContext& c);
  const InferContext& context() const { return c_; }

 private:
  const TensorDesc* descs_[kMaxInputs];
  const void* values_[kMaxInputs];
  InferContext c_;
};

// Error if values changed between inference and run such that output o would have another shape.
Status expect_shape(const RunContext& c, int o, const Shape& s);

// kNeedsValue unless the value of (present) input i is known.
inline Status need_value(const InferContext& c, int i) {
  if (c.value(i) != nullptr || c.shape(i).elements() == 0) return Status::kOk;
  return fail(Status::kNeedsValue, "%s: the value of input %d is not known", c.op, i);
}

}  // namespace pyneo
