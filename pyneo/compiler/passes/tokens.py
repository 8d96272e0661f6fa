# SPDX-License-Identifier: Apache-2.0
"""Where tokens become images and images tokens: products are pointwise convolutions where that turns less.

Images keep their channels in blocks, tokens side by side: between them every number moves.
"""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import Attr, DType, Graph, Node, Value
from pyneo.compiler.passes.epilogue import as_activation
from pyneo.compiler.passes.match import Readers, constant, producer, take_output
from pyneo.compiler.passes.turned import is_plain_product, order_of

_ON_IMAGES = {"Conv", "ConvTranspose", "Resize", "MaxPool", "AveragePool", "Concat", "Pad"}


def tokens_to_images(graph: Graph) -> bool:
    """MatMul of tokens that become an image: Transpose before it, and a pointwise convolution.

    So the narrower side is turned (a depthwise convolution in the hidden layer meets the wider one), or
    none where the tokens were an image before.
    """
    readers = Readers(graph)
    changed = False
    for product in list(graph.nodes):
        if not is_plain_product(product) or not product.is_static or len(product.output.dims) < 3:
            continue
        steps, turn = _forward(product, readers)
        if turn is None or order_of(turn) != _channels_first(len(turn.output.dims)):
            continue
        split, end = readers.only(turn.output), turn
        if split is not None and split.op == "Reshape" and split.output.dims[:2] == turn.output.dims[:2]:
            end = split
        users = readers.of(end.output)
        if not users or readers.is_output(end.output) or any(n.op not in _ON_IMAGES for n in users):
            continue
        x, weights = product.inputs[0], product.const(1)
        assert x is not None and weights is not None
        before = producer(x, "Transpose")
        was_image = before is not None and order_of(before) == _channels_last(len(x.dims))
        if not was_image and weights.shape[0] >= weights.shape[1]:
            continue
        to = _Writer(graph, product.name, graph.nodes.index(end))
        v = to.add("Transpose", [x], perm=[*_channels_first(len(x.dims))])
        v = to.reshape(v, (x.dims[0], weights.shape[0], *end.output.dims[2:]))
        to.activate(steps, to.pointwise(v, product, len(end.output.dims) - 2))
        to.finish(end, [product, *steps, turn, end])
        readers = Readers(graph)
        changed = True
    return changed


def images_to_tokens(graph: Graph) -> bool:
    """An image turned for a MatMul of few columns: a pointwise convolution, and Transpose behind it."""
    readers = Readers(graph)
    changed = False
    for product in list(graph.nodes):
        if not is_plain_product(product) or not product.is_static:
            continue
        weights = product.const(1)
        steps, turn = _backward(product, readers)
        assert weights is not None
        if turn is None or order_of(turn) != _channels_last(len(turn.output.dims)):
            continue
        image = turn.inputs[0]
        flat = producer(image, "Reshape")
        assert image is not None
        if flat is not None and flat.inputs[0] is not None and flat.inputs[0].dims[:2] == image.dims[:2]:
            image = flat.inputs[0]
        if image.producer is None or image.producer.op not in _ON_IMAGES:
            continue
        if 2 * weights.shape[1] > weights.shape[0]:
            continue
        pixels = image.dims[2:]
        to = _Writer(graph, product.name, graph.nodes.index(product))
        v = to.pointwise(to.activate(steps, image), product, len(pixels))
        v = to.reshape(v, (image.dims[0], weights.shape[1], int(np.prod(pixels))))
        v = to.add("Transpose", [v], perm=[0, 2, 1])
        to.reshape(v, product.output.dims)
        to.finish(product, [*steps, turn, product])
        readers = Readers(graph)
        changed = True
    return changed


def _channels_first(rank: int) -> list[int]:
    return [0, rank - 1, *range(1, rank - 1)]


def _channels_last(rank: int) -> list[int]:
    return [0, *range(2, rank), 1]


def _passes(node: Node) -> bool:
    """Whether a node works on each number alone, or keeps the first and the last axis as they are."""
    x = node.input(0)
    if x is None or not node.is_static or len(node.outputs) != 1 or node.output.dtype is not DType.F32:
        return False
    if node.op == "Reshape":
        a, b = x.dims, node.output.dims
        return len(a) > 2 and len(b) > 2 and (a[0], a[-1]) == (b[0], b[-1])
    return as_activation(node) is not None


def _forward(product: Node, readers: Readers) -> tuple[list[Node], Node | None]:
    """What is done to the product's numbers, and the Transpose behind it."""
    steps: list[Node] = []
    v = product.output
    while (user := readers.only(v)) is not None and user.inputs[0] is v and _passes(user):
        steps.append(user)
        v = user.output
    return steps, user if user is not None and user.op == "Transpose" else None


def _backward(product: Node, readers: Readers) -> tuple[list[Node], Node | None]:
    """What is done to numbers between a Transpose and the product, and the Transpose."""
    steps: list[Node] = []
    v = product.inputs[0]
    while v is not None and v.producer is not None and readers.only(v) is not None:
        node = v.producer
        if node.op == "Transpose" and node.is_static:
            return steps[::-1], node
        if not _passes(node):
            break
        steps.append(node)
        v = node.inputs[0]
    return steps, None


class _Writer:
    """Writes nodes one after the other, from a place in the graph on."""

    def __init__(self, graph: Graph, stem: str, at: int) -> None:
        self._graph, self._stem, self._at = graph, stem, at
        self._last: Node | None = None

    def add(self, op: str, inputs: list[Value | None], **attrs: Attr) -> Value:
        y = Value(self._graph.fresh_name(self._stem), DType.F32)
        self._last = Node(op, self._graph.fresh_name(self._stem), inputs, [y], attrs)
        self._graph.nodes.insert(self._at, self._last)
        self._at += 1
        return y

    def reshape(self, v: Value, dims: tuple[int, ...]) -> Value:
        shape = constant(self._graph, f"{self._stem}/shape", np.array(dims, np.int64))
        return self.add("Reshape", [v, shape], allowzero=[1])

    def pointwise(self, v: Value, product: Node, axes: int) -> Value:
        """The product as a convolution of an image of so many axes."""
        weights, bias = product.const(1), product.const(2)
        assert weights is not None
        filters = np.ascontiguousarray(weights.T).reshape(*weights.T.shape, *[1] * axes)
        inputs: list[Value | None] = [v, constant(self._graph, f"{self._stem}/filters", filters)]
        if bias is not None:
            wide = np.broadcast_to(bias.reshape(-1), (len(filters),)).copy()
            inputs.append(constant(self._graph, f"{self._stem}/bias", wide))
        return self.add("Conv", inputs, kernel_shape=[1] * axes)

    def activate(self, steps: list[Node], v: Value) -> Value:
        """What the steps do to each number; how they arrange them is left out."""
        for step in steps:
            if step.op != "Reshape":
                v = self.add(step.op, [v, *step.inputs[1:]], **step.attrs)
        return v

    def finish(self, end: Node, gone: list[Node]) -> None:
        """The node written last makes what `end` made; the others go."""
        assert self._last is not None
        take_output(self._graph, self._last, end)
        self._graph.remove(gone)
