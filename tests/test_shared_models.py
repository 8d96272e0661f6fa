# SPDX-License-Identifier: Apache-2.0
"""Real models of public repositories agree with their own runtime's reference (PYNEO_MODELS: the folder)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import pyneo

ROOT = Path(__file__).resolve().parents[1]
MODELS = Path(os.environ.get("PYNEO_MODELS") or ROOT.parent / "shared" / "models")
needs_models = pytest.mark.skipif(
    not (MODELS / "onnx").is_dir(),
    reason=f"the folder {MODELS} has no models; set PYNEO_MODELS to the folder that holds them",
)

# Relative and absolute tolerance of a model that computes in less than fp32.
TOLERANCES = {"SqueezeNet_fp16": (2.0**-7, 2.0**-10)}
CLASSIFIERS = ("ImageClassifier", "mnist_8/model", "model_quantized", "SqueezeNet_fp16", "magika")
# This decoder adds a mask over the keys of one batch entry: onnxruntime refuses any other batch too.
BATCH_OF_ONE = "random_decoder"


def _known() -> list[Path]:
    return sorted((MODELS / "onnx").glob("*/*.onnx"))


def _id(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


RUNNABLE = _known()


def _reference(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and outputs by name; an output stored in part keeps its suffix."""
    inputs: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    with np.load(path.with_suffix(".ref.npz"), allow_pickle=False) as arrays:
        for key in arrays.files:
            kind, name = key.split("::", 1)
            if name.endswith("::regenerate"):
                # As the README says, an expression of numpy alone: np.random.default_rng(0).random((1, 3)).
                expression, names = str(arrays[key]), {"np": np, "__builtins__": {}}
                inputs[name.removesuffix("::regenerate")] = eval(expression, names)
            else:
                (inputs if kind == "in" else outputs)[name] = arrays[key]
    return inputs, outputs


@needs_models
@pytest.mark.parametrize("path", RUNNABLE, ids=_id)
def test_model_agrees_with_its_reference(path: Path) -> None:
    inputs, expected = _reference(path)
    shapes = {k: (1, *x.shape[1:]) for k, x in inputs.items()} if path.stem == BATCH_OF_ONE else None
    model = pyneo.Model.load(pyneo.compile(path, shapes=shapes), allow_unsigned=True)
    got = model.predict(inputs)
    rtol, atol = TOLERANCES.get(path.stem, (1e-3, 1e-5))
    assert len(expected) == len(got)
    for key, reference in expected.items():
        name = key.removesuffix("::flat_stride_64")
        whole = got[name]
        found = whole.reshape(-1)[::64] if name != key else whole
        assert found.shape == reference.shape and found.dtype == reference.dtype
        np.testing.assert_allclose(found, reference, rtol=rtol, atol=atol, err_msg=name)
        if any(c in _id(path) for c in CLASSIFIERS):
            assert found.reshape(-1).argmax() == reference.reshape(-1).argmax()


def _resized(model: pyneo.Model, size: int) -> dict[str, np.ndarray]:
    """Inputs of which every open dim has a size of its own, those of one name the same."""
    sizes: dict[int | str, int] = {}
    feeds = {}
    for t in model.inputs:
        shape = [d if isinstance(d, int) else sizes.setdefault(d, size + len(sizes)) for d in t.shape]
        # Tokens and masks are 0 or 1; bytes take all their values, or the variance of what follows cancels.
        end = 257 if t.name == "bytes" else 2
        feeds[t.name] = np.random.default_rng(size).integers(0, end, shape).astype(t.dtype)
    return feeds


OPEN = ("ImageClassifier", "lgbm_regressor", "magika", "dummy_transformer", "random_encoder", "xgboost")


@needs_models
@pytest.mark.parametrize("path", [p for p in RUNNABLE if any(n in _id(p) for n in OPEN)], ids=_id)
def test_a_model_with_open_dims_agrees_with_onnxruntime_at_other_sizes(path: Path) -> None:
    model = pyneo.Model.load(pyneo.compile(path), allow_unsigned=True)
    peer = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for size in (2, 5, 2):
        feeds = _resized(model, size)
        got = model.predict(feeds)
        for info, reference in zip(peer.get_outputs(), peer.run(None, feeds), strict=True):
            np.testing.assert_allclose(got[info.name], reference, rtol=1e-3, atol=1e-5, err_msg=info.name)


@needs_models
def test_mnist_has_the_accuracy_of_onnxruntime_on_five_thousand_images() -> None:
    path = MODELS / "onnx" / "mnist_8" / "model.onnx"
    with np.load(MODELS / "labelled" / "mnist_t10k_even.npz") as arrays:
        images, labels = arrays["images"], arrays["labels"]
    model = pyneo.Model.load(pyneo.compile(path), allow_unsigned=True, threads=1)
    peer = onnxruntime.InferenceSession(
        onnx.load(path).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    inputs = images.astype(np.float32)[:, None, None]
    mine = np.array([model.predict(x).argmax() for x in inputs])
    theirs = np.array([peer.run(None, {"Input3": x})[0].argmax() for x in inputs])
    assert len(labels) == 5000
    np.testing.assert_array_equal(mine, theirs)
    assert (mine == labels).mean() == (theirs == labels).mean() > 0.98
