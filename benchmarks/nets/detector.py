# SPDX-License-Identifier: Apache-2.0
"""A detector of YOLOv8n's shape at 640x640: 80 classes, outputs (1, 84, 8400)."""

from __future__ import annotations

import numpy as np

from nets.builder import Builder

CLASSES = 80
BINS = 16  # of the distribution from which each box side is read


class _Yolo:
    def __init__(self) -> None:
        self.b = Builder("yolov8n", opset=17, seed=5)

    def cbs(self, x: str, c_in: int, c_out: int, k: int = 1, stride: int = 1) -> str:
        # By trial: box logits of a few units, as a trained head has; more makes the softmax ill-conditioned.
        return self.b.silu(self.b.conv(x, c_in, c_out, k, stride, gain=2.2))

    def c2f(self, x: str, c_in: int, c_out: int, repeats: int, shortcut: bool) -> str:
        half = c_out // 2
        x = self.cbs(x, c_in, c_out)
        parts = self.b.ops("Split", 2, x, self.b.ints(half, half), axis=1)
        for _ in range(repeats):
            y = self.cbs(self.cbs(parts[-1], half, half, 3), half, half, 3)
            parts.append(self.b.op("Add", parts[-1], y) if shortcut else y)
        return self.cbs(self.b.op("Concat", *parts, axis=1), half * len(parts), c_out)

    def sppf(self, x: str, channels: int) -> str:
        parts = [self.cbs(x, channels, channels // 2)]
        for _ in range(3):
            pool = self.b.op("MaxPool", parts[-1], kernel_shape=[5, 5], pads=[2, 2, 2, 2], strides=[1, 1])
            parts.append(pool)
        return self.cbs(self.b.op("Concat", *parts, axis=1), 2 * channels, channels)

    def up(self, x: str) -> str:
        scales = self.b.const([1, 1, 2, 2], stem="scales")
        return self.b.op(
            "Resize", x, "", scales, coordinate_transformation_mode="asymmetric", mode="nearest",
            nearest_mode="floor",
        )  # fmt: skip

    def head(self, features: list[tuple[str, int, int]]) -> str:
        """Boxes and class scores of three levels: (value, channels, size)."""
        b, flat = self.b, []
        for x, c, size in features:
            box = self.cbs(self.cbs(x, c, 64, 3), 64, 64, 3)
            score = self.cbs(self.cbs(x, c, CLASSES, 3), CLASSES, CLASSES, 3)
            box = b.conv(box, 64, 4 * BINS, 1, gain=1.0)
            score = b.conv(score, CLASSES, CLASSES, 1, gain=1.0)
            both = b.op("Concat", box, score, axis=1)
            flat.append(b.op("Reshape", both, b.ints(1, 4 * BINS + CLASSES, size * size)))
        total = sum(size * size for _, _, size in features)
        boxes, scores = b.ops("Split", 2, b.op("Concat", *flat, axis=2), b.ints(4 * BINS, CLASSES), axis=1)
        # Expected distance to each side: softmax over the bins, then a 1x1 convolution with 0..15.
        d = b.op("Transpose", b.op("Reshape", boxes, b.ints(1, 4, BINS, total)), perm=[0, 2, 1, 3])
        bins = b.const(np.arange(BINS).reshape(1, BINS, 1, 1), stem="bins")
        d = b.op("Conv", b.op("Softmax", d, axis=1), bins, kernel_shape=[1, 1])
        d = b.op("Reshape", d, b.ints(1, 4, total))
        anchors, strides = [], []
        for _, _, size in features:
            y, x = np.mgrid[0:size, 0:size] + 0.5
            anchors.append(np.stack([x.ravel(), y.ravel()]))
            strides.append(np.full(size * size, 640 / size))
        anchor = b.const(np.concatenate(anchors, 1)[None], stem="anchors")
        low = b.op("Slice", d, b.ints(0), b.ints(2), b.ints(1))
        high = b.op("Slice", d, b.ints(2), b.ints(4), b.ints(1))
        low, high = b.op("Sub", anchor, low), b.op("Add", anchor, high)
        centre = b.op("Div", b.op("Add", low, high), b.const(2.0))
        boxes = b.op("Concat", centre, b.op("Sub", high, low), axis=1)
        boxes = b.op("Mul", boxes, b.const(np.concatenate(strides)[None, None], stem="strides"))
        return b.op("Concat", boxes, b.op("Sigmoid", scores), axis=1)


def yolov8n() -> Builder:
    """Backbone, feature pyramid and decoupled anchor-free head of Ultralytics' smallest v8 model."""
    n = _Yolo()
    b = n.b
    x = n.cbs(n.cbs(b.image(3, 640, 640, "images"), 3, 16, 3, 2), 16, 32, 3, 2)
    x = n.c2f(x, 32, 32, 1, True)
    p3 = n.c2f(n.cbs(x, 32, 64, 3, 2), 64, 64, 2, True)
    p4 = n.c2f(n.cbs(p3, 64, 128, 3, 2), 128, 128, 2, True)
    p5 = n.sppf(n.c2f(n.cbs(p4, 128, 256, 3, 2), 256, 256, 1, True), 256)
    n4 = n.c2f(b.op("Concat", n.up(p5), p4, axis=1), 384, 128, 1, False)
    n3 = n.c2f(b.op("Concat", n.up(n4), p3, axis=1), 192, 64, 1, False)
    m4 = n.c2f(b.op("Concat", n.cbs(n3, 64, 64, 3, 2), n4, axis=1), 192, 128, 1, False)
    m5 = n.c2f(b.op("Concat", n.cbs(m4, 128, 128, 3, 2), p5, axis=1), 384, 256, 1, False)
    b.output(n.head([(n3, 64, 80), (m4, 128, 40), (m5, 256, 20)]), (1, 4 + CLASSES, 8400), "output0")
    return b
