// SPDX-License-Identifier: Apache-2.0
//
// The container: header, section table, sections. Bounds only; digests and signature are the verifier's.
#pragma once

#include <cstddef>

#include "core/status.h"
#include "format/layout.h"

namespace pyneo {
namespace format {

struct Span {
  const uint8_t* data = nullptr;
  uint64_t bytes = 0;
};

struct PackageView {
  Span manifest, plan, weights;
};

// Checks header and section table of `bytes` bytes at `file` (64-byte aligned): every section inside the
// file, in order, aligned, not overlapping; no unknown mandatory section; nothing after the last one.
Status open_package(const void* file, size_t bytes, PackageView* out);

}  // namespace format
}  // namespace pyneo
