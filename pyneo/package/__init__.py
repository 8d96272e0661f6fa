# SPDX-License-Identifier: Apache-2.0
"""The `.neo` file: container, manifest, and the Package object. Signing lives in `pyneo.package.signing`."""
