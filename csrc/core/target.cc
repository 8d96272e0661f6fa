// SPDX-License-Identifier: Apache-2.0
#include "core/target.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "threads/pool.h"

namespace pyneo {
namespace {

Tier detect_tier() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // libgcc's check covers the OS side (XCR0) as well as CPUID.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")) {
    return Tier::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Tier::kAvx2;
#endif
  return Tier::kPortable;
}

int64_t cache_bytes(int name, int64_t fallback) {
#if defined(__GLIBC__)
  const long v = sysconf(name);
  return v > 0 ? v : fallback;
#else
  (void)name;
  return fallback;
#endif
}

Target detect() {
  Target t;
  t.tier = detect_tier();
  if (const char* cap = getenv("PYNEO_ISA")) {
    for (const Tier lower : {Tier::kPortable, Tier::kAvx2, Tier::kAvx512}) {
      if (strcmp(cap, tier_name(lower)) == 0 && lower < t.tier) t.tier = lower;
    }
  }
  t.cores = Pool::usable_cpus();
#if defined(__GLIBC__)
  t.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, t.l1_bytes);
  t.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, t.l2_bytes);
  t.l3_bytes = cache_bytes(_SC_LEVEL3_CACHE_SIZE, t.l3_bytes);
#else
  (void)cache_bytes;
#endif
  return t;
}

// Filled when the library is loaded, before any thread can ask.
Target g_host;
__attribute__((constructor)) void detect_host() { g_host = detect(); }

}  // namespace

const Target& host_target() { return g_host; }

const char* tier_name(Tier t) {
  switch (t) {
    case Tier::kPortable: return "portable";
    case Tier::kAvx2: return "avx2";
    case Tier::kAvx512: return "avx512";
  }
  return "unknown";
}

}  // namespace pyneo
