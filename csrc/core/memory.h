// SPDX-License-Identifier: Apache-2.0
//
// The two ways the core allocates, both outside of a run: aligned blocks and small arrays. Failure is a
// Status, never an abort.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "core/status.h"

namespace pyneo {

// `bytes` of 64-byte aligned memory, or nullptr. Blocks of 2 MiB and more are mapped on their own, on the border of
// a huge page, with huge pages advised, which doubles the bandwidth of streaming weights; smaller ones come from the heap.
void* allocate_block(size_t bytes);
void free_block(void* block, size_t bytes);
// Has the pages of a block that will be written from end to end, those that fill no huge page, made in one call: a fault
// for each takes twice the time. Changes no byte.
void populate_block(void* block, size_t bytes);

// An owned block.
class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { free_block(data_, bytes_); }

  Status allocate(int64_t bytes, const char* what);
  uint8_t* data() const { return static_cast<uint8_t*>(data_); }
  int64_t bytes() const { return static_cast<int64_t>(bytes_); }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// A block that grows and can be handed from one owner to another by assignment; who owns it last releases it.
struct Buffer {
  uint8_t* data;
  int64_t capacity;

  // Room for `bytes`; the contents are lost where it has to grow, unless `keep` says how much of them stays.
  Status grow(int64_t bytes, const char* what, int64_t keep = 0);
  void release();
};

// An array of trivially copyable T, zeroed, of a size fixed by allocate().
template <typename T>
class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { free(data_); }

  Status allocate(int64_t count) {
    free(data_);
    size_ = 0;
    data_ = static_cast<T*>(calloc(count > 0 ? static_cast<size_t>(count) : 1, sizeof(T)));
    if (data_ == nullptr) {
      return fail(Status::kOutOfMemory, "out of memory: %lld records of %zu bytes", static_cast<long long>(count), sizeof(T));
    }
    size_ = count;
    return Status::kOk;
  }
  int64_t size() const { return size_; }
  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace pyneo
