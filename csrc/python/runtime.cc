// SPDX-License-Identifier: Apache-2.0
//
// Buffers, models and contexts. Verification happens before, in Python (pyneo/package/signing): what
// reaches Model() here are bytes that were verified, in memory that nobody else writes.
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "module.h"

namespace py = pybind11;

namespace pyneo_python {
namespace {

[[noreturn]] void raise(const char* type, const std::string& message) {
  PyErr_SetString(py::module_::import("pyneo.errors").attr(type).ptr(), message.c_str());
  throw py::error_already_set();
}

// Memory of the core's allocator: 64-byte aligned, huge pages advised when large.
struct Buffer {
  void* data;
  size_t bytes;
  explicit Buffer(size_t n) : data(nullptr), bytes(n) { check(pn_buffer_allocate(n, &data)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { pn_buffer_free(data, bytes); }
};

struct TensorInfo {
  std::string name;
  pn_tensor tensor{};
  py::dtype dtype;
};

// Runs what Python does for signals, so that Ctrl-C ends a loop that does not end.
int check_signals(void*) {
  const PyGILState_STATE gil = PyGILState_Ensure();
  const int raised = PyErr_CheckSignals();
  PyGILState_Release(gil);
  return raised;
}

std::string describe(const py::dtype& dtype, const pn_tensor& t) {
  std::string s = py::str(dtype).cast<std::string>() + " [";
  if (t.rank == PN_OPEN_RANK) return s + "...]";
  for (int k = 0; k < t.rank; ++k) s += (k ? ", " : "") + std::to_string(t.dims[k]);
  return s + "]";
}

bool open_dims(const pn_tensor& t) {
  if (t.rank == PN_OPEN_RANK) return true;
  for (int k = 0; k < t.rank; ++k) {
    if (t.dims[k] < 0) return true;
  }
  return false;
}

struct Model {
  py::object owner;  // keeps the bytes alive
  pn_model* model = nullptr;
  bool dynamic = false;  // shapes are bound at run time
  std::vector<TensorInfo> inputs, outputs;

  explicit Model(py::buffer buffer) : owner(buffer) {
    const py::buffer_info info = buffer.request();
    pn_open_options options{};
    options.struct_size = sizeof(options);
    options.allow_unsigned = 1;
    pn_status status;
    {
      py::gil_scoped_release free_gil;
      status = pn_model_open(info.ptr, static_cast<size_t>(info.size * info.itemsize), &options, &model);
    }
    check(status);
    for (uint32_t i = 0; i < pn_model_input_count(model); ++i) inputs.push_back(read(&pn_model_input, i));
    for (uint32_t i = 0; i < pn_model_output_count(model); ++i) outputs.push_back(read(&pn_model_output, i));
    for (const TensorInfo& t : inputs) dynamic |= open_dims(t.tensor);
    for (const TensorInfo& t : outputs) dynamic |= open_dims(t.tensor);
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model() { pn_model_close(model); }

  template <typename F>
  TensorInfo read(F get, uint32_t i) const {
    TensorInfo info;
    info.tensor.struct_size = sizeof(pn_tensor);
    const char* name = nullptr;
    check(get(model, i, &name, &info.tensor));
    info.name = name;
    info.dtype = numpy_dtype(info.tensor.dtype);
    return info;
  }
};

py::list tensor_infos(const std::vector<TensorInfo>& infos) {
  py::list result;
  for (const TensorInfo& t : infos) {
    if (t.tensor.rank == PN_OPEN_RANK) {
      result.append(py::make_tuple(t.name, t.dtype, py::none()));
      continue;
    }
    py::tuple shape(t.tensor.rank);
    for (size_t k = 0; k < t.tensor.rank; ++k) shape[k] = t.tensor.dims[k];
    result.append(py::make_tuple(t.name, t.dtype, shape));
  }
  return result;
}

// An array that the core can read in place: the given one where it is dense, aligned and native, else a copy.
py::array dense_input(const py::handle& given, const TensorInfo& expected) {
  if (!py::isinstance<py::array>(given)) {
    raise("InputTypeError", "input '" + expected.name + "' expects an array of " + describe(expected.dtype, expected.tensor) +
                                ", found " + py::str(py::type::of(given).attr("__name__")).cast<std::string>());
  }
  py::array a = py::reinterpret_borrow<py::array>(given);
  const py::dtype dtype = a.dtype();
  const bool usual = dtype.is(expected.dtype);  // numpy has one object for each native dtype
  const int number = usual ? expected.tensor.dtype : core_dtype(dtype);
  const bool same_dtype = number == expected.tensor.dtype || (expected.tensor.dtype == 16 && number == 4);
  bool same_shape = a.ndim() == expected.tensor.rank;
  for (int k = 0; same_shape && k < expected.tensor.rank; ++k) {
    same_shape = expected.tensor.dims[k] < 0 || a.shape(k) == expected.tensor.dims[k];
  }
  if (!same_dtype || !same_shape) {
    std::string found = py::str(dtype).cast<std::string>() + " [";
    for (py::ssize_t k = 0; k < a.ndim(); ++k) found += (k ? ", " : "") + std::to_string(a.shape(k));
    raise(same_dtype ? "InputError" : "InputTypeError",
          "input '" + expected.name + "' expects " + describe(expected.dtype, expected.tensor) + ", found " + found + "]" +
              (same_dtype ? "; reshape it" : "; convert it with astype"));
  }
  const bool aligned = reinterpret_cast<uintptr_t>(a.data()) % static_cast<uintptr_t>(a.itemsize()) == 0;
  const bool native = usual || dtype.byteorder() != '>';
  if ((a.flags() & py::array::c_style) && aligned && native) return a;
  return py::module_::import("numpy").attr("require")(a, expected.dtype, "CA").cast<py::array>();
}

// The caller's array for an output of tensor `t`.
py::array check_output(const py::handle& given, const TensorInfo& expected, const pn_tensor& t) {
  if (!py::isinstance<py::array>(given)) raise("InputTypeError", "out for '" + expected.name + "' is not an array");
  py::array a = py::reinterpret_borrow<py::array>(given);
  bool same = core_dtype(a.dtype()) == core_dtype(expected.dtype) && a.ndim() == t.rank;
  for (int k = 0; same && k < t.rank; ++k) same = a.shape(k) == t.dims[k];
  const bool dense = (a.flags() & py::array::c_style) && a.dtype().byteorder() != '>' &&
                     reinterpret_cast<uintptr_t>(a.data()) % static_cast<uintptr_t>(a.itemsize()) == 0;
  if (!same || !dense || !a.writeable()) {
    raise("InputError", "out for '" + expected.name + "' must be a writeable, C-contiguous array of " +
                            describe(expected.dtype, t));
  }
  return a;
}

// One pn_context behind a lock, so that threads that share it take turns.
struct Context {
  std::shared_ptr<Model> model;
  pn_context* context = nullptr;
  std::mutex mutex;
  int threads;

  Context(std::shared_ptr<Model> m, int thread_count) : model(std::move(m)), threads(thread_count) {
    pn_context_options options{};
    options.struct_size = sizeof(options);
    options.threads = threads;
    check(pn_context_create(model->model, &options, &context));
    check(pn_context_set_interrupt(context, &check_signals, nullptr));
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { pn_context_destroy(context); }

  // The arrays of one call, alive until it ends.
  struct Call {
    std::vector<py::array> inputs;
    py::list outputs;
    std::vector<pn_tensor> in, out;
  };

  Call prepare(const py::sequence& inputs, const py::object& outs) const {
    Call call;
    const size_t n_in = model->inputs.size(), n_out = model->outputs.size();
    if (inputs.size() != n_in) {
      raise("InputError", "the model takes " + std::to_string(n_in) + " inputs, found " + std::to_string(inputs.size()));
    }
    if (!outs.is_none() && py::len(outs) != n_out) {
      raise("InputError", "the model has " + std::to_string(n_out) + " outputs, out holds " + std::to_string(py::len(outs)));
    }
    call.inputs.reserve(n_in);
    call.in.reserve(n_in);
    call.out.reserve(n_out);
    for (size_t i = 0; i < n_in; ++i) {
      call.inputs.push_back(dense_input(py::object(inputs[i]), model->inputs[i]));
      pn_tensor t = model->inputs[i].tensor;
      for (int k = 0; k < t.rank; ++k) t.dims[k] = call.inputs.back().shape(k);
      t.data = const_cast<void*>(call.inputs.back().data());
      t.bytes = static_cast<uint64_t>(call.inputs.back().nbytes());
      call.in.push_back(t);
    }
    if (model->dynamic) return call;  // the outputs' shapes are not known yet
    for (size_t o = 0; o < n_out; ++o) {
      pn_tensor t = model->outputs[o].tensor;
      py::array y = output_array(t, o, outs);
      t.data = y.mutable_data();
      t.bytes = static_cast<uint64_t>(y.nbytes());
      call.out.push_back(t);
      call.outputs.append(std::move(y));
    }
    return call;
  }

  py::array output_array(const pn_tensor& t, size_t o, const py::object& outs) const {
    if (!outs.is_none()) return check_output(py::object(outs[py::int_(o)]), model->outputs[o], t);
    py::dtype dtype = model->outputs[o].dtype;  // the call takes a reference
    static_assert(sizeof(Py_intptr_t) == sizeof(t.dims[0]), "numpy's dims are ours");
    const auto& numpy = py::detail::npy_api::get();
    const auto* dims = reinterpret_cast<const Py_intptr_t*>(t.dims);
    PyObject* y = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, dtype.release().ptr(), t.rank, dims, nullptr, nullptr, 0, nullptr);
    if (y == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::array>(y);
  }

  // Copies a dynamic model's outputs out of the context, which the caller has locked.
  void collect(Call* call, const py::object& outs) {
    for (uint32_t o = 0; o < model->outputs.size(); ++o) {
      pn_tensor t{};
      t.struct_size = sizeof(t);
      check(pn_context_output(context, o, &t));
      py::array y = output_array(t, o, outs);
      if (t.bytes > 0) memcpy(y.mutable_data(), t.data, t.bytes);
      call->outputs.append(std::move(y));
    }
  }

  pn_status execute(const Call& call, bool profiled) {
    for (uint32_t i = 0; i < call.in.size(); ++i) {
      if (const pn_status s = pn_context_bind_input(context, i, &call.in[i])) return s;
    }
    for (uint32_t o = 0; o < call.out.size(); ++o) {
      if (const pn_status s = pn_context_bind_output(context, o, &call.out[o])) return s;
    }
    return profiled ? pn_context_run_profiled(context) : pn_context_run(context);
  }

  void reset() {
    py::gil_scoped_release free_gil;
    const std::lock_guard<std::mutex> turn(mutex);
    (void)pn_context_reset(context);
  }

  py::list run(const py::sequence& inputs, const py::object& outs) {
    Call call = prepare(inputs, outs);
    pn_status status;
    std::unique_lock<std::mutex> turn(mutex, std::defer_lock);
    {
      py::gil_scoped_release free_gil;
      turn.lock();
      status = execute(call, false);
      if (!model->dynamic) turn.unlock();
    }
    check(status);
    if (model->dynamic) collect(&call, outs);
    return std::move(call.outputs);
  }

  py::tuple profile(const py::sequence& inputs) {
    Call call = prepare(inputs, py::none());
    pn_status status;
    py::list entries;
    std::unique_lock<std::mutex> turn(mutex, std::defer_lock);
    {
      py::gil_scoped_release free_gil;
      turn.lock();
      status = execute(call, true);
    }
    if (status == PN_OK) {
      if (model->dynamic) collect(&call, py::none());
      for (uint32_t i = 0; i < pn_context_profile_count(context); ++i) {
        pn_profile_entry e{};
        e.struct_size = sizeof(e);
        if (pn_context_profile_entry(context, i, &e) != PN_OK) break;
        entries.append(py::make_tuple(e.name, e.op, e.kernel, e.start_ns, e.duration_ns, e.bytes_read, e.bytes_written, e.flops));
      }
    }
    check(status);
    return py::make_tuple(call.outputs, entries);
  }

  py::dict memory() const {
    pn_context_memory m{};
    m.struct_size = sizeof(m);
    check(pn_context_get_memory(context, &m));
    py::dict d;
    d["arena_bytes"] = m.arena_bytes;
    d["state_bytes"] = m.state_bytes;
    d["scratch_bytes"] = m.scratch_bytes;
    d["overhead_bytes"] = m.overhead_bytes;
    return d;
  }
};

}  // namespace

void bind_runtime(py::module_& m) {
  using py::arg;
  py::class_<Buffer>(m, "Buffer", py::buffer_protocol(), "Writable, 64-byte aligned memory; huge pages advised when large.")
      .def(py::init<size_t>(), arg("bytes"))
      .def("__len__", [](const Buffer& b) { return b.bytes; })
      .def_buffer([](Buffer& b) {
        return py::buffer_info(b.data, 1, py::format_descriptor<uint8_t>::format(), 1, {static_cast<py::ssize_t>(b.bytes)}, {1});
      });
  py::class_<Model, std::shared_ptr<Model>>(m, "Model", "A validated plan over a package's bytes, which it keeps alive.")
      .def(py::init<py::buffer>(), arg("package"))
      .def_property_readonly("inputs", [](const Model& m) { return tensor_infos(m.inputs); }, "[(name, dtype, shape)]")
      .def_property_readonly("outputs", [](const Model& m) { return tensor_infos(m.outputs); }, "[(name, dtype, shape)]; shape None: any rank")
      .def_property_readonly("state_count", [](const Model& m) { return pn_model_state_count(m.model); })
      .def_property_readonly("manifest", [](const Model& m) {
        const char* json = nullptr;
        size_t bytes = 0;
        check(pn_model_manifest(m.model, &json, &bytes));
        return py::bytes(json, bytes);
      });
  py::class_<Context>(m, "Context", "Arena and state of one session.")
      .def(py::init<std::shared_ptr<Model>, int>(), arg("model"), arg("threads") = 0)
      .def("run", &Context::run, arg("inputs"), arg("outs") = py::none(),
           "Output arrays for input arrays in the model's order. The GIL is free while it runs.")
      .def("profile", &Context::profile, arg("inputs"),
           "([outputs], [(node, op, kernel, start ns, duration ns, bytes read, bytes written)])")
      .def("reset", &Context::reset, "State begins at zero again with the next run.")
      .def_property_readonly("memory", &Context::memory);
}

}  // namespace pyneo_python
