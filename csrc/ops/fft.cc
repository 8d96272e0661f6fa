// SPDX-License-Identifier: Apache-2.0
#include "ops/fft.h"

#include <cmath>

namespace pyneo {
namespace {

constexpr double kPi = 3.141592653589793238;

bool power_of_two(int64_t n) { return (n & (n - 1)) == 0; }

int64_t transformed(int64_t n) {
  if (power_of_two(n)) return n > 0 ? n : 1;
  int64_t m = 1;
  while (m < 2 * n - 1) m *= 2;
  return m;
}

Complex times(Complex a, Complex b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
Complex turn(double angle) { return {cos(angle), sin(angle)}; }

}  // namespace

int64_t Fft::table_size(int64_t n) {
  const int64_t m = transformed(n);
  return m / 2 + (power_of_two(n) ? 0 : n + m);
}

int64_t Fft::buffer_size(int64_t n) { return transformed(n); }

Fft::Fft(int64_t n, Complex* tables) : n_(n), m_(transformed(n)), twiddle_(tables) {
  for (int64_t i = 0; i < m_ / 2; ++i)
    twiddle_[i] = turn(-2 * kPi * static_cast<double>(i) / static_cast<double>(m_));
  if (power_of_two(n)) return;
  chirp_ = tables + m_ / 2;
  spectrum_ = chirp_ + n;
  for (int64_t i = 0; i < n; ++i)
    chirp_[i] = turn(-kPi * static_cast<double>(i * i % (2 * n)) / static_cast<double>(n));
  for (int64_t i = 0; i < m_; ++i) spectrum_[i] = Complex{0, 0};
  for (int64_t i = 0; i < n; ++i) {
    const Complex back{chirp_[i].re, -chirp_[i].im};
    spectrum_[i] = back;
    if (i > 0) spectrum_[m_ - i] = back;
  }
  radix2(spectrum_);
}

void Fft::radix2(Complex* x) const {
  for (int64_t i = 1, j = 0; i < m_; ++i) {
    int64_t bit = m_ >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    const Complex swap = x[i];
    x[i] = x[j];
    x[j] = swap;
  }
  for (int64_t half = 1; half < m_; half *= 2) {
    const int64_t step = m_ / (2 * half);
    for (int64_t from = 0; from < m_; from += 2 * half) {
      for (int64_t k = 0; k < half; ++k) {
        const Complex a = x[from + k], b = times(x[from + k + half], twiddle_[k * step]);
        x[from + k] = Complex{a.re + b.re, a.im + b.im};
        x[from + k + half] = Complex{a.re - b.re, a.im - b.im};
      }
    }
  }
}

void Fft::forward(Complex* x) const {
  if (chirp_ == nullptr) return radix2(x);
  for (int64_t i = 0; i < n_; ++i) x[i] = times(x[i], chirp_[i]);
  for (int64_t i = n_; i < m_; ++i) x[i] = Complex{0, 0};
  radix2(x);
  // Inverse transform of the product, as the conjugate of the forward one of its conjugate.
  for (int64_t i = 0; i < m_; ++i) {
    x[i] = times(x[i], spectrum_[i]);
    x[i].im = -x[i].im;
  }
  radix2(x);
  const double scale = 1 / static_cast<double>(m_);
  for (int64_t i = 0; i < n_; ++i)
    x[i] = times(Complex{x[i].re * scale, -x[i].im * scale}, chirp_[i]);
}

void Fft::run(Complex* x, bool inverse) const {
  if (!inverse) return forward(x);
  for (int64_t i = 0; i < n_; ++i) x[i].im = -x[i].im;
  forward(x);
  const double scale = 1 / static_cast<double>(n_);
  for (int64_t i = 0; i < n_; ++i) x[i] = Complex{x[i].re * scale, -x[i].im * scale};
}

}  // namespace pyneo
