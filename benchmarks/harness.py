"""Runs the sides of a benchmark in alternation, each time in a fresh process, and compares them."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import Setting
from benchmarks.work import Benchmark, Comparison
from samjax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
Measured = dict[str, Any]
"""What `side.measure` found; with the key `missing` where a package is not installed, and perhaps `answer`."""
Launch = Callable[[str, str, Setting], Measured]


def launch(name: str, side: str, setting: Setting) -> Measured:
    """Measures one side in a fresh process; UserError with its last words if it fails."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=setting.folder) as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks.side", name, side, str(result)]
        done = subprocess.run(
            command,
            input=json.dumps(setting.to_json()),
            env=environment(),
            cwd=folder,  # what a side writes for itself goes with it
            capture_output=True,
            text=True,
        )
        if done.returncode or not result.exists():
            words = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
            raise UserError(f"benchmark {name}, {side}: ended with code {done.returncode}: {words[-1]}")
        measured = json.loads(result.read_text())
        answer = result.with_suffix(".npy")
        return {**measured, "answer": np.load(answer)} if answer.exists() else measured


def environment() -> dict[str, str]:
    """Of a measured process: ours on the CPU as the peers, and nothing compiled at an earlier time."""
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax", **kept, "PYTHONPATH": path}


def compare(
    name: str, benchmark: Benchmark, setting: Setting, repeats: int, launch: Launch = launch
) -> Iterator[dict[str, Any]]:
    """Measures all sides `repeats` times in alternation, then yields the record of each comparison."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    launch(name, "files", setting)
    found: dict[str, list[Measured]] = {side: [] for side in benchmark.sides}
    for round_ in range(repeats):
        for side, measured in found.items():
            if any("missing" in one for one in measured):
                continue
            measured.append(launch(name, side, setting))
            _say(f"{name} {round_ + 1}/{repeats} {side}: {_told(measured[-1])}")
    for comparison in benchmark.comparisons:
        yield {**record(comparison, found), **_circumstances(setting, repeats), "note": benchmark.note}


def record(comparison: Comparison, found: Mapping[str, list[Measured]]) -> dict[str, Any]:
    """One line of output: medians in seconds and MiB, and ratios ours / peer. What was not measured is None."""
    ours = found[comparison.ours]
    peer = found[comparison.peer] if comparison.peer else []
    missing = [side for side in (*ours, *peer) if "missing" in side]
    seconds, others = _median(ours, "seconds"), _median(peer, "seconds")
    memory, other_memory = _median(ours, "memory"), _median(peer, "memory")
    versions = {"python": platform.python_version()}
    for side in (*ours, *peer):
        versions |= side.get("versions", {})
    difference = None if comparison.tolerance is None or missing else largest_difference(ours, peer)
    return {
        "name": comparison.name,
        "ours": seconds,
        "peer": others,
        "ratio": _ratio(seconds, others),
        "memory_ours": memory,
        "memory_peer": other_memory,
        "versions": versions,
        "sides": [comparison.ours, comparison.peer],
        "memory_ratio": _ratio(memory, other_memory),
        "all_ours": [side["seconds"] for side in ours if "seconds" in side],
        "all_peer": [side["seconds"] for side in peer if "seconds" in side],
        "compile_ours": _median(ours, "compile_seconds"),
        "working_ours": _median(ours, "working"),
        "working_peer": _median(peer, "working"),
        "highest_ours": _median(ours, "highest"),
        "highest_peer": _median(peer, "highest"),
        "peaks_were_reset": all(side.get("peak_was_reset", True) for side in (*ours, *peer)),
        "difference": difference,
        "agree": None if difference is None else difference <= comparison.tolerance,
        "missing": "; ".join(f"{side['missing']} ({side['install']})" for side in missing) or None,
    }


def largest_difference(ours: list[Measured], peer: list[Measured]) -> float:
    """Of all answers of ours and the peer's first one, relative to its largest number; infinite where shapes differ."""
    reference = peer[0]["answer"]
    scale = max(float(np.abs(reference).max()), np.finfo(np.float32).tiny)
    if any(side["answer"].shape != reference.shape for side in ours):
        return float("inf")
    return max(float(np.abs(side["answer"] - reference).max()) for side in ours) / scale


def _circumstances(setting: Setting, repeats: int) -> dict[str, Any]:
    return {
        "preset": setting.preset,
        "size": setting.size,
        "repeats": repeats,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }


def _median(measured: list[Measured], key: str) -> float | None:
    values = [side[key] for side in measured if side.get(key) is not None]
    return statistics.median(values) if values else None


def _ratio(ours: float | None, peer: float | None) -> float | None:
    return ours / peer if ours is not None and peer else None


def _told(measured: Measured) -> str:
    if "missing" in measured:
        return f"not installed: {measured['missing']} ({measured['install']})"
    memory = measured["memory"]
    return f"{measured['seconds']:.4g} s" + (f", {memory:.0f} MiB" if memory is not None else "")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
