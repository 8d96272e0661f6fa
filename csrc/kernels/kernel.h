// SPDX-License-Identifier: Apache-2.0
//
// A kernel: one fast way to run an operator on a tier, for operands in given layouts.
//
// A family is one source in csrc/kernels/<family>/, compiled once per tier (PN_TIER is the tier's
// name, PN_VEC its floats per vector) and exporting a table `pn_kernels_<family>__<tier>`; kernels.inc
// lists the families. Those of csrc/kernels/amx/ (amx.inc) are compiled for AVX-512 with AMX alone, and stand at
// tier amx. Order in a table is preference among equal costs. The reference kernel of the
// operator (ops/) stands behind all of them and takes plain layouts only.
//
// The compiler asks `accepts` and `cost` for each candidate and freezes the choice by name in the plan;
// the runtime asks `accepts` again with the plan's descs before it trusts the choice. So `accepts` checks
// everything `run` relies on beyond what the operator's `infer` has checked: dtypes, layouts of every
// operand, attributes. `run` allocates nothing.
//
// What needs nothing of a tier but the width of its vectors (q.vec()) is compiled once, in csrc/kernels/<name>.cc.
//
// One name may stand in several tiers' tables (same packing, same layouts): the runtime takes the
// highest tier the CPU has.
//
// Sources of a family may include only headers whose functions are static, templates over types of the
// tier's own namespace, or C: an inline function shared between tiers could be emitted with AVX-512
// and be picked by the linker for all of them. Use simd/vec.h and kernels/kernel.h.
#pragma once

#include "core/target.h"
#include "ops/activation.h"
#include "ops/op.h"

namespace pyneo {

struct KernelDef;

struct KernelQuery {
  const KernelDef* kernel = nullptr;       // which is asked
  Attrs attrs;
  int n_in = 0, n_out = 0;
  const TensorDesc* const* in = nullptr;   // nullptr entries: absent
  const TensorDesc* const* out = nullptr;
  const void* const* values = nullptr;     // constant inputs where known (nullptr otherwise); may be null
  const void* packed = nullptr;            // to prepare(): the packed operand's bytes
  const Target* target = nullptr;

  bool has(int i) const { return i < n_in && in[i] != nullptr; }
  inline const char* op() const;
  inline int vec() const;        // the tier's floats per vector, which are the channels of a block
  inline Layout blocked() const;
};

// What a kernel is made of. Kernels of a family that differ by operator or layout alone share it.
struct KernelCode {
  uint8_t vec;                             // the tier's floats per vector
  // Operands (bit i: operand i) whose content the packed one has taken in: the plan stores no bytes of them.
  uint8_t absorbed;
  uint16_t state_bytes;                    // size of what prepare() fills, at most kMaxKernelState
  bool (*accepts)(const KernelQuery&);     // with in[packed_input] having logical shape, any layout
  float (*cost)(const KernelQuery&);       // estimated microseconds on one core of q.target
  int64_t (*packed_bytes)(const KernelQuery&);                              // nullptr if packed_input < 0
  void (*pack)(const KernelQuery&, const void* plain, void* packed);        // packed is zeroed by the caller
  int64_t (*scratch_bytes)(const KernelQuery&);        // planned, shared by all threads; nullptr: 0
  int64_t (*thread_scratch_bytes)(const KernelQuery&); // for each thread; nullptr: 0
  Status (*prepare)(const KernelQuery&, void* state);  // shapes -> ready-to-run numbers; nullptr if no state
  Status (*run)(const void* state, RunContext&);       // nullptr: not in this build (PN_WIDE_RUN)
  // For packed data whose size follows from its content, or that addresses memory: checked once, when the
  // package is opened, instead of packed_bytes. Any bytes that pass must be safe to run.
  Status (*check)(const Attrs&, const void* packed, int64_t bytes);
};

struct KernelDef {
  const char* name;                        // "f32_conv_direct_c16"; unique per tier
  const char* op;
  Layout layout_in;                        // of activations: plain, c8, c16, or kAny (all operands alike)
  Layout layout_out;
  int8_t packed_input;                     // operand that must be a constant in this kernel's packing, or -1
  const KernelCode* code;                  // PN_CODE(...)

  bool takes_packed(int i) const { return i == packed_input || (i >= 0 && i < 8 && (code->absorbed >> i & 1) != 0); }
};

const char* KernelQuery::op() const { return kernel->op; }
int KernelQuery::vec() const { return kernel->code->vec; }
Layout KernelQuery::blocked() const { return vec() == 16 ? Layout::kC16 : Layout::kC8; }

constexpr uint32_t kMaxKernelState = 512;

// Fills `out` with the kernels of `op` that accept `q` on q.target's tier or below, best cost first.
int list_kernels(const char* op, const KernelQuery& q, const KernelDef** out, int max);
// The kernel of that name on the highest tier <= `tier`, or nullptr. One that this build cannot run
// (PN_WIDE_RUN) is found only for a foreign machine's sake.
const KernelDef* find_kernel(const char* name, Tier tier, bool foreign = false);
// The tier whose table the kernel stands in.
Tier kernel_tier(const KernelDef& kernel);

}  // namespace pyneo

// What runs once for a model, not once an inference: built for size.
#define PN_COLD __attribute__((cold))

// The (prepare, run) of a family's rows that x86's portable tier, built for size, does without: the reference
// serves the few CPUs without AVX2. The rest of the row stays, so that packages for ARM can be compiled there.
#ifdef PN_TABLES_ONLY
#define PN_WIDE_RUN(...) nullptr, nullptr
#else
#define PN_WIDE_RUN(...) __VA_ARGS__
#endif

#ifdef PN_TIER
namespace pyneo {
namespace PN_TIER {
template <uint16_t state_bytes, bool (*accepts)(const KernelQuery&), float (*cost)(const KernelQuery&),
          int64_t (*packed_bytes)(const KernelQuery&), void (*pack)(const KernelQuery&, const void*, void*),
          int64_t (*scratch_bytes)(const KernelQuery&), int64_t (*thread_scratch_bytes)(const KernelQuery&),
          Status (*prepare)(const KernelQuery&, void*), Status (*run)(const void*, RunContext&),
          Status (*check)(const Attrs&, const void*, int64_t) = nullptr, uint8_t absorbed = 0>
constexpr KernelCode kCode = {PN_VEC, absorbed,      state_bytes,          accepts, cost, packed_bytes,
                              pack,   scratch_bytes, thread_scratch_bytes, prepare, run,  check};
}  // namespace PN_TIER
}  // namespace pyneo
// In a row: the size of the state, the functions in KernelCode's order, and `absorbed`.
#define PN_CODE(...) &PN_TIER::kCode<__VA_ARGS__>

// Inside a family source: the tier's channel block, in names and as a layout.
#if PN_VEC == 16
#define PN_BLOCK "c16"
#else
#define PN_BLOCK "c8"
#endif
namespace pyneo {
namespace PN_TIER {
constexpr Layout kBlocked = PN_VEC == 16 ? Layout::kC16 : Layout::kC8;
}  // namespace PN_TIER
}  // namespace pyneo

// Namespace of the tier, so that equal names never meet in the linker.
#define PN_CAT_(a, b) a##b
#define PN_CAT(a, b) PN_CAT_(a, b)
#define PN_KERNEL_TABLE(family)                                                   \
  extern const ::pyneo::KernelDef PN_CAT(pn_kernels_##family##__, PN_TIER)[];     \
  extern const int PN_CAT(PN_CAT(pn_kernels_##family##__, PN_TIER), _count);
#define PN_KERNEL_ROWS(family) const ::pyneo::KernelDef PN_CAT(pn_kernels_##family##__, PN_TIER)[]
#define PN_KERNEL_COUNT(family)                                       \
  const int PN_CAT(PN_CAT(pn_kernels_##family##__, PN_TIER), _count) = \
      sizeof(PN_CAT(pn_kernels_##family##__, PN_TIER)) / sizeof(::pyneo::KernelDef)
#endif
