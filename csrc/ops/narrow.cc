// SPDX-License-Identifier: Apache-2.0
#include "ops/narrow.h"

#include "ops/elementwise.h"

namespace pyneo {

void to_f32(DType t, const void* in, float* out, int64_t n) {
  if (n > 0) load_block(t, in, n, Cls::kF32, out);
}

void from_f32(DType t, const float* in, void* out, int64_t n) {
  if (n > 0) store_block(Cls::kF32, in, n, t, out);
}

void add_f32_operands(const InferContext& c, ScratchSize* size) {
  for (int i = 0; i < c.n_in; ++i) {
    if (c.has(i) && is_narrow(c.dtype(i))) size->add(c.in[i]->elements(), 4);
  }
  for (int o = 0; o < c.n_out; ++o) {
    if (is_narrow(c.out[o].dtype)) size->add(c.out[o].elements(), 4);
  }
}

const float* F32Operands::in(int i) {
  if (!c_.has(i)) return nullptr;
  const Tensor& t = *c_.in[i];
  if (!is_narrow(t.desc.dtype)) return t.as<const float>();
  const int64_t n = t.desc.elements();
  float* image = scratch_->take<float>(n);
  to_f32(t.desc.dtype, t.data, image, n);
  return image;
}

float* F32Operands::out(int o) {
  if (!c_.wants(o)) return nullptr;
  const Tensor& t = *c_.out[o];
  if (!is_narrow(t.desc.dtype)) return t.as<float>();
  return image_[o] = scratch_->take<float>(t.desc.elements());
}

void F32Operands::flush() {
  for (int o = 0; o < c_.n_out && o < 8; ++o) {
    if (image_[o] != nullptr) from_f32(c_.out[o]->desc.dtype, image_[o], c_.out[o]->data, c_.out[o]->desc.elements());
  }
}

}  // namespace pyneo
