// SPDX-License-Identifier: Apache-2.0
//
// Narrow floats: reference kernels compute in f32, float16 and bfloat16 pass through scratch.
#pragma once

#include "ops/op.h"

namespace pyneo {

// n elements of a float dtype (f16, bf16, f32, f64) to f32 and back, rounding to nearest even.
void to_f32(DType t, const void* in, float* out, int64_t n);
void from_f32(DType t, const float* in, void* out, int64_t n);

// Sums sizes for OpDef.scratch, each part 64-byte aligned; saturates instead of wrapping, so that
// the planner refuses what does not fit.
class ScratchSize {
 public:
  void add(int64_t count, int64_t size) {
    int64_t bytes = 0;
    if (!checked_mul(count, size, &bytes) || !checked_add(bytes, 63, &bytes) ||
        !checked_add(total_, bytes & ~int64_t{63}, &total_)) {
      total_ = INT64_MAX / 2;
    }
  }
  int64_t bytes() const { return total_ < INT64_MAX / 2 ? total_ : INT64_MAX / 2; }

 private:
  int64_t total_ = 0;
};

// Hands out 64-byte aligned parts of a RunContext's scratch, in the order ScratchSize added them.
class Scratch {
 public:
  explicit Scratch(const RunContext& c) : at_(static_cast<uint8_t*>(c.scratch)) {}
  template <typename T>
  T* take(int64_t count) {
    T* p = reinterpret_cast<T*>(at_);
    at_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return p;
  }

 private:
  uint8_t* at_;
};

inline bool is_narrow(DType t) { return t == DType::kF16 || t == DType::kBF16; }

// Adds what F32Operands needs: an f32 image of every narrow input and output.
void add_f32_operands(const InferContext& c, ScratchSize* size);

// f32 faces of a node's float operands: the data itself, or an image in scratch for narrow ones.
// Call in() and out() at most once an operand; flush() rounds narrow outputs into place.
class F32Operands {
 public:
  F32Operands(const RunContext& c, Scratch* scratch) : c_(c), scratch_(scratch) {}
  const float* in(int i);  // nullptr if absent
  float* out(int o);       // nullptr if not wanted
  void flush();

 private:
  const RunContext& c_;
  Scratch* scratch_;
  float* image_[8] = {};  // by output
};

}  // namespace pyneo
