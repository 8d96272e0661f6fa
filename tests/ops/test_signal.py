# SPDX-License-Identifier: Apache-2.0
"""DFT, STFT and MelWeightMatrix against numpy.fft, ONNX Runtime and onnx.reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import BF16, check_all, evaluate, normal, onnx_reference, ort

LENGTHS = [1, 2, 3, 8, 12, 17, 64, 100, 127]


def number(v: int | float, dtype: Any = np.int64) -> np.ndarray:
    return np.array(v, dtype)


def pairs(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], -1)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dft_forward_and_back(n: int, dtype: Any) -> None:
    x = normal(3, n, 2, dtype=dtype)
    z = x[..., 0] + 1j * x[..., 1]
    tight = {"rtol": 1e-10, "atol": 1e-10} if dtype is np.float64 else {"rtol": 1e-5, "atol": 1e-4}
    check_all(evaluate("DFT", [x]), [pairs(np.fft.fft(z)).astype(dtype)], **tight)
    check_all(evaluate("DFT", [x], inverse=1), [pairs(np.fft.ifft(z)).astype(dtype)], **tight)
    check_all(evaluate("DFT", evaluate("DFT", [x]), inverse=1), [x], **tight)


@pytest.mark.parametrize("n", LENGTHS)
def test_onesided_transforms(n: int) -> None:
    x = normal(2, n, 1)
    half = evaluate("DFT", [x], onesided=1)
    check_all(half, [pairs(np.fft.rfft(x[..., 0])).astype(np.float32)], atol=1e-4)
    back = evaluate("DFT", [half[0], number(n)], onesided=1, inverse=1)
    check_all(back, [x], atol=1e-5)
    if n > 1:
        want = np.fft.irfft(half[0][..., 0] + 1j * half[0][..., 1])[..., None].astype(np.float32)
        check_all(evaluate("DFT", half, onesided=1, inverse=1), [want], atol=1e-5)


@pytest.mark.parametrize("length", [None, 5, 16, 20])
@pytest.mark.parametrize("axis", [0, 1, 2, -2, -3])
@pytest.mark.parametrize("onesided", [0, 1])
def test_dft_axes_and_lengths(length: int | None, axis: int, onesided: int) -> None:
    x = normal(4, 16, 3, 1)
    inputs = [x, None if length is None else number(length), number(axis)]
    check_all(
        evaluate("DFT", inputs, onesided=onesided), ort("DFT", inputs, opset=20, onesided=onesided), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_dft_of_narrow_floats(dtype: Any) -> None:
    x = normal(2, 12, 1, dtype=dtype)
    want = pairs(np.fft.fft(x[..., 0].astype(np.float64))).astype(dtype)
    check_all(evaluate("DFT", [x]), [want], rtol=8e-3, atol=1e-3)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize(("step", "length"), [(4, 16), (3, 12), (16, 16), (7, 50)])
def test_stft(onesided: int, window: bool, step: int, length: int) -> None:
    x = normal(2, 50, 1)
    w = np.hanning(length).astype(np.float32) if window else None
    inputs = [x, number(step), w, number(length)]
    check_all(
        evaluate("STFT", inputs, onesided=onesided),
        ort("STFT", inputs, opset=17, onesided=onesided),
        atol=1e-4,
    )


def test_stft_of_a_complex_signal() -> None:
    x, w = normal(2, 40, 2), np.hanning(10).astype(np.float32)
    z = (x[..., 0] + 1j * x[..., 1]).astype(np.complex128)
    frames = np.stack([np.fft.fft(z[:, i : i + 10] * w) for i in range(0, 31, 5)], 1)
    check_all(evaluate("STFT", [x, number(5), w], onesided=0), [pairs(frames).astype(np.float32)], atol=1e-4)


@pytest.mark.parametrize(
    "bands, length, rate, low, high", [(8, 16, 8192, 0.0, 4096.0), (40, 512, 16000, 20.0, 7600.0)]
)
def test_mel_weight_matrix(bands: int, length: int, rate: int, low: float, high: float) -> None:
    inputs = [number(bands), number(length), number(rate), number(low, np.float32), number(high, np.float32)]
    check_all(evaluate("MelWeightMatrix", inputs), onnx_reference("MelWeightMatrix", inputs))
    got = evaluate("MelWeightMatrix", inputs, output_datatype=11)[0]
    assert got.dtype == np.float64 and got.max() == 1


def test_mel_bands_above_the_spectrum_are_cut() -> None:
    inputs = [number(8), number(16), number(8192), number(0, np.float32), number(400000, np.float32)]
    assert evaluate("MelWeightMatrix", inputs)[0].shape == (9, 8)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "names"),
    [
        ("DFT", [normal(2, 8, 3)], {}, "last dim"),
        ("DFT", [normal(2, 8, 1), number(0)], {}, "length is 0"),
        ("DFT", [normal(2, 8, 1), number(2**40)], {}, "length"),
        ("DFT", [normal(2, 8, 1), None, number(2)], {}, "complex parts"),
        ("DFT", [normal(2, 8, 1), None, number(3)], {}, "axis"),
        ("DFT", [normal(2, 8, 2)], {"onesided": 1}, "real"),
        ("DFT", [normal(2, 8, 1)], {"onesided": 1, "inverse": 1}, "complex"),
        ("STFT", [normal(2, 8, 1), number(0), None, number(4)], {}, "frame_step"),
        ("STFT", [normal(2, 8, 1), number(1), None, number(9)], {}, "frame_length"),
        ("STFT", [normal(2, 8, 1), number(1), normal(5), number(4)], {}, "window of 5"),
        ("STFT", [normal(2, 8, 2), number(1), None, number(4)], {}, "onesided"),
        (
            "MelWeightMatrix",
            [number(-1), number(16), number(8), *[number(1, np.float32)] * 2],
            {},
            "-1 bands",
        ),
        (
            "MelWeightMatrix",
            [number(2), number(16), number(0), *[number(1, np.float32)] * 2],
            {},
            "sample rate",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(op: str, inputs: Any, attrs: dict[str, Any], names: str) -> None:
    with pytest.raises(pyneo.errors.Error, match=names):
        evaluate(op, inputs, **attrs)


def test_stft_of_a_signal_without_a_last_axis() -> None:
    """torch exports (batch, length); onnxruntime takes it as a real signal."""
    x = normal(2, 40)
    inputs = [x, number(5), normal(16)]
    check_all(evaluate("STFT", inputs, onesided=1), ort("STFT", inputs, opset=17, onesided=1), atol=1e-4)
