// SPDX-License-Identifier: Apache-2.0
//
// Discrete Fourier transform of any length, in f64: radix 2 where the length is a power of two,
// else Bluestein's chirp transform (1970) over the next power of two that holds the convolution.
#pragma once

#include <cstdint>

namespace pyneo {

struct Complex {
  double re, im;
};

constexpr int64_t kMaxFft = int64_t{1} << 26;

class Fft {
 public:
  // Complex numbers of the tables, and of a buffer to transform, for lengths up to kMaxFft.
  static int64_t table_size(int64_t n);
  static int64_t buffer_size(int64_t n);

  // Fills `tables` (table_size(n) numbers), which must outlive the object.
  Fft(int64_t n, Complex* tables);
  // Transforms buffer[0..n) in place; the rest of the buffer is work space. The inverse divides by
  // n.
  void run(Complex* buffer, bool inverse) const;

 private:
  void forward(Complex* x) const;
  void radix2(Complex* x) const;

  int64_t n_, m_;                // m_: the power of two that is transformed
  Complex* twiddle_;             // m / 2
  Complex* chirp_ = nullptr;     // n, Bluestein only
  Complex* spectrum_ = nullptr;  // m: transform of the inverse chirp
};

}  // namespace pyneo
