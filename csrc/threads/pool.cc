// SPDX-License-Identifier: Apache-2.0
#include "threads/pool.h"

#include <sched.h>

namespace pyneo {

int Pool::usable_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  const int n = CPU_COUNT(&set);
  return n > 0 ? n : 1;
}

Pool Pool::shared(int threads) {
  (void)threads;
  return serial();
}

void Pool::parallel_for(int64_t n, ParallelBody body, void* user) const {
  if (for_ != nullptr) return for_(impl_, n, body, user);
  for (int64_t i = 0; i < n; ++i) body(user, i, 0);
}

}  // namespace pyneo
