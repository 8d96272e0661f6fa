// SPDX-License-Identifier: Apache-2.0
//
// A container with a quota of one CPU on a machine of 64 shows 64 in its affinity mask: threads
// beyond the quota would only be throttled in turn, so both are asked.
#include "threads/cpus.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace pyneo {
namespace {

constexpr int kPathBytes = 1024;

// Reads a small file whole into `out` (terminated); false if it is not there.
bool read_small(const char* path, char* out, int size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  int used = 0;
  while (used < size - 1) {
    const ssize_t n = read(fd, out + used, static_cast<size_t>(size - 1 - used));
    if (n <= 0) break;
    used += static_cast<int>(n);
  }
  close(fd);
  out[used] = 0;
  return true;
}

bool read_number(const char* folder, const char* name, long long* out) {
  char path[kPathBytes + 32], text[64];
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  if (!read_small(path, text, sizeof(text))) return false;
  char* end = nullptr;
  *out = strtoll(text, &end, 10);
  return end != text;
}

// CPUs that one group's own quota allows; 0 = unlimited or no such group.
int group_quota(const char* folder, bool version2) {
  long long quota = 0, period = 0;
  if (version2) {
    char path[kPathBytes + 32], text[64];
    snprintf(path, sizeof(path), "%s/cpu.max", folder);
    if (!read_small(path, text, sizeof(text))) return 0;
    char* end = nullptr;
    quota = strtoll(text, &end, 10);  // "max" gives no digits
    if (end == text) return 0;
    period = strtoll(end, nullptr, 10);
  } else if (!read_number(folder, "cpu.cfs_quota_us", &quota) ||
             !read_number(folder, "cpu.cfs_period_us", &period)) {
    return 0;
  }
  if (quota <= 0 || period <= 0) return 0;
  const long long cpus = quota / period;
  return cpus < 1 ? 1 : cpus > 65536 ? 65536 : static_cast<int>(cpus);
}

// The smallest quota of `root``group` and its ancestors down to `root` itself. A container may see
// its group by the host's path, which is not there: then the root is what remains.
int tree_quota(const char* root, const char* group, bool version2) {
  char folder[kPathBytes];
  const int root_bytes = snprintf(folder, sizeof(folder), "%s", root);
  const int all = snprintf(folder, sizeof(folder), "%s%s", root, group);
  if (root_bytes < 0 || all < 0 || all >= kPathBytes) return 0;
  int smallest = 0, length = all;
  for (;;) {
    while (length > root_bytes && folder[length - 1] == '/') --length;
    folder[length] = 0;
    const int q = group_quota(folder, version2);
    if (q > 0 && (smallest == 0 || q < smallest)) smallest = q;
    if (length <= root_bytes) return smallest;
    while (length > root_bytes && folder[length - 1] != '/') --length;
  }
}

bool lists_cpu(const char* controllers, const char* end) {
  for (const char* at = controllers; at < end;) {
    const char* comma = static_cast<const char*>(memchr(at, ',', static_cast<size_t>(end - at)));
    const char* stop = comma != nullptr ? comma : end;
    if (stop - at == 3 && memcmp(at, "cpu", 3) == 0) return true;
    at = stop + 1;
  }
  return false;
}

}  // namespace

int cgroup_cpu_quota(const char* proc_cgroup, const char* mount) {
  int smallest = 0;
  const auto take = [&](int quota) {
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
  };
  for (const char* line = proc_cgroup; *line != 0;) {
    // number:controllers:path
    const char* end = strchr(line, '\n');
    if (end == nullptr) end = line + strlen(line);
    const char* controllers =
        static_cast<const char*>(memchr(line, ':', static_cast<size_t>(end - line)));
    const char* path = controllers == nullptr
                           ? nullptr
                           : static_cast<const char*>(memchr(
                                 controllers + 1, ':', static_cast<size_t>(end - controllers - 1)));
    char group[kPathBytes], root[kPathBytes];
    if (path != nullptr && end - path - 1 < kPathBytes) {
      snprintf(group, sizeof(group), "%.*s", static_cast<int>(end - path - 1), path + 1);
      if (path == controllers + 1) {
        take(tree_quota(mount, group, true));
      } else if (lists_cpu(controllers + 1, path)) {
        for (const char* name : {"cpu", "cpu,cpuacct"}) {
          const int n = snprintf(root, sizeof(root), "%s/%s", mount, name);
          if (n > 0 && n < kPathBytes) take(tree_quota(root, group, false));
        }
      }
    }
    line = *end == 0 ? end : end + 1;
  }
  return smallest;
}

int count_usable_cpus() {
  int cpus = 1;
  // The mask must have room for every CPU the kernel knows of; EINVAL says that it had not.
  for (int room = 1024; room <= 1 << 18; room *= 4) {
    cpu_set_t* set = CPU_ALLOC(room);
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(room);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    if (known) cpus = CPU_COUNT_S(bytes, set);
    CPU_FREE(set);
    if (known) break;
  }
  char groups[4096];
  if (read_small("/proc/self/cgroup", groups, sizeof(groups))) {
    const int quota = cgroup_cpu_quota(groups, "/sys/fs/cgroup");
    if (quota > 0 && quota < cpus) cpus = quota;
  }
  return cpus < 1 ? 1 : cpus;
}

}  // namespace pyneo
