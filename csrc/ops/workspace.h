// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>

#include "ops/op.h"

namespace pyneo {

// Memory for an infer function that must compute to know its output's size (Unique,
// NonMaxSuppression): the only ones that allocate, and they give it back before they return.
class Workspace {
 public:
  Workspace() = default;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() { free(data_); }

  Status allocate(const char* op, int64_t bytes) {
    data_ = malloc(static_cast<size_t>(bytes > 0 ? bytes : 1));
    if (data_ != nullptr) return Status::kOk;
    return fail(Status::kOutOfMemory, "%s: no memory for %lld bytes to find the size of the output",
                op, static_cast<long long>(bytes));
  }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

}  // namespace pyneo
