// SPDX-License-Identifier: Apache-2.0
//
// Dropout as inference sees it: the input, and a mask of all true. Training drops elements at random, which
// no compiled model can mean; it is refused unless its ratio is zero.
#include <cstring>

#include "ops/elementwise.h"

namespace pyneo {
namespace {

Status infer_dropout(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  for (int i = 1; i < 3; ++i) {
    if (!c.has(i)) continue;
    PN_TRY(expect_types(c, i, i == 1 ? kFloatTypes : kBoolType));
    if (c.shape(i).elements() != 1) {
      return fail(Status::kInvalidModel, "Dropout: input %d ('%s') must be one element", i, i == 1 ? "ratio" : "training_mode");
    }
  }
  c.set(0, c.dtype(0), c.shape(0));
  c.set(1, DType::kBool, c.shape(0));
  return Status::kOk;
}

Status run_dropout(RunContext& c) {
  const Tensor& x = *c.in[0];
  const bool training = c.has(2) && *c.in[2]->as<const uint8_t>() != 0;
  const double ratio = c.has(1) ? load_double(c.in[1]->desc.dtype, c.in[1]->data, 0) : 0.5;
  if (training && ratio != 0) {
    return fail(Status::kUnsupported, "Dropout: training_mode is true with ratio %g; export the model for inference", ratio);
  }
  const size_t bytes = static_cast<size_t>(x.desc.bytes());
  if (x.data != c.out[0]->data && bytes > 0) memmove(c.out[0]->data, x.data, bytes);
  if (c.wants(1) && bytes > 0) memset(c.out[1]->data, 1, static_cast<size_t>(x.desc.elements()));
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_dropout[] = {
    {"Dropout", 1, 3, 1, 2, kOpInPlace0, infer_dropout, run_dropout, nullptr},
};
extern const int pn_ops_dropout_count = sizeof(pn_ops_dropout) / sizeof(OpDef);

}  // namespace pyneo
