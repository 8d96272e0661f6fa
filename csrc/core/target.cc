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
constexpr bool all(unsigned word, unsigned bits) { return (word & bits) == bits; }

// The tiles' registers belong to a Linux process only after it has asked for them, once for all its threads; a
// kernel without AMX, a sandbox, or a thread with a signal stack too small for them says no.
bool may_use_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

// What the compiler may use of a tier's sources (CMakeLists.txt), and of the registers that the OS saves. Asked of
// CPUID here: libgcc's own question, which knows every CPU by name, is 5 KB. Nothing is asked of the OS for a tier
// that is not wanted.
Tier detect_tier(bool amx_wanted) {
#if defined(__x86_64__)
  constexpr unsigned kFma = 1u << 12, kOsXsave = 1u << 27, kF16c = 1u << 29;  // leaf 1, ecx
  constexpr unsigned kAvx2 = 1u << 5, kBmi2 = 1u << 8;                        // leaf 7, ebx
  constexpr unsigned kAvx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // F, DQ, CD, BW, VL
  constexpr unsigned kTile = 1u << 25 | 1u << 24;                             // leaf 7, edx: bytes in tiles, tiles
  constexpr unsigned kYmm = 3u << 1, kZmm = 7u << 5, kTiles = 3u << 17;       // XCR0
  unsigned a = 0, b = 0, c = 0, d = 0, saved = 0, high = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !all(c, kFma | kOsXsave | kF16c)) return Tier::kPortable;
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!all(saved, kYmm) || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !all(b, kAvx2 | kBmi2)) return Tier::kPortable;
  if (!all(saved, kZmm) || !all(b, kAvx512)) return Tier::kAvx2;
  if (!amx_wanted || !all(saved, kTiles) || !all(d, kTile)) return Tier::kAvx512;
  return may_use_tiles() ? Tier::kAmx : Tier::kAvx512;
#else
  (void)amx_wanted;
  return Tier::kPortable;
#endif
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
