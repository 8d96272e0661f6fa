// SPDX-License-Identifier: Apache-2.0
//
// The thread pool by itself, for test_pool.py to build with and without ThreadSanitizer. Exits with
// 0 if the case named on the command line holds, prints what did not hold otherwise.
#include "threads/pool.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "threads/cpus.h"

using pyneo::Pool;

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

namespace {

constexpr int kThreads = 4;
constexpr int64_t kMaxTasks = 5000;

// One call: every task exactly once, thread numbers in range and never two tasks at once on one
// number.
void check_call(const Pool& pool, int64_t n, int spin) {
  static thread_local std::atomic<int> done[kMaxTasks];
  std::atomic<int> busy[64] = {};
  std::atomic<int>* tasks = done;
  for (int64_t i = 0; i < n; ++i) tasks[i] = 0;
  pool.run(n, [&](int64_t task, int thread) {
    CHECK(task >= 0 && task < n);
    CHECK(thread >= 0 && thread < pool.size());
    CHECK(busy[thread].fetch_add(1) == 0);
    for (volatile int k = 0; k < spin; k = k + 1) {
    }
    tasks[task].fetch_add(1, std::memory_order_relaxed);
    CHECK(busy[thread].fetch_sub(1) == 1);
  });
  for (int64_t i = 0; i < n; ++i) CHECK(tasks[i] == 1);
}

void each_task_once() {
  for (int threads : {1, 2, 3, kThreads}) {
    const Pool pool = Pool::shared(threads);
    CHECK(pool.size() == threads);
    for (int64_t n : {0, 1, 2, 3, 4, 5, 7, 31, 100, 4999}) {
      for (int repeat = 0; repeat < 50; ++repeat) check_call(pool, n, repeat % 3 * 50);
    }
  }
}

void writes_of_tasks_are_seen_by_the_caller() {
  const Pool pool = Pool::shared(2);
  int64_t values[64];  // plain memory: TSan reports a missing ordering
  for (int round = 0; round < 5000; ++round) {
    pool.run(64, [&](int64_t i, int) { values[i] = i * round; });
    for (int64_t i = 0; i < 64; ++i) CHECK(values[i] == i * round);
  }
}

void* many_callers_body(void*) {
  const Pool pool = Pool::shared(3);
  for (int i = 0; i < 1500; ++i) check_call(pool, 1 + i % 17, i % 5 * 40);
  return nullptr;
}

void many_callers_at_once() {
  pthread_t callers[6];
  for (pthread_t& c : callers) CHECK(pthread_create(&c, nullptr, many_callers_body, nullptr) == 0);
  for (pthread_t& c : callers) CHECK(pthread_join(c, nullptr) == 0);
}

void calls_inside_tasks_run_serially() {
  const Pool pool = Pool::shared(kThreads);
  std::atomic<int> inner{0};
  pool.run(20, [&](int64_t, int) {
    const pthread_t self = pthread_self();
    pool.run(10, [&](int64_t, int thread) {
      CHECK(thread == 0);
      CHECK(pthread_equal(self, pthread_self()));
      inner.fetch_add(1);
    });
  });
  CHECK(inner == 200);
}

void two_threads_really_work_at_once() {
  const Pool pool = Pool::shared(2);
  std::atomic<int> arrived{0};
  pool.run(2, [&](int64_t, int) {  // each waits for the other; a serial pool would hang here
    arrived.fetch_add(1);
    while (arrived.load() < 2) sched_yield();
  });
}

void a_forked_child_has_workers_of_its_own() {
  const Pool pool = Pool::shared(2);
  check_call(pool, 100, 10);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(30);
    for (int i = 0; i < 100; ++i) check_call(pool, 64, 50);
    two_threads_really_work_at_once();
    exit(0);  // with destructors: joins the child's workers
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  check_call(pool, 100, 10);
}

void exit_while_others_work() {
  static const Pool pool = Pool::shared(3);
  pthread_t caller;
  CHECK(pthread_create(
            &caller, nullptr,
            [](void*) -> void* {
              for (;;) pool.run(8, [](int64_t, int) { usleep(100); });
              return nullptr;
            },
            nullptr) == 0);
  usleep(20000);
  exit(0);
}

void callers_own_parallel_for() {
  struct Mine {
    int calls = 0;
  } mine;
  const Pool pool = Pool::custom(
      2,
      [](void* impl, int64_t n, pyneo::ParallelBody body, void* user) {
        ++static_cast<Mine*>(impl)->calls;
        for (int64_t i = n - 1; i >= 0; --i) body(user, i, 1);
      },
      &mine);
  int64_t last = -1;
  pool.run(5, [&](int64_t i, int thread) {
    CHECK(thread == 1);
    last = i;
  });
  CHECK(mine.calls == 1 && last == 0);
}

void affinity_limits_the_cpus() {
  cpu_set_t set;
  CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
  int first = 0;
  while (!CPU_ISSET(first, &set)) ++first;
  CPU_ZERO(&set);
  CPU_SET(first, &set);
  CHECK(sched_setaffinity(0, sizeof(set), &set) == 0);
  CHECK(Pool::usable_cpus() == 1);
  CHECK(Pool::shared(0).size() == 1);
}

int run_case(const char* name, int argc, char** argv) {
  const struct {
    const char* name;
    void (*run)();
  } cases[] = {
      {"each_task_once", each_task_once},
      {"writes_of_tasks_are_seen_by_the_caller", writes_of_tasks_are_seen_by_the_caller},
      {"many_callers_at_once", many_callers_at_once},
      {"calls_inside_tasks_run_serially", calls_inside_tasks_run_serially},
      {"two_threads_really_work_at_once", two_threads_really_work_at_once},
      {"a_forked_child_has_workers_of_its_own", a_forked_child_has_workers_of_its_own},
      {"exit_while_others_work", exit_while_others_work},
      {"callers_own_parallel_for", callers_own_parallel_for},
      {"affinity_limits_the_cpus", affinity_limits_the_cpus},
  };
  for (const auto& c : cases) {
    if (strcmp(c.name, name) != 0) continue;
    c.run();
    return 0;
  }
  if (strcmp(name, "quota") == 0 && argc == 4) {  // quota <text of /proc/self/cgroup> <mount>
    printf("%d\n", pyneo::cgroup_cpu_quota(argv[2], argv[3]));
    return 0;
  }
  if (strcmp(name, "latency") == 0) {  // for people: nanoseconds per empty call of two threads
    const Pool pool = Pool::shared(2);
    for (int round = 0; round < 5; ++round) {
      timespec a, b;
      clock_gettime(CLOCK_MONOTONIC, &a);
      for (int i = 0; i < 100000; ++i) pool.run(2, [](int64_t, int) {});
      clock_gettime(CLOCK_MONOTONIC, &b);
      printf("%.0f ns\n", (static_cast<double>(b.tv_sec - a.tv_sec) * 1e9 +
                           static_cast<double>(b.tv_nsec - a.tv_nsec)) /
                              1e5);
    }
    return 0;
  }
  fprintf(stderr, "no case named %s\n", name);
  return 2;
}

}  // namespace

int main(int argc, char** argv) { return argc < 2 ? 2 : run_case(argv[1], argc, argv); }
