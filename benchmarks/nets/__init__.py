# SPDX-License-Identifier: Apache-2.0
"""The architectures of the benchmark models, written out as exporters write them."""
