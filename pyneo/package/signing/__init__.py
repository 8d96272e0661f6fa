# SPDX-License-Identifier: Apache-2.0
"""Keys, envelope, trust and verification: import them from their modules, which cost nothing until used."""
