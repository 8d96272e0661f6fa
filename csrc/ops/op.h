// SPDX-License-Identifier: Apache-2.0
//
// An operator: what it means (shape inference, value checks) and a portable reference kernel.
//
// One file per operator or close family; each exports a table `const OpDef pn_ops_<file>[]` with
// one row an operator and is named by one line of ops.inc. Compiler and runtime call the same
// functions: the compiler to infer shapes and fold constants, the runtime to check a plan before it
// trusts it and to run what has no faster kernel.
//
// Contract
//  - `infer` sees dtypes, logical shapes and, where known, values of inputs. It checks *everything*
//    that `run` relies on (ranks, dtypes, attributes, that shapes agree) and sets every output's
//    dtype and shape. If it needs an input's value that is not known it returns kNeedsValue.
//    It may be called at any time and allocates nothing, but where an output's size is itself a
//    result of computing (Unique, NonMaxSuppression: ops/workspace.h).
//  - `run` gets dense row-major tensors whose descs are what `infer` was given and returned. It
//  checks
//    data values that address memory (indices), allocates nothing, and returns an error, never UB.
//    `scratch` bytes (if the row has a scratch function) are 64-byte aligned and uninitialised.
//  - An absent optional input is nullptr. An unused optional output is nullptr as well.
//  - Zero-size tensors are legal everywhere.
#pragma once

#include <initializer_list>

#include "core/attrs.h"
#include "core/tensor.h"
#include "threads/pool.h"

namespace pyneo {

struct InferContext {
  const char* op = "";  // operator's name, for messages
  Attrs attrs;
  int n_in = 0;
  int n_out = 0;
  const TensorDesc* const* in = nullptr;  // n_in, nullptr = absent
  const void* const* values =
      nullptr;                // n_in or nullptr; values[i] = dense data of input i if known
  TensorDesc* out = nullptr;  // n_out, to be set

  bool has(int i) const { return i < n_in && in[i] != nullptr; }
  const Shape& shape(int i) const { return in[i]->shape; }
  DType dtype(int i) const { return in[i]->dtype; }
  const void* value(int i) const { return values ? values[i] : nullptr; }
  void set(int o, DType t, const Shape& s) const {
    if (o < n_out) out[o] = TensorDesc{t, Layout::kPlain, s};
  }
};

struct RunContext {
  const char* op = "";
  Attrs attrs;
  int n_in = 0;
  int n_out = 0;
  const Tensor* const* in = nullptr;
  Tensor* const* out = nullptr;
  void* scratch = nullptr;            // planned, one per node
  uint8_t* thread_scratch = nullptr;  // thread t owns thread_scratch + t * thread_stride
  int64_t thread_stride = 0;
  Pool* pool = nullptr;  // never nullptr; Pool::serial() runs on the calling thread

  bool has(int i) const { return i < n_in && in[i] != nullptr; }
  bool wants(int o) const { return o < n_out && out[o] != nullptr; }
};

enum OpFlags : uint32_t {
  kOpInPlace0 = 1u << 0,  // output 0 may share memory with input 0 when byte sizes agree
  kOpInPlace1 = 1u << 1,  // ... with input 1
  kOpView = 1u << 2,    // output 0 has input 0's bytes unchanged (Reshape, Identity, Squeeze, ...)
  kOpRandom = 1u << 3,  // not a function of its inputs: never folded
};

struct OpDef {
  const char*
      name;  // "Conv"; other domains carry a prefix: "ai.onnx.ml.Scaler", "com.microsoft.Gelu"
  int8_t min_in, max_in;  // max_in = -1: variadic
  int8_t min_out, max_out;
  uint32_t flags;
  Status (*infer)(InferContext&);
  Status (*run)(RunContext&);
  int64_t (*scratch)(const InferContext&);  // bytes for run(); nullptr: none. Called after infer.
};

// The operator of that name, or nullptr.
const OpDef* find_op(const char* name, size_t length);
inline const OpDef* find_op(const char* name) { return find_op(name, __builtin_strlen(name)); }
int op_count();
const OpDef* op_at(int i);

// Checks arity and calls infer; output shapes are checked for overflow.
Status infer_op(const OpDef& op, InferContext& c);

// --- Helpers for infer functions -------------------------------------------------------------

// Error unless input i is present and has one of the dtypes.
Status expect_dtype(const InferContext& c, int i, std::initializer_list<DType> allowed);
// numpy broadcasting of two shapes; an error that names both otherwise.
Status broadcast_shapes(const char* op, const Shape& a, const Shape& b, Shape* out);
// Reads a 1-D (or scalar) int64/int32 input whose value must be known. At most `max` entries.
Status read_ints(const InferContext& c, int i, int64_t* out, int max, int* count);

}  // namespace pyneo
