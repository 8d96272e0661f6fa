// SPDX-License-Identifier: Apache-2.0
//
// What one core of this machine can do at most: the roof that a profile shows its nodes under.
#include <chrono>
#include <cstdlib>
#include <vector>

#include "module.h"

namespace py = pybind11;

namespace pyneo_python {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Multiply-adds in registers, independent enough to fill the pipelines: seconds for kSteps of kChains vectors.
constexpr int kChains = 12, kSteps = 40000;

template <typename V>
[[gnu::always_inline]] inline double multiply_adds(volatile float* sink) {
  constexpr int kLanes = sizeof(V) / sizeof(float);
  V acc[kChains], x, y;
  for (int i = 0; i < kLanes; ++i) {
    x[i] = 0.999f + *sink;
    y[i] = 0.001f;
  }
  for (int c = 0; c < kChains; ++c) acc[c] = y * static_cast<float>(c);
  const double start = now();
  for (int k = 0; k < kSteps; ++k) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = acc[c] * x + y;
  }
  const double seconds = now() - start;
  for (int c = 0; c < kChains; ++c) *sink = *sink + acc[c][0] * 0;
  return 2.0 * kLanes * kChains * kSteps / seconds;
}

typedef float V4 __attribute__((vector_size(16)));
typedef float V8 __attribute__((vector_size(32)));
typedef float V16 __attribute__((vector_size(64)));

double baseline(volatile float* sink) { return multiply_adds<V4>(sink); }
#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] double avx2(volatile float* sink) { return multiply_adds<V8>(sink); }
[[gnu::target("avx512f,fma,prefer-vector-width=512")]] double avx512(volatile float* sink) { return multiply_adds<V16>(sink); }
#endif

double flops_per_second(uint32_t tier, volatile float* sink) {
#if defined(__x86_64__)
  if (tier >= 2) return avx512(sink);
  if (tier == 1) return avx2(sink);
#endif
  return baseline(sink);
}

uint32_t host_tier() {
  pn_target host{};
  pn_host_target(&host);
  return host.tier;
}

// FLOP/s of one core at the tier, which is at most the host's: the best of `trials` of about a quarter of a millisecond.
double peak_flops(uint32_t tier, int trials) {
  volatile float sink = 0;
  double best = 0;
  const uint32_t most = host_tier();
  py::gil_scoped_release free_gil;
  for (int i = 0; i < trials; ++i) {
    const double f = flops_per_second(tier < most ? tier : most, &sink);
    best = f > best ? f : best;
  }
  return best;
}

// One pass over memory far larger than a core's own caches.
double bytes_per_second(const std::vector<uint64_t>& memory, volatile uint64_t* sink) {
  uint64_t sums[8] = {};
  const double start = now();
  for (size_t i = 0; i + 8 <= memory.size(); i += 8) {
    for (size_t k = 0; k < 8; ++k) sums[k] += memory[i + k];
  }
  const double seconds = now() - start;
  for (uint64_t s : sums) *sink = *sink + s;
  return static_cast<double>(memory.size() * sizeof(uint64_t)) / seconds;
}

// (FLOP/s, bytes/s) of one core: the best of several short trials.
py::tuple core_limits() {
  const double flops = peak_flops(host_tier(), 12);
  volatile uint64_t sum = 0;
  double bytes = 0;
  {
    py::gil_scoped_release free_gil;
    const std::vector<uint64_t> memory(size_t{64} << 17, 1);  // 64 MiB
    for (int i = 0; i < 4; ++i) {
      const double b = bytes_per_second(memory, &sum);
      bytes = b > bytes ? b : bytes;
    }
  }
  return py::make_tuple(flops, bytes);
}

}  // namespace

void bind_limits(py::module_& m) {
  m.def("peak_flops", &peak_flops, py::arg("tier"), py::arg("trials"),
        "FLOP/s of float32 multiply-adds in registers, one core, vectors of the tier (lowered to this machine's).");
  m.def("core_limits", &core_limits, "(FLOP/s of float32 multiply-adds, bytes/s read from memory) of one core, measured.");
}

}  // namespace pyneo_python
