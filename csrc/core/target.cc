// SPDX-License-Identifier: Apache-2.0
#include "core/target.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "threads/pool.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif
#endif

namespace pyneo {
namespace {

#if defined(__x86_64__)
// AMX of a CPU with AVX-512. The tiles' registers belong to a Linux process only after it has asked for them, once
// for all its threads; a kernel without AMX, a sandbox, or a thread with a signal stack too small for them says no.
bool may_use_amx() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr unsigned kTile = 1u << 24, kTileBf16 = 1u << 22, kAvx512Bf16 = 1u << 5, kOsXsave = 1u << 27;  // CPUID bits
  constexpr unsigned kTileState = 3u << 17;  // of XCR0: TILECFG and TILEDATA
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kOsXsave) == 0) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < 1 || (d & kTile) == 0 || (d & kTileBf16) == 0) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || (a & kAvx512Bf16) == 0) return false;
  unsigned xcr0 = 0, high = 0;
  __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
  return (xcr0 & kTileState) == kTileState && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

// Nothing is asked of the OS for a tier that is not wanted.
Tier detect_tier(bool amx_wanted) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // libgcc's check covers the OS side (XCR0) as well as CPUID.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")) {
    return amx_wanted && may_use_amx() ? Tier::kAmx : Tier::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Tier::kAvx2;
#else
  (void)amx_wanted;
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

Tier g_cpu = Tier::kPortable;  // before PYNEO_ISA

Target detect() {
  Target t;
  Tier cap = Tier::kAmx;
  if (const char* wanted = getenv("PYNEO_ISA")) {
    for (const Tier lower : {Tier::kPortable, Tier::kAvx2, Tier::kAvx512}) {
      if (strcmp(wanted, tier_name(lower)) == 0) cap = lower;
    }
  }
  g_cpu = detect_tier(cap == Tier::kAmx);
  t.tier = cap < g_cpu ? cap : g_cpu;
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

bool can_prepare(Tier t) {
#if defined(__x86_64__)
  return (t < Tier::kAvx512 ? t : Tier::kAvx512) <= g_cpu;
#else
  (void)t;
  return true;
#endif
}

const char* tier_name(Tier t) {
  switch (t) {
    case Tier::kPortable: return "portable";
    case Tier::kAvx2: return "avx2";
    case Tier::kAvx512: return "avx512";
    case Tier::kAmx: return "amx";
  }
  return "unknown";
}

}  // namespace pyneo
