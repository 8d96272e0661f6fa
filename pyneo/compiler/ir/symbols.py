# SPDX-License-Identifier: Apache-2.0
"""Symbolic dims: names with bounds, and the sample sizes that shapes are inferred with.

The core infers concrete shapes only. A graph with symbols is inferred once for each of a few samples
(assignments of a size to every symbol): a dim that comes out equal in all of them is a number, any other
gets a name of its own. Sample sizes are primes, so that no two unrelated dims agree by chance. A dim that
data decides (the number of elements that NonZero finds) is a symbol too, without bounds and not bound by
inputs. The runtime infers again for the real sizes (csrc/core/binding.cc); nothing rests on the samples but
choices of speed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyneo.compiler.budget import Budget
from pyneo.errors import CompileError

MAX_SIZE = 2**31 - 1
_PATTERN = re.compile(r"(?:(\d+)\s*<=\s*)?([^<>=\s][^<>=]*?)(?:\s*<=\s*(\d+))?")
# The first sample is what kernels and layouts are chosen for. The last is large: a dim that strides have worn
# down to 1 in the others is not a 1 for that.
_PRIMES = (
    (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109),
    (23, 29, 31, 37, 41, 43, 47, 53, 59, 113, 127, 131),
    (7, 11, 13, 17, 19, 137, 139, 149, 151, 157, 163, 167),
    (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069),
)
# Of dims that data decides: sizes in the samples, in cycles of coprime lengths.
_OPEN_PRIMES = [n for n in range(11, 600) if all(n % d for d in range(2, min(n, 26)))]
_OPEN_CYCLES = (_OPEN_PRIMES[40:63], _OPEN_PRIMES[:19], _OPEN_PRIMES[19:36], _OPEN_PRIMES[63:92])


@dataclass
class Symbols:
    """Symbols of a graph in order: name -> (least, greatest size), both inclusive."""

    bounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    names: dict[tuple[int, ...], str] = field(default_factory=dict)  # sizes in the samples -> name
    opened: dict[str, tuple[int, ...]] = field(default_factory=dict)  # dims that data decides -> sizes
    data_dependent: bool = False  # whether data or control flow decides a shape of the graph
    scale: int = 1  # of the sample sizes: some graphs need larger inputs than others
    scaled: bool = False  # whether the scale was chosen
    made: int = 0  # fresh names of values and nodes
    budget: Budget = field(default_factory=Budget)  # of the model's compilation

    def declare(self, text: str) -> str:
        """The symbol of a dim written "N", "N<=8" or "2<=N<=8"."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise CompileError(f"dim '{text}' is no size; write a number, 'N', 'N<=8' or '2<=N<=8'")
        low, name, high = match.groups()
        least, greatest = int(low or 0), min(int(high), MAX_SIZE) if high else MAX_SIZE
        if least > greatest:
            raise CompileError(f"dim '{text}' has no size between {least} and {greatest}")
        known = self.bounds.get(name, (0, MAX_SIZE))
        narrowed = (max(known[0], least), min(known[1], greatest))
        if narrowed[0] > narrowed[1]:
            raise CompileError(
                f"dim '{name}' has no size: '{text}' contradicts the bounds {known[0]} and {known[1]} given "
                "to the same name elsewhere; use one set of bounds, or two names"
            )
        self.bounds[name] = narrowed
        return name

    def samples(self) -> list[dict[str, int]]:
        """Sizes for every symbol, one assignment a sample, within the bounds where they leave a choice."""
        found = []
        for primes in _PRIMES:
            sizes = {}
            for i, (name, (low, high)) in enumerate(self.bounds.items()):
                wanted = primes[i % len(primes)] + 170 * (i // len(primes))
                wanted = wanted * self.scale + (self.scale > 1)
                sizes[name] = min(max(wanted, low), high)
            found.append(sizes)
        for i, name in enumerate(self.bounds):
            low, high = self.bounds[name]
            column = [s[name] for s in found]
            if len(set(column)) < len(column) and high - low >= 2:
                # The bounds cut the primes off: spread over what they leave.
                for k, s in enumerate(found):
                    s[name] = max(low, high - k * ((high - low) // 4 or 1) - (i % 2 and high - low > 7))
            self.names[tuple(s[name] for s in found)] = name
        return found

    def open_dim(self, key: str) -> tuple[int, ...]:
        """Sizes in the samples of a dim that data decides; `key` says which: the same key, the same dim."""
        sizes = self.opened.get(key)
        if sizes is None:
            i = len(self.opened)
            sizes = tuple(c[i % len(c)] for c in _OPEN_CYCLES)
            self.opened[key] = sizes
            self.names.setdefault(sizes, f"?{i}")
        return sizes

    def dim(self, sizes: Sequence[int]) -> int | str:
        """What a dim is whose sizes in the samples are these."""
        if len(set(sizes)) == 1:
            return sizes[0]
        return self.names.setdefault(tuple(sizes), f"~{len(self.names)}")

    def spell(self, name: str) -> str:
        """A symbol with its bounds, for the manifest."""
        low, high = self.bounds[name]
        return (f"{low}<=" if low else "") + name + (f"<={high}" if high < MAX_SIZE else "")
