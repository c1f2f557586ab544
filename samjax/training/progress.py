"""What a run tells while it trains: metrics.jsonl, TensorBoard, and a line or bar on the terminal."""

import json
import math
import resource
import sys
import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from samjax.files import replacing
from samjax.models.prompt_encoder import Buffer
from samjax.training.distributed import is_writer

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

QUIET_SECONDS = 10
"""Seconds between lines where the terminal cannot show a bar."""


class MetricsLog:
    """Rows in metrics.jsonl and the same numbers as TensorBoard scalars; only the process that writes logs."""

    def __init__(self, path: Path, resumed_step: int):
        """A log that touches no file before `begin`; rows beyond `resumed_step` will be trained again."""
        self._writes = is_writer()
        self._path, self._folder, self._resumed_step = path, path.parent, resumed_step
        self._file: TextIO | None = None
        self._waiting: list[tuple[str, int, int, dict[str, object]]] = []

    def begin(self) -> None:
        """Opens the log, drops the rows that will be trained again, and writes those that waited; once."""
        if not self._writes or self._file is not None:
            return
        rows = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [row for row in rows if _step_of(row) <= self._resumed_step]
        with replacing(self._path) as temporary:
            temporary.write_text("".join(row + "\n" for row in kept))
        self._file = open(self._path, "a")  # noqa: SIM115
        for kind, step, epoch, values in self._waiting:
            self.write(kind, step, epoch, **values)

    @cached_property
    def _board(self) -> "SummaryWriter":
        # Importing it imports PyTorch where that is installed: seconds that the first step need not wait for.
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=self._resumed_step + 1 if self._resumed_step else None)

    def write(self, kind: str, step: int, epoch: int, **values: object) -> None:
        """One row; numbers also go to TensorBoard as kind/name."""
        if not self._writes:
            return
        if self._file is None:
            self._waiting.append((kind, step, epoch, values))
            return
        self._file.write(json.dumps({"kind": kind, "step": step, "epoch": epoch, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
            self._board.close()


def _step_of(row: str) -> float:
    """The step that a row came with: of the finder's the next one, before which it asks again.

    Beyond every step for a row cut off when a run was killed.
    """
    try:
        content = json.loads(row)
        return content["step"] + (content["kind"] == "finder")
    except (ValueError, KeyError):
        return math.inf


class TrainingDisplay:
    """A bar with loss, learning rate, slices per second and time left; plain lines where there is no terminal.

    Only the process that writes shows anything.
    """

    def __init__(self, total: int, done: int):
        self._silent = not is_writer()
        self.console = Console(quiet=self._silent)
        columns = (
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  lr {task.fields[lr]:.1e}  {task.fields[rate]:.1f} slices/s"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task = self._progress.add_task("", total=total, completed=done, loss=float("nan"), lr=0.0, rate=0.0)
        self._total = total
        self._first: tuple[float, int] | None = None
        self._shown = 0.0
        self._loss: float | None = None

    def __enter__(self) -> "TrainingDisplay":
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def step(self, step: int, loss: float, lr: float, rate: float) -> None:
        """Shows a finished step; the loss is smoothed."""
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        self._progress.update(self._task, completed=step, loss=self._loss, lr=lr, rate=rate)
        now = time.monotonic()
        self._first = self._first or (now, step)
        if self._progress.disable and not self._silent and (now - self._shown > QUIET_SECONDS or step == self._total):
            self._shown = now
            line = f"step {step}/{self._total}  loss {self._loss:.4f}  lr {lr:.1e}  {rate:.1f} slices/s"
            begin, first = self._first
            if step > first:  # the first step comes after compiling, which says nothing of those to come
                line += f"  {(now - begin) / (step - first) * (self._total - step) / 60:.1f} min left"
            print(line, flush=True)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, highlight=False, soft_wrap=True)


def memory_in_use() -> int:
    """The most memory in bytes that the first device has held, or this process where the device does not say."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "peak_bytes_in_use" in statistics:
        return int(statistics["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def what_trains(trainable: nnx.State, frozen: nnx.State) -> str:
    """How many parameters train, in all and of each part of the model."""
    counts = parameter_counts(trainable)
    total = sum(counts.values())
    whole = total + sum(parameter_counts(frozen).values())
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"trains {total:,} of {whole:,} parameters ({parts})"


PARTS = (
    "lora", "cross_slice", "patch_embed", "image_encoder", "prompt_encoder", "mask_decoder", "encoder", "decoder",
    "heads",
)  # fmt: skip


def parameter_counts(state: nnx.State) -> dict[str, int]:
    """Parameters of each part of the model, buffers left out; LoRA, cross-slice and patch embedding stand apart."""
    counts: dict[str, int] = {}
    for path, leaf in nnx.to_flat_state(state):
        if isinstance(leaf, Buffer):
            continue
        part = next(name for name in PARTS if name in path)
        counts[part] = counts.get(part, 0) + int(np.prod(leaf.shape))
    return dict(sorted(counts.items(), key=lambda item: PARTS.index(item[0])))
