// SPDX-License-Identifier: Apache-2.0
//
// Reorder: the same logical tensor in another layout. Compiler-made, never in a source model.
#include "ops/op.h"

namespace pyneo {
namespace {

Status infer_reorder(InferContext& c) {
  c.set(0, c.dtype(0), c.shape(0));
  return Status::kOk;
}

Status run_reorder(RunContext&) { return fail(Status::kInternal, "Reorder has no reference kernel for plain layouts"); }

}  // namespace

extern const OpDef pn_ops_reorder[] = {
    {"Reorder", 1, 1, 1, 1, 0, infer_reorder, run_reorder, nullptr},
};
extern const int pn_ops_reorder_count = sizeof(pn_ops_reorder) / sizeof(OpDef);

}  // namespace pyneo
