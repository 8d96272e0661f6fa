// SPDX-License-Identifier: Apache-2.0
//
// One node over operands of known shape: what the operator infers, whether its kernel accepts that, and
// how much scratch it takes. Model validation and shape binding both go through here.
#pragma once

#include "core/model.h"

namespace pyneo {

// Operand lists of the widest node of a model, reused from node to node.
struct NodeWorkspace {
  Array<const TensorDesc*> descs;   // inputs, then outputs; nullptr = absent
  Array<const void*> values;        // of inputs, where known
  Array<TensorDesc> inferred;       // of outputs
  const Target* target = nullptr;
  const Model* model = nullptr;

  Status allocate(const Model& model);
};

struct NodeNeeds {
  int64_t scratch_bytes = 0;
  int64_t thread_scratch_bytes = 0;
};

KernelQuery kernel_query(const ModelNode& n, const KernelDef* kernel, const NodeWorkspace& w);

// Runs the operator's shape inference over w.descs and w.values into w.inferred.
Status infer_node(const ModelNode& n, NodeWorkspace& w);

// Error unless a tensor may be what an operator found it to be: the plan's declared dtype, rank and dims,
// where they are not open. `what`: "output 0", for the message.
Status check_declared(const ModelTensor& declared, const TensorDesc& found, const char* what, int32_t k);

// The kernel for operands of this shape: the plan's where it takes them; else, unless it alone can read its
// packed weights, the cheapest that does, at last the reference (nullptr).
Status pick_kernel(const Model& model, const ModelNode& n, const NodeWorkspace& w, const KernelDef** kernel,
                   NodeNeeds* needs);

// Checks that `kernel` (nullptr: reference) can run the node with the operands' descs and layouts, and that
// packed constants have the size it reads. `packed_bytes`: stored bytes of the packed operand.
Status check_kernel(const ModelNode& n, const KernelDef* kernel, const NodeWorkspace& w, int64_t packed_bytes,
                    NodeNeeds* needs);

// The node's operands, inputs first, as its kernel takes them; what it runs with (scratch, threads) is left to set.
inline void set_operands(const ModelNode& n, Tensor* const* operands, RunContext* run) {
  run->op = n.op->name;
  run->attrs = n.attrs;
  run->n_in = n.n_in;
  run->n_out = n.n_out;
  run->in = operands;
  run->out = operands + n.n_in;
}

}  // namespace pyneo
