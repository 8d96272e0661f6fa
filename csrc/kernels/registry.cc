// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/kernel.h"

namespace pyneo {

#define PN_TABLE(family, tier)                            \
  extern const KernelDef pn_kernels_##family##__##tier[]; \
  extern const int pn_kernels_##family##__##tier##_count;
#if defined(__x86_64__)
#define PN_FAMILY(family) PN_TABLE(family, portable) PN_TABLE(family, avx2) PN_TABLE(family, avx512)
#else
#define PN_FAMILY(family) PN_TABLE(family, portable)
#endif
#include "kernels/kernels.inc"
#if defined(PYNEO_AMX)
#define PN_AMX_FAMILY(family) PN_TABLE(family, avx512)
#include "kernels/amx.inc"
#undef PN_AMX_FAMILY
#endif
#undef PN_FAMILY
#undef PN_TABLE

namespace {

struct Table {
  Tier tier;
  const KernelDef* rows;
  const int* count;
};

// Highest tier first, so that the first match of a name is the best one.
const Table kTables[] = {
#define PN_TABLE(family, level, tier) {level, pn_kernels_##family##__##tier, &pn_kernels_##family##__##tier##_count},
#if defined(PYNEO_AMX)
#define PN_AMX_FAMILY(family) PN_TABLE(family, Tier::kAmx, avx512)
#include "kernels/amx.inc"
#undef PN_AMX_FAMILY
#endif
#if defined(__x86_64__)
#define PN_FAMILY(family) PN_TABLE(family, Tier::kAvx512, avx512)
#include "kernels/kernels.inc"
#undef PN_FAMILY
#define PN_FAMILY(family) PN_TABLE(family, Tier::kAvx2, avx2)
#include "kernels/kernels.inc"
#undef PN_FAMILY
#endif
#define PN_FAMILY(family) PN_TABLE(family, Tier::kPortable, portable)
#include "kernels/kernels.inc"
#undef PN_FAMILY
#undef PN_TABLE
};

}  // namespace

const KernelDef* find_kernel(const char* name, Tier tier, bool foreign) {
  for (const Table& t : kTables) {
    if (t.tier > tier) continue;
    for (int i = 0; i < *t.count; ++i) {
      if ((foreign || t.rows[i].code->run != nullptr) && strcmp(t.rows[i].name, name) == 0) return t.rows + i;
    }
  }
  return nullptr;
}

Tier kernel_tier(const KernelDef& kernel) {
  for (const Table& t : kTables) {
    if (&kernel >= t.rows && &kernel < t.rows + *t.count) return t.tier;
  }
  return Tier::kPortable;
}

int list_kernels(const char* op, const KernelQuery& q, const KernelDef** out, int max) {
  KernelQuery asked = q;
  int n = 0;
  float costs[64];
  if (max > 64) max = 64;
  for (const Table& t : kTables) {
    if (t.tier > q.target->tier) continue;
    for (int i = 0; i < *t.count; ++i) {
      const KernelDef& k = t.rows[i];
      if (k.code->run == nullptr && !q.target->foreign) continue;
      asked.kernel = &k;
      if (strcmp(k.op, op) != 0 || !k.code->accepts(asked)) continue;
      bool better_tier = false;  // the same name was listed for a higher tier
      for (int j = 0; j < n; ++j) better_tier |= strcmp(out[j]->name, k.name) == 0;
      if (better_tier || n == max) continue;
      const float cost = k.code->cost(asked);
      int at = n++;
      for (; at > 0 && costs[at - 1] > cost; --at) {
        out[at] = out[at - 1];
        costs[at] = costs[at - 1];
      }
      out[at] = &k;
      costs[at] = cost;
    }
  }
  return n;
}

}  // namespace pyneo
