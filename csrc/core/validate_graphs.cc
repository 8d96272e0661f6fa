// SPDX-License-Identifier: Apache-2.0
//
// What makes the graphs of a plan safe to run: each belongs to one control-flow node of an outer graph, each
// tensor to one graph, and nothing is read that is not there yet. The file may say anything.
#include "core/model.h"

namespace pyneo {
namespace {

using format::kStorageArena;
using format::kStorageConst;
using format::kStorageInput;
using format::kStorageOutput;

Status bad_graph(const char* what, int32_t graph) {
  return fail(Status::kInvalidPackage, "plan: graph %d %s", graph, what);
}

}  // namespace

// Graphs are a tree over the nodes: ranges without gaps, one owner each, an owner's graph before its subgraphs.
Status Model::check_owners() {
  int32_t next = 0;
  for (int32_t g = 0; g < graphs_.size(); ++g) {
    ModelGraph& graph = graphs_[g];
    if (graph.begin != next || graph.end > nodes_.size()) return bad_graph("does not begin where the one before it ends", g);
    next = graph.end;
    if (g > 0 && graph.owner < 0) return bad_graph("belongs to no node of a graph before it", g);
    for (int32_t i = graph.begin; i < graph.end; ++i) {
      const ModelNode& n = nodes_[i];
      const int32_t wanted = n.control == Control::kNone ? 0 : n.control == Control::kIf ? 2 : 1;
      if (n.subgraphs != wanted) {
        return fail(Status::kInvalidPackage, "plan: node '%s' (%s) has %d subgraphs, expected %d", n.name, n.op->name,
                    n.subgraphs, wanted);
      }
      for (int32_t s = n.subgraph; s < n.subgraph + n.subgraphs; ++s) {
        ModelGraph& inner = graphs_[s];
        if (s <= g || inner.owner >= 0) return bad_graph("belongs to two nodes, or to one of its own or of a later graph", s);
        inner.owner = i;
        inner.parent = g;
        inner.depth = graph.depth + 1;
        if (inner.depth > format::kMaxGraphDepth) {
          return fail(Status::kInvalidPackage, "plan: graph %d is nested more than %d deep", s, format::kMaxGraphDepth);
        }
      }
    }
  }
  if (next != nodes_.size()) return fail(Status::kInvalidPackage, "plan: there are nodes that belong to no graph");
  return Status::kOk;
}

// Which graph each tensor belongs to, and the node that writes it.
Status Model::find_homes() {
  for (int32_t g = 0; g < graphs_.size(); ++g) {
    const ModelGraph& graph = graphs_[g];
    for (int32_t k = 0; k < graph.n_in; ++k) {
      const int32_t t = graph.inputs[k];
      if (t < 0 || (g > 0 && tensors_[t].storage != kStorageArena)) return bad_graph("has an input that is no tensor of its own", g);
      if (home_[t] != 0) return bad_graph("has an input that is there already", g);
      home_[t] = 1 + g;
      written_at_[t] = -1;
    }
  }
  for (int32_t g = 0; g < graphs_.size(); ++g) {
    for (int32_t i = graphs_[g].begin; i < graphs_[g].end; ++i) {
      const ModelNode& n = nodes_[i];
      for (int32_t k = 0; k < n.n_out; ++k) {
        const int32_t t = n.outputs[k];
        if (t < 0) continue;
        const ModelTensor& y = tensors_[t];
        if (y.storage == kStorageConst || y.storage == kStorageInput || home_[t] != 0 || (y.storage == kStorageOutput && g > 0)) {
          const char* why = y.storage == kStorageConst || y.storage == kStorageInput ? "which is constant or an input"
                            : home_[t] != 0                                          ? "a second time"
                                                                                     : "which is the model's, in a subgraph";
          return fail(Status::kInvalidPackage, "node '%s' (%s): it writes '%s' %s", n.name, n.op->name, y.name, why);
        }
        home_[t] = 1 + g;
        written_at_[t] = i;
      }
    }
  }
  return Status::kOk;
}

// Every read of a node is of something that is there by then. Notes who needs it last.
Status Model::check_reads(int32_t graph, int32_t node) {
  const ModelNode& n = nodes_[node];
  for (int32_t k = 0; k < n.n_in; ++k) {
    const int32_t t = n.inputs[k];
    if (t < 0 || tensors_[t].storage == kStorageConst) continue;
    // From the node outwards until the tensor's graph is met: `at` is the node there that contains the read.
    int32_t g = graph, at = node;
    while (g > 0 && home_[t] != 1 + g) {
      at = graphs_[g].owner;
      g = graphs_[g].parent;
    }
    if (home_[t] != 1 + g || written_at_[t] >= at) {
      return fail(Status::kInvalidPackage, "node '%s' (%s): it reads '%s' before any node has written it", n.name, n.op->name,
                  tensors_[t].name);
    }
    if (last_use_[t] < at) last_use_[t] = at;
  }
  return Status::kOk;
}

// Operands of a control-flow node against those of its graphs.
Status Model::check_control(const ModelNode& n) const {
  const ModelGraph& body = graphs_[n.subgraph];
  auto is = [&](int32_t t, DType dtype) {
    return t < 0 || tensors_[t].desc.dtype == dtype || tensors_[t].desc.dtype == DType::kNone;
  };
  bool fits = true, typed = true;
  if (n.control == Control::kIf) {
    const ModelGraph& other = graphs_[n.subgraph + 1];
    fits = n.inputs[0] >= 0 && body.n_in == 0 && other.n_in == 0 && body.n_out == n.n_out && other.n_out == n.n_out;
    typed = fits && is(n.inputs[0], DType::kBool);
  } else if (n.control == Control::kLoop) {
    fits = n.n_in >= 2 && body.n_in == n.n_in && body.n_out >= n.n_in - 1 && n.n_out == body.n_out - 1;
    typed = fits && is(n.inputs[0], DType::kI64) && is(n.inputs[1], DType::kBool) && is(body.inputs[0], DType::kI64) &&
            is(body.inputs[1], DType::kBool) && is(body.outputs[0], DType::kBool);
  } else {
    const int64_t m = n.attrs.i64("num_scan_inputs", 0);
    fits = m >= 1 && m <= n.n_in && body.n_in == n.n_in && n.n_out == body.n_out && body.n_out >= n.n_in - m;
    const int64_t s = fits ? body.n_out - (n.n_in - m) : 0;
    for (const char* list : {"scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions"}) {
      const Ints given = n.attrs.ints(list);
      fits = fits && (given.size == 0 || given.size == (list[5] == 'i' ? m : s));
    }
  }
  for (int32_t k = n.control == Control::kLoop ? 2 : 0; fits && k < n.n_in; ++k) fits = n.inputs[k] >= 0;
  if (!fits) return fail(Status::kInvalidPackage, "its operands do not fit those of its subgraphs");
  if (!typed) return fail(Status::kInvalidPackage, "a condition must be bool, and a trip count or iteration int64");
  for (int32_t k = 0; k < n.n_in + n.n_out; ++k) {
    if (n.inputs[k] >= 0 && tensors_[n.inputs[k]].desc.layout != Layout::kPlain) {
      return fail(Status::kInvalidPackage, "operand %d is not row-major", k);
    }
  }
  return Status::kOk;
}

Status Model::check_graphs() {
  PN_TRY(home_.allocate(tensors_.size()));
  PN_TRY(written_at_.allocate(tensors_.size()));
  PN_TRY(last_use_.allocate(tensors_.size()));
  PN_TRY(find_homes());
  for (int64_t t = 0; t < tensors_.size(); ++t) last_use_[t] = -1;
  for (int32_t g = 0; g < graphs_.size(); ++g) {
    const ModelGraph& graph = graphs_[g];
    for (int32_t i = graph.begin; i < graph.end; ++i) {
      PN_TRY(check_reads(g, i));
      if (nodes_[i].control == Control::kNone) continue;
      const Status s = check_control(nodes_[i]);
      if (s != Status::kOk) return fail_in(s, "node '%s' (%s)", nodes_[i].name, nodes_[i].op->name);
    }
    for (int32_t k = 0; k < graph.n_in; ++k) {
      if (tensors_[graph.inputs[k]].desc.layout != Layout::kPlain) return bad_graph("has an input that is not row-major", g);
    }
  }
  for (int32_t g = 0; g < graphs_.size(); ++g) {
    const ModelGraph& graph = graphs_[g];
    for (int32_t k = 0; k < graph.n_out; ++k) {
      const int32_t t = graph.outputs[k];
      if (t < 0 || home_[t] != 1 + g || written_at_[t] < 0) {
        return fail(Status::kInvalidPackage, "plan: output %d of graph %d is never written by a node of that graph", k, g);
      }
      if (last_use_[t] == graph.end || tensors_[t].desc.layout != Layout::kPlain) {
        return fail(Status::kInvalidPackage, "plan: output %d of graph %d is listed twice or not row-major", k, g);
      }
      last_use_[t] = graph.end;
    }
  }
  return Status::kOk;
}

}  // namespace pyneo
