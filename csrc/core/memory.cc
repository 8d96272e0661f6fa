// SPDX-License-Identifier: Apache-2.0
#include "core/memory.h"

#include <sys/mman.h>

namespace pyneo {
namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kMapThreshold = size_t{4} << 20;
}  // namespace

void* allocate_block(size_t bytes) {
  if (bytes == 0) bytes = kAlignment;
  if (bytes > (size_t{1} << 62)) return nullptr;
  if (bytes >= kMapThreshold) {
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    (void)madvise(p, bytes, MADV_HUGEPAGE);
    return p;
  }
  return aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

void free_block(void* block, size_t bytes) {
  if (block == nullptr) return;
  if (bytes >= kMapThreshold) {
    munmap(block, bytes);
  } else {
    free(block);
  }
}

Status Block::allocate(int64_t bytes, const char* what) {
  free_block(data_, bytes_);
  bytes_ = 0;
  data_ = allocate_block(static_cast<size_t>(bytes));
  if (data_ == nullptr) {
    return fail(Status::kOutOfMemory, "out of memory: %lld bytes for %s", static_cast<long long>(bytes), what);
  }
  bytes_ = static_cast<size_t>(bytes);
  return Status::kOk;
}

}  // namespace pyneo
