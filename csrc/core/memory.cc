// SPDX-License-Identifier: Apache-2.0
#include "core/memory.h"

#include <sys/mman.h>

#include <cstring>

namespace pyneo {
namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLargestPage = size_t{64} << 10;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE of Linux 5.14; older headers lack it, older kernels refuse it

size_t mapped_bytes(size_t bytes) { return (bytes + kLargestPage - 1) & ~(kLargestPage - 1); }
}  // namespace

void* allocate_block(size_t bytes) {
  if (bytes == 0) bytes = kAlignment;
  if (bytes > (size_t{1} << 62)) return nullptr;
  if (bytes >= kHugePage) {
    // Where a mapping begins is the kernel's choice, mostly none that suits huge pages: what is too much goes back.
    const size_t size = mapped_bytes(bytes), room = size + kHugePage;
    void* p = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    uint8_t* const begin = static_cast<uint8_t*>(p);
    const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(p) % kHugePage) % kHugePage;
    if (before > 0) munmap(begin, before);
    munmap(begin + before + size, kHugePage - before);
    (void)madvise(begin + before, size, MADV_HUGEPAGE);
    return begin + before;
  }
  return aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

void free_block(void* block, size_t bytes) {
  if (block == nullptr) return;
  if (bytes >= kHugePage) {
    munmap(block, mapped_bytes(bytes));
  } else {
    free(block);
  }
}

void populate_block(void* block, size_t bytes) {
  uint8_t* begin = static_cast<uint8_t*>(block);
  if (bytes >= kHugePage) {
    begin += bytes / kHugePage * kHugePage;
  } else {
    begin -= reinterpret_cast<uintptr_t>(begin) % 4096;
  }
  (void)madvise(begin, static_cast<size_t>(static_cast<uint8_t*>(block) + bytes - begin), kPopulateWrite);
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
