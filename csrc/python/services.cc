// SPDX-License-Identifier: Apache-2.0
//
// Operators and kernels for the compiler and the tests. A node is (op, attrs block, inputs), an input being
// None (absent), a numpy array (known value) or a (dtype, shape[, layout]) tuple.
#include <cstring>
#include <string>
#include <vector>

#include "module.h"

namespace py = pybind11;

namespace pyneo_python {
namespace {

void set_shape(pn_tensor* t, const std::vector<int64_t>& shape) {
  if (shape.size() > PN_MAX_RANK) {
    throw py::value_error("rank " + std::to_string(shape.size()) + ", at most 8 is supported");
  }
  t->rank = static_cast<uint8_t>(shape.size());
  for (size_t k = 0; k < shape.size(); ++k) t->dims[k] = shape[k];
}

pn_tensor from_tuple(const py::handle& h) {
  const auto fields = py::reinterpret_borrow<py::tuple>(h);
  if (fields.size() < 2) throw py::type_error("a tensor is described by (dtype, shape), found a shorter tuple");
  pn_tensor t{};
  t.struct_size = sizeof(t);
  t.dtype = static_cast<uint8_t>(fields[0].cast<int>());
  set_shape(&t, fields[1].cast<std::vector<int64_t>>());
  if (fields.size() > 2) t.layout = static_cast<uint8_t>(fields[2].cast<int>());
  return t;
}

// Holds what a pn_node points to.
struct NodeArgs {
  std::string op;
  std::vector<uint64_t> attrs;  // 8-byte aligned copy
  std::vector<py::array> arrays;
  std::vector<pn_tensor> inputs, outputs;
  std::vector<const pn_tensor*> pointers;
  pn_node node{};

  NodeArgs(const std::string& name, const py::bytes& blob, const py::list& ins, const py::object& dtypes,
           size_t output_count)
      : op(name) {
    const std::string_view raw = blob;
    attrs.resize((raw.size() + 7) / 8);
    if (!raw.empty()) memcpy(attrs.data(), raw.data(), raw.size());
    inputs.resize(ins.size());
    pointers.resize(ins.size());
    for (size_t i = 0; i < ins.size(); ++i) {
      if (ins[i].is_none()) continue;
      inputs[i] = py::isinstance<py::tuple>(ins[i]) ? from_tuple(ins[i]) : from_array(ins[i]);
      if (!dtypes.is_none()) {
        const int given = dtypes.cast<py::list>()[i].cast<int>();
        if (given != 0) inputs[i].dtype = static_cast<uint8_t>(given);
      }
      pointers[i] = &inputs[i];
    }
    outputs.resize(output_count);
    for (pn_tensor& t : outputs) t.struct_size = sizeof(t);
    node.struct_size = sizeof(node);
    node.op = op.c_str();
    node.attrs = raw.empty() ? nullptr : attrs.data();
    node.attrs_bytes = raw.size();
    node.inputs = pointers.data();
    node.input_count = static_cast<uint32_t>(pointers.size());
    node.outputs = outputs.data();
    node.output_count = static_cast<uint32_t>(outputs.size());
  }

  pn_tensor from_array(const py::handle& h) {
    py::array a = py::array::ensure(h, py::array::c_style);
    if (!a) throw py::type_error("an input is not an array");
    pn_tensor t{};
    t.struct_size = sizeof(t);
    t.dtype = static_cast<uint8_t>(core_dtype(a.dtype()));
    if (t.dtype == 0) throw py::type_error("dtype " + py::str(a.dtype()).cast<std::string>() + " is not supported");
    set_shape(&t, std::vector<int64_t>(a.shape(), a.shape() + a.ndim()));
    t.data = const_cast<void*>(a.data());
    t.bytes = static_cast<uint64_t>(a.nbytes());
    arrays.push_back(std::move(a));
    return t;
  }
  void set_outputs(const py::list& tuples) {
    for (size_t o = 0; o < tuples.size(); ++o) outputs[o] = from_tuple(tuples[o]);
  }
};

py::tuple shape_of(const pn_tensor& t) {
  py::tuple s(t.rank);
  for (size_t k = 0; k < t.rank; ++k) s[k] = t.dims[k];
  return s;
}

// An empty array of the tensor's dtype and shape, whose memory the tensor then points to.
py::array own_output(pn_tensor* t) {
  py::array y(numpy_dtype(t->dtype), std::vector<py::ssize_t>(t->dims, t->dims + t->rank));
  t->data = y.mutable_data();
  t->bytes = static_cast<uint64_t>(y.nbytes());
  return y;
}

// None = this machine; else a dict with tier, cores, l1_bytes, l2_bytes, l3_bytes (absent: this machine's).
pn_target read_target(const py::object& target) {
  pn_target t{};
  pn_host_target(&t);
  if (target.is_none()) return t;
  const auto d = target.cast<py::dict>();
  if (d.contains("tier")) t.tier = d["tier"].cast<uint32_t>();
  if (d.contains("foreign")) t.foreign = d["foreign"].cast<int32_t>();
  if (d.contains("cores")) t.cores = d["cores"].cast<int32_t>();
  if (d.contains("l1_bytes")) t.l1_bytes = d["l1_bytes"].cast<int64_t>();
  if (d.contains("l2_bytes")) t.l2_bytes = d["l2_bytes"].cast<int64_t>();
  if (d.contains("l3_bytes")) t.l3_bytes = d["l3_bytes"].cast<int64_t>();
  return t;
}

py::list op_infer(const std::string& op, const py::bytes& attrs, const py::list& inputs, const py::object& dtypes,
                  size_t outputs) {
  NodeArgs a(op, attrs, inputs, dtypes, outputs);
  check(pn_op_infer(&a.node));
  py::list result;
  for (const pn_tensor& t : a.outputs) result.append(py::make_tuple(int{t.dtype}, shape_of(t)));
  return result;
}

uint64_t op_scratch(const std::string& op, const py::bytes& attrs, const py::list& inputs, const py::list& outputs) {
  NodeArgs a(op, attrs, inputs, py::none(), outputs.size());
  a.set_outputs(outputs);
  uint64_t bytes = 0;
  check(pn_op_scratch(&a.node, &bytes));
  return bytes;
}

py::list op_eval(const std::string& op, const py::bytes& attrs, const py::list& inputs, const py::object& dtypes,
                 size_t outputs) {
  NodeArgs a(op, attrs, inputs, dtypes, outputs);
  check(pn_op_infer(&a.node));
  py::list result;
  for (pn_tensor& t : a.outputs) result.append(own_output(&t));
  pn_status status;
  {
    py::gil_scoped_release free_gil;
    status = pn_op_eval(&a.node);
  }
  check(status);
  return result;
}

py::list kernel_list(const std::string& op, const py::bytes& attrs, const py::list& inputs, const py::list& outputs,
                     const py::object& target) {
  NodeArgs a(op, attrs, inputs, py::none(), outputs.size());
  a.set_outputs(outputs);
  const pn_target t = read_target(target);
  pn_kernel_info infos[64];
  uint32_t count = 64;
  check(pn_kernel_list(&a.node, &t, infos, &count));
  py::list result;
  for (uint32_t i = 0; i < count; ++i) {
    const pn_kernel_info& k = infos[i];
    py::dict d;
    d["name"] = k.name;
    d["tier"] = int{k.tier};
    d["layout_in"] = int{k.layout_in};
    d["layout_out"] = int{k.layout_out};
    d["packed_input"] = k.packed_input;
    d["cost_us"] = k.cost_us;
    d["packed_bytes"] = k.packed_bytes;
    d["scratch_bytes"] = k.scratch_bytes;
    d["thread_scratch_bytes"] = k.thread_scratch_bytes;
    d["absorbed_inputs"] = int{k.absorbed_inputs};
    result.append(d);
  }
  return result;
}

py::array kernel_pack(const std::string& op, const py::bytes& attrs, const py::list& inputs, const py::list& outputs,
                      const std::string& kernel, uint64_t bytes, const py::object& target) {
  NodeArgs a(op, attrs, inputs, py::none(), outputs.size());
  a.set_outputs(outputs);
  const pn_target t = read_target(target);
  py::array_t<uint8_t> packed(static_cast<py::ssize_t>(bytes));
  check(pn_kernel_pack(&a.node, kernel.c_str(), &t, packed.mutable_data(), bytes));
  return std::move(packed);
}

// --- kernel_eval: single kernels on plain arrays, for tests and tuning ------------------------------

bool blocked_layout(const pn_tensor& t) { return t.layout == 8 || t.layout == 16; }

size_t stored_elements(const pn_tensor& t) {
  int64_t n = 1;
  for (int k = 0; k < t.rank; ++k) n *= k == 1 ? (t.dims[1] + t.layout - 1) / t.layout * t.layout : t.dims[k];
  return static_cast<size_t>(n);
}

// Plain -> channel-blocked copy of a float32 tensor, or back.
void reorder(const float* from, float* to, const pn_tensor& t, bool to_blocked) {
  const int64_t b = t.layout, n = t.dims[0], c = t.dims[1], blocks = (c + b - 1) / b;
  int64_t plane = 1;
  for (int k = 2; k < t.rank; ++k) plane *= t.dims[k];
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t ch = 0; ch < c; ++ch) {
      for (int64_t p = 0; p < plane; ++p) {
        const int64_t plain = (i * c + ch) * plane + p, blocked = ((i * blocks + ch / b) * plane + p) * b + ch % b;
        if (to_blocked) {
          to[blocked] = from[plain];
        } else {
          to[plain] = from[blocked];
        }
      }
    }
  }
}

py::tuple kernel_eval(const std::string& op, const py::bytes& attrs, const py::list& inputs, const py::list& outputs,
                      const std::string& kernel, int threads, uint32_t repeats, const py::object& target,
                      float padding) {
  py::list plain;
  for (const auto& item : inputs) {
    plain.append(item.is_none() ? py::object(py::none()) : py::object(item.cast<py::tuple>()[0]));
  }
  NodeArgs a(op, attrs, plain, py::none(), outputs.size());
  a.set_outputs(outputs);
  // Every operand lies on a 64-byte border, as in an arena: vectors that straddle lines halve the speed.
  std::vector<std::vector<float>> buffers(inputs.size() + outputs.size());
  auto place = [&](size_t i, pn_tensor* t, size_t bytes, float fill) {
    std::vector<float>& b = buffers[i];
    b.assign((bytes + 3) / 4 + 16, fill);
    t->data = b.data() + (64 - reinterpret_cast<uintptr_t>(b.data()) % 64) % 64 / 4;
    t->bytes = bytes;
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].is_none()) continue;
    pn_tensor& t = a.inputs[i];
    const void* given = t.data;
    t.layout = static_cast<uint8_t>(inputs[i].cast<py::tuple>()[1].cast<int>());
    if (blocked_layout(t)) {
      place(i, &t, stored_elements(t) * sizeof(float), padding);
      reorder(static_cast<const float*>(given), static_cast<float*>(t.data), t, true);
    } else {
      place(i, &t, t.bytes, padding);
      if (t.bytes > 0) memcpy(t.data, given, t.bytes);
    }
  }
  py::list result;
  for (size_t o = 0; o < outputs.size(); ++o) {
    pn_tensor& t = a.outputs[o];
    result.append(own_output(&t));
    place(inputs.size() + o, &t, blocked_layout(t) ? stored_elements(t) * sizeof(float) : t.bytes, padding);
  }
  const pn_target machine = read_target(target);
  uint64_t best_ns = 0;
  pn_status status;
  {
    py::gil_scoped_release free_gil;
    status = pn_kernel_eval(&a.node, kernel.empty() ? nullptr : kernel.c_str(), &machine, threads, repeats, &best_ns);
  }
  check(status);
  for (size_t o = 0; o < outputs.size(); ++o) {
    const pn_tensor& t = a.outputs[o];
    auto y = result[o].cast<py::array>();
    if (blocked_layout(t)) {
      reorder(static_cast<const float*>(t.data), static_cast<float*>(y.mutable_data()), t, false);
    } else if (t.bytes > 0) {
      memcpy(y.mutable_data(), t.data, t.bytes);
    }
  }
  return py::make_tuple(result, best_ns);
}

py::dict host_target() {
  pn_target t{};
  pn_host_target(&t);
  py::dict d;
  d["tier"] = t.tier;
  d["cores"] = t.cores;
  d["l1_bytes"] = t.l1_bytes;
  d["l2_bytes"] = t.l2_bytes;
  d["l3_bytes"] = t.l3_bytes;
  return d;
}

py::tuple op_info(const std::string& op) {
  pn_op_info info{};
  check(pn_op_get_info(op.c_str(), &info));
  return py::make_tuple(info.flags, info.min_inputs, info.max_inputs, info.min_outputs, info.max_outputs);
}

py::list op_names() {
  py::list names;
  for (uint32_t i = 0; i < pn_op_count(); ++i) names.append(pn_op_name(i));
  return names;
}

}  // namespace

void bind_services(py::module_& m) {
  using py::arg;
  m.def("host_target", &host_target, "Tier, cores and caches of this machine.");
  m.def("op_names", &op_names, "Every operator of this library.");
  m.def("op_info", &op_info, "(flags, min inputs, max inputs, min outputs, max outputs)");
  m.def("op_infer", &op_infer, arg("op"), arg("attrs"), arg("inputs"), arg("dtypes") = py::none(), arg("outputs") = 1,
        "[(dtype, shape)] of the outputs. Inputs: None, array (value known) or (dtype, shape).");
  m.def("op_scratch", &op_scratch, arg("op"), arg("attrs"), arg("inputs"), arg("outputs"),
        "Bytes of scratch that the reference kernel wants.");
  m.def("op_eval", &op_eval, arg("op"), arg("attrs"), arg("inputs"), arg("dtypes") = py::none(), arg("outputs") = 1,
        "Outputs of the reference kernel. `dtypes` overrides dtype numbers (16: bfloat16 carried in uint16).");
  m.def("kernel_list", &kernel_list, arg("op"), arg("attrs"), arg("inputs"), arg("outputs"),
        arg("target") = py::none(), "Kernels that accept the node, cheapest first.");
  m.def("kernel_pack", &kernel_pack, arg("op"), arg("attrs"), arg("inputs"), arg("outputs"), arg("kernel"),
        arg("bytes"), arg("target") = py::none(), "The packed constant of a kernel, as uint8.");
  m.def("kernel_eval", &kernel_eval, arg("op"), arg("attrs"), arg("inputs"), arg("outputs"), arg("kernel"),
        arg("threads") = 1, arg("repeats") = 1, arg("target") = py::none(), arg("padding") = 0.0f,
        "Runs one node on plain arrays through `kernel` ('' = reference). Inputs: None or (array, layout); outputs: "
        "(dtype, shape, layout). Blocked operands are converted on the way in and out, their padding lanes holding "
        "`padding`; a packed operand is given plain. Returns ([arrays], best nanoseconds of `repeats`).");
}

}  // namespace pyneo_python
