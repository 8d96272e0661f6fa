# SPDX-License-Identifier: Apache-2.0
"""Opens an ONNX model: from a path, bytes, or a ModelProto, with a helpful word for what is none."""

from __future__ import annotations

import os
import stat

import onnx
from google.protobuf.message import DecodeError

from ....errors import CompileError
from .limits import MAX_MODEL_BYTES, Problem
from .text import check_names

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | onnx.ModelProto

# What files called .onnx turned out to be: first bytes -> what to say.
_SIGNATURES: list[tuple[bytes, str]] = [
    (
        b"version https://git-lfs",
        "it is a git-LFS pointer, not the model itself; run 'git lfs pull' to fetch the model",
    ),
    (
        b"PK\x03\x04",
        "it is a zip archive (a PyTorch checkpoint, Keras or numpy file); export the model to ONNX first",
    ),
    (b"\x80\x02", "it is a Python pickle, which pyneo never opens; export the model to ONNX first"),
    (b"\x80\x03", "it is a Python pickle, which pyneo never opens; export the model to ONNX first"),
    (b"\x80\x04", "it is a Python pickle, which pyneo never opens; export the model to ONNX first"),
    (b"\x89HDF", "it is an HDF5 file (an old Keras model); export the model to ONNX first"),
    (b"\x1f\x8b", "it is gzip-compressed; unpack it first"),
    (b"GGUF", "it is a GGUF file; export the model to ONNX first"),
    (b"<!DOCTYPE", "it is a web page; the download probably failed, so fetch the model again"),
    (b"<html", "it is a web page; the download probably failed, so fetch the model again"),
    (b"<?xml", "it is XML (an OpenVINO model?); give the ONNX file that it was made from"),
    (b"ORTM", "it is an ORT-format model; give the ONNX file that it was made from"),
    (b"[", "it is JSON, not ONNX; an XGBoost dump cannot be compiled, the saved model can once exported"),
    (b"{", "it is JSON, not ONNX; an XGBoost or Keras model must be exported to ONNX first"),
]


def open_model(source: Source) -> tuple[onnx.ModelProto, str | None]:
    """The model and the folder its external data may lie in (None unless `source` is a path).

    Raises CompileError if the file cannot be opened, is too large, or is not an ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        return _checked(source, "the ModelProto"), None
    if isinstance(source, (bytes, bytearray, memoryview)):
        return parse_model(bytes(source), "the bytes given"), None
    if not isinstance(source, (str, os.PathLike)):
        raise CompileError(
            f"a model is given as a path, bytes or an onnx.ModelProto, not as {type(source).__name__}"
        )
    path = os.fspath(source)
    if not isinstance(path, str):
        path = os.fsdecode(path)
    return parse_model(_read_file(path), repr(path)), os.path.dirname(os.path.abspath(path))


def _read_file(path: str) -> bytes:
    # O_NONBLOCK: opening a FIFO must not wait for a writer. The descriptor that is checked is the one read.
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        fd = os.open(path, flags)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise CompileError(f"the model file {path!r} cannot be opened: {reason}") from None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise CompileError(f"{path!r} is not a regular file; give the path of an .onnx file")
    with os.fdopen(fd, "rb") as f:
        if info.st_size > MAX_MODEL_BYTES:
            raise CompileError(
                f"{path!r} has {info.st_size} bytes; protobuf ends at {MAX_MODEL_BYTES}, so save "
                "the weights as external data"
            )
        try:
            return f.read(MAX_MODEL_BYTES + 1)
        except OSError as e:
            raise CompileError(f"the model file {path!r} cannot be read: {e.strerror}") from None


def parse_model(data: bytes, what: str) -> onnx.ModelProto:
    """The ModelProto in `data`; `what` names the source in messages. CompileError if there is none."""
    if not data:
        raise CompileError(f"{what} is empty; expected an ONNX model")
    if len(data) > MAX_MODEL_BYTES:
        raise CompileError(f"{what} has {len(data)} bytes; protobuf ends at {MAX_MODEL_BYTES}")
    for magic, advice in _SIGNATURES:
        if data.startswith(magic):
            raise CompileError(f"{what} is not an ONNX model: {advice}")
    if data[4:8] == b"TFL3":
        raise CompileError(f"{what} is not an ONNX model: it is a TensorFlow Lite model")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise CompileError(
            f"{what} is not a readable ONNX model: its protobuf encoding is broken or cut off; "
            "fetch or export it again"
        ) from None
    except (ValueError, RecursionError, MemoryError) as e:
        raise CompileError(f"{what} is not a readable ONNX model: {e}") from None
    return _checked(model, what)


def _checked(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    if not model.HasField("graph"):
        raise CompileError(
            f"{what} holds no graph; expected an ONNX ModelProto (was another protobuf file given?)"
        )
    if not model.graph.output:
        raise CompileError(f"the graph in {what} has no outputs; there is nothing to compute")
    try:
        check_names(model)
    except Problem as e:
        raise CompileError(f"{what} is broken: {e}") from None
    return model
