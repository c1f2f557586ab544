"""Display of a run on the terminal: trainable parameters, progress, and memory."""

import resource
import sys
import time
from types import TracebackType

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from samjax.models.prompt_encoder import Buffer
from samjax.training.distributed import is_writer

QUIET_SECONDS = 10
"""Seconds between lines if the terminal cannot show a bar."""
PARTS = (
    "lora", "adapters", "cross_slice", "patch_embed", "image_encoder", "prompt_encoder", "inner_regions",
    "mask_decoder", "encoder", "decoder", "heads",
)  # fmt: skip
"""The parts of a model that are counted; a parameter belongs to the first whose name is in its path."""


class TrainingDisplay:
    """A bar with loss, learning rate, slices per second and time left; plain lines where there is no terminal.

    Only the process that writes shows anything.
    """

    def __init__(self, total: int, done: int):
        self._silent = not is_writer()
        self.console = Console(quiet=self._silent, markup=False)
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
            if step > first:  # the first step is timed with compiling, so it tells nothing about the others
                line += f"  {(now - begin) / (step - first) * (self._total - step) / 60:.1f} min left"
            print(line, flush=True)

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, highlight=False, soft_wrap=True)


def memory_in_use() -> int:
    """Peak memory in bytes of the first device, or of this process if the device does not report it."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "peak_bytes_in_use" in statistics:
        return int(statistics["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def what_trains(trainable: nnx.State, frozen: nnx.State) -> str:
    """Text with the number of trainable parameters, in all and of each part of the model."""
    counts = parameter_counts(trainable)
    total = sum(counts.values())
    whole = total + sum(parameter_counts(frozen).values())
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"trains {total:,} of {whole:,} parameters ({parts})"


def parameter_counts(state: nnx.State) -> dict[str, int]:
    """The number of parameters of each of `PARTS`, in their order, without buffers."""
    counts: dict[str, int] = {}
    for path, leaf in nnx.to_flat_state(state):
        if isinstance(leaf, Buffer):
            continue
        part = next(name for name in PARTS if name in path)
        counts[part] = counts.get(part, 0) + int(np.prod(leaf.shape))
    return dict(sorted(counts.items(), key=lambda item: PARTS.index(item[0])))
