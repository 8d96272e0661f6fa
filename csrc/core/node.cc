// SPDX-License-Identifier: Apache-2.0
#include "core/node.h"

namespace pyneo {

Status NodeWorkspace::allocate(const Model& model) {
  target = &model.target();
  this->model = &model;
  int64_t widest = 0, outputs = 0;
  for (int64_t i = 0; i < model.nodes().size(); ++i) {
    const ModelNode& n = model.nodes()[i];
    widest = n.n_in + n.n_out > widest ? n.n_in + n.n_out : widest;
    outputs = n.n_out > outputs ? n.n_out : outputs;
  }
  PN_TRY(descs.allocate(widest));
  PN_TRY(values.allocate(widest));
  return inferred.allocate(outputs);
}

KernelQuery kernel_query(const ModelNode& n, const KernelDef* kernel, const NodeWorkspace& w) {
  KernelQuery q;
  q.kernel = kernel;
  q.attrs = n.attrs;
  q.n_in = n.n_in;
  q.n_out = n.n_out;
  q.in = w.descs.data();
  q.out = w.descs.data() + n.n_in;
  q.values = w.values.data();
  q.target = w.target;
  const int p = kernel ? kernel->packed_input : -1;
  if (p >= 0 && p < n.n_in && n.inputs[p] >= 0) {
    const ModelTensor& t = w.model->tensor(n.inputs[p]);
    if (t.storage == format::kStorageConst && t.root == n.inputs[p]) q.packed = w.model->weights() + t.offset;
  }
  return q;
}

static InferContext infer_context(const ModelNode& n, const NodeWorkspace& w) {
  InferContext c;
  c.op = n.op->name;
  c.attrs = n.attrs;
  c.n_in = n.n_in;
  c.n_out = n.n_out;
  c.in = w.descs.data();
  c.values = w.values.data();
  c.out = w.inferred.data();
  return c;
}

Status infer_node(const ModelNode& n, NodeWorkspace& w) {
  for (int32_t o = 0; o < n.n_out; ++o) w.inferred[o] = TensorDesc{};
  InferContext c = infer_context(n, w);
  return infer_op(*n.op, c);
}

Status check_declared(const ModelTensor& declared, const TensorDesc& found, const char* what, int32_t k) {
  const TensorDesc& d = declared.desc;
  bool fits = found.dtype != DType::kNone && (d.dtype == DType::kNone || d.dtype == found.dtype);
  fits = fits && (declared.open_rank || d.shape.rank == found.shape.rank);
  for (int i = 0; fits && i < d.shape.rank; ++i) fits = d.shape[i] < 0 || d.shape[i] == found.shape[i];
  if (fits) return Status::kOk;
  char a[160], b[160];
  return fail(Status::kInvalidModel, "%s %d is %s %s for these inputs, the plan was made for %s %s", what, k,
              dtype_name(found.dtype), format_shape(found.shape, a, sizeof(a)), dtype_name(d.dtype),
              declared.open_rank ? "of any rank" : format_shape(d.shape, b, sizeof(b)));
}

Status pick_kernel(const Model& model, const ModelNode& n, const NodeWorkspace& w, const KernelDef** kernel,
                   NodeNeeds* needs) {
  const KernelQuery q = kernel_query(n, n.kernel, w);
  const int p = n.kernel ? n.kernel->packed_input : -1;
  *kernel = n.kernel;
  if (n.kernel == nullptr || !n.kernel->code->accepts(q)) {
    *kernel = nullptr;
    if (p >= 0) {
      return fail(Status::kUnsupported, "kernel '%s' does not take these shapes: compile the model with bounds that cover them",
                  n.kernel->name);
    }
    const KernelDef* found[8];
    const int count = list_kernels(n.op->name, q, found, 8);
    for (int k = 0; k < count && *kernel == nullptr; ++k) {
      if (found[k]->packed_input < 0) *kernel = found[k];
    }
  }
  const bool packed = p >= 0 && p < n.n_in && n.inputs[p] >= 0;
  return check_kernel(n, *kernel, w, packed ? model.tensor(n.inputs[p]).bytes : 0, needs);
}

Status check_kernel(const ModelNode& n, const KernelDef* kernel, const NodeWorkspace& w, int64_t packed_bytes,
                    NodeNeeds* needs) {
  *needs = NodeNeeds{};
  const int32_t total = n.n_in + n.n_out;
  if (kernel == nullptr) {
    for (int32_t k = 0; k < total; ++k) {
      if (w.descs[k] != nullptr && w.descs[k]->layout != Layout::kPlain) {
        return fail(Status::kInvalidPackage, "the reference kernel takes plain layouts only");
      }
    }
    if (n.op->scratch != nullptr) needs->scratch_bytes = n.op->scratch(infer_context(n, w));
    return Status::kOk;
  }
  const KernelQuery q = kernel_query(n, kernel, w);
  if (!kernel->code->accepts(q)) return fail(Status::kInvalidPackage, "kernel '%s' does not accept its operands", kernel->name);
  const int p = kernel->packed_input;
  for (int32_t k = 0; k < total; ++k) {
    if (w.descs[k] != nullptr && (w.descs[k]->layout == Layout::kPacked) != (k < n.n_in && kernel->takes_packed(k))) {
      return fail(Status::kInvalidPackage, "operand %d is packed where kernel '%s' expects it plain, or the reverse", k,
                  kernel->name);
    }
  }
  if (p >= 0 && (!q.has(p) || (kernel->code->check == nullptr && packed_bytes != kernel->code->packed_bytes(q)))) {
    return fail(Status::kInvalidPackage, "the packed weights do not have the size kernel '%s' needs", kernel->name);
  }
  if (kernel->code->scratch_bytes != nullptr) needs->scratch_bytes = kernel->code->scratch_bytes(q);
  if (kernel->code->thread_scratch_bytes != nullptr) needs->thread_scratch_bytes = kernel->code->thread_scratch_bytes(q);
  return Status::kOk;
}

}  // namespace pyneo
