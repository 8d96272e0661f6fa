/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A package run by many threads, for test_sessions.py to build against libpyneo, plain or under ThreadSanitizer.
 *
 *   sessions_test threads PACKAGE COUNT RUNS POOL   COUNT threads with a context each, RUNS runs each on inputs
 *                                                   that change, every result bit-equal to the one of a single
 *                                                   thread; each context may use POOL threads of the pool
 *   sessions_test allocations PACKAGE               fails if a run, after the first, asks for memory
 *   sessions_test latency PACKAGE                   prints nanoseconds a run, for people
 *
 * One float input and one float output. Exit status 0 if all holds.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <pyneo/pyneo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VARIANTS 16

static void fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, pn_last_error());
  exit(1);
}
static void check(pn_status status, const char* what) {
  if (status != PN_OK) fail(what);
}

/* ---- Counting what a run allocates: this program's malloc stands before the C library's. ---- */

static _Thread_local int counting;
static _Thread_local long allocations;

#ifndef SANITIZED
extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

void* malloc(size_t n) {
  allocations += counting;
  return __libc_malloc(n);
}
void* calloc(size_t n, size_t m) {
  allocations += counting;
  return __libc_calloc(n, m);
}
void* realloc(void* p, size_t n) {
  allocations += counting;
  return __libc_realloc(p, n);
}
void* aligned_alloc(size_t a, size_t n) {
  allocations += counting;
  return __libc_memalign(a, n);
}
#endif

/* ---- A context with buffers of its own. ---- */

typedef struct {
  pn_context* context;
  float *x, *y;
  size_t n_x, n_y;
} session;

static size_t elements(const pn_tensor* t) {
  size_t n = 1;
  for (int i = 0; i < t->rank; ++i) n *= (size_t)t->dims[i];
  return n;
}

static session open_session(pn_model* model, int pool) {
  session s;
  const char* name;
  pn_tensor in = {.struct_size = sizeof in}, out = {.struct_size = sizeof out};
  pn_context_options options = {.struct_size = sizeof options, .threads = pool};
  check(pn_model_input(model, 0, &name, &in), "input");
  check(pn_model_output(model, 0, &name, &out), "output");
  s.n_x = elements(&in);
  s.n_y = elements(&out);
  s.x = malloc(s.n_x * sizeof(float));
  s.y = malloc(s.n_y * sizeof(float));
  in.data = s.x;
  in.bytes = s.n_x * sizeof(float);
  out.data = s.y;
  out.bytes = s.n_y * sizeof(float);
  check(pn_context_create(model, &options, &s.context), "create");
  check(pn_context_bind_input(s.context, 0, &in), "bind input");
  check(pn_context_bind_output(s.context, 0, &out), "bind output");
  return s;
}

static void close_session(session* s) {
  pn_context_destroy(s->context);
  free(s->x);
  free(s->y);
}

static void run(session* s, int variant) {
  for (size_t i = 0; i < s->n_x; ++i) s->x[i] = (float)((i * 7 + (size_t)variant * 13) % 17);
  for (size_t i = 0; i < s->n_y; ++i) s->y[i] = -1.0f;
  check(pn_context_run(s->context), "run");
}

/* ---- threads ---- */

static struct {
  pn_model* model;
  float* expected; /* VARIANTS results, one after the other */
  int runs, pool;
} job;

static void* many_runs(void* argument) {
  session s = open_session(job.model, job.pool);
  for (int i = 0; i < job.runs; ++i) {
    const int variant = (i + (int)(size_t)argument) % VARIANTS;
    run(&s, variant);
    if (memcmp(s.y, job.expected + (size_t)variant * s.n_y, s.n_y * sizeof(float)) != 0) {
      fprintf(stderr, "thread %d, run %d: not the result of a single thread\n", (int)(size_t)argument, i);
      exit(1);
    }
  }
  close_session(&s);
  return NULL;
}

static void threads(pn_model* model, int count, int runs, int pool) {
  session alone = open_session(model, 1);
  job.model = model;
  job.runs = runs;
  job.pool = pool;
  job.expected = malloc(VARIANTS * alone.n_y * sizeof(float));
  for (int v = 0; v < VARIANTS; ++v) {
    run(&alone, v);
    memcpy(job.expected + (size_t)v * alone.n_y, alone.y, alone.n_y * sizeof(float));
  }
  if (memcmp(job.expected, job.expected + alone.n_y, alone.n_y * sizeof(float)) == 0) fail("all results are alike");
  pthread_t* ids = malloc((size_t)count * sizeof *ids);
  for (int i = 0; i < count; ++i) {
    if (pthread_create(&ids[i], NULL, many_runs, (void*)(size_t)i) != 0) fail("pthread_create");
  }
  for (int i = 0; i < count; ++i) pthread_join(ids[i], NULL);
  free(ids);
  free(job.expected);
  close_session(&alone);
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  pn_open_options options = {.struct_size = sizeof options, .allow_unsigned = 1};
  pn_model* model = NULL;
  check(pn_model_open_file(argv[2], &options, &model), argv[2]);
  if (strcmp(argv[1], "threads") == 0 && argc == 6) {
    threads(model, atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
  } else if (strcmp(argv[1], "allocations") == 0) {
    session s = open_session(model, 2);
    run(&s, 0);
    counting = 1;
    void* volatile probe = malloc(1); /* the counter itself must work */
    const long before = allocations;
    for (int i = 0; i < 100; ++i) run(&s, i % VARIANTS);
    counting = 0;
    free(probe);
    if (before != 1 || allocations != before) {
      fprintf(stderr, "100 runs allocated %ld times (probe: %ld)\n", allocations - before, before);
      return 1;
    }
    close_session(&s);
  } else if (strcmp(argv[1], "latency") == 0) {
    session s = open_session(model, 1);
    for (int round = 0; round < 5; ++round) {
      struct timespec a, b;
      clock_gettime(CLOCK_MONOTONIC, &a);
      for (int i = 0; i < 20000; ++i) check(pn_context_run(s.context), "run");
      clock_gettime(CLOCK_MONOTONIC, &b);
      printf("%.0f ns\n", ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 20000);
    }
    close_session(&s);
  } else {
    return 2;
  }
  pn_model_close(model);
  return 0;
}
