// SPDX-License-Identifier: Apache-2.0
#include "pyneo/pyneo.h"

extern "C" const char* pn_version(void) { return PYNEO_VERSION; }
