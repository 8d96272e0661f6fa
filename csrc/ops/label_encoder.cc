// SPDX-License-Identifier: Apache-2.0
//
// ai.onnx.ml.LabelEncoder between numbers. Strings never reach the core.
#include <cinttypes>

#include "ops/elementwise.h"

namespace pyneo {
namespace {

struct Table {
  Ints int_keys, int_values;
  Floats float_keys, float_values;
  int64_t size = 0;
};

Status read_table(const Attrs& attrs, Table* t) {
  t->int_keys = attrs.ints("keys_int64s");
  t->float_keys = attrs.floats("keys_floats");
  t->int_values = attrs.ints("values_int64s");
  t->float_values = attrs.floats("values_floats");
  t->size = t->int_keys.size + t->float_keys.size;
  if ((t->int_keys.size != 0 && t->float_keys.size != 0) ||
      (t->int_values.size != 0 && t->float_values.size != 0) ||
      t->size != t->int_values.size + t->float_values.size) {
    return fail(Status::kInvalidModel,
                "LabelEncoder: %" PRId64 " keys and %" PRId64
                " values, expected as many, of one type each",
                t->size, t->int_values.size + t->float_values.size);
  }
  return Status::kOk;
}

Status infer_label_encoder(InferContext& c) {
  Table t;
  PN_TRY(read_table(c.attrs, &t));
  PN_TRY(expect_types(c, 0, kNumericTypes));
  if (t.size > 0 && (t.float_keys.size > 0) != dtype_is_float(c.dtype(0))) {
    return fail(Status::kInvalidModel, "LabelEncoder: the input is %s but the keys are %s",
                dtype_name(c.dtype(0)), t.float_keys.size > 0 ? "floats" : "integers");
  }
  const bool floats = t.float_values.size > 0 || (t.size == 0 && c.attrs.has("default_float"));
  c.set(0, floats ? DType::kF32 : DType::kI64, c.shape(0));
  return Status::kOk;
}

// The last key that equals x (NaN equals NaN), or -1.
template <typename List, typename T>
int64_t find_key(const List& keys, T x) {
  for (int64_t i = keys.size - 1; i >= 0; --i) {
    const auto k = keys[i];
    if (k == x || (k != k && x != x)) return i;
  }
  return -1;
}

Status run_label_encoder(RunContext& c) {
  Table t;
  PN_TRY(read_table(c.attrs, &t));
  const Tensor &x = *c.in[0], &y = *c.out[0];
  const int64_t default_int = c.attrs.i64("default_int64", -1);
  const float default_float = c.attrs.f32("default_float", -0.0f);
  const DType type = x.desc.dtype;
  const bool floats = dtype_is_float(type);
  for_ranges(c.pool, x.desc.elements(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t at, key;
      if (floats) {
        // Keys are float32: an input of more precision is looked for at theirs.
        at = find_key(t.float_keys, static_cast<float>(load_double(type, x.data, i)));
      } else {
        load_block(type, x.as<const uint8_t>() + static_cast<size_t>(i) * dtype_size(type), 1,
                   Cls::kI64, &key);
        at = find_key(t.int_keys, key);
      }
      if (y.desc.dtype == DType::kF32) {
        y.as<float>()[i] = at < 0 ? default_float : t.float_values[at];
      } else {
        y.as<int64_t>()[i] = at < 0 ? default_int : t.int_values[at];
      }
    }
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_label_encoder[] = {
    {"ai.onnx.ml.LabelEncoder", 1, 1, 1, 1, 0, infer_label_encoder, run_label_encoder, nullptr},
};
extern const int pn_ops_label_encoder_count = sizeof(pn_ops_label_encoder) / sizeof(OpDef);

}  // namespace pyneo
