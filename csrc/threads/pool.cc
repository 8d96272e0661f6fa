// SPDX-License-Identifier: Apache-2.0
//
// One pool of threads for the process. A call takes whichever workers are free, hands each a
// pointer to a job on its own stack, works along, and takes back what no worker has begun; so a
// worker that the kernel has not woken yet is never waited for, and calls of several contexts share
// the pool without locks.
//
// Every thread of a job begins with a share of its own, the same neighbouring tasks in each call of
// the same size, so that what it wrote is still in its caches when the next operator reads it.
// A thread that is done takes single units off the end of the largest share that is left: cores
// are never equally fast. Nothing is allocated but in Pool::shared (and once after a fork, where
// threads do not survive).
#include "threads/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "threads/cpus.h"

namespace pyneo {
namespace {

constexpr int kMaxWorkers = 255;
constexpr int64_t kSpinNanoseconds = 40000;    // a little more than waking a sleeping thread costs
constexpr int64_t kPoliteNanoseconds = 10000;  // after this much of it, others may have the CPU
constexpr size_t kStackBytes = size_t{1} << 20;
constexpr int64_t kUnitsPerThread = 16;

// The life of a worker's mailbox. Callers move it from kIdle or kAsleep to kTaken and kPosted, and
// back to kIdle if the worker has not begun; the worker moves it to kRunning and, when done, to
// kIdle. The upper bits count how often it was taken, so that a caller never mistakes another's job
// for its own.
enum Mail : uint32_t {
  kAbsent = 0,     // no thread (yet)
  kIdle,           // the worker spins, or is about to look here
  kAsleep,         // the worker waits in the kernel for a change of this word
  kTaken,          // a caller is writing the job
  kPosted,         // a job waits for the worker
  kRunning,        // the worker reads the job
  kRunningWaited,  // ... and its caller sleeps on this word
  kQuit,
};
constexpr uint32_t kMailBits = 4;
Mail state_of(uint32_t word) { return static_cast<Mail>(word & ((1u << kMailBits) - 1)); }
uint32_t with_state(uint32_t word, Mail state) { return (word >> kMailBits << kMailBits) | state; }

// Units [begin, end) that nobody has taken: begin in the upper half, end in the lower.
struct alignas(64) Share {
  std::atomic<uint64_t> units;
};
uint64_t make_share(uint64_t begin, uint64_t end) { return begin << 32 | end; }
uint64_t left_of(uint64_t share) {
  const uint64_t begin = share >> 32, end = share & 0xffffffffu;
  return begin < end ? end - begin : 0;
}

struct Job {
  ParallelBody body;
  void* user;
  int64_t n, chunk;  // tasks, and tasks of a unit
  int threads;
  Share share[kMaxWorkers + 1];

  // Everybody's share, for `count` threads.
  void divide(int count) {
    threads = count;
    chunk = n / (count * kUnitsPerThread);
    if (chunk < 1) chunk = 1;
    const uint64_t units = static_cast<uint64_t>((n - 1) / chunk + 1), all = static_cast<uint64_t>(count);
    for (uint64_t t = 0; t < all; ++t) {
      share[t].units.store(make_share(units * t / all, units * (t + 1) / all), std::memory_order_relaxed);
    }
  }
};

struct alignas(64) Worker {
  std::atomic<uint32_t> mail{0};
  int thread = 0;  // index of this worker in the job
  Job* job = nullptr;
  pthread_t handle = {};
};

// All zero bytes to begin with: no initialiser has to run.
struct Shared {
  pthread_mutex_t grow = PTHREAD_MUTEX_INITIALIZER;
  std::atomic<int> workers{0};           // mailboxes in use, only grows (until a fork)
  std::atomic<int> cpus{0};              // usable_cpus() when the pool was last grown
  alignas(64) std::atomic<int> busy{0};  // threads in parallel_for now, callers included
  int asked = 0;            // sum over Pool::shared of the workers asked for, under `grow`
  bool registered = false;  // fork handlers
  Worker worker[kMaxWorkers] = {};
};
Shared g;

thread_local bool inside =
    false;  // this thread works for a parallel_for: calls within it run serially

void futex_wait(std::atomic<uint32_t>* word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr,
          0);
}
void futex_wake(std::atomic<uint32_t>* word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

// Spins while `unchanged(word)`, for kSpinNanoseconds at most; returns what it found last.
template <typename F>
uint32_t spin_while(const std::atomic<uint32_t>& word, F unchanged) {
  uint32_t seen = word.load(std::memory_order_acquire);
  const int cpus = g.cpus.load(std::memory_order_relaxed);
  // Where threads are more than CPUs, a spinning one keeps a working one waiting.
  if (cpus < 2 || g.busy.load(std::memory_order_relaxed) > cpus) return seen;
  int64_t start = 0;
  for (int i = 1; unchanged(seen); ++i) {
    pause_cpu();
    if (i % 32 == 0) {
      const int64_t now = now_ns();
      if (start == 0) start = now;
      if (now - start > kSpinNanoseconds) return seen;
      if (now - start > kPoliteNanoseconds) sched_yield();
    }
    seen = word.load(std::memory_order_acquire);
  }
  return seen;
}

void do_unit(const Job& job, uint64_t unit, int thread) {
  const int64_t begin = static_cast<int64_t>(unit) * job.chunk;
  const int64_t end = job.n - begin > job.chunk ? begin + job.chunk : job.n;
  for (int64_t i = begin; i < end; ++i) job.body(job.user, i, thread);
}

void work_on(Job& job, int thread) {
  std::atomic<uint64_t>& own = job.share[thread].units;
  uint64_t seen = own.load(std::memory_order_relaxed);
  while (left_of(seen) > 0) {
    if (own.compare_exchange_weak(seen, seen + (uint64_t{1} << 32), std::memory_order_relaxed)) {
      do_unit(job, seen >> 32, thread);
      seen = own.load(std::memory_order_relaxed);
    }
  }
  for (;;) {
    std::atomic<uint64_t>* largest = nullptr;
    uint64_t most = 0;
    for (int t = 0; t < job.threads; ++t) {
      const uint64_t share = job.share[t].units.load(std::memory_order_relaxed);
      if (left_of(share) > left_of(most)) {
        most = share;
        largest = &job.share[t].units;
      }
    }
    if (largest == nullptr) return;
    if (largest->compare_exchange_strong(most, most - 1, std::memory_order_relaxed)) {
      do_unit(job, (most & 0xffffffffu) - 1, thread);
    }
  }
}

void* worker_main(void* argument) {
  Worker& w = *static_cast<Worker*>(argument);
  inside = true;
  for (;;) {
    uint32_t seen = spin_while(
        w.mail, [](uint32_t m) { return state_of(m) == kIdle || state_of(m) == kTaken; });
    switch (state_of(seen)) {
      case kIdle:
        if (w.mail.compare_exchange_strong(seen, with_state(seen, kAsleep))) {
          futex_wait(&w.mail, with_state(seen, kAsleep));
        }
        break;
      case kAsleep:
        futex_wait(&w.mail, seen);
        break;  // woken by chance
      case kTaken:
        sched_yield();
        break;
      case kPosted:
        if (!w.mail.compare_exchange_strong(seen, with_state(seen, kRunning))) break;  // taken back
        work_on(*w.job, w.thread);
        if (state_of(w.mail.exchange(with_state(seen, kIdle))) == kRunningWaited)
          futex_wake(&w.mail);
        break;
      default:
        return nullptr;  // kQuit
    }
  }
}

struct Taken {
  Worker* worker;
  uint32_t posted;  // its mailbox when the job was put there
};

// Takes up to `wanted` free workers for the job, divides it among them and the caller, and wakes them;
// their numbers are 1 and up.
int post(Job* job, int wanted, Taken* taken) {
  const int workers = g.workers.load(std::memory_order_acquire);
  int count = 0;
  uint64_t asleep[(kMaxWorkers + 63) / 64] = {};
  for (int i = 0; i < workers && count < wanted; ++i) {
    Worker& w = g.worker[i];
    uint32_t seen = w.mail.load(std::memory_order_relaxed);
    if (state_of(seen) != kIdle && state_of(seen) != kAsleep) continue;
    const uint32_t mine = with_state(seen + (1u << kMailBits), kTaken);
    if (!w.mail.compare_exchange_strong(seen, mine)) continue;
    if (state_of(seen) == kAsleep) asleep[count / 64] |= uint64_t{1} << (count % 64);
    taken[count++] = {&w, with_state(mine, kPosted)};
  }
  job->divide(count + 1);
  for (int i = 0; i < count; ++i) {
    Worker& w = *taken[i].worker;
    w.job = job;
    w.thread = i + 1;
    w.mail.store(taken[i].posted);
    if (asleep[i / 64] >> (i % 64) & 1) futex_wake(&w.mail);
  }
  return count;
}

// Returns when the worker does not read the job (any more): at once if it has not begun.
void release(const Taken& t) {
  std::atomic<uint32_t>& mail = t.worker->mail;
  uint32_t seen = t.posted;
  if (mail.compare_exchange_strong(seen, with_state(t.posted, kIdle))) return;
  const uint32_t running = with_state(t.posted, kRunning),
                 waited = with_state(t.posted, kRunningWaited);
  seen = spin_while(mail, [=](uint32_t m) { return m == running; });
  if (seen != running || !mail.compare_exchange_strong(seen, waited)) return;
  while (mail.load(std::memory_order_acquire) == waited) futex_wait(&mail, waited);
}

void after_fork_in_child() {
  // Only the forking thread lives on. Mailboxes start anew; contexts get workers at their next
  // call.
  pthread_mutex_init(&g.grow, nullptr);
  for (Worker& w : g.worker) w.mail.store(kAbsent, std::memory_order_relaxed);
  g.workers.store(0, std::memory_order_relaxed);
  g.busy.store(0, std::memory_order_relaxed);
  g.asked = 0;
}
void before_fork() { pthread_mutex_lock(&g.grow); }
void after_fork_in_parent() { pthread_mutex_unlock(&g.grow); }

// Under g.grow. Fewer threads than wanted is no error: the caller does their share.
void grow_to(int wanted) {
  if (!g.registered)
    g.registered = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
  int have = g.workers.load(std::memory_order_relaxed);
  if (have >= wanted) return;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return;
  pthread_attr_setstacksize(&attributes, kStackBytes);
  sigset_t all, before;  // signals are for the application's threads
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (; have < wanted; ++have) {
    Worker& w = g.worker[have];
    w.mail.store(kIdle, std::memory_order_relaxed);
    if (pthread_create(&w.handle, &attributes, worker_main, &w) != 0) {
      w.mail.store(kAbsent, std::memory_order_relaxed);
      break;
    }
    pthread_setname_np(w.handle, "pyneo");
    g.workers.store(have + 1, std::memory_order_release);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
}

// At unload of the library or exit of the process: the workers' code is about to go away.
__attribute__((destructor)) void stop_workers() {
  pthread_mutex_lock(&g.grow);
  const int workers = g.workers.load();
  for (int i = 0; i < workers; ++i) {
    Worker& w = g.worker[i];
    if (pthread_equal(w.handle, pthread_self())) continue;  // exit() called by a task
    for (;;) {
      uint32_t seen = w.mail.load();
      const bool free = state_of(seen) == kIdle || state_of(seen) == kAsleep;
      if (free && w.mail.compare_exchange_strong(seen, kQuit)) break;
      sched_yield();
    }
    futex_wake(&w.mail);
    pthread_join(w.handle, nullptr);
  }
  pthread_mutex_unlock(&g.grow);
}

}  // namespace

int Pool::usable_cpus() { return count_usable_cpus(); }

Pool Pool::shared(int threads) {
  const int cpus = usable_cpus();
  if (threads <= 0) threads = cpus;
  if (threads > kMaxWorkers + 1) threads = kMaxWorkers + 1;
  if (threads == 1) return serial();
  pthread_mutex_lock(&g.grow);
  g.cpus.store(cpus, std::memory_order_relaxed);
  // Contexts that run at the same time want workers of their own, but never more than there are
  // CPUs, unless one context alone asks for more.
  g.asked = g.asked + threads - 1 < kMaxWorkers ? g.asked + threads - 1 : kMaxWorkers;
  const int useful = cpus > threads ? cpus - 1 : threads - 1;
  grow_to(g.asked < useful ? g.asked : useful);
  pthread_mutex_unlock(&g.grow);
  return Pool(threads, nullptr, nullptr);
}

void Pool::parallel_for(int64_t n, ParallelBody body, void* user) const {
  if (for_ != nullptr) return for_(impl_, n, body, user);
  int helpers = threads_ - 1;
  if (n <= helpers) helpers = static_cast<int>(n) - 1;
  int reserved = 0;
  if (helpers > 0 && !inside) {
    if (g.workers.load(std::memory_order_relaxed) == 0) {  // a forked child, at its first call
      pthread_mutex_lock(&g.grow);
      grow_to(threads_ - 1);
      pthread_mutex_unlock(&g.grow);
    }
    // The process keeps no more threads at work than it has CPUs, however many contexts run.
    const int cpus = g.cpus.load(std::memory_order_relaxed);
    const int most = cpus > threads_ ? cpus : threads_;
    reserved = 1 + helpers;
    const int excess = g.busy.fetch_add(reserved, std::memory_order_relaxed) + reserved - most;
    if (excess > 0) {
      helpers = excess < helpers ? helpers - excess : 0;
      g.busy.fetch_sub(reserved - 1 - helpers, std::memory_order_relaxed);
      reserved = 1 + helpers;
    }
  }
  if (helpers <= 0 || reserved == 0) {
    for (int64_t i = 0; i < n; ++i) body(user, i, 0);
    if (reserved != 0) g.busy.fetch_sub(reserved, std::memory_order_relaxed);
    return;
  }

  Job job;
  job.body = body;
  job.user = user;
  job.n = n;
  Taken taken[kMaxWorkers];
  const int count = post(&job, helpers, taken);
  inside = true;
  work_on(job, 0);
  inside = false;
  for (int i = 0; i < count; ++i) release(taken[i]);
  g.busy.fetch_sub(reserved, std::memory_order_relaxed);
}

}  // namespace pyneo
