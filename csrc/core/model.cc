// SPDX-License-Identifier: Apache-2.0
#include "core/model.h"

#include <cstdio>
#include <cstring>
#include <new>

namespace pyneo {

using format::NodeRecord;
using format::TensorRecord;

Status Model::open(const void* package, size_t bytes, bool allow_unsigned, pn_verify_fn verify, void* user,
                   void* owned, Model** out) {
  Model* m = static_cast<Model*>(calloc(1, sizeof(Model)));
  if (m == nullptr) {
    if (owned != nullptr) free_block(owned, bytes);
    return fail(Status::kOutOfMemory, "out of memory: a model object of %zu bytes", sizeof(Model));
  }
  new (static_cast<void*>(m)) Model();
  m->owned_ = owned;
  m->owned_bytes_ = bytes;
  const Status s = [&] {
    PN_TRY(format::open_package(package, bytes, &m->package_));
    if (verify != nullptr) {
      if (verify(user, package, bytes) != PN_OK) {
        return fail(Status::kUntrusted, "the verifier refused the package: check that it is signed by a trusted key");
      }
    } else if (!allow_unsigned) {
      return fail(Status::kUntrusted, "no verifier was given: set pn_open_options.verify, or allow_unsigned for a "
                                      "package whose origin is checked by other means");
    }
    PN_TRY(format::PlanView::open(m->package_.plan, &m->plan_));
    PN_TRY(m->load());
    PN_TRY(m->check_tensors());
    PN_TRY(m->check_owners());
    PN_TRY(m->check_nodes());
    return m->dynamic() ? Status::kOk : m->check_memory();
  }();
  if (s != Status::kOk) {
    m->release();
    return s;
  }
  *out = m;
  return Status::kOk;
}

void Model::release() {
  if (refs_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  void* owned = owned_;
  const size_t bytes = owned_bytes_;
  this->~Model();
  free(this);
  if (owned != nullptr) free_block(owned, bytes);
}

bool Model::input_fits(int32_t input_index, const Shape& shape) const {
  const format::TensorRecord& r = plan_.tensor(input(input_index));
  if (shape.rank != r.rank) return false;
  for (int k = 0; k < shape.rank; ++k) {
    if (r.dims[k] >= 0) {
      if (shape[k] != r.dims[k]) return false;
    } else if (r.dims[k] != INT64_MIN) {
      const format::SymbolRecord& s = plan_.symbol(-1 - r.dims[k]);
      if (shape[k] < s.min || shape[k] > s.max) return false;
    }
  }
  return true;
}

const char* Model::format_input_shape(int32_t input_index, char* out, size_t n) const {
  const format::TensorRecord& r = plan_.tensor(input(input_index));
  size_t used = 0;
  auto put = [&](const char* format, auto... args) {
    if (used >= n) return;
    const int k = snprintf(out + used, n - used, format, args...);
    used += k > 0 ? static_cast<size_t>(k) : 0;
  };
  put("%s", "[");
  for (int k = 0; k < r.rank; ++k) {
    if (k > 0) put("%s", ", ");
    if (r.dims[k] >= 0 || r.dims[k] == INT64_MIN) {
      put("%lld", static_cast<long long>(r.dims[k] < 0 ? -1 : r.dims[k]));
      continue;
    }
    const format::SymbolRecord& s = plan_.symbol(-1 - r.dims[k]);
    if (s.min > 0) put("%lld<=", static_cast<long long>(s.min));
    put("%s", plan_.string(s.name));
    if (s.max < INT32_MAX) put("<=%lld", static_cast<long long>(s.max));
  }
  put("%s", "]");
  return out;
}

int64_t Model::overhead_bytes() const {
  return static_cast<int64_t>(sizeof(Model)) + tensors_.size() * static_cast<int64_t>(sizeof(ModelTensor)) +
         nodes_.size() * static_cast<int64_t>(sizeof(ModelNode)) +
         graphs_.size() * static_cast<int64_t>(sizeof(ModelGraph)) + 12 * home_.size();
}

Status Model::load() {
  PN_TRY(tensors_.allocate(plan_.tensor_count()));
  for (int32_t i = 0; i < plan_.tensor_count(); ++i) {
    const TensorRecord& r = plan_.tensor(i);
    ModelTensor& t = tensors_[i];
    t.desc.dtype = static_cast<DType>(r.dtype);
    t.desc.layout = static_cast<Layout>(r.layout);
    t.open_rank = r.rank == format::kOpenRank;
    t.desc.shape.rank = t.open_rank ? 0 : r.rank;
    for (int k = 0; k < t.desc.shape.rank; ++k) t.desc.shape[k] = r.dims[k];
    t.storage = static_cast<format::Storage>(r.storage);
    t.root = i;
    t.offset = static_cast<int64_t>(r.offset);
    t.bytes = static_cast<int64_t>(r.bytes);
    t.name = plan_.string(r.name);
  }
  PN_TRY(nodes_.allocate(plan_.node_count()));
  target_ = host_target();
  if (plan_.header().tier < static_cast<uint32_t>(target_.tier)) target_.tier = static_cast<Tier>(plan_.header().tier);
  const Tier tier = target_.tier;
  for (int32_t i = 0; i < plan_.node_count(); ++i) {
    const NodeRecord& r = plan_.node(i);
    ModelNode& n = nodes_[i];
    n.name = plan_.string(r.name);
    n.op = find_op(plan_.string(r.op));
    if (n.op == nullptr) {
      return fail(Status::kUnsupported, "node '%s': operator '%s' is not in this library: the package needs a newer pyneo",
                  n.name, plan_.string(r.op));
    }
    const char* kernel = plan_.string(r.kernel);
    if (kernel[0] != 0) {
      n.kernel = find_kernel(kernel, tier);
      if (n.kernel == nullptr || strcmp(n.kernel->op, n.op->name) != 0) {
        return fail(Status::kUnsupported,
                    "node '%s': kernel '%s' is not available on this CPU (tier %s): compile the model for this target",
                    n.name, kernel, tier_name(tier));
      }
    }
    n.attrs = plan_.attrs(r);
    n.inputs = plan_.operands(r.operands);
    n.outputs = n.inputs + r.inputs;
    n.n_in = r.inputs;
    n.n_out = r.outputs;
    n.scratch = r.scratch;
    n.subgraph = r.subgraph;
    n.subgraphs = r.subgraphs;
    n.control = strcmp(n.op->name, "If") == 0     ? Control::kIf
                : strcmp(n.op->name, "Loop") == 0 ? Control::kLoop
                : strcmp(n.op->name, "Scan") == 0 ? Control::kScan
                                                  : Control::kNone;
  }
  PN_TRY(graphs_.allocate(plan_.graph_count()));
  for (int32_t i = 0; i < plan_.graph_count(); ++i) {
    const format::GraphRecord& r = plan_.graph(i);
    graphs_[i] = ModelGraph{static_cast<int32_t>(r.node_begin),   static_cast<int32_t>(r.node_begin + r.node_count),
                            plan_.operands(r.input_begin),        plan_.operands(r.output_begin),
                            static_cast<int32_t>(r.input_count),  static_cast<int32_t>(r.output_count),
                            -1, -1, 0};
  }
  return Status::kOk;
}

}  // namespace pyneo
