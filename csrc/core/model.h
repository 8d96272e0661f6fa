// SPDX-License-Identifier: Apache-2.0
//
// A model: a verified package whose plan was checked record by record. Immutable and shared; the
// package's bytes stay where they are and are read in place.
#pragma once

#include <atomic>

#include "core/memory.h"
#include "core/tensor.h"
#include "format/plan.h"
#include "kernels/kernel.h"
#include "ops/op.h"
#include "pyneo/pyneo.h"

namespace pyneo {

struct ModelTensor {
  TensorDesc desc;           // of a dynamic plan: negative dims are open, and so is dtype kNone
  bool open_rank;
  format::Storage storage;   // never alias: aliases are resolved to their root's storage
  int32_t root;              // the tensor that owns the memory; its own index if it does
  int64_t offset;            // in the root's memory
  int64_t bytes;
  const char* name;
};

enum class Control : uint8_t { kNone, kIf, kLoop, kScan };

struct ModelNode {
  const OpDef* op;
  const KernelDef* kernel;   // nullptr: reference
  Attrs attrs;
  const int32_t* inputs;     // tensor indices, -1 = absent
  const int32_t* outputs;
  int32_t n_in, n_out;
  int32_t scratch;           // tensor index or -1
  int32_t subgraph, subgraphs;  // first graph of a control-flow node, and how many
  Control control;
  const char* name;
};

struct ModelGraph {
  int32_t begin, end;        // its nodes
  const int32_t* inputs;     // tensor indices, never -1
  const int32_t* outputs;
  int32_t n_in, n_out;
  int32_t parent, owner;     // the graph and the node it belongs to; -1 for the model's own
  int32_t depth;
};

class Model {
 public:
  // Reads header and section table, asks `verify`, then checks the plan. The bytes must outlive the model;
  // `owned` (may be empty) is freed with it.
  static Status open(const void* package, size_t bytes, bool allow_unsigned, pn_verify_fn verify, void* user,
                     void* owned, Model** out);
  void retain() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release();

  const format::PlanView& plan() const { return plan_; }
  // Whether shapes are bound at run time. Unknown dims of tensors are negative then.
  bool dynamic() const { return (plan_.header().flags & format::kPlanDynamic) != 0; }
  // Whether a shape fits a dynamic model's input: rank, fixed dims, bounds of symbols.
  bool input_fits(int32_t input, const Shape& shape) const;
  // Writes an input's shape with its symbols and their bounds, "[N<=8, 3, H, W]".
  const char* format_input_shape(int32_t input, char* out, size_t n) const;
  format::Span manifest() const { return package_.manifest; }
  // This machine at the plan's tier: a plan for AVX2 keeps its blocks of 8 on an AVX-512 machine.
  const Target& target() const { return target_; }
  const Array<ModelTensor>& tensors() const { return tensors_; }
  const Array<ModelNode>& nodes() const { return nodes_; }
  const ModelTensor& tensor(int64_t i) const { return tensors_[i]; }
  const Array<ModelGraph>& graphs() const { return graphs_; }
  // Of a dynamic plan: the last node of the tensor's own graph that needs it (a control-flow node for what its
  // subgraphs read); the end of that graph's nodes if it is one of the graph's outputs.
  int32_t last_use(int32_t tensor) const { return last_use_[tensor]; }
  int32_t input_count() const { return static_cast<int32_t>(plan_.graph(0).input_count); }
  int32_t output_count() const { return static_cast<int32_t>(plan_.graph(0).output_count); }
  // Inputs that take the value of an output of the run before: the last ones, and the last outputs, pair by pair.
  int32_t state_count() const { return states_; }
  int32_t input(int32_t i) const { return plan_.operands(plan_.graph(0).input_begin)[i]; }    // tensor index
  int32_t output(int32_t i) const { return plan_.operands(plan_.graph(0).output_begin)[i]; }
  int64_t arena_bytes() const { return static_cast<int64_t>(plan_.header().arena_bytes); }
  int64_t weights_bytes() const { return static_cast<int64_t>(package_.weights.bytes); }
  const uint8_t* weights() const { return package_.weights.data; }
  int64_t overhead_bytes() const;

 private:
  Model() = default;
  ~Model() = default;
  Status load();                       // model.cc: tensors and nodes from records
  Status check_tensors();              // validate.cc
  Status check_open_tensor(int64_t i) const;
  Status check_tensor(int64_t i) const;
  Status check_constants() const;
  Status resolve_views();
  Status check_ends() const;
  Status check_open_node(const ModelNode& n) const;
  Status check_states();
  Status check_graphs();               // validate_graphs.cc
  Status check_owners();
  Status find_homes();
  Status check_control(const ModelNode& n) const;
  Status check_reads(int32_t graph, int32_t node);
  Status check_nodes();
  Status check_packed(const ModelNode& n) const;
  Status check_node(int32_t i, struct NodeWorkspace& w);
  Status check_memory();

  std::atomic<int32_t> refs_{1};
  format::PackageView package_;
  format::PlanView plan_;
  Target target_;
  Array<ModelTensor> tensors_;
  Array<ModelNode> nodes_;
  Array<ModelGraph> graphs_;
  Array<int32_t> home_;                // dynamic: 1 + graph that a tensor belongs to, 0 = none (constants, unused)
  Array<int32_t> written_at_;          // dynamic: the node that writes it, -1 for inputs
  Array<int32_t> last_use_;
  int32_t states_ = 0;
  void* owned_ = nullptr;
  size_t owned_bytes_ = 0;
};

}  // namespace pyneo
