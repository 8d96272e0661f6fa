// SPDX-License-Identifier: Apache-2.0
#include "module.h"

namespace py = pybind11;

namespace pyneo_python {

void check(pn_status status) {
  if (status == PN_OK) return;
  if (status == PN_INTERRUPTED && PyErr_Occurred() != nullptr) throw py::error_already_set();  // a signal handler's
  const py::tuple types = py::module_::import("pyneo.errors").attr("BY_STATUS");
  const auto i = static_cast<size_t>(status);
  PyErr_SetString(types[i < types.size() ? i : 0].ptr(), pn_last_error());
  throw py::error_already_set();
}

namespace {

struct Entry {
  int number;
  char kind;
  int size;
  const char* name;
};

constexpr Entry kDtypes[] = {
    {1, 'f', 4, "float32"}, {2, 'u', 1, "uint8"},  {3, 'i', 1, "int8"},     {4, 'u', 2, "uint16"},
    {5, 'i', 2, "int16"},   {6, 'i', 4, "int32"},  {7, 'i', 8, "int64"},    {9, 'b', 1, "bool"},
    {10, 'f', 2, "float16"}, {11, 'f', 8, "float64"}, {12, 'u', 4, "uint32"}, {13, 'u', 8, "uint64"},
};

}  // namespace

py::dtype numpy_dtype(int dtype) {
  for (const Entry& e : kDtypes) {
    if (e.number == dtype) return py::dtype(e.name);
  }
  if (dtype == 16) return py::dtype("uint16");
  throw py::type_error("dtype number " + std::to_string(dtype) + " has no numpy counterpart");
}

int core_dtype(const py::dtype& dtype) {
  for (const Entry& e : kDtypes) {
    if (e.kind == dtype.kind() && e.size == dtype.itemsize()) return e.number;
  }
  return 0;
}

}  // namespace pyneo_python

PYBIND11_MODULE(_core, m) {
  m.doc() = "The native core of pyneo. Internal: use the pyneo package.";
  m.attr("__version__") = pn_version();
  pyneo_python::bind_services(m);
  pyneo_python::bind_planner(m);
  pyneo_python::bind_runtime(m);
  pyneo_python::bind_limits(m);
}
