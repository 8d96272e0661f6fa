# SPDX-License-Identifier: Apache-2.0
"""What can be had of operators on text while the core knows strings as codes only (strings.py)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....ir.graph import DType, Value
from ..limits import Problem
from .rule import Emitter, Op, ints, rule

_CASES: dict[str, Callable[[str], str]] = {"LOWER": str.lower, "UPPER": str.upper, "NONE": str}


@rule("StringNormalizer")
def string_normalizer(op: Op, b: Emitter) -> bool:
    """Stop words leave; if nothing is left, one empty string is. Letters change case in constants only."""
    action, exact = op.take_str("case_change_action", "NONE"), op.take_int("is_case_sensitive", 0)
    given = op.attrs.pop("stopwords", None)
    words = [str(w) for w in given] if isinstance(given, list) else []
    change = _CASES.get(action)
    if change is None:
        raise Problem(f"case_change_action is {action!r}, expected NONE, LOWER or UPPER")
    out, texts = op.outputs[0], op.const(0)
    assert out is not None
    if texts is not None:
        stop = {w if exact else w.lower() for w in words}
        kept = [str(t) for t in texts.reshape(-1) if (str(t) if exact else str(t).lower()) not in stop]
        result = np.array([change(t) for t in kept] or [""], object)
        result = result.reshape(*texts.shape[:-1], -1)
        b.become(out, Value(out.name, DType.STRING, result.shape, result))
        return True
    if action != "NONE" or (words and not exact):
        raise Problem(
            "it looks into them: letters of strings that are not known when the model is compiled; change "
            "their case before predict"
        )
    out.dtype = DType.STRING
    if not words:
        b.emit_into("Identity", op.inputs[:1], None, [out])
        return True
    x = op.required(0)
    (flat,) = b.emit("Reshape", [x, ints(b, [-1])])
    (keep,) = b.emit(
        "ai.onnx.ml.LabelEncoder", [flat],
        {"keys_int64s": [b.code(w) for w in words], "values_int64s": [0] * len(words), "default_int64": [1]},
    )  # fmt: skip
    (some,) = b.emit("ReduceMax", [b.emit("Concat", [keep, ints(b, [0])], {"axis": [0]})[0]])
    (keep,) = b.emit("Concat", [keep, b.emit("Sub", [ints(b, [1]), some])[0]], {"axis": [0]})
    (flags,) = b.emit("Cast", [keep], {"to": [int(DType.BOOL)]})
    (all_texts,) = b.emit("Concat", [flat, b.const(np.array([""], object), DType.STRING)], {"axis": [0]})
    rows = x.shape is not None and len(x.shape) == 2
    (kept_texts,) = b.emit("Compress", [all_texts, flags], {"axis": [0]})
    b.emit_into("Reshape", [kept_texts, ints(b, [1, -1] if rows else [-1])], None, [out])
    return True
