// SPDX-License-Identifier: Apache-2.0
//
// How many CPUs this process may keep busy.
#pragma once

namespace pyneo {

// CPUs of the affinity mask, capped by the CPU quota of the process's control groups; at least 1.
int count_usable_cpus();

// The smallest quota / period, rounded down but at least 1, over the groups named in `proc_cgroup`
// (the format of /proc/self/cgroup) and all their ancestors below `mount`; 0 if there is no quota.
// Reads version 2 (cpu.max) and version 1 (cpu.cfs_quota_us below cpu/ or cpu,cpuacct/).
int cgroup_cpu_quota(const char* proc_cgroup, const char* mount);

}  // namespace pyneo
