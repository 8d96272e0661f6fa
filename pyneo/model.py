# SPDX-License-Identifier: Apache-2.0
"""Model and Session: a verified package, ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyneo import _core
from pyneo.errors import CompileError, Error, PackageError, TargetError
from pyneo.namedtuple import NamedTuple
from pyneo.package.source import MAX_PACKAGE_BYTES, FileSource, Source, map_file

if TYPE_CHECKING:
    from pyneo.inputs import Array
    from pyneo.package.manifest import Manifest, TensorSpec
    from pyneo.package.package import Package
    from pyneo.package.signing.counter import CounterStore
    from pyneo.profile import Profile
    from pyneo.text import Text

_ndarray = np.ndarray


class TensorInfo(NamedTuple):
    """An input or output: `shape` holds numbers, and texts such as "N<=8" for dims bound at run time.

    dtype `str` means strings; arrays of them come back in whatever width they need.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name} [{', '.join(map(str, self.shape))}]"


class Session:
    """An arena and a state of one's own over a shared model: one for each thread that runs it often.

    Threads may share a session; they take turns then.
    """

    __slots__ = (
        "_context", "_inputs", "_n_in", "_names", "_out_names", "_outputs", "_plain_in", "_run", "_single",
        "_text", "_threads",
    )  # fmt: skip

    def __init__(
        self, core: Any, threads: int, inputs: list[TensorInfo], outputs: list[TensorInfo],
        text: Text | None = None,
    ) -> None:  # fmt: skip
        self._context = _core.Context(core, threads)
        self._threads = threads
        self._run = self._context.run
        self._inputs = inputs
        self._outputs = outputs
        self._n_in = len(inputs)
        self._text = text
        # How many arrays make a call that goes straight to the core; no call of a model with strings does.
        self._plain_in = len(inputs) if text is None else -1
        self._single = len(outputs) == 1
        # Names of a dict of arrays that goes straight to the core. bfloat16 (uint16 there) may want a view.
        direct = text is None and all(t.dtype != np.uint16 for t in inputs)
        self._names = [t.name for t in inputs] if direct else None
        self._out_names = [t.name for t in outputs]

    def predict(self, *inputs: Any, out: Any = None) -> Any:
        """Runs the model.

        inputs: one array for each input in order, or one dict by name. Dtype and shape must be the model's;
        non-contiguous, byte-swapped and unaligned arrays are copied, others are read in place. Whatever
        offers memory is taken as an array (DLPack, buffers); lists are refused, they have no dtype.
        out: an array (a sequence of them, or a dict, like the result) to write to.
        Returns an array, or a tuple if the model has several outputs; a dict by name if the input is one.
        Strings are arrays of str; what a ZipMap makes is a list of dicts, one for each row.

        Raises InputError (a ValueError) for names, count, rank and dims; InputTypeError (a TypeError too) for
        dtypes and things that are no arrays; ModelError if a value makes an operator impossible.

            y = session.predict(x)
        """
        return self._call(inputs, out)

    def _call(self, inputs: tuple[Any, ...], out: Any) -> Any:
        if len(inputs) == self._plain_in:
            for x in inputs:
                if type(x) is not _ndarray:
                    break
            else:
                if out is None:
                    found = self._run(inputs)
                    return found[0] if self._single else tuple(found)
                if self._single and type(out) is _ndarray:
                    self._run(inputs, (out,))
                    return out
        names = self._names
        if out is None and names is not None and len(inputs) == 1 and type(inputs[0]) is dict:
            given = inputs[0]
            if len(given) == len(names):
                arrays = []
                for name in names:
                    x = given.get(name)
                    if type(x) is not _ndarray:
                        break
                    arrays.append(x)
                else:
                    return dict(zip(self._out_names, self._run(arrays), strict=True))
        return self._predict(inputs, out)

    def _predict(self, inputs: tuple[Any, ...], out: Any) -> Any:
        """The same for every call that is not plain arrays in the model's order."""
        arrays, by_name = self._arrays(inputs)
        if self._text is None:
            found = self._run(arrays, self._targets(out))
        else:
            call = self._text.call()
            encoded, targets = call.encode(arrays, self._inputs), call.targets(self._targets(out))
            found = call.decode(self._run(encoded, targets))
        if by_name:
            return {t.name: y for t, y in zip(self._outputs, found, strict=True)}
        return found[0] if self._single else tuple(found)

    def _arrays(self, inputs: tuple[Any, ...]) -> tuple[list[Array], bool]:
        """The inputs in order as arrays, and whether they came by name."""
        from pyneo.inputs import as_array, count_error, order

        by_name = len(inputs) == 1 and isinstance(inputs[0], Mapping)
        given: Sequence[Any] = order(inputs[0], self._inputs) if by_name else inputs
        if len(given) != self._n_in:
            raise count_error(len(given), self._inputs)
        return [as_array(x, t) for x, t in zip(given, self._inputs, strict=True)], by_name

    def _targets(self, out: Any) -> list[Any] | None:
        if out is None:
            return None
        if isinstance(out, Mapping):
            from pyneo.inputs import order

            return order(out, self._outputs, "output")
        return list(out) if isinstance(out, (list, tuple)) else [out]

    def reset(self) -> None:
        """Makes the state begin at zero again; without effect on a model compiled without `state`."""
        self._context.reset()

    def profile(self, *inputs: Any, runs: int = 10) -> Profile:
        """Times every node over `runs` runs after one to warm up; inputs as for predict."""
        from pyneo.profile import Profile, core_limits

        limits = core_limits()
        arrays, _ = self._arrays(inputs)
        if self._text is not None:
            arrays = self._text.call().encode(arrays, self._inputs)
        self._context.profile(arrays)
        found = [self._context.profile(arrays)[1] for _ in range(max(1, runs))]
        return Profile(found, limits, self._threads or len(os.sched_getaffinity(0)))

    @property
    def memory(self) -> dict[str, int]:
        """Bytes this session holds: arena, state, per-thread scratch, and the rest."""
        found: dict[str, int] = self._context.memory
        return found


class Model:
    """A package that was verified and can run. Immutable; threads may share it.

    Use as a context manager to give the memory back at a certain point. Picklable if it was loaded from a
    path: the other process opens, verifies and loads that path again.
    """

    def __init__(
        self, core: Any, manifest: Manifest, threads: int, origin: tuple[str, dict[str, Any]] | None
    ) -> None:
        """Use Model.load."""
        self._core = core
        self._manifest = manifest
        self._threads = threads
        self._origin = origin
        self._inputs = _infos(core.inputs, manifest.inputs, "inputs")
        self._outputs = _infos(core.outputs, manifest.outputs, "outputs")
        self._text = _text(manifest)
        self._stateful = core.state_count > 0
        # Sessions nobody uses right now. A call takes one and gives it back, so that threads never wait.
        self._idle: list[Session] = [self.session()]

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | Package,
        trust: Any = None,
        *,
        threads: int = 0,
        mode: str = "copy",
        allow_unsigned: bool = False,
        counter_store: CounterStore | str | os.PathLike[str] | None = None,
        allow_rollback: bool = False,
        device: str | None = None,
        tenant: str | None = None,
        clock: Any = None,
        max_bytes: int = MAX_PACKAGE_BYTES,
    ) -> Model:
        """Opens, verifies, validates and binds a package, in this order and on the same bytes.

        source: a path, the file's bytes, or a Package.
        trust: whose signature is needed: a .pub file, a folder of them, PEM, a key, or a TrustStore.
        allow_unsigned: accept a package without a signature; one that has a signature must still satisfy
            `trust` if that is given.
        threads: how many a prediction may use; 0 is as many as the process may.
        mode: "copy" reads the file once into memory of its own. "map" maps it, which starts faster and shares
            the weights between processes, but is for storage that nobody writes to while the model lives
            (read-only or fs-verity): a file cut short under a mapping kills the process.
        counter_store: path of a file that remembers the newest release loaded of each package, so that
            older ones are refused. Keep it where an attacker cannot write.
        allow_rollback: accept an older release after all, and remember that one.
        device, tenant: who this device is, for packages that name the ones they are for.
        clock: seconds since 1970 or a datetime, or a callable of one; the system's clock by default.
        max_bytes: a larger file is refused.

        Raises PackageError (no package, broken), SignatureError (unsigned, altered, not trusted),
        ExpiredError, RollbackError, TargetError (another machine, device or runtime), OutOfMemoryError,
        OSError.

            model = pyneo.Model.load("model.neo", trust="publisher.pub")
        """
        if mode not in ("copy", "map"):
            raise ValueError(f"mode must be 'copy' or 'map', not {mode!r}")
        if threads < 0:
            raise ValueError(f"threads must be 0 (all the process may use) or more, not {threads}")
        from pyneo.package.signing.verify import Policy, normalise_clock, verify

        store = None
        if trust is not None:
            from pyneo.package.signing.trust import TrustStore

            store = TrustStore.load(trust)
        counters = None
        if counter_store is not None:
            from pyneo.package.signing.counter import CounterStore

            if isinstance(counter_store, CounterStore):
                counters = counter_store
            else:
                counters = CounterStore(counter_store, allow_rollback=allow_rollback)
        policy = Policy(
            trust=store, allow_unsigned=allow_unsigned, counter_store=counters, device=device, tenant=tenant,
            clock=normalise_clock(clock), arch=_arch(), tier=_core.host_target()["tier"],
            runtime=_core.__version__, threads=threads,
        )  # fmt: skip
        where = _open(source, mode, max_bytes)
        try:
            found = verify(where, policy)
        finally:
            where.close()
        try:
            core = _core.Model(where.owner)
        except CompileError as e:  # the core's word for an operator or kernel that this machine does not have
            raise TargetError(str(e), "kernel") from None
        origin = None
        if isinstance(source, (str, os.PathLike)):
            options = {
                "trust": os.path.abspath(trust) if isinstance(trust, (str, os.PathLike)) else trust,
                "threads": threads, "mode": mode, "allow_unsigned": allow_unsigned, "counter_store": counters,
                "device": device, "tenant": tenant, "clock": clock, "max_bytes": max_bytes,
            }  # fmt: skip
            origin = (os.path.abspath(os.fspath(source)), options)
        model = cls(core, found.manifest, threads, origin)
        if counters is not None:
            counters.record(found.manifest)
        return model

    # ---- what it is -----------------------------------------------------------------------------

    @property
    def inputs(self) -> list[TensorInfo]:
        """Name, dtype and shape of every input, in the order predict takes them."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[TensorInfo]:
        """Name, dtype and shape of every output, in the order predict returns them."""
        return list(self._outputs)

    @property
    def metadata(self) -> dict[str, Any]:
        """The manifest: name, version, release, target, source, and the publisher's own metadata."""
        return self._manifest.to_json()

    def __repr__(self) -> str:
        takes = ", ".join(f"{t.name}: {t}" for t in self._inputs)
        gives = ", ".join(f"{t.name}: {t}" for t in self._outputs)
        return f"Model({self._manifest.name!r}, {takes} -> {gives})"

    # ---- running --------------------------------------------------------------------------------

    def session(self) -> Session:
        """An arena and state of its own, for a thread that runs the model often."""
        if self._core is None:
            raise Error(f"the model {self._manifest.name!r} is closed; load it again")
        return Session(self._core, self._threads, self._inputs, self._outputs, self._text)

    def predict(self, *inputs: Any, out: Any = None) -> Any:
        """Runs the model; see Session.predict. Threads that call at the same time get a session each.

        A model compiled with `state` begins anew at every call; use a session for a stream.
        """
        idle = self._idle
        try:
            session = idle.pop()
        except IndexError:
            session = self.session()
        try:
            if self._stateful:
                session.reset()
            return session._call(inputs, out)
        finally:
            idle.append(session)

    def profile(self, *inputs: Any, runs: int = 10) -> Profile:
        """Times every node of the model; see Session.profile."""
        return self.session().profile(*inputs, runs=runs)

    # ---- life -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Gives the memory back, once running predictions and other sessions end."""
        self._core = None
        self._idle = []

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise TypeError(
                "a Model loaded from bytes cannot be pickled; load it from a path, or send the bytes"
            )
        return _load, self._origin


def _load(path: str, options: dict[str, Any]) -> Model:
    return Model.load(path, **options)


def _open(source: Any, mode: str, max_bytes: int) -> Source:
    """The package's bytes as `mode` wants them: 64-byte aligned in either."""
    if isinstance(source, (str, os.PathLike)):
        return map_file(source, max_bytes) if mode == "map" else FileSource(source, _core.Buffer, max_bytes)
    if isinstance(source, (bytes, bytearray, memoryview)):
        given = memoryview(source).cast("B")
        if given.nbytes == 0:
            return Source(b"")
        buffer = _core.Buffer(given.nbytes)
        memoryview(buffer)[:] = given
        return Source(buffer)
    if hasattr(source, "write_into"):
        buffer = _core.Buffer(source.nbytes)
        source.write_into(buffer)
        return Source(buffer, source.name)
    raise TypeError(f"Model.load takes a path, bytes or a Package, not {type(source).__name__}")


def _infos(
    core: list[tuple[str, np.dtype[Any], tuple[int, ...] | None]], specs: Sequence[TensorSpec], what: str
) -> list[TensorInfo]:
    """The plan's inputs or outputs, which count, with the manifest's words for dims bound at run time."""
    if [name for name, _, _ in core] != [s.name for s in specs]:
        raise PackageError(f"the manifest's {what} are not those of the plan; compile the model again")
    infos = []
    for (name, dtype, shape), spec in zip(core, specs, strict=True):
        kind = np.dtype("str") if spec.dtype == "string" else dtype
        if shape is None:  # another rank from run to run
            infos.append(TensorInfo(name, kind, ("...",)))
            continue
        named = len(spec.shape) == len(shape)
        if spec.dtype == "string" and dtype != np.int64:
            raise PackageError(f"{name!r} has no int64 codes for its strings; compile the model again")
        # An open dim is compared when there are rows (Call.decode).
        if spec.keys and (not shape or (shape[-1] >= 0 and shape[-1] != len(spec.keys))):
            raise PackageError(
                f"{name!r} has {len(spec.keys)} keys for other columns; compile the model again"
            )
        dims = tuple(spec.shape[k] if d < 0 and named else d for k, d in enumerate(shape))
        infos.append(TensorInfo(name, kind, dims))
    return infos


def _text(manifest: Manifest) -> Text | None:
    """How strings and dicts go in and out; None for a model that has neither."""
    inputs, outputs = ([t.dtype == "string" for t in side] for side in (manifest.inputs, manifest.outputs))
    keys = [t.keys for t in manifest.outputs]
    if not (any(inputs) or any(outputs) or any(keys)):
        return None
    from pyneo.text import Text

    return Text(manifest.strings, inputs, outputs, keys)


def _arch() -> str:
    """This machine's architecture as targets spell it."""
    machine = os.uname().machine
    return {"amd64": "x86_64", "AMD64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
