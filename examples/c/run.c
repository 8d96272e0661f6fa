/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a package on zeros, or on raw float32 files, and prints the start of each output.
 *
 *   cc run.c $(pkg-config --cflags --libs pyneo) -o run
 *   ./run model.neo [input0.raw ...]
 *
 * This example trusts the file's origin (allow_unsigned). A product passes pn_open_options.verify, which
 * checks the package's signature before anything else of it is read.
 */
#include <pyneo/pyneo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, pn_last_error());
  return 1;
}

static int read_raw(const char* path, void* data, size_t bytes) {
  FILE* f = fopen(path, "rb");
  if (f == NULL) return 0;
  const size_t n = fread(data, 1, bytes, f);
  fclose(f);
  return n == bytes;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s model.neo [input.raw ...]\n", argv[0]);
    return 2;
  }
  pn_open_options open_options = {sizeof(open_options), 1, NULL, NULL};
  pn_model* model = NULL;
  if (pn_model_open_file(argv[1], &open_options, &model) != PN_OK) return failed("open");

  pn_context_options options = {sizeof(options), 1, NULL, NULL};
  pn_context* context = NULL;
  if (pn_context_create(model, &options, &context) != PN_OK) return failed("context");

  const uint32_t inputs = pn_model_input_count(model), outputs = pn_model_output_count(model);
  void** buffers = calloc(inputs + outputs, sizeof(void*));
  int status = buffers == NULL;
  for (uint32_t i = 0; i < inputs && status == 0; ++i) {
    const char* name = NULL;
    pn_tensor tensor = {.struct_size = sizeof(tensor)};
    if (pn_model_input(model, i, &name, &tensor) != PN_OK) status = failed("input");
    tensor.data = buffers[i] = calloc(1, tensor.bytes ? tensor.bytes : 1);
    if (argc > (int)i + 2 && !read_raw(argv[i + 2], tensor.data, tensor.bytes)) {
      fprintf(stderr, "%s: expected %llu bytes for input '%s'\n", argv[i + 2], (unsigned long long)tensor.bytes, name);
      status = 1;
    }
    if (status == 0 && pn_context_bind_input(context, i, &tensor) != PN_OK) status = failed("bind input");
  }
  for (uint32_t o = 0; o < outputs && status == 0; ++o) {
    pn_tensor tensor = {.struct_size = sizeof(tensor)};
    if (pn_context_output_shape(context, o, &tensor) != PN_OK) status = failed("output");
    tensor.data = buffers[inputs + o] = calloc(1, tensor.bytes ? tensor.bytes : 1);
    if (status == 0 && pn_context_bind_output(context, o, &tensor) != PN_OK) status = failed("bind output");
  }
  if (status == 0 && pn_context_run(context) != PN_OK) status = failed("run");

  for (uint32_t o = 0; o < outputs && status == 0; ++o) {
    const char* name = NULL;
    pn_tensor tensor = {.struct_size = sizeof(tensor)};
    if (pn_model_output(model, o, &name, &tensor) != PN_OK) status = failed("output");
    printf("%s", name);
    const float* y = buffers[inputs + o];
    for (uint64_t k = 0; tensor.dtype == 1 && k < tensor.bytes / sizeof(float) && k < 10; ++k) printf(" %.6g", y[k]);
    printf("\n");
  }
  for (uint32_t i = 0; buffers != NULL && i < inputs + outputs; ++i) free(buffers[i]);
  free(buffers);
  pn_context_destroy(context);
  pn_model_close(model);
  return status;
}
