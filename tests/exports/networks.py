# SPDX-License-Identifier: Apache-2.0
"""Networks as torch and transformers export them, in pyneo against ONNX Runtime."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime

import pyneo


def export(module: Any, inputs: Mapping[str, Any], opset: int = 17, dynamic: Any = None) -> onnx.ModelProto:
    """The module as the TorchScript exporter writes it."""
    import torch

    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            file,
            input_names=list(inputs),
            dynamic_axes=dynamic,
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load_from_string(file.getvalue())


def agree(
    model: onnx.ModelProto, *feeds: Mapping[str, Any], shapes: Any = None, worst: float = 1e-4
) -> pyneo.Model:
    """Every output of every feed agrees with ONNX Runtime's within `worst` of its largest number."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    peer = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    compiled = pyneo.Model.load(pyneo.compile(model, shapes=shapes), allow_unsigned=True)
    taken = {i.name for i in peer.get_inputs()}
    for given in feeds:
        feed = {k: np.asarray(v) for k, v in given.items() if k in taken}
        wanted = peer.run(None, feed)
        got = compiled.predict(feed)
        results = [got[o.name] for o in peer.get_outputs()] if isinstance(got, dict) else [got]
        for want, have in zip(wanted, results, strict=True):
            assert have.shape == want.shape and have.dtype == want.dtype
            scale = np.abs(want.astype(np.float64)).max(initial=0) + 1e-30
            error = np.abs(have.astype(np.float64) - want.astype(np.float64)).max(initial=0)
            assert error <= worst * scale, f"off by {error / scale:.1e} of the output's scale"
    return compiled
