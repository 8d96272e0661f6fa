# SPDX-License-Identifier: Apache-2.0
"""Image classifiers as torchvision's exports write them, at batch 1 and 224x224."""

from __future__ import annotations

from nets.builder import Builder


def classify(b: Builder, x: str, channels: int) -> Builder:
    x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    b.output(b.gemm(x, channels, 1000), (1, 1000), "output")
    return b


def resnet50() -> Builder:
    """He et al. 2015, the form with the stride in the 3x3; batch norms folded, as torch exports it."""
    b = Builder("resnet50", opset=17, seed=1)
    x = b.op("Relu", b.conv(b.image(3, 224, 224), 3, 64, 7, 2))
    x = b.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=0)
    c_in = 64
    for stage, blocks in enumerate([3, 4, 6, 3]):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            y = b.op("Relu", b.conv(x, c_in, width, 1))
            y = b.op("Relu", b.conv(y, width, width, 3, stride))
            y = b.conv(y, width, 4 * width, 1, gain=0.3)
            skip = b.conv(x, c_in, 4 * width, 1, stride, gain=1.0) if block == 0 else x
            x = b.op("Relu", b.op("Add", y, skip))
            c_in = 4 * width
    return classify(b, x, c_in)


def mobilenet_v2() -> Builder:
    """Sandler et al. 2018; with BatchNormalization nodes, as the ONNX model zoo has it."""
    b = Builder("mobilenet_v2", opset=13, seed=2)
    low, high = b.const(0.0), b.const(6.0)

    def layer(
        x: str, c_in: int, c_out: int, k: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> str:
        x = b.conv(x, c_in, c_out, k, stride, groups=groups, bias=False, gain=2.0 if act else 1.0)
        x = b.batch_norm(x, c_out)
        return b.op("Clip", x, low, high) if act else x

    x = layer(b.image(3, 224, 224), 3, 32, 3, 2)
    c_in = 32
    for expand, c_out, repeats, first in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:  # fmt: skip
        for i in range(repeats):
            stride = first if i == 0 else 1
            hidden = c_in * expand
            y = layer(x, c_in, hidden, 1) if expand > 1 else x
            y = layer(y, hidden, hidden, 3, stride, groups=hidden)
            y = layer(y, hidden, c_out, 1, act=False)
            x = b.op("Add", x, y) if stride == 1 and c_in == c_out else y
            c_in = c_out
    return classify(b, layer(x, c_in, 1280, 1), 1280)


def squeezenet() -> Builder:
    """Iandola et al. 2016, version 1.1."""
    b = Builder("squeezenet1_1", opset=13, seed=3)

    def pool(x: str) -> str:
        return b.op("MaxPool", x, kernel_shape=[3, 3], pads=[0, 0, 0, 0], strides=[2, 2], ceil_mode=1)

    def fire(x: str, c_in: int, squeeze: int, expand: int) -> str:
        x = b.op("Relu", b.conv(x, c_in, squeeze, 1))
        left = b.op("Relu", b.conv(x, squeeze, expand, 1))
        return b.op("Concat", left, b.op("Relu", b.conv(x, squeeze, expand, 3)), axis=1)

    x = pool(b.op("Relu", b.conv(b.image(3, 224, 224), 3, 64, 3, 2, pads=[0, 0, 0, 0])))
    x = pool(fire(fire(x, 64, 16, 64), 128, 16, 64))
    x = pool(fire(fire(x, 128, 32, 128), 256, 32, 128))
    x = fire(fire(x, 256, 48, 192), 384, 48, 192)
    x = fire(fire(x, 384, 64, 256), 512, 64, 256)
    x = b.op("GlobalAveragePool", b.op("Relu", b.conv(x, 512, 1000, 1)))
    b.output(b.op("Flatten", x, axis=1), (1, 1000), "output")
    return b


def efficientnet_b0() -> Builder:
    """Tan and Le 2019: inverted residuals with squeeze-and-excite and SiLU; batch norms folded."""
    b = Builder("efficientnet_b0", opset=17, seed=4)
    # Gains by trial: SiLU keeps less of the variance than ReLU, the squeezed gate about a quarter.
    x = b.silu(b.conv(b.image(3, 224, 224), 3, 32, 3, 2, gain=2.8))
    c_in = 32
    for expand, c_out, repeats, first, k in [
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ]:  # fmt: skip
        for i in range(repeats):
            stride = first if i == 0 else 1
            hidden, squeezed = c_in * expand, c_in // 4
            y = b.silu(b.conv(x, c_in, hidden, 1, gain=1.0)) if expand > 1 else x
            y = b.silu(b.conv(y, hidden, hidden, k, stride, groups=hidden, gain=2.8))
            s = b.silu(b.conv(b.op("GlobalAveragePool", y), hidden, squeezed, 1))
            y = b.op("Mul", b.op("Sigmoid", b.conv(s, squeezed, hidden, 1, gain=1.0)), y)
            y = b.conv(y, hidden, c_out, 1, gain=4.7)
            x = b.op("Add", y, x) if stride == 1 and c_in == c_out else y
            c_in = c_out
    return classify(b, b.silu(b.conv(x, c_in, 1280, 1, gain=1.0)), 1280)
