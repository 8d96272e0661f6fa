// SPDX-License-Identifier: Apache-2.0
//
// Attributes of a node, read in place from a blob of the plan.
//
// Blob, little-endian, 8-byte aligned, offsets from the blob's start:
//   u32 count, u32 total_bytes
//   count x { char name[32] (zero-padded), u32 type, u32 count, u32 offset, u32 reserved = 0 }
//   data, each entry 8-byte aligned: int64 | float32 | bytes | strings (count x { u32 length, bytes })
// `validate` is called once when a plan is opened; the getters trust it. Names are those of the
// newest ONNX operator set; an absent attribute gives the fallback the caller names.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"

namespace pyneo {

enum class AttrType : uint32_t { kInts = 1, kFloats = 2, kString = 3, kStrings = 4 };

struct Ints {
  const int64_t* data = nullptr;
  int64_t size = 0;
  int64_t operator[](int64_t i) const { return data[i]; }
};
struct Floats {
  const float* data = nullptr;
  int64_t size = 0;
  float operator[](int64_t i) const { return data[i]; }
};
struct Str {  // not zero-terminated
  const char* data = nullptr;
  int64_t size = 0;
  bool operator==(const char* s) const;
  bool operator!=(const char* s) const { return !(*this == s); }
};

class Attrs {
 public:
  Attrs() = default;  // no attributes
  // `blob` must be 8-byte aligned and outlive the object.
  static Status validate(const void* blob, size_t bytes);
  explicit Attrs(const void* validated_blob) : blob_(static_cast<const uint8_t*>(validated_blob)) {}

  bool has(const char* name) const;
  int64_t i64(const char* name, int64_t fallback) const;    // fallback if absent or empty
  float f32(const char* name, float fallback) const;
  Ints ints(const char* name) const;                        // {nullptr, 0} if absent
  Floats floats(const char* name) const;
  Str str(const char* name, const char* fallback = "") const;
  int64_t strings_size(const char* name) const;             // number of strings; 0 if absent
  Str strings_at(const char* name, int64_t i) const;

 private:
  struct Entry;
  const Entry* find(const char* name, AttrType type) const;
  const uint8_t* blob_ = nullptr;
};

}  // namespace pyneo
