// SPDX-License-Identifier: Apache-2.0
//
// The pybind11 module `pyneo._core`: a thin face of pyneo.h and nothing else of the core.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "pyneo/pyneo.h"

namespace pyneo_python {

// Raises the Python exception (pyneo.errors) that belongs to a status other than PN_OK.
void check(pn_status status);

// numpy dtype of a core dtype number; bfloat16 is carried as uint16.
pybind11::dtype numpy_dtype(int dtype);
// Core dtype number of a numpy dtype, 0 if it has none.
int core_dtype(const pybind11::dtype& dtype);

void bind_services(pybind11::module_& m);  // operators and kernels: for the compiler
void bind_planner(pybind11::module_& m);   // memory plan and its checker
void bind_runtime(pybind11::module_& m);   // buffers, models, contexts
void bind_limits(pybind11::module_& m);    // what a core can do at most

}  // namespace pyneo_python
