# SPDX-License-Identifier: Apache-2.0
"""An exported model in pyneo against ONNX Runtime and against the library that it comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

import pyneo


def data(rows: int = 300, features: int = 8, classes: int = 0, seed: int = 0) -> tuple[Any, Any]:
    """Features, and classes (0 up) or a number that follow from them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)).astype(np.float32)
    score = x[:, 0] * 2 + np.sin(3 * x[:, 1]) + x[:, 2] * x[:, 3]
    if classes == 0:
        return x, score.astype(np.float32)
    edges = np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1])
    return x, np.digitize(score, edges)


def plain(value: Any) -> Any:
    """A result as an array: of a list of dicts the values, their keys checked to be alike."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        assert all(list(row) == list(value[0]) for row in value)
        return np.array([list(row.values()) for row in value])
    return np.asarray(value)


def same(got: Any, want: Any, rtol: float, atol: float, what: str) -> None:
    if isinstance(want, list) and want and isinstance(want[0], dict):
        assert [list(row) for row in got] == [list(row) for row in want], what
    a, b = plain(got), plain(want)
    if what.startswith("the source") and a.size == b.size:  # some converters add a dim of one
        b = b.reshape(a.shape)
    assert a.shape == b.shape, (what, a.shape, b.shape)
    if b.dtype.kind in "fc":
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=what)
    else:
        np.testing.assert_array_equal(a, b.astype(a.dtype), err_msg=what)


def agree(
    exported: onnx.ModelProto,
    feeds: np.ndarray | dict[str, np.ndarray],
    source: dict[int, Any] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    shapes: dict[str, Any] | None = None,
) -> None:
    """All rows, some, and one by one. source: by output, what the library itself predicts for all rows."""
    if not isinstance(feeds, dict):
        feeds = {exported.graph.input[0].name: feeds}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        exported.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    package = pyneo.compile(exported, shapes=shapes)
    with pyneo.Model.load(package, allow_unsigned=True) as model:
        names = [t.name for t in model.outputs]
        assert names == [o.name for o in session.get_outputs()]
        for rows in (slice(None), slice(0, 17), slice(3, 4)):
            some = {name: np.ascontiguousarray(x[rows]) for name, x in feeds.items()}
            got = model.predict(some)
            for name, want in zip(names, session.run(None, some), strict=True):
                same(got[name], want, rtol, atol, f"onnxruntime, output {name}, rows {rows}")
            if rows == slice(None):
                for at, want in (source or {}).items():
                    same(got[names[at]], want, rtol, atol, f"the source, output {names[at]}")
