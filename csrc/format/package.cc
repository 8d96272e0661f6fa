// SPDX-License-Identifier: Apache-2.0
#include "format/package.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace pyneo {
namespace format {
namespace {

__attribute__((format(printf, 1, 2))) Status bad(const char* format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  return fail(Status::kInvalidPackage, "package: %s", text);
}

}  // namespace

Status open_package(const void* file, size_t bytes, PackageView* out) {
  const uint8_t* base = static_cast<const uint8_t*>(file);
  if (bytes < sizeof(FileHeader)) return bad("%zu bytes are too few for a .neo file", bytes);
  if (reinterpret_cast<uintptr_t>(base) % kSectionAlignment != 0) {
    return fail(Status::kInvalidArgument, "package: the buffer must be 64-byte aligned");
  }
  FileHeader h;
  memcpy(&h, base, sizeof(h));
  if (memcmp(h.magic, kMagic, sizeof(kMagic)) != 0) return bad("not a .neo file (wrong magic)");
  if (h.version != kFormatVersion) return bad("format version %u, this library reads version %u", h.version, kFormatVersion);
  if (h.header_bytes != sizeof(FileHeader) || h.reserved0 != 0) return bad("the header is malformed");
  for (const uint8_t b : h.reserved) {
    if (b != 0) return bad("reserved bytes of the header are not zero");
  }
  if (h.file_bytes != bytes) {
    return bad("the header says %llu bytes, the file has %zu: it is truncated or has trailing bytes",
               static_cast<unsigned long long>(h.file_bytes), bytes);
  }
  if (h.section_count == 0 || h.section_count > kMaxSections) {
    return bad("%u sections, expected 1 to %u", h.section_count, kMaxSections);
  }
  uint64_t end = sizeof(FileHeader) + uint64_t{h.section_count} * sizeof(SectionRecord);
  if (end > bytes) return bad("the section table runs past the end of the file");

  PackageView view;
  for (uint32_t i = 0; i < h.section_count; ++i) {
    SectionRecord s;
    memcpy(&s, base + sizeof(FileHeader) + i * sizeof(SectionRecord), sizeof(s));
    if (s.flags > kSectionOptional || s.reserved != 0) return bad("section %u has unknown flags", i);
    const uint64_t alignment = s.kind == kWeights ? kWeightsAlignment : kSectionAlignment;
    if (s.offset % alignment != 0) return bad("section %u is not aligned to %llu bytes", i, static_cast<unsigned long long>(alignment));
    if (s.offset < end) return bad("section %u overlaps what is before it", i);
    if (s.offset > bytes || s.bytes > bytes - s.offset) return bad("section %u runs past the end of the file", i);
    end = s.offset + s.bytes;
    Span* slot = s.kind == kManifest ? &view.manifest : s.kind == kPlan ? &view.plan : s.kind == kWeights ? &view.weights : nullptr;
    if (slot != nullptr) {
      if (slot->data != nullptr) return bad("section kind %u occurs twice", s.kind);
      *slot = Span{base + s.offset, s.bytes};
    } else if (s.kind != kSignature && s.kind != kDelegate && s.kind != kBaseline && (s.flags & kSectionOptional) == 0) {
      return bad("section kind %u is unknown and not optional: the package needs a newer pyneo", s.kind);
    }
  }
  if (end != bytes) return bad("%llu bytes follow the last section", static_cast<unsigned long long>(bytes - end));
  if (view.plan.data == nullptr) return bad("there is no plan section");
  *out = view;
  return Status::kOk;
}

}  // namespace format
}  // namespace pyneo
