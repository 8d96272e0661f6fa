// SPDX-License-Identifier: Apache-2.0
#include "ops/resample.h"

#include <cmath>

namespace pyneo {
namespace {

// The input coordinate of output position j. T = float for nearest: rounding to float snaps
// positions that a scale such as 7/3 would put a hair beside an input position, as other engines
// do; double else.
template <typename T>
T source(const Axis& a, Coordinates mode, int64_t j) {
  const T x = static_cast<T>(j), in = static_cast<T>(a.in), out = static_cast<T>(a.out),
          scale = static_cast<T>(a.scale);
  const T half = static_cast<T>(0.5);
  switch (mode) {
    case Coordinates::kPytorchHalfPixel:
      if (a.out == 1) return 0;
      return (x + half) / scale - half;
    case Coordinates::kHalfPixelSymmetric: {
      // Centres the input on what the fractional output length would have been.
      const T adjustment = out / (scale * in);
      return in / 2 * (1 - adjustment) + (x + half) / scale - half;
    }
    case Coordinates::kAlignCorners:
      return a.out == 1 ? 0 : x * (in - 1) / (out - 1);
    case Coordinates::kAsymmetric:
      return x / scale;
    case Coordinates::kCrop: {
      const T begin = static_cast<T>(a.begin), end = static_cast<T>(a.end);
      if (a.out == 1) return half * (begin + end) * (in - 1);
      return begin * (in - 1) + x * (end - begin) * (in - 1) / (out - 1);
    }
    case Coordinates::kHalfPixel:
      break;
  }
  return (x + half) / scale - half;
}

bool outside(const Axis& a, Coordinates mode, double x) {
  return mode == Coordinates::kCrop && !(x >= 0 && x <= static_cast<double>(a.in - 1));
}

int64_t clamp(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

// Keys, "Cubic convolution interpolation for digital image processing", 1981, equation (4).
double cubic(double x, double a) {
  x = fabs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

double linear(double x) {
  x = fabs(x);
  return x < 1 ? 1 - x : 0;
}

struct Reach {
  double stretch;  // the filter's argument is multiplied by it
  int64_t before;  // positions that can have weight before floor(x), floor(x) excluded
  int64_t count;   // in all
};

// Antialiasing widens the filter by 1 / scale when the axis shrinks.
Reach reach(const Axis& a, const ResampleMode& mode) {
  const int64_t radius = mode.filter == Filter::kCubic ? 2 : 1;
  if (!mode.antialias || a.scale >= 1) return Reach{1, radius - 1, 2 * radius};
  const int64_t wide = static_cast<int64_t>(ceil(static_cast<double>(radius) / a.scale));
  return Reach{a.scale, wide - 1, 2 * wide};
}

}  // namespace

int64_t Axis::taps(const ResampleMode& mode) const {
  if (mode.filter == Filter::kNearest) return 1;
  const int64_t n = reach(*this, mode).count;
  return n < in ? n : in;
}

void nearest_table(const Axis& axis, const ResampleMode& mode, int64_t* first) {
  for (int64_t j = 0; j < axis.out; ++j) {
    const float x = source<float>(axis, mode.coordinates, j);
    if (outside(axis, mode.coordinates, static_cast<double>(x))) {
      first[j] = kOutside;
      continue;
    }
    const float low = floorf(x), part = x - low;
    bool up = part > 0;
    switch (mode.rounding) {
      case Rounding::kPreferFloor:
        up = part > 0.5f;
        break;
      case Rounding::kPreferCeil:
        up = part >= 0.5f;
        break;
      case Rounding::kFloor:
        up = false;
        break;
      case Rounding::kCeil:
        break;
    }
    first[j] = clamp(static_cast<int64_t>(low) + (up ? 1 : 0), 0, axis.in - 1);
  }
}

void weight_table(const Axis& axis, const ResampleMode& mode, int64_t* first, float* weights) {
  const Reach r = reach(axis, mode);
  const int64_t taps = axis.taps(mode);
  const double a = static_cast<double>(mode.cubic_a);
  for (int64_t j = 0; j < axis.out; ++j, weights += taps) {
    const double x = source<double>(axis, mode.coordinates, j);
    for (int64_t t = 0; t < taps; ++t) weights[t] = 0;
    if (outside(axis, mode.coordinates, x)) {
      first[j] = kOutside;
      continue;
    }
    const double low = floor(x);
    const int64_t start = static_cast<int64_t>(low) - r.before;
    first[j] = clamp(start, 0, axis.in - taps);
    auto weight = [&](int64_t t) {
      const double distance = (static_cast<double>(t - r.before) - (x - low)) * r.stretch;
      return mode.filter == Filter::kCubic ? cubic(distance, a) : linear(distance);
    };
    double sum = 0;
    for (int64_t t = 0; t < r.count; ++t) {
      const bool inside = start + t >= 0 && start + t < axis.in;
      if (inside || !mode.exclude_outside) sum += weight(t);
    }
    const double norm = (mode.exclude_outside || r.stretch != 1) && sum != 0 ? 1 / sum : 1;
    for (int64_t t = 0; t < r.count; ++t) {
      const int64_t at = clamp(start + t, 0, axis.in - 1);
      if (at == start + t || !mode.exclude_outside)
        weights[at - first[j]] += static_cast<float>(weight(t) * norm);
    }
  }
}

}  // namespace pyneo
