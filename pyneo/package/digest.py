# SPDX-License-Identifier: Apache-2.0
"""The digest of a section: SHA-256, over pieces, so that several cores can share the work.

A section of at most 1 MiB has the SHA-256 of its bytes. A larger one has the SHA-256 of the concatenated
SHA-256 digests of its consecutive 1 MiB pieces. Which of the two it is follows from the section's size, which
the manifest states and the signature covers, so neither can pass for the other. A piece is hashed while it
is in the cache; on a device whose CPU has no instructions for SHA, four cores verify four times as fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable

Buffer = bytes | bytearray | memoryview

PIECE = 1 << 20
_MIN_PIECES_PER_THREAD = 2
_MAX_THREADS = 8


def sha256(data: Buffer) -> bytes:
    """SHA-256 by the library that checks signatures: loading hashlib's besides would cost 5 MB and 5 ms."""
    from cryptography.hazmat.primitives.hashes import SHA256, Hash

    state = Hash(SHA256())
    state.update(data)
    return state.finalize()


def digest(data: Buffer) -> bytes:
    """The digest of a section in memory."""
    view = memoryview(data)
    view = view.cast("B") if view.nbytes else memoryview(b"")
    return digest_range(lambda begin, end: view[begin:end], 0, view.nbytes)


def digest_range(fetch: Callable[[int, int], Buffer], begin: int, end: int, threads: int = 0) -> bytes:
    """The digest of the bytes [begin, end), each fetched once; `threads` 0: all that the process may use."""
    starts = range(begin, end, PIECE)
    if len(starts) <= 1:
        return sha256(fetch(begin, end))
    digests = [b""] * len(starts)
    workers = min(
        threads or len(os.sched_getaffinity(0)), _MAX_THREADS, len(starts) // _MIN_PIECES_PER_THREAD
    )
    failures: list[BaseException] = []

    # Neighbouring pieces to one thread: two that fault the same huge page both clear it.
    def work(share: int, shares: int) -> None:
        try:
            for i in range(share * len(starts) // shares, (share + 1) * len(starts) // shares):
                digests[i] = sha256(fetch(starts[i], min(starts[i] + PIECE, end)))
                if failures:
                    return
        except BaseException as e:
            failures.append(e)

    if workers <= 1:
        work(0, 1)
    else:
        from threading import Thread

        others = [Thread(target=work, args=(i, workers), daemon=True) for i in range(1, workers)]
        for t in others:
            t.start()
        work(0, workers)
        for t in others:
            t.join()
    if failures:
        raise failures[0]
    return sha256(b"".join(digests))
