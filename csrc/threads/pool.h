// SPDX-License-Identifier: Apache-2.0
//
// Threads belong to the process: one pool, shared by every context, replaceable by the caller.
//
// A call inside a task runs serially on the task's thread. When several contexts call at once, each takes the
// workers that are free; together they keep no more threads at work than there are CPUs (or than one
// context asked for), so a call may get fewer threads than its pool has, down to its own.
#pragma once

#include <cstdint>
#include <type_traits>

namespace pyneo {

// body(user, task, thread): task in [0, n), thread in [0, Pool::size()); tasks of one call that run
// at the same time have different `thread`.
using ParallelBody = void (*)(void* user, int64_t task, int thread);
// A caller's own parallel_for with the same meaning; must return after all tasks are done.
using ParallelFor = void (*)(void* impl, int64_t n, ParallelBody body, void* user);

class Pool {
 public:
  // A pool view for one context: at most `threads` threads of the process pool work for it, the caller
  // being one of them. threads <= 0: as many as the affinity mask and the cgroup's CPU quota allow.
  // Creates the threads that are not there yet; nothing else here allocates.
  static Pool shared(int threads);
  static Pool serial() { return Pool(1, nullptr, nullptr); }
  static Pool custom(int threads, ParallelFor f, void* impl) { return Pool(threads, f, impl); }
  static int usable_cpus();  // affinity- and cgroup-aware, at least 1

  int size() const { return threads_; }
  void parallel_for(int64_t n, ParallelBody body, void* user) const;

  // parallel_for with a callable: run(n, [&](int64_t task, int thread) { ... }). Allocates nothing.
  template <typename F>
  void run(int64_t n, F&& f) const {
    if (n == 1 || threads_ == 1) {
      for (int64_t i = 0; i < n; ++i) f(i, 0);
      return;
    }
    parallel_for(n, [](void* u, int64_t task, int thread) { (*static_cast<std::remove_reference_t<F>*>(u))(task, thread); },
                 const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  Pool(int threads, ParallelFor f, void* impl) : threads_(threads), for_(f), impl_(impl) {}
  int threads_;
  ParallelFor for_;
  void* impl_;
};

}  // namespace pyneo
