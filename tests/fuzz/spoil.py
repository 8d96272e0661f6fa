# SPDX-License-Identifier: Apache-2.0
"""Models with one thing wrong: an index, an axis, a shape, a type, an operand, an attribute."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.fuzz.models import Model

_FAR = (-(2**62), -100, -9, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 9, 100, 1 << 31, 2**62)
_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8)


def spoil(model: Model, seed: int) -> str:
    """Changes one thing of the model, which may still be valid then; says what."""
    rng = random.Random(seed)
    for _ in range(50):
        told = rng.choice(_WAYS)(model, rng)
        if told:
            return told
    return "nothing"


def _number(model: Model, rng: random.Random) -> str:
    """One number of an integer constant: an index, an axis, a size, a count of padding."""
    found = [
        t for t in model.proto.graph.initializer if t.data_type == TensorProto.INT64 and np.prod(t.dims) > 0
    ]
    if not found:
        return ""
    tensor = rng.choice(found)
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[rng.randrange(array.size)] = rng.choice(_FAR)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"{tensor.name} is {array.tolist()}"


def _index(model: Model, rng: random.Random) -> str:
    """A constant index of a Gather, outside what it chooses from or at its edge."""
    constants = {t.name: t for t in model.proto.graph.initializer}
    found = [n for n in model.proto.graph.node if n.op_type.startswith("Gather") and n.input[1] in constants]
    if not found:
        return ""
    tensor = constants[rng.choice(found).input[1]]
    array = numpy_helper.to_array(tensor).copy()
    if array.size == 0:
        return ""
    far = abs(array).max() + rng.randrange(9)
    array.reshape(-1)[rng.randrange(array.size)] += rng.choice((1, -1)) * far
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"{tensor.name} is {array.tolist()}"


def _shape(model: Model, rng: random.Random) -> str:
    """The shape of a constant: a dim more or less, an axis more or less, none at all."""
    if not model.proto.graph.initializer:
        return ""
    tensor = rng.choice(model.proto.graph.initializer)
    array = numpy_helper.to_array(tensor)
    axis = rng.randrange(max(array.ndim, 1))
    ways: list[Callable[[], np.ndarray]] = [
        lambda: array.reshape(-1),
        lambda: array[None],
        lambda: array[..., None],
        lambda: np.zeros(0, array.dtype),
        lambda: np.concatenate([array, array], axis),
        lambda: array.take(range(array.shape[axis] - 1), axis),
        lambda: array.take([0], axis),
        lambda: array.swapaxes(0, -1),
        lambda: array.reshape(-1)[0],
    ]
    try:
        changed = np.array(rng.choice(ways)(), array.dtype, order="C")
    except (ValueError, IndexError):
        return ""
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    return f"{tensor.name} has the shape {list(changed.shape)}, not {list(array.shape)}"


def _type(model: Model, rng: random.Random) -> str:
    """The type of a constant."""
    if not model.proto.graph.initializer:
        return ""
    tensor = rng.choice(model.proto.graph.initializer)
    to = rng.choice(_TYPES)
    array = np.nan_to_num(numpy_helper.to_array(tensor)).astype(helper.tensor_dtype_to_np_dtype(to))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"{tensor.name} is of type {to}"


def _attribute(model: Model, rng: random.Random) -> str:
    """One number of an attribute, its length, its type, or the attribute."""
    found = [
        (n, a)
        for n in model.proto.graph.node
        for a in n.attribute
        if n.op_type not in ("Constant", "If", "Loop")
    ]
    if not found:
        return ""
    node, a = rng.choice(found)
    told = f"{node.name}: attribute {a.name}"
    if rng.random() < 0.15:
        node.attribute.remove(a)
        return f"{told} is gone"
    if a.type == AttributeProto.INT:
        a.i = rng.choice(_FAR)
    elif a.type == AttributeProto.INTS and rng.random() < 0.3:
        a.ints.append(1)
    elif a.type == AttributeProto.INTS and rng.random() < 0.3 and a.ints:
        del a.ints[-1]
    elif a.type == AttributeProto.INTS and a.ints:
        a.ints[rng.randrange(len(a.ints))] = rng.choice(_FAR)
    elif a.type == AttributeProto.STRING:
        a.s = rng.choice((b"", b"nonsense", b"SAME_UPPER", b"linear"))
    elif a.type == AttributeProto.FLOAT:
        a.f = rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e30))
    else:
        return ""
    return f"{told} is {helper.get_attribute_value(a)}"


def _extra(model: Model, rng: random.Random) -> str:
    """An attribute that the node did not have."""
    node = rng.choice([n for n in model.proto.graph.node if n.op_type != "Constant"])
    name, value = rng.choice([
        ("axis", 7), ("axis", -1), ("group", 2), ("group", 0), ("pads", [-1, -1, -1, -1]), ("pads", [1, 2]),
        ("strides", [0, 0]),
        ("strides", [1, 0]), ("dilations", [0, 1]), ("kernel_shape", [2, 2]), ("perm", [0, 0, 1, 2]),
        ("perm", [0, 1, 2, 4]),
        ("keepdims", 2), ("allowzero", 1), ("transA", 1), ("transB", 1), ("auto_pad", "SAME_UPPER"),
        ("mode", "cubic"),
        ("axes", [3]), ("epsilon", -1.0), ("to", 8), ("num_outputs", 3), ("blocksize", 0), ("act", "relu"),
        ("made_up", 1),
    ])  # fmt: skip
    if any(a.name == name for a in node.attribute):
        return ""
    node.attribute.append(helper.make_attribute(name, value))
    return f"{node.name}: attribute {name} is {value}"


def _operand(model: Model, rng: random.Random) -> str:
    """An operand is left out, doubled, or another value of the model."""
    # Without a count of trips and a condition a Loop has no end.
    nodes = [n for n in model.proto.graph.node if n.input and n.op_type != "Loop"]
    if not nodes:
        return ""
    node = rng.choice(nodes)
    k = rng.randrange(len(node.input))
    how = rng.randrange(5)
    if how == 0:
        node.input[k] = ""
    elif how == 1:
        del node.input[k]
    elif how == 2:
        node.input.append(node.input[k])
    else:
        others = [t.name for t in model.proto.graph.initializer] + list(model.feeds)
        before = model.proto.graph.node[: list(model.proto.graph.node).index(node)]
        node.input[k] = rng.choice(others + [o for n in before for o in n.output])
    return f"{node.name}: operands {list(node.input)}"


def _node(model: Model, rng: random.Random) -> str:
    """An operator is another one of as many operands, or misses an output."""
    node = rng.choice([n for n in model.proto.graph.node if n.op_type not in ("Constant", "Loop", "If")])
    if rng.random() < 0.2 and len(node.output) > 1:
        del node.output[-1]
        return f"{node.name}: outputs {list(node.output)}"
    node.op_type = rng.choice(("MatMul", "Add", "Gather", "Concat", "Reshape", "Transpose", "Squeeze",
                               "Softmax", "Conv",
                               "Where", "Slice", "Split", "Expand", "Gemm", "Flatten", "Pow", "Pad",
                               "ReduceMean"))  # fmt: skip
    return f"{node.name} is a {node.op_type}"


def _input(model: Model, rng: random.Random) -> str:
    """What an input is declared and fed as: a dim more or less, another type."""
    if not model.proto.graph.input:
        return ""
    info = rng.choice(model.proto.graph.input)
    array = model.feeds[info.name]
    if rng.random() < 0.4:
        to = rng.choice(_TYPES)
        array = np.nan_to_num(array).astype(helper.tensor_dtype_to_np_dtype(to))
    else:
        shape = list(array.shape)
        if shape and rng.random() < 0.7:
            shape[rng.randrange(len(shape))] = rng.choice((0, 1, 2, 3, 5, 8))
        elif shape and rng.random() < 0.5:
            del shape[-1]
        else:
            shape.insert(0, 1)
        array = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
    model.feeds[info.name] = array
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    info.CopyFrom(helper.make_tensor_value_info(info.name, kind, array.shape))
    model.shapes.pop(info.name, None)
    return f"input {info.name} is {array.dtype}{list(array.shape)}"


_WAYS = (
    _index, _number, _number, _shape, _shape, _type, _attribute, _attribute, _extra, _operand, _operand,
    _node, _input,
)  # fmt: skip
