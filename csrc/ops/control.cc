// SPDX-License-Identifier: Apache-2.0
//
// If, Loop and Scan: rows for their names and arity. What they do to graphs is core/control.cc's: they run
// while shapes and values of the whole model are at hand, so no infer or run of one node could say it.
#include "ops/op.h"

namespace pyneo {
namespace {

Status infer_control(InferContext& c) {
  return fail(Status::kNeedsValue, "%s: its outputs are known when its subgraphs have run", c.op);
}

Status run_control(RunContext& c) {
  return fail(Status::kUnsupported, "%s: it runs as a part of a model, not alone", c.op);
}

}  // namespace

extern const OpDef pn_ops_control[] = {
    {"If", 1, 1, 0, -1, kOpRandom, infer_control, run_control, nullptr},
    {"Loop", 0, -1, 0, -1, kOpRandom, infer_control, run_control, nullptr},
    {"Scan", 1, -1, 0, -1, kOpRandom, infer_control, run_control, nullptr},
};
extern const int pn_ops_control_count = sizeof(pn_ops_control) / sizeof(OpDef);

}  // namespace pyneo
