// SPDX-License-Identifier: Apache-2.0
//
// Cast, CastLike, BitCast.
#include <cinttypes>
#include <cstring>

#include "ops/elementwise.h"

namespace pyneo {
namespace {

Status read_target(const InferContext& c, DType* to) {
  const int64_t code = c.attrs.i64("to", 0);
  if (code <= 0 || code > 31 || !(kAllTypes & dtype_bit(static_cast<DType>(code)))) {
    return fail(Status::kUnsupported, "%s: attribute 'to' is %" PRId64
                ", expected the onnx.TensorProto.DataType number of a float, integer or bool type that pyneo has", c.op, code);
  }
  *to = static_cast<DType>(code);
  return Status::kOk;
}

Status infer_cast(InferContext& c) {
  DType to;
  PN_TRY(expect_types(c, 0, kAllTypes));
  PN_TRY(read_target(c, &to));
  c.set(0, to, c.shape(0));
  return Status::kOk;
}

Status infer_cast_like(InferContext& c) {
  PN_TRY(expect_types(c, 0, kAllTypes));
  PN_TRY(expect_types(c, 1, kAllTypes));
  c.set(0, c.dtype(1), c.shape(0));
  return Status::kOk;
}

Status run_cast(RunContext& c) {
  const Tensor& x = *c.in[0];
  Tensor& y = *c.out[0];
  const DType from = x.desc.dtype, to = y.desc.dtype;
  const int64_t x_size = static_cast<int64_t>(dtype_size(from)), y_size = static_cast<int64_t>(dtype_size(to));
  for_ranges(c.pool, y.desc.elements(), [&](int64_t begin, int64_t end) {
    alignas(64) uint8_t block[kBlock * 8];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = end - at < kBlock ? end - at : kBlock;
      // Loading into the target's class would lose what the source's class has (int64 through float), so the
      // value goes through the source's own.
      const Cls cls = from == to ? Cls::kRaw : compute_class(from);
      load_block(from, x.as<uint8_t>() + at * x_size, n, cls, block);
      store_block(cls, block, n, to, y.as<uint8_t>() + at * y_size);
    }
  });
  return Status::kOk;
}

Status infer_bit_cast(InferContext& c) {
  DType to;
  PN_TRY(expect_types(c, 0, kAllTypes));
  PN_TRY(read_target(c, &to));
  if (dtype_size(to) != dtype_size(c.dtype(0))) {
    return fail(Status::kInvalidModel, "BitCast: %s and %s differ in bits per element", dtype_name(c.dtype(0)), dtype_name(to));
  }
  c.set(0, to, c.shape(0));
  return Status::kOk;
}

Status run_bit_cast(RunContext& c) {
  const Tensor &x = *c.in[0], &y = *c.out[0];
  if (x.data != y.data) memmove(y.data, x.data, static_cast<size_t>(x.desc.bytes()));
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_cast[] = {
    {"BitCast", 1, 1, 1, 1, kOpView | kOpInPlace0, infer_bit_cast, run_bit_cast, nullptr},
    {"Cast", 1, 1, 1, 1, kOpInPlace0, infer_cast, run_cast, nullptr},
    {"CastLike", 2, 2, 1, 1, kOpInPlace0, infer_cast_like, run_cast, nullptr},
};
extern const int pn_ops_cast_count = sizeof(pn_ops_cast) / sizeof(OpDef);

}  // namespace pyneo
