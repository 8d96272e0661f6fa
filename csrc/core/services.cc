// SPDX-License-Identifier: Apache-2.0
//
// What the compiler asks of the core: operators, their shapes and values, kernels, packing.
#include <cstring>

#include "core/abi.h"
#include "core/clock.h"
#include "core/memory.h"
#include "kernels/kernel.h"
#include "ops/op.h"

namespace pyneo {
namespace {

constexpr uint32_t kMaxOperands = 4096;

// A pn_node in the core's terms.
struct Query {
  const OpDef* op = nullptr;
  Attrs attrs;
  Array<TensorDesc> descs;          // inputs, then outputs
  Array<const TensorDesc*> in, out;
  Array<const void*> values;

  int n_in() const { return static_cast<int>(in.size()); }
  int n_out() const { return static_cast<int>(out.size()); }

  Status read(const pn_node& node, bool read_outputs) {
    PN_TRY(check_struct(&node, "pn_node"));
    if (node.op == nullptr) return fail(Status::kInvalidArgument, "pn_node.op is NULL");
    op = find_op(node.op);
    if (op == nullptr) return fail(Status::kUnsupported, "operator '%s' is not in this library", node.op);
    if (node.input_count > kMaxOperands || node.output_count > kMaxOperands) {
      return fail(Status::kUnsupported, "%s: more than %u operands", node.op, kMaxOperands);
    }
    if (node.attrs != nullptr) {
      PN_TRY(Attrs::validate(node.attrs, node.attrs_bytes));
      attrs = Attrs(node.attrs);
    }
    PN_TRY(descs.allocate(int64_t{node.input_count} + node.output_count));
    PN_TRY(in.allocate(node.input_count));
    PN_TRY(out.allocate(node.output_count));
    PN_TRY(values.allocate(node.input_count));
    for (uint32_t i = 0; i < node.input_count; ++i) {
      const pn_tensor* t = node.inputs[i];
      if (t == nullptr) continue;
      PN_TRY(to_desc(*t, "input", &descs[i]));
      in[i] = &descs[i];
      if (t->data != nullptr && t->bytes >= static_cast<uint64_t>(descs[i].bytes())) values[i] = t->data;
    }
    for (uint32_t o = 0; o < node.output_count; ++o) {
      TensorDesc& d = descs[int64_t{node.input_count} + o];
      if (read_outputs) PN_TRY(to_desc(node.outputs[o], "output", &d));
      out[o] = &d;
    }
    return Status::kOk;
  }

  InferContext infer_context(TensorDesc* outputs) const {
    InferContext c;
    c.op = op->name;
    c.attrs = attrs;
    c.n_in = n_in();
    c.n_out = n_out();
    c.in = in.data();
    c.values = values.data();
    c.out = outputs;
    return c;
  }
  KernelQuery kernel_query(const Target* target, const KernelDef* kernel = nullptr) const {
    KernelQuery q;
    q.kernel = kernel;
    q.attrs = attrs;
    q.n_in = n_in();
    q.n_out = n_out();
    q.in = in.data();
    q.out = out.data();
    q.values = values.data();
    q.target = target;
    return q;
  }
  // Shapes of the outputs as infer sees them must be those the caller gave.
  Status check_outputs() const {
    Array<TensorDesc> inferred;
    PN_TRY(inferred.allocate(n_out()));
    InferContext c = infer_context(inferred.data());
    PN_TRY(infer_op(*op, c));
    for (int o = 0; o < n_out(); ++o) {
      if (inferred[o].dtype != out[o]->dtype || inferred[o].shape != out[o]->shape) {
        char a[160], b[160];
        return fail(Status::kInvalidArgument, "%s: output %d is %s %s, the operator gives %s %s", op->name, o,
                    dtype_name(out[o]->dtype), format_shape(out[o]->shape, a, sizeof(a)), dtype_name(inferred[o].dtype),
                    format_shape(inferred[o].shape, b, sizeof(b)));
      }
    }
    return Status::kOk;
  }
  // Whether they are, as far as it can be told without the values that are not here.
  bool is_sound() const {
    const Status s = check_outputs();
    if (s != Status::kOk) clear_error();
    return s == Status::kOk || s == Status::kNeedsValue;
  }
};

Target read_target(const pn_target* t) {
  if (t == nullptr) return host_target();
  Target r;
  r.tier = static_cast<Tier>(t->tier);
  r.cores = t->cores;
  r.l1_bytes = t->l1_bytes;
  r.l2_bytes = t->l2_bytes;
  r.l3_bytes = t->l3_bytes;
  r.foreign = t->foreign != 0;
  return r;
}

Status check_prepares(const Target& t) {
  if (can_prepare(t.tier)) return Status::kOk;
  return fail(Status::kUnsupported,
              "kernels of tier %s cannot be prepared on this CPU, whose tier is %s: compile on a machine that has %s, or "
              "for a target of tier %s or lower",
              tier_name(t.tier), tier_name(host_target().tier), t.tier == Tier::kAvx2 ? "AVX2" : "AVX-512",
              tier_name(host_target().tier));
}

// A node's operands in the caller's buffers.
struct Operands {
  Array<Tensor> tensors;  // inputs, then outputs
  Array<const Tensor*> in;
  Array<Tensor*> out;

  Status bind(pn_node* node, const Query& query) {
    PN_TRY(tensors.allocate(query.n_in() + query.n_out()));
    PN_TRY(in.allocate(query.n_in()));
    PN_TRY(out.allocate(query.n_out()));
    for (int i = 0; i < query.n_in(); ++i) {
      if (query.in[i] == nullptr) continue;
      const pn_tensor& t = *node->inputs[i];
      if (t.data == nullptr || t.bytes < static_cast<uint64_t>(query.in[i]->bytes())) {
        return fail(Status::kInvalidArgument, "%s: input %d has %llu bytes of data, needs %lld", node->op, i,
                    static_cast<unsigned long long>(t.data ? t.bytes : 0), static_cast<long long>(query.in[i]->bytes()));
      }
      tensors[i] = Tensor{*query.in[i], t.data};
      in[i] = &tensors[i];
    }
    for (int o = 0; o < query.n_out(); ++o) {
      const pn_tensor& t = node->outputs[o];
      if (t.data == nullptr || t.bytes < static_cast<uint64_t>(query.out[o]->bytes())) {
        return fail(Status::kInvalidArgument, "%s: the buffer of output %d is too small", node->op, o);
      }
      tensors[query.n_in() + o] = Tensor{*query.out[o], t.data};
      out[o] = &tensors[query.n_in() + o];
    }
    return Status::kOk;
  }
};

// What one node needs beside its operands.
struct Workspace {
  Block scratch, thread_scratch, packed;
  int64_t thread_stride = 0;
  alignas(64) uint8_t state[kMaxKernelState];

  Status for_reference(Query& query, const Operands& operands) {
    for (int64_t i = 0; i < operands.tensors.size(); ++i) {
      if (operands.tensors[i].data != nullptr && operands.tensors[i].desc.layout != Layout::kPlain) {
        return fail(Status::kInvalidArgument, "%s: the reference kernel takes plain layouts only", query.op->name);
      }
    }
    if (query.op->scratch == nullptr) return Status::kOk;
    return scratch.allocate(query.op->scratch(query.infer_context(&query.descs[query.n_in()])), "scratch");
  }

  // The packed operand is given plain.
  Status for_kernel(const KernelDef& kernel, KernelQuery& q, const char* op, int threads, Operands* operands) {
    const KernelCode& code = *kernel.code;
    if (strcmp(kernel.op, op) != 0 || !code.accepts(q)) {
      return fail(Status::kInvalidArgument, "kernel '%s' does not accept this %s", kernel.name, op);
    }
    if (kernel.packed_input >= 0) {
      Tensor& t = operands->tensors[kernel.packed_input];
      PN_TRY(packed.allocate(code.packed_bytes(q), "packed weights"));
      memset(packed.data(), 0, static_cast<size_t>(packed.bytes()));
      code.pack(q, t.data, packed.data());
      t.data = packed.data();
      t.desc.layout = Layout::kPacked;
      q.packed = packed.data();
    }
    if (code.scratch_bytes != nullptr) PN_TRY(scratch.allocate(code.scratch_bytes(q), "scratch"));
    if (code.thread_scratch_bytes != nullptr) {
      thread_stride = round_up(code.thread_scratch_bytes(q), 64);
      PN_TRY(thread_scratch.allocate(thread_stride * threads, "thread scratch"));
    }
    return code.prepare != nullptr ? code.prepare(q, state) : Status::kOk;
  }
};

// Runs one node on the caller's buffers: the reference kernel, or `kernel`.
Status evaluate(pn_node* node, const KernelDef* kernel, const Target& target, int threads, uint32_t repeats,
                uint64_t* best_ns) {
  Query query;
  PN_TRY(query.read(*node, true));
  PN_TRY(query.check_outputs());
  const Pool pool = Pool::shared(threads);
  Operands operands;
  PN_TRY(operands.bind(node, query));
  Workspace work;
  if (kernel == nullptr) {
    PN_TRY(work.for_reference(query, operands));
  } else {
    KernelQuery q = query.kernel_query(&target, kernel);
    PN_TRY(work.for_kernel(*kernel, q, query.op->name, pool.size(), &operands));
  }

  RunContext run;
  run.op = query.op->name;
  run.attrs = query.attrs;
  run.n_in = query.n_in();
  run.n_out = query.n_out();
  run.in = operands.in.data();
  run.out = operands.out.data();
  run.pool = const_cast<Pool*>(&pool);
  run.scratch = work.scratch.data();
  run.thread_scratch = work.thread_scratch.data();
  run.thread_stride = work.thread_stride;

  uint64_t best = UINT64_MAX;
  for (uint32_t r = 0; r < (repeats > 0 ? repeats : 1); ++r) {
    const uint64_t start = now_ns();
    PN_TRY(kernel ? kernel->code->run(work.state, run) : query.op->run(run));
    const uint64_t spent = now_ns() - start;
    if (spent < best) best = spent;
  }
  if (best_ns != nullptr) *best_ns = best;
  return Status::kOk;
}

}  // namespace
}  // namespace pyneo

using namespace pyneo;  // NOLINT: the C functions below are the end of the file

extern "C" {

void pn_host_target(pn_target* out) {
  const Target& t = host_target();
  *out = pn_target{sizeof(pn_target), static_cast<uint32_t>(t.tier), t.cores, 0, t.l1_bytes, t.l2_bytes, t.l3_bytes};
}

uint32_t pn_op_count(void) { return static_cast<uint32_t>(op_count()); }

const char* pn_op_name(uint32_t i) {
  const OpDef* op = op_at(static_cast<int>(i));
  return op ? op->name : nullptr;
}

pn_status pn_op_get_info(const char* name, pn_op_info* out) {
  const OpDef* op = find_op(name);
  if (op == nullptr) return to_c(fail(Status::kUnsupported, "operator '%s' is not in this library", name));
  *out = pn_op_info{sizeof(pn_op_info), op->flags, op->min_in, op->max_in, op->min_out, op->max_out};
  return PN_OK;
}

pn_status pn_op_infer(pn_node* node) {
  Query query;
  if (const Status s = query.read(*node, false); s != Status::kOk) return to_c(s);
  InferContext c = query.infer_context(&query.descs[query.n_in()]);
  if (const Status s = infer_op(*query.op, c); s != Status::kOk) return to_c(s);
  for (int o = 0; o < query.n_out(); ++o) from_desc(*query.out[o], &node->outputs[o]);
  return PN_OK;
}

pn_status pn_op_scratch(const pn_node* node, uint64_t* bytes) {
  Query query;
  if (const Status s = query.read(*node, true); s != Status::kOk) return to_c(s);
  *bytes = query.op->scratch ? static_cast<uint64_t>(query.op->scratch(query.infer_context(&query.descs[query.n_in()]))) : 0;
  return PN_OK;
}

pn_status pn_op_eval(pn_node* node) {
  return to_c(evaluate(node, nullptr, host_target(), 1, 1, nullptr));
}

pn_status pn_kernel_list(const pn_node* node, const pn_target* target, pn_kernel_info* out, uint32_t* count) {
  Query query;
  if (const Status s = query.read(*node, true); s != Status::kOk) return to_c(s);
  const Target t = read_target(target);
  if (const Status s = check_prepares(t); s != Status::kOk) return to_c(s);
  KernelQuery q = query.kernel_query(&t);
  const KernelDef* kernels[64];
  // Kernels rely on what infer checks: none of them for a node whose operands do not fit.
  const bool sound = query.is_sound();
  const int n = sound ? list_kernels(query.op->name, q, kernels, 64) : 0;
  const uint32_t room = *count;
  *count = static_cast<uint32_t>(n);
  for (int i = 0; i < n && static_cast<uint32_t>(i) < room; ++i) {
    const KernelDef& k = *kernels[i];
    q.kernel = &k;
    out[i] = pn_kernel_info{
        sizeof(pn_kernel_info),
        static_cast<uint8_t>(kernel_tier(k)),
        static_cast<uint8_t>(k.layout_in),
        static_cast<uint8_t>(k.layout_out),
        k.code->absorbed,
        k.name,
        k.packed_input,
        k.code->cost(q),
        k.packed_input >= 0 ? static_cast<uint64_t>(k.code->packed_bytes(q)) : 0,
        k.code->scratch_bytes ? static_cast<uint64_t>(k.code->scratch_bytes(q)) : 0,
        k.code->thread_scratch_bytes ? static_cast<uint64_t>(k.code->thread_scratch_bytes(q)) : 0,
    };
  }
  return PN_OK;
}

pn_status pn_kernel_pack(const pn_node* node, const char* kernel, const pn_target* target, void* packed, uint64_t bytes) {
  Query query;
  if (const Status s = query.read(*node, true); s != Status::kOk) return to_c(s);
  const Target t = read_target(target);
  if (const Status s = check_prepares(t); s != Status::kOk) return to_c(s);
  const KernelDef* k = find_kernel(kernel, t.tier, t.foreign);
  const KernelQuery q = query.kernel_query(&t, k);
  if (k == nullptr || strcmp(k->op, query.op->name) != 0 || k->packed_input < 0 || !q.has(k->packed_input) ||
      q.values[k->packed_input] == nullptr || !query.is_sound() || !k->code->accepts(q) ||
      static_cast<uint64_t>(k->code->packed_bytes(q)) != bytes) {
    return to_c(fail(Status::kInvalidArgument, "kernel '%s' cannot pack for this %s on tier %s", kernel, node->op,
                     tier_name(t.tier)));
  }
  memset(packed, 0, bytes);
  k->code->pack(q, q.values[k->packed_input], packed);
  return PN_OK;
}

pn_status pn_kernel_eval(pn_node* node, const char* kernel, const pn_target* target, int32_t threads, uint32_t repeats,
                         uint64_t* best_ns) {
  Target t = read_target(target);
  if (t.tier > host_target().tier) {
    return to_c(fail(Status::kUnsupported, "this CPU does not run tier %s", tier_name(t.tier)));
  }
  const KernelDef* k = nullptr;
  if (kernel != nullptr) {
    k = find_kernel(kernel, t.tier);
    if (k == nullptr) return to_c(fail(Status::kUnsupported, "no kernel '%s' on tier %s", kernel, tier_name(t.tier)));
  }
  return to_c(evaluate(node, k, t, threads, repeats, best_ns));
}

}  // extern "C"
