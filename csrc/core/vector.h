// SPDX-License-Identifier: Apache-2.0
//
// A growing array without the C++ run-time library: malloc behind it, failure as a return value.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

namespace pyneo {

// Elements are moved by memcpy and never constructed or destroyed, so only trivial types are
// allowed. Every call that may allocate returns false when memory is out and leaves the array as it
// was.
template <typename T>
class Vector {
  static_assert(std::is_trivially_copyable<T>::value, "elements are moved by memcpy");

 public:
  Vector() = default;
  ~Vector() { free(data_); }
  Vector(const Vector&) = delete;
  Vector& operator=(const Vector&) = delete;

  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

  [[nodiscard]] bool reserve(int64_t n) {
    if (n <= capacity_) return true;
    if (n > INT64_MAX / 2 / static_cast<int64_t>(sizeof(T))) return false;
    T* grown = static_cast<T*>(realloc(data_, static_cast<size_t>(n) * sizeof(T)));
    if (grown == nullptr) return false;
    data_ = grown;
    capacity_ = n;
    return true;
  }
  // New elements are zero bytes.
  [[nodiscard]] bool resize(int64_t n) {
    if (n < 0 || !reserve(n)) return false;
    if (n > size_)
      memset(static_cast<void*>(data_ + size_), 0, static_cast<size_t>(n - size_) * sizeof(T));
    size_ = n;
    return true;
  }
  [[nodiscard]] bool push(const T& value) {
    if (size_ == capacity_) {
      const T copy = value;  // `value` may lie in this array
      if (!reserve(capacity_ < 8 ? 16 : capacity_ * 2)) return false;
      data_[size_++] = copy;
      return true;
    }
    data_[size_++] = value;
    return true;
  }
  // Puts `value` in front of element i.
  [[nodiscard]] bool insert(int64_t i, const T& value) {
    const T copy = value;
    if (!push(copy)) return false;
    memmove(static_cast<void*>(data_ + i + 1), data_ + i,
            static_cast<size_t>(size_ - 1 - i) * sizeof(T));
    data_[i] = copy;
    return true;
  }
  void clear() { size_ = 0; }  // keeps the memory

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
};

}  // namespace pyneo
