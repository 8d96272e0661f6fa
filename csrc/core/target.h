// SPDX-License-Identifier: Apache-2.0
//
// The machine a plan is made for: which ISA tier, which caches, how many cores.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace pyneo {

// Ordered within an architecture: a CPU of one tier runs every lower one of its own architecture.
enum class Tier : uint8_t {
  kPortable = 0,  // any CPU the library was built for (SSE2 on x86-64, NEON on aarch64)
  kAvx2 = 1,      // x86-64-v3: AVX2, FMA, F16C
  kAvx512 = 2,    // x86-64-v4: AVX-512 F, BW, CD, DQ, VL
  kAmx = 3,       // and AMX-TILE, AMX-INT8: Sapphire Rapids and later
};

struct Target {
  Tier tier = Tier::kPortable;
  int32_t cores = 1;
  int64_t l1_bytes = 32 << 10;
  int64_t l2_bytes = 1 << 20;
  int64_t l3_bytes = 8 << 20;
  bool foreign = false;  // another architecture than this build's: its kernels need not run here
  int32_t vector_floats() const { return tier >= Tier::kAvx512 ? 16 : 8; }  // channels of a block
};

// This machine: CPUID and OS support, lowered (never raised) by PYNEO_ISA=portable|avx2|avx512|amx.
const Target& host_target();
// Whether this CPU can choose and pack kernels of a tier. On x86 that code is compiled with the tier's instructions as
// well (amx's with AVX-512's); PYNEO_ISA does not matter. Elsewhere the one tier holds every table.
bool can_prepare(Tier t);
const char* tier_name(Tier t);  // "portable", "avx2", "avx512", "amx"

}  // namespace pyneo
