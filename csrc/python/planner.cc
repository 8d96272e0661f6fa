// SPDX-License-Identifier: Apache-2.0
//
// The memory planner and its checker for the compiler and the tests.
#include <vector>

#include "module.h"

namespace py = pybind11;

namespace pyneo_python {
namespace {

using Ints = std::vector<int32_t>;
using Buffer = std::tuple<int64_t, int32_t, bool, int64_t>;  // bytes, alias_of, fixed, alias_offset
using Node = std::tuple<Ints, Ints, int32_t, uint32_t>;      // inputs, outputs, scratch, in_place

std::vector<pn_plan_buffer> to_buffers(const std::vector<Buffer>& buffers) {
  std::vector<pn_plan_buffer> out;
  out.reserve(buffers.size());
  for (const auto& [bytes, alias_of, fixed, alias_offset] : buffers) {
    out.push_back({bytes, alias_of, fixed ? 1 : 0, alias_offset, -1});
  }
  return out;
}

std::vector<pn_plan_node> to_nodes(const std::vector<Node>& nodes) {
  std::vector<pn_plan_node> out;
  out.reserve(nodes.size());
  for (const auto& [inputs, outputs, scratch, in_place] : nodes) {
    out.push_back({inputs.data(), outputs.data(), static_cast<int32_t>(inputs.size()),
                   static_cast<int32_t>(outputs.size()), scratch, in_place});
  }
  return out;
}

py::tuple plan_memory(const std::vector<Buffer>& buffers, const std::vector<Node>& nodes,
                      const Ints& keep) {
  std::vector<pn_plan_buffer> b = to_buffers(buffers);
  const std::vector<pn_plan_node> n = to_nodes(nodes);
  uint64_t arena = 0, bound = 0;
  check(pn_plan_memory(b.data(), static_cast<uint32_t>(b.size()), n.data(),
                       static_cast<uint32_t>(n.size()), keep.data(),
                       static_cast<uint32_t>(keep.size()), &arena, &bound));
  std::vector<int64_t> offsets;
  offsets.reserve(b.size());
  for (const pn_plan_buffer& x : b) offsets.push_back(x.offset);
  return py::make_tuple(offsets, arena, bound);
}

void check_plan(const std::vector<Buffer>& buffers, const std::vector<int64_t>& offsets,
                const std::vector<Node>& nodes, const Ints& keep, uint64_t arena_bytes) {
  std::vector<pn_plan_buffer> b = to_buffers(buffers);
  if (offsets.size() != b.size()) {
    throw py::value_error(std::to_string(b.size()) + " buffers but " +
                          std::to_string(offsets.size()) + " offsets");
  }
  for (size_t i = 0; i < b.size(); ++i) b[i].offset = offsets[i];
  const std::vector<pn_plan_node> n = to_nodes(nodes);
  check(pn_plan_check(b.data(), static_cast<uint32_t>(b.size()), n.data(),
                      static_cast<uint32_t>(n.size()), keep.data(),
                      static_cast<uint32_t>(keep.size()), arena_bytes));
}

}  // namespace

void bind_planner(py::module_& m) {
  using py::arg;
  m.def("plan_memory", &plan_memory, arg("buffers"), arg("nodes"), arg("keep"),
        "(offsets, arena bytes, lower bound). Buffers: (bytes, alias_of or -1, fixed, "
        "alias_offset); nodes: (inputs, "
        "outputs, scratch or -1, in-place bits); keep: buffers that outlive the last node. The "
        "plan was checked.");
  m.def("check_plan", &check_plan, arg("buffers"), arg("offsets"), arg("nodes"), arg("keep"),
        arg("arena_bytes"),
        "Replays a plan; raises PackageError that says which node would read or overwrite what.");
}

}  // namespace pyneo_python
