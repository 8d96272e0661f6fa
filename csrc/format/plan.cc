// SPDX-License-Identifier: Apache-2.0
#include "format/plan.h"

#include <cstring>

#include "core/utf8.h"

namespace pyneo {
namespace format {
namespace {

constexpr uint64_t kMaxRecords = 1u << 24;  // of any table: far above real models, far below overflow
constexpr uint32_t kMaxNameBytes = 4096;

Status bad(const char* what, int64_t index) {
  return fail(Status::kInvalidPackage, "plan: %s (record %lld)", what, static_cast<long long>(index));
}

// One name: inside the table, of sane length, valid UTF-8 (RFC 3629), no control characters.
bool valid_name(const char* table, uint64_t bytes, uint32_t offset) {
  if (offset >= bytes) return false;
  const uint8_t* s = reinterpret_cast<const uint8_t*>(table) + offset;
  const uint8_t* limit = reinterpret_cast<const uint8_t*>(table) + bytes;
  const uint8_t* start = s;
  while (s < limit && *s != 0) {
    const int bytes_here = utf8_character(s, limit);
    if (s - start > kMaxNameBytes || bytes_here == 0) return false;
    s += bytes_here;
  }
  return s < limit;
}

}  // namespace

Status PlanView::open(Span plan, PlanView* out) {
  if (plan.bytes < sizeof(PlanHeader)) return bad("the section is shorter than its header", 0);
  PlanView view;
  view.base_ = plan.data;
  const PlanHeader& h = view.header();
  if (h.magic != kPlanMagic) return bad("wrong magic", 0);
  if (h.version != kPlanVersion) {
    return fail(Status::kInvalidPackage, "plan: version %u, this library reads version %u", h.version, kPlanVersion);
  }
  if (h.plan_bytes != plan.bytes) return bad("its size differs from the section's", 0);
  if (h.flags > kPlanDynamic) return bad("unknown flags: the package needs a newer pyneo", 0);
  const struct {
    TableRef ref;
    uint64_t record;
  } tables[] = {{h.tensors, sizeof(TensorRecord)}, {h.nodes, sizeof(NodeRecord)},     {h.operands, 4},
                {h.graphs, sizeof(GraphRecord)},   {h.symbols, sizeof(SymbolRecord)}, {h.attrs, 1},
                {h.strings, 1}};
  for (const auto& t : tables) {
    const uint64_t limit = t.record == 1 ? plan.bytes : kMaxRecords;
    if (t.ref.count > limit || t.ref.offset % 8 != 0 || t.ref.offset < sizeof(PlanHeader) || t.ref.offset > plan.bytes ||
        t.ref.count * t.record > plan.bytes - t.ref.offset) {
      return bad("a table lies outside the section", &t - tables);
    }
  }
  PN_TRY(view.check());
  *out = view;
  return Status::kOk;
}

Status PlanView::check() const {
  const PlanHeader& h = header();
  const char* strings = string(0);
  if (h.strings.count == 0 || strings[0] != 0 || strings[h.strings.count - 1] != 0) return bad("the string table is malformed", 0);
  auto name_ok = [&](uint32_t offset) { return valid_name(strings, h.strings.count, offset); };

  for (int64_t i = 0; i < tensor_count(); ++i) {
    const TensorRecord& t = tensor(i);
    if (!name_ok(t.name)) return bad("a tensor's name is not a valid string", i);
    bool open_rank = t.rank == kOpenRank && (h.flags & kPlanDynamic) != 0;
    for (int k = 0; k < 8; ++k) open_rank = open_rank && t.dims[k] == 0;
    if (t.rank > 8 && !open_rank) return bad("a tensor's rank is above 8", i);
    if ((t.flags != 0 && t.storage != kStorageInput) || t.reserved != 0) return bad("a tensor has unknown flags", i);
    if (t.storage > kStorageState) return bad("a tensor has an unknown storage", i);
    if ((t.storage == kStorageAlias) != (t.alias_of >= 0) || t.alias_of >= tensor_count() || t.alias_of < -1) {
      return bad("a tensor's alias is out of range", i);
    }
  }
  const uint64_t operand_count = h.operands.count;
  const int32_t* all = operands(0);
  for (uint64_t i = 0; i < operand_count; ++i) {
    if (all[i] < -1 || all[i] >= tensor_count()) return bad("an operand is out of range", static_cast<int64_t>(i));
  }
  for (int64_t i = 0; i < node_count(); ++i) {
    const NodeRecord& n = node(i);
    if (!name_ok(n.name) || !name_ok(n.op) || !name_ok(n.kernel)) return bad("a node's name is not a valid string", i);
    if (n.operands > operand_count || uint64_t{n.inputs} + n.outputs > operand_count - n.operands) {
      return bad("a node's operands are out of range", i);
    }
    if (n.scratch < -1 || n.scratch >= tensor_count()) return bad("a node's scratch is out of range", i);
    if (n.attrs_bytes != 0) {
      if (n.attrs_offset % 8 != 0 || n.attrs_offset > h.attrs.count || n.attrs_bytes > h.attrs.count - n.attrs_offset) {
        return bad("a node's attributes are out of range", i);
      }
      const Status s = Attrs::validate(string(0) - h.strings.offset + h.attrs.offset + n.attrs_offset, n.attrs_bytes);
      if (s != Status::kOk) return fail_in(s, "plan: node '%s'", string(n.name));
    }
    if (n.subgraphs != 0 && (n.subgraph == 0 || int64_t{n.subgraph} + n.subgraphs > graph_count())) {
      return bad("a node's subgraphs are out of range", i);
    }
  }
  if (graph_count() < 1) return bad("there is no graph", 0);
  for (int64_t i = 0; i < graph_count(); ++i) {
    const GraphRecord& g = graph(i);
    if (uint64_t{g.node_begin} + g.node_count > h.nodes.count || uint64_t{g.input_begin} + g.input_count > operand_count ||
        uint64_t{g.output_begin} + g.output_count > operand_count || g.reserved[0] != 0 || g.reserved[1] != 0) {
      return bad("a graph's ranges are out of bounds", i);
    }
  }
  for (int64_t i = 0; i < symbol_count(); ++i) {
    const SymbolRecord& s = symbol(i);
    if (!name_ok(s.name) || s.reserved != 0 || s.min < 0 || s.max < s.min) return bad("a symbol is malformed", i);
  }
  return Status::kOk;
}

}  // namespace format
}  // namespace pyneo
