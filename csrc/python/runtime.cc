// SPDX-License-Identifier: Apache-2.0
#include "module.h"

namespace pyneo_python {

void bind_runtime(pybind11::module_&) {}

}  // namespace pyneo_python
