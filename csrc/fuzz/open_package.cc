// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer target: opens a package as if its signature were good, and runs it if it opens.
//
// The verifier here accepts everything and the mutator repairs header and section table after each change,
// which is what a hostile signer could do: the fuzzer spends its time behind the signature, in the plan.
// Built with -DPYNEO_FUZZ=ON under clang; .ci/run gives it a minute.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "format/layout.h"
#include "pyneo/pyneo.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using pyneo::format::FileHeader;
using pyneo::format::SectionRecord;

// Runs larger than this teach nothing and take long.
constexpr uint64_t kMaxBytes = uint64_t{8} << 20;

pn_status accept(void*, const void*, size_t) { return PN_OK; }

// A loop that does not end is ended when it is asked for the tenth time, after about 200 ms.
int enough(void* asked) { return ++*static_cast<int*>(asked) >= 10; }

void run(pn_model* model) {
  pn_context_options options{sizeof(pn_context_options), 1, nullptr, nullptr};
  pn_context* context = nullptr;
  if (pn_context_create(model, &options, &context) != PN_OK) return;
  const uint32_t inputs = pn_model_input_count(model), outputs = pn_model_output_count(model);
  int asked = 0;
  (void)pn_context_set_interrupt(context, enough, &asked);
  void* buffers[16] = {};
  uint64_t total = 0;
  bool ready = inputs + outputs <= 16;
  for (uint32_t i = 0; ready && i < inputs + outputs; ++i) {
    const bool is_input = i < inputs;
    pn_tensor t{};
    t.struct_size = sizeof(t);
    if (is_input) {
      ready = pn_model_input(model, i, nullptr, &t) == PN_OK;
      uint64_t bytes = 8;  // a generous element
      for (int k = 0; k < t.rank; ++k) {
        if (t.dims[k] < 0) t.dims[k] = 2;
        ready = ready && t.dims[k] <= 4096;
        bytes *= static_cast<uint64_t>(ready ? t.dims[k] : 1);
      }
      t.bytes = bytes;
    } else {
      const pn_status found = pn_context_output_shape(context, i - inputs, &t);
      if (found == PN_NEEDS_VALUE) continue;  // it is the context's
      ready = found == PN_OK;
    }
    total += t.bytes;
    if (!ready || t.bytes > kMaxBytes || total > kMaxBytes) {
      ready = false;
      break;
    }
    t.data = buffers[i] = calloc(1, t.bytes + 1);
    ready = (is_input ? pn_context_bind_input(context, i, &t) : pn_context_bind_output(context, i - inputs, &t)) == PN_OK;
  }
  pn_context_memory memory{};
  memory.struct_size = sizeof(memory);
  if (ready && pn_context_get_memory(context, &memory) == PN_OK && memory.arena_bytes < kMaxBytes) {
    (void)pn_context_run(context);
  }
  for (void* b : buffers) free(b);
  pn_context_destroy(context);
}

// Makes header and section table agree with the file again.
void repair(uint8_t* data, size_t size) {
  if (size < sizeof(FileHeader)) return;
  FileHeader h;
  memcpy(&h, data, sizeof(h));
  memcpy(h.magic, pyneo::format::kMagic, sizeof(h.magic));
  h.version = pyneo::format::kFormatVersion;
  h.header_bytes = sizeof(FileHeader);
  h.file_bytes = size;
  memset(h.reserved, 0, sizeof(h.reserved));
  h.reserved0 = 0;
  memcpy(data, &h, sizeof(h));
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  SectionRecord plan;
  if (size >= sizeof(FileHeader) + 2 * sizeof(SectionRecord) && seed % 8 != 0) {
    // The plan is the second section of every package the compiler writes.
    memcpy(&plan, data + sizeof(FileHeader) + sizeof(SectionRecord), sizeof(plan));
    if (plan.offset < size && plan.bytes <= size - plan.offset && plan.bytes > 0) {
      // In place: sizes of sections stay, so that the container stays sound.
      const size_t window = plan.bytes;
      LLVMFuzzerMutate(data + plan.offset, window, window);
      repair(data, size);
      return size;
    }
  }
  size = LLVMFuzzerMutate(data, size, max_size);
  repair(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  void* copy = nullptr;
  if (pn_buffer_allocate(size, &copy) != PN_OK) return 0;
  memcpy(copy, data, size);
  pn_open_options options{sizeof(pn_open_options), 0, accept, nullptr};
  pn_model* model = nullptr;
  if (pn_model_open(copy, size, &options, &model) == PN_OK) {
    run(model);
    pn_model_close(model);
  }
  pn_buffer_free(copy, size);
  return 0;
}
