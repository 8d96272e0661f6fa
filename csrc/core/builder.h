// SPDX-License-Identifier: Apache-2.0
//
// Makes bindings. A segment is built node after node from what is live at its start, until a node's shape
// depends on data, a control-flow node comes, or the graph ends.
#pragma once

#include "core/binding.h"
#include "core/node.h"

namespace pyneo {

class Builder {
 public:
  Status init(const Model& model);
  // The plan of a static model, as validated.
  Status build_static(Binding* out);
  // The segment of `graph` that begins at node `begin`; it may have no node. `live`: a record for each tensor.
  Status build_segment(int32_t graph, int32_t begin, const Live* live, Binding* out);

 private:
  using Place = Binding::Place;
  struct Local {       // a tensor of the segment
    Tensor tensor;
    Place place;
    int32_t id;        // in the plan
    int32_t root;      // local whose memory it shares; itself if none
    bool written;      // by a node of the segment
  };
  struct Bound {       // a node of the segment
    const KernelDef* kernel;
    int64_t scratch;   // bytes, then the arena offset (-1 none)
    int32_t operands;  // in operands_
    bool step;         // false: a view, a value known at binding, or nothing to compute
  };

  void start(Binding* out, int32_t begin);
  Status local(int32_t id, int32_t* out);
  Status add_operands(const ModelNode& n);
  void drop_node(const ModelNode& n);
  Status bind_node(int32_t graph, const ModelNode& n);
  Status evaluate(const ModelNode& n, int64_t bytes);
  Status add_slot(int32_t id, const TensorDesc& desc, uint8_t* value, int32_t* slot);
  Status read_live(int32_t id, int32_t local);
  Status leave_behind(int32_t graph);
  Status leave(int32_t local);
  void copy_view(int32_t local, const Place& place);
  Status plan();
  Status finish();
  Status index_slots();

  const Model* model_ = nullptr;
  const Live* live_ = nullptr;
  Binding* out_ = nullptr;
  int32_t begin_ = 0;
  NodeWorkspace w_;
  Array<int32_t> local_of_;            // tensor -> 1 + local, 0 = none
  Vector<Local> locals_;
  Vector<Bound> nodes_;
  Vector<int32_t> operands_;           // locals, -1 = absent
  Vector<Binding::Slot> slots_;
};

}  // namespace pyneo
