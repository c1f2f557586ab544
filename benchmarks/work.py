"""What a benchmark is made of: sides, each of which prepares some work, and which of them are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.options import Setting


@dataclass(frozen=True)
class Work:
    """Something ready to be measured: its inputs are there and its programs compiled."""

    run: Callable[[], Any]
    """Does it once, and returns when it is done."""
    warm_up: Callable[[], Any] | None = None
    """What runs once before the clock starts; None: `run`."""
    once: bool = False
    """Only the first time counts, as of an import: no warm-up."""
    answer: Callable[[Any], np.ndarray] | None = None
    """From what the first call gave to the numbers on which both sides must agree."""
    seconds: Callable[[Any], float] | None = None
    """From what a run gave to the seconds that count; None: those that it took."""
    compile_seconds: float | None = None
    own_memory: bool = True
    """Whether it happens in this process, so that the memory of this process tells anything."""


@dataclass(frozen=True)
class Side:
    """Ours or a peer."""

    prepare: Callable[[Setting], Work]
    imports: tuple[str, ...]
    """Modules imported before memory is first looked at."""
    packages: tuple[str, ...]
    """Distributions whose versions are reported."""
    install: str = ""
    """What to type where a module is missing."""


@dataclass(frozen=True)
class Comparison:
    """One line of output: two sides, or ours alone where there is no peer."""

    name: str
    ours: str
    peer: str | None
    tolerance: float | None = None
    """Of the largest difference of their answers, by the largest number in the peer's; None: not comparable."""


@dataclass(frozen=True)
class Benchmark:
    """The content of one file of this folder."""

    sides: Mapping[str, Side]
    comparisons: tuple[Comparison, ...]
    files: Callable[[Setting], None] | None = None
    """Writes, in a process of its own, the files that all sides read; keeps those that are there."""
    note: str = field(default="", kw_only=True)
    """What a reader of the numbers must know; printed with them."""
