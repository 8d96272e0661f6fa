# SPDX-License-Identifier: Apache-2.0
"""Puts tests/package on the path, so that its tests share forge.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
