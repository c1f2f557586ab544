"""Measures one row in this process; started by `suite.py`, which writes the row as JSON to its input.

It says `ready` once all is compiled, waits for a line, and prints what it found as JSON.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.ready import Ready
from benchmarks.gpu.rows import OURS, Row
from benchmarks.options import Setting

LEAST_SECONDS, FEWEST_RUNS, MOST_RUNS = 0.7, 3, 50


def measure(ready: Ready) -> tuple[list[float], Any]:
    """The seconds of each run after the first, and what the first gave."""
    first, seconds = ready.run(), []
    while len(seconds) < FEWEST_RUNS or (sum(seconds) < LEAST_SECONDS and len(seconds) < MOST_RUNS):
        begin = time.perf_counter()
        ready.run()
        seconds.append(time.perf_counter() - begin)
    return seconds, first


def ours(row: Row, setting: Setting, device: str) -> tuple[Ready, Callable[[], int | None], dict[str, str]]:
    """A row of samjax, what tells the peak of the device's memory in bytes, and versions."""
    import jax

    from benchmarks.gpu.ours import prepare

    def peak() -> int | None:
        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    found = jax.local_devices()[0]
    if found.platform != device:
        raise RuntimeError(f"JAX found {found.platform}, no {device}")
    return prepare(row, setting), peak, {"jax": jax.__version__, "device": found.device_kind}


def peer(row: Row, setting: Setting, device: str) -> tuple[Ready, Callable[[], int | None], dict[str, str]]:
    """The same of PyTorch."""
    import torch

    import benchmarks.meta_sam  # noqa: F401 - finds Meta's code
    from benchmarks.gpu.meta import prepare

    name = {"gpu": "cuda"}.get(device, device)
    ready = prepare(row, setting, name)
    if name == "cpu":
        return ready, lambda: None, {"torch": torch.__version__}
    torch.cuda.reset_peak_memory_stats()
    return ready, torch.cuda.max_memory_allocated, {"torch": torch.__version__}


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    row, setting = Row(**asked["row"]), Setting.from_json(asked["setting"])
    ready, peak, about = (ours if row.by == OURS else peer)(row, setting, asked["device"])
    print("ready", flush=True)
    if not sys.stdin.readline():
        return  # the suite has ended
    seconds, first = measure(ready)
    answer = np.asarray(ready.answer(first), np.float64)
    np.save(Path(asked["answer"]), answer)
    found = {
        "seconds": statistics.median(seconds), "runs": len(seconds), "spread": [min(seconds), max(seconds)],
        "peak_bytes": peak(), "planned_bytes": ready.planned, "compile_seconds": ready.compile_seconds,
        "versions": {"python": platform.python_version(), **about},
    }  # fmt: skip
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
