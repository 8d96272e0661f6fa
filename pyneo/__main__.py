# SPDX-License-Identifier: Apache-2.0
"""`python -m pyneo` is the pyneo command."""

import sys

from pyneo.cli import main

sys.exit(main())
