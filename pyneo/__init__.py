# SPDX-License-Identifier: Apache-2.0
"""pyneo: compile a model once, sign it, run it fast on any CPU."""
