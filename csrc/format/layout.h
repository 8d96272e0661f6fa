// SPDX-License-Identifier: Apache-2.0
//
// The on-disk records of a .neo file and of its plan section. Little-endian, fixed size, every offset
// 64-bit or an index. docs/package-format.md describes them byte by byte; validate.cc checks them.
#pragma once

#include <cstdint>

namespace pyneo {
namespace format {

constexpr uint8_t kMagic[8] = {0x89, 'N', 'E', 'O', 0x0d, 0x0a, 0x1a, 0x0a};
constexpr uint32_t kFormatVersion = 1;
constexpr uint32_t kMaxSections = 64;
constexpr uint64_t kSectionAlignment = 64;
constexpr uint64_t kWeightsAlignment = 65536;

enum SectionKind : uint32_t {
  kManifest = 1,   // canonical JSON
  kPlan = 2,       // PlanHeader and its tables
  kWeights = 3,    // raw bytes, read in place
  kSignature = 4,  // DSSE envelope, payload detached (the manifest section is the payload)
  kDelegate = 5,   // blob of a delegate
  kBaseline = 6,   // data for drift detection
};
enum SectionFlags : uint32_t { kSectionOptional = 1 };

struct FileHeader {
  uint8_t magic[8];
  uint32_t version;
  uint32_t header_bytes;    // 64
  uint64_t file_bytes;
  uint32_t section_count;
  uint32_t reserved0;
  uint8_t reserved[32];
};
static_assert(sizeof(FileHeader) == 64, "on disk");

struct SectionRecord {      // section_count of them follow the header
  uint32_t kind;
  uint32_t flags;
  uint64_t offset;          // from the file's start; ascending, not overlapping, aligned; gaps are zero bytes
  uint64_t bytes;
  uint64_t reserved;
  uint8_t sha256[32];       // above 1 MiB: of the concatenated digests of its 1 MiB pieces
};
static_assert(sizeof(SectionRecord) == 64, "on disk");

constexpr uint32_t kPlanMagic = 0x4e4c504e;  // "NPLN"
constexpr uint32_t kPlanVersion = 1;

struct TableRef {           // offset from the plan's start, 8-byte aligned; count of records
  uint64_t offset;
  uint64_t count;
};

struct PlanHeader {
  uint32_t magic;
  uint32_t version;
  uint64_t plan_bytes;
  uint64_t arena_bytes;     // of the static memory plan; 0 in a dynamic plan
  uint64_t weights_bytes;   // size of the weights section this plan refers to
  uint64_t state_bytes;     // 0
  uint32_t tier;            // lowest core::Tier whose kernels the plan names
  uint32_t flags;           // PlanFlags
  TableRef tensors;         // TensorRecord
  TableRef nodes;           // NodeRecord, in execution order, graph by graph
  TableRef operands;        // int32 tensor index, -1 = absent
  TableRef graphs;          // GraphRecord; graph 0 is the model
  TableRef symbols;         // SymbolRecord
  TableRef attrs;           // bytes: attribute blobs
  TableRef strings;         // bytes: zero-terminated UTF-8; offset 0 is ""
};
static_assert(sizeof(PlanHeader) == 160, "on disk");

enum PlanFlags : uint32_t {
  kPlanDynamic = 1,         // some shapes are bound at run time, or there are subgraphs: offsets are planned then
};

enum Storage : uint8_t {
  kStorageArena = 0,        // offset in the arena
  kStorageConst = 1,        // offset in the weights section
  kStorageInput = 2,        // caller's buffer `offset` = input index
  kStorageOutput = 3,       // caller's buffer `offset` = output index
  kStorageAlias = 4,        // `offset` bytes into tensor `alias_of`
  kStorageState = 5,        // offset in the session's state
};

constexpr uint8_t kOpenRank = 255;
constexpr int kMaxGraphDepth = 16;

struct TensorRecord {
  uint32_t name;            // string offset
  uint8_t dtype;            // core::DType; 0: open (intermediate results of a dynamic plan)
  uint8_t layout;           // core::Layout
  uint8_t rank;             // kOpenRank: open (the same, and outputs)
  uint8_t storage;          // Storage
  int32_t alias_of;         // tensor index if storage is alias, else -1
  uint32_t flags;           // of an input: 1 + index of the output that is its value in the next run, 0 = none
  uint64_t offset;
  uint64_t bytes;           // stored bytes, padding of blocked layouts included
  int64_t dims[8];          // >= 0, or -(1 + symbol index); in a dynamic plan other unknown dims are INT64_MIN
  uint64_t reserved;
};
static_assert(sizeof(TensorRecord) == 104, "on disk");

struct NodeRecord {
  uint32_t name;            // string offset: the source model's node name
  uint32_t op;              // string offset
  uint32_t kernel;          // string offset; 0 = the operator's reference kernel
  uint32_t operands;        // first index in the operands table: inputs, then outputs
  uint16_t inputs;
  uint16_t outputs;
  int32_t scratch;          // tensor index, -1 = none
  uint64_t attrs_offset;    // in the attrs table
  uint32_t attrs_bytes;     // 0 = no attributes
  uint16_t subgraph;        // first graph of a control-flow node, 0 = none; greater than the node's own graph
  uint16_t subgraphs;       // how many: If then, else; Loop and Scan body
};
static_assert(sizeof(NodeRecord) == 40, "on disk");

struct GraphRecord {
  uint32_t node_begin, node_count;
  uint32_t input_begin, input_count;    // in the operands table
  uint32_t output_begin, output_count;
  uint32_t reserved[2];
};
static_assert(sizeof(GraphRecord) == 32, "on disk");

struct SymbolRecord {
  uint32_t name;
  uint32_t reserved;
  int64_t min, max;         // inclusive bounds
};
static_assert(sizeof(SymbolRecord) == 24, "on disk");

}  // namespace format
}  // namespace pyneo
