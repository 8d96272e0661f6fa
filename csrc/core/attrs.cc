// SPDX-License-Identifier: Apache-2.0
#include "core/attrs.h"

#include <cstring>
#include <initializer_list>

namespace pyneo {

struct Attrs::Entry {
  char name[32];
  uint32_t type, count, offset, reserved;
};

namespace {
struct Head {
  uint32_t count, total_bytes;
};
constexpr uint32_t kMaxAttrs = 64;
}  // namespace

bool Str::operator==(const char* s) const {
  const size_t n = strlen(s);
  return static_cast<int64_t>(n) == size && memcmp(data, s, n) == 0;
}

Status Attrs::validate(const void* blob, size_t bytes) {
  auto bad = [](const char* what) { return fail(Status::kInvalidPackage, "attribute block: %s", what); };
  Head head;
  if (reinterpret_cast<uintptr_t>(blob) % 8 != 0) return bad("not 8-byte aligned");
  if (bytes < sizeof(head)) return bad("shorter than its header");
  memcpy(&head, blob, sizeof(head));
  if (head.total_bytes != bytes) return bad("its size differs from the node's record");
  if (head.count > kMaxAttrs) return bad("more than 64 attributes");
  const size_t table = sizeof(Head) + size_t{head.count} * sizeof(Entry);
  if (table > bytes) return bad("the table is longer than the block");
  const uint8_t* base = static_cast<const uint8_t*>(blob);
  for (uint32_t i = 0; i < head.count; ++i) {
    Entry e;
    memcpy(&e, base + sizeof(Head) + i * sizeof(Entry), sizeof(e));
    if (e.name[31] != 0 || e.name[0] == 0) return bad("a name is empty or longer than 31 bytes");
    if (e.reserved != 0) return bad("a reserved field is not zero");
    if (e.offset % 8 != 0 || e.offset < table || e.offset > bytes) return bad("an entry lies outside the block");
    const uint64_t room = bytes - e.offset;
    switch (static_cast<AttrType>(e.type)) {
      case AttrType::kInts:
        if (uint64_t{e.count} * 8 > room) return bad("integers run past the end");
        break;
      case AttrType::kFloats:
        if (uint64_t{e.count} * 4 > room) return bad("floats run past the end");
        break;
      case AttrType::kString:
        if (e.count > room) return bad("a string runs past the end");
        break;
      case AttrType::kStrings: {
        uint64_t at = e.offset;
        for (uint32_t k = 0; k < e.count; ++k) {
          uint32_t n;
          if (bytes - at < sizeof(n)) return bad("a string list runs past the end");
          memcpy(&n, base + at, sizeof(n));
          at += sizeof(n);
          if (n > bytes - at) return bad("a string list runs past the end");
          at += n;
        }
        break;
      }
      default:
        return bad("unknown attribute type");
    }
  }
  return Status::kOk;
}

const Attrs::Entry* Attrs::find(const char* name, AttrType type) const {
  if (blob_ == nullptr) return nullptr;
  const uint32_t count = reinterpret_cast<const Head*>(blob_)->count;
  const Entry* e = reinterpret_cast<const Entry*>(blob_ + sizeof(Head));
  for (uint32_t i = 0; i < count; ++i, ++e) {
    if (e->type == static_cast<uint32_t>(type) && strcmp(e->name, name) == 0) return e;
  }
  return nullptr;
}

bool Attrs::has(const char* name) const {
  for (AttrType t : {AttrType::kInts, AttrType::kFloats, AttrType::kString, AttrType::kStrings}) {
    if (find(name, t) != nullptr) return true;
  }
  return false;
}

int64_t Attrs::i64(const char* name, int64_t fallback) const {
  const Ints v = ints(name);
  return v.size > 0 ? v[0] : fallback;
}

float Attrs::f32(const char* name, float fallback) const {
  const Floats v = floats(name);
  return v.size > 0 ? v[0] : fallback;
}

Ints Attrs::ints(const char* name) const {
  const Entry* e = find(name, AttrType::kInts);
  return e ? Ints{reinterpret_cast<const int64_t*>(blob_ + e->offset), e->count} : Ints{};
}

Floats Attrs::floats(const char* name) const {
  const Entry* e = find(name, AttrType::kFloats);
  return e ? Floats{reinterpret_cast<const float*>(blob_ + e->offset), e->count} : Floats{};
}

Str Attrs::str(const char* name, const char* fallback) const {
  const Entry* e = find(name, AttrType::kString);
  return e ? Str{reinterpret_cast<const char*>(blob_ + e->offset), e->count}
           : Str{fallback, static_cast<int64_t>(strlen(fallback))};
}

int64_t Attrs::strings_size(const char* name) const {
  const Entry* e = find(name, AttrType::kStrings);
  return e ? e->count : 0;
}

Str Attrs::strings_at(const char* name, int64_t i) const {
  const Entry* e = find(name, AttrType::kStrings);
  const uint8_t* at = blob_ + e->offset;
  uint32_t n;
  for (int64_t k = 0;; ++k) {
    memcpy(&n, at, sizeof(n));
    at += sizeof(n);
    if (k == i) return Str{reinterpret_cast<const char*>(at), n};
    at += n;
  }
}

}  // namespace pyneo
