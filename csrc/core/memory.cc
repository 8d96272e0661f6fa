// SPDX-License-Identifier: Apache-2.0
#include "core/memory.h"

#include <sys/mman.h>

#include <cstring>

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

Status Buffer::grow(int64_t bytes, const char* what, int64_t keep) {
  if (data != nullptr && bytes <= capacity) return Status::kOk;
  // What grew once grows again: half as much more, where there is memory for it.
  int64_t room = data == nullptr ? bytes : bytes + bytes / 2;
  Buffer grown{nullptr, 0};
  if (keep == 0) release();
  grown.data = static_cast<uint8_t*>(allocate_block(static_cast<size_t>(room)));
  if (grown.data == nullptr) grown.data = static_cast<uint8_t*>(allocate_block(static_cast<size_t>(room = bytes)));
  if (grown.data == nullptr) {
    return fail(Status::kOutOfMemory, "out of memory: %lld bytes for '%s'", static_cast<long long>(bytes), what);
  }
  grown.capacity = room;
  if (keep > 0) memcpy(grown.data, data, static_cast<size_t>(keep));
  release();
  *this = grown;
  return Status::kOk;
}

void Buffer::release() {
  if (data != nullptr) free_block(data, static_cast<size_t>(capacity));
  *this = Buffer{nullptr, 0};
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
