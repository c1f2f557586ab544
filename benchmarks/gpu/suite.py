"""Runs the rows: some compile at once, then each is measured while the others of its wave wait."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.rows import EAGER, Row, rows
from benchmarks.harness import ROOT
from benchmarks.options import Setting
from benchmarks.random_weights import write_weights
from samjax.cli.process import compile_quickly
from samjax.errors import UserError

REFERENCE = {"encoder": "float32", "prompts": "float32", "train_step": "float32"}
"""The dtype of PyTorch's row that the others of its work are compared with."""
Record = dict[str, Any]


def run_suite(names: tuple[str, ...], device: str, setting: Setting, wave: int) -> Iterator[Record]:
    """The record of each row, as soon as it is measured.

    Args:
        names: works (see `rows.py`), or all.
        device: gpu or cpu.
        wave: how many rows compile at once.
    """
    chosen = rows(names)
    if not chosen:
        known = ", ".join(dict.fromkeys(row.work for row in rows(("all",))))
        raise UserError(f"benchmark '{' '.join(names)}': unknown; expected all or some of {known}")
    setting.folder.mkdir(parents=True, exist_ok=True)
    for one in {_of(row, setting) for row in chosen}:
        write_weights(one)
    waiting = iter(chosen)
    with tempfile.TemporaryDirectory(prefix="answers-", dir=setting.folder) as answers:
        references: dict[str, np.ndarray] = {}
        while some := list(islice(waiting, wave)):
            begun = [_Child(row, device, setting, Path(answers)) for row in some]
            for child in begun:
                child.says()  # all of the wave are compiled before the first is measured
            for child in begun:
                found = child.measured()
                yield {**asdict(child.row), **found, "difference": _difference(child.row, child.answer, references)}


def _of(row: Row, setting: Setting) -> Setting:
    """The setting of a row with a size of its own; a size that was asked for is that of all."""
    return replace(setting, size=row.size) if row.size and setting.size is None else setting


class _Child:
    """The process of a row, which compiles at once and measures when it is told to."""

    def __init__(self, row: Row, device: str, setting: Setting, answers: Path):
        self.row, self.answer = row, answers / f"{row.name.replace(' ', '-')}.npy"
        self._errors = self.answer.with_suffix(".err")
        kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        settings = {
            "JAX_PLATFORMS": {"gpu": "cuda"}.get(device, device),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        }
        environment = {**kept, **settings}
        compile_quickly(row.dtype, environment)
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.child"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        asked = {"row": asdict(row), "setting": _of(row, setting).to_json(), "device": device}
        self._tell(json.dumps({**asked, "answer": str(self.answer)}))

    def says(self) -> str:
        """The next line that is its own, waited for; empty where it has ended."""
        return next((line for line in self._process.stdout if line.startswith(("ready", "{"))), "")

    def measured(self) -> Record:
        """What it finds; the reason where it finds nothing."""
        self._tell("go")
        line = self.says()
        self._process.communicate()
        if line:
            return json.loads(line)
        words = self._errors.read_text().strip().splitlines() or ["nothing was said"]
        return {"failed": words[-1][:300]}

    def _tell(self, line: str) -> None:
        with suppress(BrokenPipeError):  # it has ended, and its errors tell why
            print(line, file=self._process.stdin, flush=True)


def _difference(row: Row, answer: Path, references: dict[str, np.ndarray]) -> float | None:
    """The answer's distance from that of PyTorch in float32, by the latter's length; None where there is none."""
    if not answer.exists() or row.work not in REFERENCE or row.size:
        return None
    found = np.load(answer)
    if row.by == EAGER and row.dtype == REFERENCE[row.work]:
        references[row.work] = found
    reference = references.get(row.work)
    if reference is None or reference.shape != found.shape:
        return None
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def table(records: list[Record]) -> str:
    """The records as a table in Markdown."""
    lines = [
        "| work | size | by | dtype | batch | ms | a second | peak MiB | planned MiB | compile s | difference |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        about = (record["work"], record["size"] or "", record["by"], record["dtype"], record["batch"])
        if "failed" in record:
            cells = (*about, record["failed"], *[""] * 5)
        else:
            seconds = record["seconds"]
            cells = (
                *about, f"{1000 * seconds:.4g}", f"{record['batch'] / seconds:.4g}", _mib(record["peak_bytes"]),
                _mib(record["planned_bytes"]), _short(record["compile_seconds"], ".1f"),
                _short(record["difference"], ".1e"),
            )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f}"


def _short(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
