# SPDX-License-Identifier: Apache-2.0
"""A random ONNX model while it grows: what patterns draw from, and the operators in the form of its opset."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

OPSETS = (11, 13, 13, 17, 17, 17, 18, 18, 20, 21, 21)


class Unfit(Exception):
    """A pattern found no way to go on from the value it was given."""


class Val(NamedTuple):
    """A value of the model: shape None where only a run decides it."""

    name: str
    shape: tuple[int, ...] | None
    dtype: int

    @property
    def rank(self) -> int:
        return len(self.dims)

    @property
    def dims(self) -> tuple[int, ...]:
        if self.shape is None:
            raise Unfit
        return self.shape


class Maker:
    """Nodes, constants and inputs so far, and one source of chance. The same seed, the same model."""

    def __init__(self, seed: int, opsets: Sequence[int] = OPSETS) -> None:
        self.rng = random.Random(seed)
        self.np = np.random.default_rng(seed)
        self.opset = self.rng.choice(opsets)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: dict[str, np.ndarray] = {}
        self.values: dict[str, Val] = {}
        self.made = 0

    # Chance.

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def pick(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def some(self, options: Sequence[Any], k: int) -> list[Any]:
        return self.rng.sample(list(options), k)

    def whole(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    # Values.

    def name(self, stem: str) -> str:
        self.made += 1
        return f"{stem}{self.made}"

    def data(self, shape: Sequence[int], dtype: int = TensorProto.FLOAT) -> np.ndarray:
        kind = helper.tensor_dtype_to_np_dtype(dtype)
        if kind.kind == "f":
            return self.np.standard_normal(shape).astype(kind)
        if kind.kind == "b":
            return self.np.random(shape) < 0.5
        low, high = (0, 200) if kind.kind == "u" else (-100, 100)
        return self.np.integers(low, high, shape).astype(kind)

    def add(self, name: str, shape: Sequence[int] | None, dtype: int) -> Val:
        v = Val(name, None if shape is None else tuple(int(d) for d in shape), dtype)
        self.values[name] = v
        return v

    def input(self, shape: Sequence[int], dtype: int = TensorProto.FLOAT, data: Any = None) -> Val:
        array = self.data(shape, dtype) if data is None else np.asarray(data)
        name = self.name("x")
        self.inputs[name] = array
        return self.add(name, array.shape, dtype)

    def const(self, array: Any, dtype: Any = np.float32) -> Val:
        """An initializer, or now and then a Constant node."""
        array = np.asarray(array) if isinstance(array, np.ndarray) else np.asarray(array, dtype)
        name = self.name("c")
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        if self.chance(0.1):
            tensor = numpy_helper.from_array(array, name)
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        self.constants[name] = array
        return self.add(name, array.shape, kind)

    def ints(self, *values: int) -> Val:
        return self.const(np.array(values, np.int64))

    def like(self, x: Val, array: Any) -> Val:
        """A constant of x's type."""
        return self.const(np.asarray(array, helper.tensor_dtype_to_np_dtype(x.dtype)))

    def number(self, x: Val, value: float) -> Val:
        """One number of x's type, of rank 0 or (near misses of patterns) of more axes of size 1."""
        rank = 0 if self.chance(0.6) else self.whole(1, x.rank + self.chance(0.1))
        return self.like(x, np.full((1,) * rank, value))

    def weights(self, *shape: int) -> Val:
        fan = max(1, int(np.prod(shape[1:])))
        return self.const((self.np.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def operand(self, shape: Sequence[int], dtype: int = TensorProto.FLOAT, fixed: float = 0.8) -> Val:
        """A constant, or now and then an input or what is computed from one."""
        if self.chance(fixed):
            return self.const(self.data(shape, dtype))
        x = self.input(shape, dtype)
        return x if self.chance(0.5) else self.op("Neg", x)

    # Operators.

    def op(self, kind: str, *inputs: Val | None, **attrs: Any) -> Val:
        return self.ops(kind, *inputs, outputs=1, **attrs)[0]

    def ops(self, kind: str, *inputs: Val | None, outputs: int, domain: str = "", **attrs: Any) -> list[Val]:
        """Appends a node; Unfit where ONNX's own inference refuses it."""
        names = [self.name("v") for _ in range(outputs)]
        given = [v for v in inputs if v is not None]
        node = helper.make_node(
            kind, ["" if v is None else v.name for v in inputs], names, name=f"{kind}_{names[0]}",
            domain=domain,
            **{k: a for k, a in attrs.items() if a is not None},
        )  # fmt: skip
        try:
            schema = defs.get_schema(kind, self.opset, domain)
        except defs.SchemaError as e:
            raise Unfit from e
        types = {v.name: helper.make_tensor_type_proto(v.dtype, v.shape) for v in given}
        known = {v.name: numpy_helper.from_array(self.constants[v.name], v.name) for v in given
                 if v.name in self.constants}  # fmt: skip
        try:
            found = shape_inference.infer_node_outputs(
                schema,
                node,
                types,
                known,
                opset_imports=[helper.make_opsetid(domain, self.opset)],
                ir_version=9,
            )
        except (shape_inference.InferenceError, onnx.checker.ValidationError) as e:
            raise Unfit from e
        self.nodes.append(node)
        results = []
        for n in names:
            tensor = found[n].tensor_type if n in found else None
            dims = None
            if tensor is not None and tensor.HasField("shape"):
                dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            closed = dims is not None and min(dims, default=0) >= 0
            kind_of = tensor.elem_type if tensor is not None and tensor.elem_type else given[0].dtype
            results.append(self.add(n, dims if closed else None, kind_of))
        return results

    def raw(
        self,
        kind: str,
        inputs: Sequence[Val | None],
        results: Sequence[tuple[Sequence[int] | None, int]],
        domain: str = "",
        **attrs: Any,
    ) -> list[Val]:
        """Appends a node whose results the pattern knows: shape (None: a run decides it) and type of each."""
        names = [self.name("v") for _ in results]
        given = ["" if v is None else v.name for v in inputs]
        while domain and given and not given[-1]:
            given.pop()
        some = {k: a for k, a in attrs.items() if a is not None}
        self.nodes.append(
            helper.make_node(kind, given, names, name=f"{kind}_{names[0]}", domain=domain, **some)
        )
        return [self.add(n, shape, dtype) for n, (shape, dtype) in zip(names, results, strict=True)]

    def sized(self, x: Val, shape: Sequence[int]) -> Val:
        """x, whose shape the pattern knows better than inference does."""
        return self.add(x.name, shape, x.dtype)

    def axis(self, x: Val, axis: int) -> int:
        """The axis from the front or from the back."""
        return axis - x.rank if self.chance(0.4) else axis

    def by_input(self, below: int, kind: str, x: Val, name: str, values: Sequence[int], **attrs: Any) -> Val:
        """A parameter that became an input with operator set `below`."""
        if self.opset < below:
            return self.op(kind, x, **{name: list(values)}, **attrs)
        return self.op(kind, x, self.ints(*values), **attrs)

    def reduce(self, kind: str, x: Val, axes: Sequence[int], keep: int = 1) -> Val:
        below = 13 if kind == "ReduceSum" else 18
        keepdims = None if keep and self.chance(0.3) else keep
        return self.by_input(below, kind, x, "axes", [self.axis(x, a) for a in axes], keepdims=keepdims)

    def squeeze(self, x: Val, *axes: int) -> Val:
        return self.by_input(13, "Squeeze", x, "axes", [self.axis(x, a) for a in axes])

    def unsqueeze(self, x: Val, *axes: int) -> Val:
        return self.by_input(13, "Unsqueeze", x, "axes", axes)

    def split(self, x: Val, axis: int, sizes: Sequence[int]) -> list[Val]:
        axis = self.axis(x, axis)
        if self.opset < 13:
            return self.ops("Split", x, outputs=len(sizes), axis=axis, split=list(sizes))
        if len(set(sizes)) == 1 and self.chance(0.5):
            count = len(sizes) if self.opset >= 18 else None
            return self.ops("Split", x, outputs=len(sizes), axis=axis, num_outputs=count)
        return self.ops("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)

    def reshape(self, x: Val, shape: Sequence[int]) -> Val:
        """To a shape of numbers, sometimes with a -1 or zeros in it, by Reshape or what does the same."""
        wanted = [int(d) for d in shape]
        if self.chance(0.3) and 0 not in wanted and wanted:
            wanted[self.whole(0, len(wanted) - 1)] = -1
        if self.chance(0.2) and 0 not in x.dims:
            wanted = [0 if i < x.rank and d == x.dims[i] else d for i, d in enumerate(wanted)]
        allow = 1 if self.opset >= 14 and 0 in x.dims else None
        return self.sized(self.op("Reshape", x, self.ints(*wanted), allowzero=allow), shape)

    def transpose(self, x: Val, perm: Sequence[int]) -> Val:
        plain = list(perm) == list(range(x.rank))[::-1] and self.chance(0.5)
        return self.op("Transpose", x, perm=None if plain else list(perm))

    def clip(self, x: Val, low: float | None, high: float | None) -> Val:
        """Bounds are numbers of rank 0, as the specification wants them."""
        bounds = [None if b is None else self.like(x, b) for b in (low, high)]
        return self.op("Clip", x, *(bounds if bounds[1] is not None else bounds[:1]))

    def pad(self, x: Val, pads: Sequence[int], mode: str | None = None, value: Val | None = None) -> Val:
        return self.op("Pad", x, self.ints(*pads), *([] if value is None else [value]), mode=mode)

    # The model.

    def model(self, outputs: Sequence[Val]) -> onnx.ModelProto:
        def info(name: str, v: Val) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, v.dtype, v.shape)

        nodes_made = {n.output[0] for n in self.nodes if n.op_type == "Constant"}
        graph = helper.make_graph(
            self.nodes,
            "fuzz",
            [info(n, self.values[n]) for n in self.inputs],
            # The shape is left to the runtimes: inference is one of the things under test.
            [helper.make_tensor_value_info(v.name, v.dtype, None) for v in outputs],
            [numpy_helper.from_array(a, n) for n, a in self.constants.items() if n not in nodes_made],
        )
        domains = {"": self.opset, "com.microsoft": 1, "ai.onnx.ml": 3}
        imports = [helper.make_opsetid(d, v) for d, v in domains.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=9)
