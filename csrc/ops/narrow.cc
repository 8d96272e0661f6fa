// SPDX-License-Identifier: Apache-2.0
#include "ops/narrow.h"

#include <cstring>

namespace pyneo {
namespace {

uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

float float_of(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

uint16_t f32_to_bf16(float f) {
  const uint32_t u = bits_of(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40);  // quiet NaN
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

}  // namespace

float half_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31) return float_of(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is exact in f32
    const float v = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -v : v;
  }
  return float_of(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t f32_to_half(float f) {
  const uint32_t u = bits_of(f), sign = (u >> 16) & 0x8000u;
  uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
  if (a >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
  if (a < 0x38800000u) {
    // Subnormal: adding 0.5 leaves a multiple of 2^-24 in the mantissa, rounded to nearest even.
    return static_cast<uint16_t>(sign | (bits_of(float_of(a) + 0.5f) - 0x3f000000u));
  }
  a += 0xfffu + ((a >> 13) & 1);
  return static_cast<uint16_t>(sign | ((a - 0x38000000u) >> 13));
}

void to_f32(DType t, const void* in, float* out, int64_t n) {
  switch (t) {
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) out[i] = half_to_f32(static_cast<const uint16_t*>(in)[i]);
      break;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) out[i] = float_of(uint32_t{static_cast<const uint16_t*>(in)[i]} << 16);
      break;
    case DType::kF64:
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<const double*>(in)[i]);
      break;
    default:
      if (n > 0) memcpy(out, in, static_cast<size_t>(n) * 4);
  }
}

void from_f32(DType t, const float* in, void* out, int64_t n) {
  switch (t) {
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) static_cast<uint16_t*>(out)[i] = f32_to_half(in[i]);
      break;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) static_cast<uint16_t*>(out)[i] = f32_to_bf16(in[i]);
      break;
    case DType::kF64:
      for (int64_t i = 0; i < n; ++i) static_cast<double*>(out)[i] = static_cast<double>(in[i]);
      break;
    default:
      if (n > 0) memcpy(out, in, static_cast<size_t>(n) * 4);
  }
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
