// SPDX-License-Identifier: Apache-2.0
//
// The plan section as typed tables. Opening it checks that every table and every reference between
// tables lies in bounds; what the records mean is checked by core/model.
#pragma once

#include "core/attrs.h"
#include "format/package.h"

namespace pyneo {
namespace format {

class PlanView {
 public:
  // `plan` is the section's bytes, 8-byte aligned.
  static Status open(Span plan, PlanView* out);

  const PlanHeader& header() const { return *reinterpret_cast<const PlanHeader*>(base_); }
  int32_t tensor_count() const { return static_cast<int32_t>(header().tensors.count); }
  int32_t node_count() const { return static_cast<int32_t>(header().nodes.count); }
  int32_t graph_count() const { return static_cast<int32_t>(header().graphs.count); }
  int32_t symbol_count() const { return static_cast<int32_t>(header().symbols.count); }
  const TensorRecord& tensor(int64_t i) const { return table<TensorRecord>(header().tensors)[i]; }
  const NodeRecord& node(int64_t i) const { return table<NodeRecord>(header().nodes)[i]; }
  const GraphRecord& graph(int64_t i) const { return table<GraphRecord>(header().graphs)[i]; }
  const SymbolRecord& symbol(int64_t i) const { return table<SymbolRecord>(header().symbols)[i]; }
  const int32_t* operands(uint32_t begin) const { return table<int32_t>(header().operands) + begin; }
  const char* string(uint32_t offset) const { return table<char>(header().strings) + offset; }
  Attrs attrs(const NodeRecord& n) const {
    return n.attrs_bytes ? Attrs(table<uint8_t>(header().attrs) + n.attrs_offset) : Attrs();
  }

 private:
  template <typename T>
  const T* table(const TableRef& r) const {
    return reinterpret_cast<const T*>(base_ + r.offset);
  }
  Status check() const;
  const uint8_t* base_ = nullptr;
};

}  // namespace format
}  // namespace pyneo
