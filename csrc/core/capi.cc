// SPDX-License-Identifier: Apache-2.0
//
// The C interface of models and contexts. Every argument is checked; nothing throws.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "core/abi.h"
#include "core/context.h"
#include "core/model.h"

namespace pyneo {
namespace {

Model* model_of(pn_model* m) { return reinterpret_cast<Model*>(m); }
const Model* model_of(const pn_model* m) { return reinterpret_cast<const Model*>(m); }
Context* context_of(pn_context* c) { return reinterpret_cast<Context*>(c); }
const Context* context_of(const pn_context* c) { return reinterpret_cast<const Context*>(c); }

// State is the context's: callers see the other inputs and outputs, which come first.
int32_t public_inputs(const Model& m) { return m.input_count() - m.state_count(); }
int32_t public_outputs(const Model& m) { return m.output_count() - m.state_count(); }

constexpr int64_t kMaxFileBytes = int64_t{1} << 40;

Status read_file(const char* path, void** data, size_t* bytes) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer. What is not a regular file is refused below.
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(Status::kIo, "cannot open '%s': %s", path, strerror(errno));
  struct stat info;
  Status s = Status::kOk;
  if (fstat(fd, &info) != 0) {
    s = fail(Status::kIo, "cannot read '%s': %s", path, strerror(errno));
  } else if (!S_ISREG(info.st_mode)) {
    s = fail(Status::kIo, "'%s' is not a regular file", path);
  } else if (info.st_size > kMaxFileBytes) {
    s = fail(Status::kInvalidPackage, "'%s' has %lld bytes: too large for a package", path, static_cast<long long>(info.st_size));
  }
  // The header says how long the file is: a sparse file of another length is refused before memory is taken.
  format::FileHeader h;
  if (s == Status::kOk) {
    const ssize_t n = pread(fd, &h, sizeof(h), 0);
    if (n != static_cast<ssize_t>(sizeof(h)) || memcmp(h.magic, format::kMagic, sizeof(h.magic)) != 0) {
      s = fail(Status::kInvalidPackage, "'%s' is not a .neo file", path);
    } else if (h.file_bytes != static_cast<uint64_t>(info.st_size)) {
      s = fail(Status::kInvalidPackage, "'%s' has %lld bytes, its header says %llu: it is truncated or has trailing bytes",
               path, static_cast<long long>(info.st_size), static_cast<unsigned long long>(h.file_bytes));
    }
  }
  uint8_t* block = nullptr;
  const size_t size = s == Status::kOk ? static_cast<size_t>(info.st_size) : 0;
  if (s == Status::kOk) {
    block = static_cast<uint8_t*>(allocate_block(size));
    if (block == nullptr) s = fail(Status::kOutOfMemory, "out of memory: %zu bytes for '%s'", size, path);
    if (block != nullptr) populate_block(block, size);
  }
  for (size_t at = 0; s == Status::kOk && at < size;) {
    const ssize_t n = pread(fd, block + at, size - at, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      s = fail(Status::kIo, "cannot read '%s': %s", path, n < 0 ? strerror(errno) : "it became shorter while it was read");
    } else {
      at += static_cast<size_t>(n);
    }
  }
  close(fd);
  if (s != Status::kOk) {
    free_block(block, size);
    return s;
  }
  *data = block;
  *bytes = size;
  return Status::kOk;
}

Status open_model(const void* package, size_t bytes, const pn_open_options* options, void* owned, pn_model** out) {
  Model* model = nullptr;
  PN_TRY(Model::open(package, bytes, options->allow_unsigned == 1, options->verify, options->verify_user, owned, &model));
  *out = reinterpret_cast<pn_model*>(model);
  return Status::kOk;
}

Status check_open(const pn_open_options* options, pn_model** out) {
  if (out == nullptr) return fail(Status::kInvalidArgument, "pn_model_open: out is NULL");
  *out = nullptr;
  return check_struct(options, "pn_open_options");
}

pn_status describe(const Model& m, int32_t tensor, const char** name, pn_tensor* out) {
  const ModelTensor& t = m.tensor(tensor);
  if (name != nullptr) *name = t.name;
  if (out != nullptr) {
    if (const Status s = check_struct(out, "pn_tensor"); s != Status::kOk) return to_c(s);
    from_desc(t.desc, out);
    for (int k = 0; k < t.desc.shape.rank; ++k) {
      if (out->dims[k] < 0) out->dims[k] = -1;
    }
    if (t.open_rank) out->rank = PN_OPEN_RANK;
    out->data = nullptr;
    out->bytes = static_cast<uint64_t>(t.bytes);
  }
  return PN_OK;
}

pn_status no_such(const char* what, uint32_t i, int32_t count) {
  return to_c(fail(Status::kInvalidArgument, "%s %u does not exist: there are %d", what, i, count));
}

}  // namespace
}  // namespace pyneo

using namespace pyneo;  // NOLINT: the C functions below are the end of the file

extern "C" {

pn_status pn_buffer_allocate(size_t bytes, void** out) {
  if (out == nullptr) return to_c(fail(Status::kInvalidArgument, "pn_buffer_allocate: out is NULL"));
  *out = allocate_block(bytes);
  if (*out == nullptr) return to_c(fail(Status::kOutOfMemory, "out of memory: a buffer of %zu bytes", bytes));
  populate_block(*out, bytes);
  return PN_OK;
}

void pn_buffer_free(void* buffer, size_t bytes) { free_block(buffer, bytes); }

pn_status pn_model_open(const void* package, size_t bytes, const pn_open_options* options, pn_model** out) {
  if (const Status s = check_open(options, out); s != Status::kOk) return to_c(s);
  if (package == nullptr) return to_c(fail(Status::kInvalidArgument, "pn_model_open: package is NULL"));
  return to_c(open_model(package, bytes, options, nullptr, out));
}

pn_status pn_model_open_file(const char* path, const pn_open_options* options, pn_model** out) {
  if (const Status s = check_open(options, out); s != Status::kOk) return to_c(s);
  if (path == nullptr) return to_c(fail(Status::kInvalidArgument, "pn_model_open_file: path is NULL"));
  void* data = nullptr;
  size_t bytes = 0;
  if (const Status s = read_file(path, &data, &bytes); s != Status::kOk) return to_c(s);
  return to_c(open_model(data, bytes, options, data, out));
}

void pn_model_close(pn_model* model) {
  if (model != nullptr) model_of(model)->release();
}

uint32_t pn_model_input_count(const pn_model* model) { return static_cast<uint32_t>(public_inputs(*model_of(model))); }
uint32_t pn_model_output_count(const pn_model* model) { return static_cast<uint32_t>(public_outputs(*model_of(model))); }

pn_status pn_model_input(const pn_model* model, uint32_t i, const char** name, pn_tensor* out) {
  const Model& m = *model_of(model);
  if (i >= static_cast<uint32_t>(public_inputs(m))) return no_such("input", i, public_inputs(m));
  return describe(m, m.input(static_cast<int32_t>(i)), name, out);
}

pn_status pn_model_output(const pn_model* model, uint32_t i, const char** name, pn_tensor* out) {
  const Model& m = *model_of(model);
  if (i >= static_cast<uint32_t>(public_outputs(m))) return no_such("output", i, public_outputs(m));
  return describe(m, m.output(static_cast<int32_t>(i)), name, out);
}

uint32_t pn_model_state_count(const pn_model* model) { return static_cast<uint32_t>(model_of(model)->state_count()); }

pn_status pn_model_manifest(const pn_model* model, const char** json, size_t* bytes) {
  const format::Span s = model_of(model)->manifest();
  *json = reinterpret_cast<const char*>(s.data);
  *bytes = s.bytes;
  return PN_OK;
}

pn_status pn_context_create(pn_model* model, const pn_context_options* options, pn_context** out) {
  if (model == nullptr || out == nullptr) return to_c(fail(Status::kInvalidArgument, "pn_context_create: model or out is NULL"));
  *out = nullptr;
  if (const Status s = check_struct(options, "pn_context_options"); s != Status::kOk) return to_c(s);
  const Pool pool = options->parallel_for ? Pool::custom(options->threads > 0 ? options->threads : 1, options->parallel_for, options->parallel_user)
                                          : Pool::shared(options->threads);
  Context* context = nullptr;
  if (const Status s = Context::create(model_of(model), pool, &context); s != Status::kOk) return to_c(s);
  *out = reinterpret_cast<pn_context*>(context);
  return PN_OK;
}

void pn_context_destroy(pn_context* context) {
  if (context != nullptr) context_of(context)->destroy();
}

pn_status pn_context_bind_input(pn_context* context, uint32_t i, const pn_tensor* tensor) {
  if (const Status s = check_struct(tensor, "pn_tensor"); s != Status::kOk) return to_c(s);
  return to_c(context_of(context)->bind_input(i, *tensor));
}

pn_status pn_context_bind_output(pn_context* context, uint32_t i, const pn_tensor* tensor) {
  if (const Status s = check_struct(tensor, "pn_tensor"); s != Status::kOk) return to_c(s);
  return to_c(context_of(context)->bind_output(i, *tensor));
}

pn_status pn_context_output_shape(pn_context* context, uint32_t i, pn_tensor* out) {
  if (const Status s = check_struct(out, "pn_tensor"); s != Status::kOk) return to_c(s);
  return to_c(context_of(context)->output_shape(i, out));
}

pn_status pn_context_output(pn_context* context, uint32_t i, pn_tensor* out) {
  if (const Status s = check_struct(out, "pn_tensor"); s != Status::kOk) return to_c(s);
  return to_c(context_of(context)->output(i, out));
}

pn_status pn_context_run(pn_context* context) { return to_c(context_of(context)->run()); }

pn_status pn_context_reset(pn_context* context) {
  context_of(context)->reset();
  return PN_OK;
}

pn_status pn_context_set_interrupt(pn_context* context, int (*interrupt)(void* user), void* user) {
  context_of(context)->set_interrupt(interrupt, user);
  return PN_OK;
}

pn_status pn_context_get_memory(const pn_context* context, pn_context_memory* out) {
  if (const Status s = check_struct(out, "pn_context_memory"); s != Status::kOk) return to_c(s);
  *out = const_cast<Context*>(context_of(context))->memory();
  return PN_OK;
}

pn_status pn_context_run_profiled(pn_context* context) { return to_c(context_of(context)->run_profiled()); }

uint32_t pn_context_profile_count(const pn_context* context) {
  return static_cast<uint32_t>(context_of(context)->times().size());
}

pn_status pn_context_profile_entry(const pn_context* context, uint32_t i, pn_profile_entry* out) {
  const Context& c = *context_of(context);
  if (i >= static_cast<uint32_t>(c.times().size())) return no_such("profile entry", i, static_cast<int32_t>(c.times().size()));
  if (const Status s = check_struct(out, "pn_profile_entry"); s != Status::kOk) return to_c(s);
  const StepTime& t = c.times()[i];
  const ModelNode& n = c.model().nodes()[t.node];
  *out = pn_profile_entry{sizeof(pn_profile_entry), static_cast<uint32_t>(t.node), n.name, n.op->name, n.kernel ? n.kernel->name : "",
                          t.start_ns, t.duration_ns, t.bytes_read, t.bytes_written, t.flops};
  return PN_OK;
}

}  // extern "C"
