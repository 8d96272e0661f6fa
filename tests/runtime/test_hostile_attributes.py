# SPDX-License-Identifier: Apache-2.0
"""Hostile cases 32 to 34: impossible attributes, axes and scales inside a correctly signed package.

Every one of them is refused in a sentence, before anything of it runs, or runs to the right answer.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pyneo.compiler.lower.attrs import pack_attrs
from tests.support.hostile_plans import EVERY, I32, I64, plan, refused, survives
from tests.support.plan_records import CONST, Plan

# ---- 32, 33: attributes -------------------------------------------------------------------------


def attrs_of(p: Plan, n: dict) -> dict[str, tuple[int, int, int]]:
    """name -> (type, count, where its values lie in the table of attributes)."""
    if n["attrs_bytes"] == 0:
        return {}
    at = n["attrs_offset"]
    found = {}
    for i in range(struct.unpack_from("<I", p.attrs, at)[0]):
        name, kind, count, offset, _ = struct.unpack_from("<32sIIII", p.attrs, at + 8 + 48 * i)
        found[name.rstrip(b"\0").decode()] = (kind, count, at + offset)
    return found


@pytest.mark.parametrize(
    "name, attr, bad",
    [
        ("conv", "strides", [0, 0]),
        ("conv", "strides", [-1, 1]),
        ("conv", "strides", [1]),
        ("conv", "dilations", [0, 1]),
        ("conv", "dilations", [I64, I64]),
        ("conv", "group", [0]),
        ("conv", "group", [3]),
        ("conv", "group", [-1]),
        ("conv", "pads", [I32] * 4),
        ("conv", "pads", [I64] * 4),
        ("conv", "pads", [-9] * 4),
        ("conv", "kernel_shape", [99, 99]),
        ("depthwise", "group", [0]),
        ("depthwise", "group", [2]),
        ("deconv", "strides", [0, 0]),
        ("deconv", "group", [0]),
        ("deconv", "pads", [I32] * 4),
        ("deconv", "output_padding", [I64, I64]),
        ("max_pool", "strides", [0, 0]),
        ("max_pool", "kernel_shape", [0, 0]),
        ("max_pool", "kernel_shape", [99, 99]),
        ("max_pool", "pads", [I32] * 4),
        ("average_pool", "strides", [0, 0]),
        ("average_pool", "kernel_shape", [I64, I64]),
        ("average_pool", "pads", [I64] * 4),
        ("lp_pool", "kernel_shape", [99, 99]),
        ("softmax", "axis", [3]),
        ("softmax", "axis", [-4]),
        ("transpose", "perm", [0, 0, 1]),
        ("transpose", "perm", [0, 1, 3]),
        ("transpose", "perm", [0, 1]),
        ("arg_max", "axis", [3]),
        ("to_depth", "blocksize", [0]),
        ("to_depth", "blocksize", [-2]),
        ("to_depth", "blocksize", [I64]),
        ("to_space", "blocksize", [0]),
        ("to_space", "blocksize", [3]),
        ("gather", "axis", [3]),
        ("gather_elements", "axis", [2]),
        ("gather_nd", "batch_dims", [-1]),
        ("gather_nd", "batch_dims", [2]),
        ("top_k", "axis", [2]),
        ("split", "axis", [-3]),
        ("lrn", "size", [0]),
        ("layer_norm", "axis", [5]),
        ("lstm", "hidden_size", [0]),
        ("lstm", "hidden_size", [I64]),
    ],
)
def test_case_32_and_33_impossible_attributes_are_refused(name, attr, bad):
    p = plan(name)
    n = next(n for n in p.nodes if n["attrs_bytes"])
    values = {}
    for other, (kind, count, at) in attrs_of(p, n).items():
        form = {1: "q", 2: "f", 3: "s"}[kind]
        found = struct.unpack_from(f"<{count}{form}", p.attrs, at)
        values[other] = b"".join(found).decode() if kind == 3 else list(found)
    p.set_attrs(n, pack_attrs(values | {attr: bad}))
    refused(p, "node")


@pytest.mark.parametrize("name", [n for n in EVERY if n != "dynamic"])
def test_case_32_any_number_in_any_attribute_is_refused_or_runs(name):
    hostile = [0, -1, 1, 3, 9, I32, -(2**31), 2**32, I64, -(2**63), 2**62]
    p = plan(name)
    good = bytes(p.attrs)
    for n in p.nodes:
        for kind, count, at in attrs_of(p, n).values():
            if kind != 1:
                continue
            for bad in hostile:
                for k in range(count):
                    struct.pack_into("<q", p.attrs, at + 8 * k, bad)
                    survives(p)
                    p.attrs[:] = good
                struct.pack_into(f"<{count}q", p.attrs, at, *[bad] * count)
                survives(p)
                p.attrs[:] = good


@pytest.mark.parametrize("name", [n for n in EVERY if n != "dynamic"])
def test_case_33_any_number_in_any_integer_constant_is_refused_or_runs(name):
    """Axes, starts, repeats, sizes: what operators read of their inputs while shapes are inferred."""
    p = plan(name)
    good = bytes(p.weights)
    for t in p.tensors:
        if t["storage"] == CONST and t["dtype"] == 7:
            for bad in (0, -1, 1, 3, 9, I32, -(2**31), 2**40, I64, -(2**63)):
                for at in range(t["offset"], t["offset"] + t["bytes"], 8):
                    struct.pack_into("<q", p.weights, at, bad)
                    survives(p)
                    p.weights[:] = good


@pytest.mark.parametrize("axes", [[0, 0], [2, -1], [0, 3], [-4, 0], [I64, 0]])
def test_case_33_duplicate_axes_and_axes_out_of_range_are_refused(axes):
    """ONNX lets a reduction name an axis twice, but then its result has another shape than the plan says."""
    p = plan("reduce_sum")
    p.set_const("axes", np.array(axes))
    refused(p, "axis|declared")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda b: b[:-8], "size differs"),
        (lambda b: b[:4], "shorter than its header"),
        (lambda b: struct.pack("<II", 65, len(b)) + b[8:], "more than 64"),
        (lambda b: struct.pack("<II", 60, len(b)) + b[8:], "longer than the block"),
        (lambda b: struct.pack("<II", 1, 2**32 - 1) + b[8:], "size differs"),
        (lambda b: b[:8] + b"n" * 32 + b[40:], "longer than 31"),
        (lambda b: b[:8] + bytes(32) + b[40:], "name is empty"),
        (lambda b: b[:40] + struct.pack("<I", 9) + b[44:], "unknown attribute type"),
        (lambda b: b[:40] + struct.pack("<I", 0) + b[44:], "unknown attribute type"),
        (lambda b: b[:44] + struct.pack("<I", 2**32 - 1) + b[48:], "past the end"),
        (lambda b: b[:48] + struct.pack("<I", 2**32 - 8) + b[52:], "outside the block"),
        (lambda b: b[:48] + struct.pack("<I", 9) + b[52:], "outside the block"),
        (lambda b: b[:48] + struct.pack("<I", 0) + b[52:], "outside the block"),
        (lambda b: b[:40] + struct.pack("<II", 4, 2**32 - 1) + b[48:], "past the end"),
        (lambda b: b[:52] + struct.pack("<I", 1) + b[56:], "reserved"),
    ],
)
def test_case_32_a_malformed_attribute_block_is_refused(change, words):
    p = plan("softmax")
    p.set_attrs(p.nodes[0], change(pack_attrs({"axis": [1]})))
    refused(p, words)


def test_case_32_an_attribute_block_outside_its_table_is_refused():
    for field, bad in (("attrs_offset", 2**64 - 8), ("attrs_offset", 4), ("attrs_bytes", 2**32 - 1)):
        p = plan("softmax")
        p.nodes[0][field] = bad
        refused(p, "attribute")


def test_case_32_a_string_table_without_an_end_is_refused():
    for strings in (b"", b"x\0", b"\0x"):
        p = plan("relu")
        p.strings = bytearray(strings)
        refused(p, "string table")


# ---- 34: quantisation ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, -np.inf, -0.0])
def test_case_34_an_impossible_scale_is_refused(scale):
    for k in range(3):
        p = plan("quantize")
        values = np.ones(3, np.float32)
        values[k] = scale
        p.set_const("s", values)
        refused(p, f"scale {k} is .*expected a finite number above 0")


def test_case_34_a_scale_of_another_count_is_refused():
    for count in (0, 2):
        p = plan("quantize")
        p.tensor("s").update(dims=[count] + [0] * 7, bytes=4 * count)
        refused(p, "scale")


def test_case_34_a_zero_point_of_another_type_is_refused():
    p = plan("quantize")
    p.tensor("z")["dtype"] = 3
    assert not survives(p)


def test_case_32_a_message_that_quotes_broken_text_is_one_line_of_utf8():
    p = plan("conv")
    block = pack_attrs({"auto_pad": "MARK"}).replace(b"MARK", b"\n\xffA\x1b")
    p.set_attrs(next(n for n in p.nodes if n["attrs_bytes"]), block)
    refused(p, r"\?\?A\?")
