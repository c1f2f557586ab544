"""Measures one side of a benchmark in this process: `python -m benchmarks.side NAME SIDE RESULT < setting.json`.

RESULT becomes a JSON file, and RESULT with .npy the answer. The side `files` writes the files that the others read.
"""

import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.catalogue import find_benchmark
from benchmarks.memory import peak_mib, reset_peak, resident_mib
from benchmarks.options import Setting
from benchmarks.work import Side, Work

LEAST_SECONDS = 2.0
"""Short work is repeated in its process until it has taken so long,"""
MOST_RUNS = 20
"""but not more often than this."""


def measure(side: Side, setting: Setting, save_answer: Callable[[np.ndarray], None]) -> dict[str, Any]:
    """Seconds (the median of this process's runs) and MiB of one side.

    `memory` is the peak during the runs over what is resident after the imports: weights, inputs and what a compiled
    program keeps count, as they do for a user; libraries' own code does not. `working` is the same peak over what lies
    there just before the runs. Compiling and loading count only in `highest`, the highest of the whole process.
    """
    try:
        for name in side.imports:
            importlib.import_module(name)
    except ImportError as error:  # also of a package that is there but lacks another one
        return {"missing": str(error).splitlines()[0], "install": side.install}
    imported = resident_mib()
    work = side.prepare(setting)
    first = None if work.once else (work.warm_up or work.run)()
    highest = peak_mib()
    reset = reset_peak()
    ready = resident_mib()
    seconds, first = _timed(work, first)
    peak = peak_mib()
    if work.answer is not None:
        save_answer(np.asarray(work.answer(first), np.float64))
    return {
        "seconds": statistics.median(seconds),
        "runs": len(seconds),
        "compile_seconds": work.compile_seconds,
        "memory": peak - imported if work.own_memory else None,
        "working": peak - ready if work.own_memory else None,
        "highest": max(highest, peak) if work.own_memory else None,
        "peak_was_reset": reset,
        "versions": {name: _version(name) for name in side.packages},
    }


def _timed(work: Work, first: Any) -> tuple[list[float], Any]:
    """The seconds of each run, and what the first call gave."""
    seconds: list[float] = []
    while not seconds or (not work.once and sum(seconds) < LEAST_SECONDS and len(seconds) < MOST_RUNS):
        begin = time.perf_counter()
        result = work.run()
        took = time.perf_counter() - begin
        seconds.append(took if work.seconds is None else work.seconds(result))
        first = result if work.once else first
        del result
    return seconds, first


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(name: str, side: str, result: Path) -> None:
    setting = Setting.from_json(json.load(sys.stdin))
    benchmark = find_benchmark(name)
    if side == "files":
        if benchmark.files is not None:
            benchmark.files(setting)
        measured = {}
    else:
        measured = measure(benchmark.sides[side], setting, lambda answer: np.save(result.with_suffix(".npy"), answer))
    result.write_text(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
