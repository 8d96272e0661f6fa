# SPDX-License-Identifier: Apache-2.0
"""Keyword spotters: a second of speech in 49 frames, 12 words. All of their time is fixed costs."""

from __future__ import annotations

import numpy as np

from nets.builder import Builder

FRAMES = 49
WORDS = 12


def ds_cnn() -> Builder:
    """Zhang et al. 2017, small, as MLPerf Tiny has it: a 10x4 convolution and four separable blocks of 64."""
    b = Builder("ds_cnn", opset=13, seed=9)
    x = b.op("Relu", b.conv(b.image(1, FRAMES, 10), 1, 64, (10, 4), 2, pads=[4, 1, 5, 1]))
    for _ in range(4):
        x = b.op("Relu", b.conv(x, 64, 64, 3, groups=64))
        x = b.op("Relu", b.conv(x, 64, 64, 1))
    x = b.op("AveragePool", x, kernel_shape=[25, 5], strides=[25, 5])
    x = b.gemm(b.op("Flatten", x, axis=1), 64, WORDS)
    b.output(b.op("Softmax", x, axis=1), (1, WORDS), "output")
    return b


def gru() -> Builder:
    """Two GRU layers of 128 over 49 frames of 40 features; torch's nn.GRU with batch first."""
    b = Builder("gru_kws", opset=14, seed=10)
    hidden, features = 128, 40
    example = np.random.default_rng(7).standard_normal((1, FRAMES, features)).astype(np.float32)
    x = b.op("Transpose", b.input("input", example), perm=[1, 0, 2])
    zeros = b.const(np.zeros((1, 1, hidden)), stem="h0")
    for size in (features, hidden):
        w = b.weight((1, 3 * hidden, size), size**-0.5, "weight_ih")
        r = b.weight((1, 3 * hidden, hidden), hidden**-0.5, "weight_hh")
        bias = b.weight((1, 6 * hidden), 0.05, "bias")
        y, _ = b.ops("GRU", 2, x, w, r, bias, "", zeros, hidden_size=hidden, linear_before_reset=1)
        x = b.op("Squeeze", y, b.ints(1))
    last = b.op("Gather", b.op("Transpose", x, perm=[1, 0, 2]), b.const(-1, np.int64), axis=1)
    b.output(b.gemm(last, hidden, WORDS), (1, WORDS), "output")
    return b
