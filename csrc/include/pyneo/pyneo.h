/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pyneo: the C interface. C11, stable within a major version.
 *
 * Every struct a caller passes begins with `struct_size = sizeof(it)`, so that later releases can add
 * fields. Every call returns a pn_status; the sentence that belongs to the last failure on this thread
 * is pn_last_error(). No call throws, prints, or touches the locale. pn_context_run allocates nothing.
 *
 * A pn_model is immutable and may be shared by threads; a pn_context belongs to one thread at a time.
 */
#ifndef PYNEO_PYNEO_H_
#define PYNEO_PYNEO_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PN_API __attribute__((visibility("default")))
#define PN_MAX_RANK 8
#define PN_OPEN_RANK 255 /* pn_tensor.rank of an output that has another rank from run to run */

typedef enum pn_status {
  PN_OK = 0,
  PN_INVALID_PACKAGE = 1,
  PN_INVALID_ARGUMENT = 2,
  PN_UNSUPPORTED = 3,
  PN_OUT_OF_MEMORY = 4,
  PN_NEEDS_VALUE = 5,
  PN_INVALID_MODEL = 6,
  PN_IO = 7,
  PN_UNTRUSTED = 8,
  PN_INTERNAL = 9,
  PN_INTERRUPTED = 10
} pn_status;

/* dtype numbers are those of onnx.TensorProto.DataType: 1 float32, 2 uint8, 3 int8, 6 int32, 7 int64, 9 bool, ... */
typedef struct pn_tensor {
  uint32_t struct_size;
  uint8_t dtype;
  uint8_t layout;            /* 0 plain row-major; 8, 16 channel-blocked; 64 packed constant */
  uint8_t rank;
  uint8_t reserved;
  int64_t dims[PN_MAX_RANK];
  void* data;                /* may be NULL where only the description is asked for */
  uint64_t bytes;            /* size of the buffer at data */
} pn_tensor;

typedef struct pn_model pn_model;
typedef struct pn_context pn_context;

PN_API const char* pn_version(void);
PN_API const char* pn_last_error(void);
PN_API const char* pn_status_name(pn_status status);

/* 64-byte aligned memory, huge pages advised when large: for package bytes that the caller reads itself. */
PN_API pn_status pn_buffer_allocate(size_t bytes, void** out);
PN_API void pn_buffer_free(void* buffer, size_t bytes);

/* ---- Models ------------------------------------------------------------------------------------ */

/* Decides whether the bytes of a package may be used, before anything of it but the header and the section
 * table is read. Must check the signature over the manifest and every section's digest. */
typedef pn_status (*pn_verify_fn)(void* user, const void* package, size_t bytes);

typedef struct pn_open_options {
  uint32_t struct_size;
  uint32_t allow_unsigned;   /* 1: open without a verifier; anything else needs `verify` */
  pn_verify_fn verify;
  void* verify_user;
} pn_open_options;

/* The bytes stay the caller's, must be 64-byte aligned and must not change or go away before pn_model_close. */
PN_API pn_status pn_model_open(const void* package, size_t bytes, const pn_open_options* options, pn_model** out);
/* Reads the file once into memory of its own. */
PN_API pn_status pn_model_open_file(const char* path, const pn_open_options* options, pn_model** out);
PN_API void pn_model_close(pn_model* model);     /* contexts keep what they need alive */

PN_API uint32_t pn_model_input_count(const pn_model* model);
PN_API uint32_t pn_model_output_count(const pn_model* model);
/* Name lives as long as the model. A dim that is bound at run time is -1 here. */
PN_API pn_status pn_model_input(const pn_model* model, uint32_t i, const char** name, pn_tensor* out);
PN_API pn_status pn_model_output(const pn_model* model, uint32_t i, const char** name, pn_tensor* out);
/* Values that a context keeps from run to run; they are no inputs or outputs of the model. */
PN_API uint32_t pn_model_state_count(const pn_model* model);
PN_API pn_status pn_model_manifest(const pn_model* model, const char** json, size_t* bytes);

/* ---- Contexts ---------------------------------------------------------------------------------- */

typedef void (*pn_parallel_body)(void* user, int64_t task, int thread);
typedef void (*pn_parallel_for)(void* impl, int64_t n, pn_parallel_body body, void* user);

typedef struct pn_context_options {
  uint32_t struct_size;
  int32_t threads;           /* 0: as many as the process may use */
  pn_parallel_for parallel_for; /* NULL: the process-wide pool */
  void* parallel_user;
} pn_context_options;

PN_API pn_status pn_context_create(pn_model* model, const pn_context_options* options, pn_context** out);
PN_API void pn_context_destroy(pn_context* context);

/* Binds the caller's dense row-major buffer; no copy. dtype and shape must be the model's. */
PN_API pn_status pn_context_bind_input(pn_context* context, uint32_t i, const pn_tensor* tensor);
PN_API pn_status pn_context_bind_output(pn_context* context, uint32_t i, const pn_tensor* tensor);
/* Shape of output i for the inputs bound now (data is NULL, bytes is what the buffer needs). PN_NEEDS_VALUE if it
 * depends on data or control flow: run with the output unbound, then ask pn_context_output. A buffer may be bound
 * to such an output all the same; the run fails if its result has another shape. */
PN_API pn_status pn_context_output_shape(pn_context* context, uint32_t i, pn_tensor* out);
PN_API pn_status pn_context_run(pn_context* context);
/* State begins at zero when a context is made; this makes it begin there again with the next run. */
PN_API pn_status pn_context_reset(pn_context* context);
/* A model with control flow may run for ever. `interrupt` is asked about every 20 ms, between iterations and between
 * nodes whose shapes depend on data, on the thread that runs; anything but 0 ends the run with PN_INTERRUPTED. The
 * context can run again. NULL: never asked. */
PN_API pn_status pn_context_set_interrupt(pn_context* context, int (*interrupt)(void* user), void* user);
/* Output i of the last run: the caller's buffer, or, for a dynamic model's output that is not bound, memory of
 * the context that is valid until its next run. */
PN_API pn_status pn_context_output(pn_context* context, uint32_t i, pn_tensor* out);

typedef struct pn_context_memory {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t arena_bytes, state_bytes, scratch_bytes, overhead_bytes;
} pn_context_memory;
PN_API pn_status pn_context_get_memory(const pn_context* context, pn_context_memory* out);

/* Per-node times of the last profiled run. */
typedef struct pn_profile_entry {
  uint32_t struct_size;
  uint32_t node;
  const char* name;
  const char* op;
  const char* kernel;        /* "" = reference */
  uint64_t start_ns, duration_ns;
  uint64_t bytes_read, bytes_written;   /* of its operands, each counted once */
  uint64_t flops;            /* multiply-adds twice; 0 for operators that are not made of them */
} pn_profile_entry;
PN_API pn_status pn_context_run_profiled(pn_context* context);
PN_API uint32_t pn_context_profile_count(const pn_context* context);
PN_API pn_status pn_context_profile_entry(const pn_context* context, uint32_t i, pn_profile_entry* out);

/* ---- Services for the compiler ----------------------------------------------------------------- */

typedef struct pn_target {
  uint32_t struct_size;
  uint32_t tier;             /* 0 portable, 1 avx2, 2 avx512, 3 amx */
  int32_t cores;
  int32_t foreign;           /* not 0: another architecture than this library's, to compile for and not to run */
  int64_t l1_bytes, l2_bytes, l3_bytes;
} pn_target;
PN_API void pn_host_target(pn_target* out);

/* A node to ask about: inputs with data != NULL have known values; an absent input is a NULL pointer. */
typedef struct pn_node {
  uint32_t struct_size;
  const char* op;
  const void* attrs;         /* attribute block, 8-byte aligned; NULL if none */
  uint64_t attrs_bytes;
  const pn_tensor* const* inputs;
  uint32_t input_count;
  uint32_t output_count;
  pn_tensor* outputs;        /* filled by pn_op_infer; read by the others */
} pn_node;

typedef struct pn_op_info {
  uint32_t struct_size;
  uint32_t flags;            /* 1 in place of input 0, 2 of input 1, 4 view of input 0, 8 random */
  int32_t min_inputs, max_inputs, min_outputs, max_outputs;
} pn_op_info;
PN_API uint32_t pn_op_count(void);
PN_API const char* pn_op_name(uint32_t i);
PN_API pn_status pn_op_get_info(const char* op, pn_op_info* out);
PN_API pn_status pn_op_infer(pn_node* node);           /* sets outputs' dtype and dims; PN_NEEDS_VALUE if unknown */
PN_API pn_status pn_op_scratch(const pn_node* node, uint64_t* bytes);   /* of the reference kernel */
PN_API pn_status pn_op_eval(pn_node* node);            /* reference kernel, outputs' data given; may allocate */

typedef struct pn_kernel_info {
  uint32_t struct_size;
  uint8_t tier, layout_in, layout_out;
  uint8_t absorbed_inputs;   /* bit i: the packed operand has taken in operand i; a plan stores no bytes of it */
  const char* name;
  int32_t packed_input;      /* -1: none */
  float cost_us;
  uint64_t packed_bytes, scratch_bytes, thread_scratch_bytes;
} pn_kernel_info;
/* Kernels that accept the node for the target, cheapest first. *count is room in, found out. */
PN_API pn_status pn_kernel_list(const pn_node* node, const pn_target* target, pn_kernel_info* out, uint32_t* count);
/* A constant operand as the kernel wants it; `bytes` must be the kernel's packed_bytes. */
PN_API pn_status pn_kernel_pack(const pn_node* node, const char* kernel, const pn_target* target, void* packed,
                                uint64_t bytes);
/* Runs the node once with a kernel (NULL: reference), operands in that kernel's layouts: tests and tuning. */
PN_API pn_status pn_kernel_eval(pn_node* node, const char* kernel, const pn_target* target, int32_t threads,
                                uint32_t repeats, uint64_t* best_ns);

/* Memory plan: see csrc/planner/planner.h. pn_plan_memory has its result checked before it returns. */
typedef struct pn_plan_buffer {
  int64_t bytes;
  int32_t alias_of;          /* buffer index, -1 = none */
  int32_t fixed;             /* 1: not in the arena (constant, caller's buffer, state) */
  int64_t alias_offset;
  int64_t offset;            /* out: offset in the arena */
} pn_plan_buffer;
typedef struct pn_plan_node {
  const int32_t* inputs;     /* buffer indices; -1 = absent */
  const int32_t* outputs;
  int32_t input_count, output_count;
  int32_t scratch;           /* buffer index or -1 */
  uint32_t in_place;         /* bit i: output 0 may take input i's memory if that dies here and has its size */
} pn_plan_node;
PN_API pn_status pn_plan_memory(pn_plan_buffer* buffers, uint32_t buffer_count, const pn_plan_node* nodes,
                                uint32_t node_count, const int32_t* keep, uint32_t keep_count, uint64_t* arena_bytes,
                                uint64_t* lower_bound);
/* PN_INVALID_PACKAGE with a sentence if running the nodes with these offsets would read or overwrite what it must
 * not. Shares no code with the planner. */
PN_API pn_status pn_plan_check(const pn_plan_buffer* buffers, uint32_t buffer_count, const pn_plan_node* nodes,
                               uint32_t node_count, const int32_t* keep, uint32_t keep_count, uint64_t arena_bytes);

#ifdef __cplusplus
}
#endif
#endif
