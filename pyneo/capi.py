# SPDX-License-Identifier: Apache-2.0
"""libpyneo through cffi (ABI mode): for PyPy, for tools without the compiled module, and to pin the ABI.

    lib = pyneo.capi.load()
    with lib.open(package_bytes) as model:
        context = model.context(threads=1)
        outputs = context.run([x])

Needs cffi. Verification is the caller's: these calls open what they are given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyneo import errors
from pyneo.inputs import DTYPES

_FOLDER = Path(__file__).resolve().parent


def declarations(header: str) -> str:
    """What cffi reads of pyneo.h: no preprocessor, no comments, no attributes."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = text.replace("PN_MAX_RANK", "8").replace("PN_API ", "")
    text = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    return re.sub(r'extern "C" \{|^\}\s*$', "", text, flags=re.M)


def load(library: Path | None = None, header: Path | None = None) -> Library:
    """The library that ships with the package, or the one at `library` with its `header`."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(declarations((header or _FOLDER / "include" / "pyneo.h").read_text(encoding="utf-8")))
    return Library(ffi, ffi.dlopen(str(library or _FOLDER / "libpyneo.so")))


class Library:
    """The C functions as `c`, and the few steps of running a model in Python's terms."""

    def __init__(self, ffi: Any, c: Any) -> None:
        self.ffi, self.c = ffi, c

    def check(self, status: int) -> None:
        """Raises the exception of a status other than PN_OK."""
        if status != 0:
            message = self.ffi.string(self.c.pn_last_error()).decode("utf-8", "replace")
            raise errors.BY_STATUS[status](message)

    def open(self, package: bytes | memoryview) -> CModel:
        """A model of the package's bytes, which are copied into aligned memory."""
        return CModel(self, memoryview(package).cast("B"))


class CModel:
    """A pn_model with its bytes. A context manager."""

    def __init__(self, lib: Library, package: memoryview) -> None:
        self.lib, ffi = lib, lib.ffi
        slot = ffi.new("void**")
        lib.check(lib.c.pn_buffer_allocate(package.nbytes, slot))
        self._buffer, self._bytes = slot[0], package.nbytes
        ffi.buffer(self._buffer, package.nbytes)[:] = package
        size = ffi.sizeof("pn_open_options")
        options = ffi.new("pn_open_options*", {"struct_size": size, "allow_unsigned": 1})
        out = ffi.new("pn_model**")
        try:
            lib.check(lib.c.pn_model_open(self._buffer, package.nbytes, options, out))
        except errors.Error:
            lib.c.pn_buffer_free(self._buffer, self._bytes)
            raise
        self._model = out[0]
        n_inputs = lib.c.pn_model_input_count(self._model)
        n_outputs = lib.c.pn_model_output_count(self._model)
        self.inputs = [self._info(lib.c.pn_model_input, i) for i in range(n_inputs)]
        self.outputs = [self._info(lib.c.pn_model_output, i) for i in range(n_outputs)]

    def _info(self, get: Any, i: int) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
        ffi = self.lib.ffi
        name, t = ffi.new("char**"), ffi.new("pn_tensor*", {"struct_size": ffi.sizeof("pn_tensor")})
        self.lib.check(get(self._model, i, ffi.cast("const char**", name), t))
        shape = tuple(t.dims[0 : t.rank]) if t.rank <= 8 else ()
        return ffi.string(name[0]).decode(), np.dtype(DTYPES[t.dtype]), shape

    def context(self, threads: int = 0) -> CContext:
        """A context of its own arena: one for each thread."""
        return CContext(self, self._model, threads)

    def close(self) -> None:
        if self._model is not None:
            self.lib.c.pn_model_close(self._model)
            self.lib.c.pn_buffer_free(self._buffer, self._bytes)
            self._model = None

    def __enter__(self) -> CModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CContext:
    """A pn_context."""

    def __init__(self, owner: CModel, model: Any, threads: int) -> None:
        self.owner, self.lib = owner, owner.lib
        ffi = self.lib.ffi
        size = ffi.sizeof("pn_context_options")
        options = ffi.new("pn_context_options*", {"struct_size": size, "threads": threads})
        out = ffi.new("pn_context**")
        self.lib.check(self.lib.c.pn_context_create(model, options, out))
        self._context = ffi.gc(out[0], self.lib.c.pn_context_destroy)

    def _tensor(self, array: np.ndarray, dtype: int) -> Any:
        ffi = self.lib.ffi
        return ffi.new("pn_tensor*", {
            "struct_size": ffi.sizeof("pn_tensor"), "dtype": dtype,
            "rank": array.ndim, "dims": list(array.shape),
            "data": ffi.cast("void*", array.ctypes.data), "bytes": array.nbytes,
        })  # fmt: skip

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for dense arrays in the model's order. InputError as the core words it."""
        c, ffi = self.lib.c, self.lib.ffi
        numbers = {np.dtype(n): k for k, n in reversed(DTYPES.items())}
        arrays = [np.asarray(x, order="C") for x in inputs]
        keep = [self._tensor(a, numbers.get(a.dtype, 0)) for a in arrays]
        for i, t in enumerate(keep):
            self.lib.check(c.pn_context_bind_input(self._context, i, t))
        outputs: list[Any] = []
        for o, (_, dtype, _) in enumerate(self.owner.outputs):
            t = ffi.new("pn_tensor*", {"struct_size": ffi.sizeof("pn_tensor")})
            status = c.pn_context_output_shape(self._context, o, t)
            outputs.append(None)
            if status == c.PN_NEEDS_VALUE:  # known after the run, in memory of the context
                continue
            self.lib.check(status)
            outputs[o] = np.empty(tuple(t.dims[0 : t.rank]), dtype)
            keep.append(self._tensor(outputs[o], numbers.get(outputs[o].dtype, 0)))
            self.lib.check(c.pn_context_bind_output(self._context, o, keep[-1]))
        self.lib.check(c.pn_context_run(self._context))
        for o, (_, dtype, _) in enumerate(self.owner.outputs):
            if outputs[o] is None:
                t = ffi.new("pn_tensor*", {"struct_size": ffi.sizeof("pn_tensor")})
                self.lib.check(c.pn_context_output(self._context, o, t))
                outputs[o] = np.empty(tuple(t.dims[0 : t.rank]), dtype)
                ffi.memmove(ffi.cast("void*", outputs[o].ctypes.data), t.data, outputs[o].nbytes)
        return outputs
