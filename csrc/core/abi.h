// SPDX-License-Identifier: Apache-2.0
//
// Between the C structs of pyneo.h and the core's own types.
#pragma once

#include "core/tensor.h"
#include "pyneo/pyneo.h"

namespace pyneo {

inline pn_status to_c(Status s) { return static_cast<pn_status>(s); }

// Checks dtype, layout, rank and dims of a caller's tensor; `what` names it in the message.
Status to_desc(const pn_tensor& t, const char* what, TensorDesc* out);
// Leaves data and bytes as they are.
void from_desc(const TensorDesc& d, pn_tensor* t);

// Error unless a caller's struct is there and has at least the size this release knows.
template <typename T>
Status check_struct(const T* s, const char* name) {
  if (s == nullptr) return fail(Status::kInvalidArgument, "%s is NULL", name);
  if (s->struct_size < sizeof(T)) {
    return fail(Status::kInvalidArgument, "%s.struct_size is %u, expected %zu: set it to sizeof(%s)", name,
                s->struct_size, sizeof(T), name);
  }
  return Status::kOk;
}

}  // namespace pyneo
