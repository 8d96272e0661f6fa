/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiply-adds of one core, all in registers: what a kernel's GFLOP/s are a share of. Built by kernels.py
 * with -DVEC=<floats of a vector> and the tier's instruction set.
 */
#include <time.h>

typedef float vec __attribute__((vector_size(VEC * 4)));

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of the best of `rounds` bursts of about 50 us. */
double peak_gflops(int rounds) {
  enum { kChains = 12, kSteps = 20000 };
  volatile float sink = 0;
  double best = 0;
  for (int r = 0; r < rounds; ++r) {
    vec acc[kChains], x, y;
    for (int i = 0; i < VEC; ++i) {
      x[i] = 0.999f + sink;
      y[i] = 0.001f;
    }
    for (int c = 0; c < kChains; ++c) acc[c] = y * (float)c;
    const double start = now();
    for (int k = 0; k < kSteps; ++k) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) acc[c] = acc[c] * x + y;
    }
    const double rate = 2.0 * VEC * kChains * kSteps / (now() - start) * 1e-9;
    if (rate > best) best = rate;
    for (int c = 0; c < kChains; ++c) sink = sink + acc[c][0] * 0;
  }
  return best;
}
