"""The log of a run: metrics.jsonl and TensorBoard while it trains, and the learning curves read from it."""

import json
import math
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from samjax.errors import UserError
from samjax.figures.curves import Curves, Series
from samjax.files import replacing
from samjax.training.distributed import is_writer
from samjax.training.lr_finder import smooth
from samjax.training.tracking import Tracking

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class MetricsLog:
    """Writes rows to metrics.jsonl and their numbers as TensorBoard scalars, in one process of a run."""

    def __init__(self, path: Path, resumed_step: int, tracking: Tracking | None = None):
        """Makes a log that touches no file before `begin`; steps beyond `resumed_step` will be trained again.

        `tracking` gets the same numbers as TensorBoard.
        """
        self._tracking = tracking
        self._writes = is_writer()
        self._path, self._folder, self._resumed_step = path, path.parent, resumed_step
        self._file: TextIO | None = None
        self._waiting: list[tuple[str, int, int, dict[str, object]]] = []

    def begin(self) -> None:
        """Opens the log once: drops the rows of steps that will be trained again, and writes the waiting rows."""
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
        """Writes one row; numbers also go to TensorBoard as kind/name."""
        if not self._writes:
            return
        if self._file is None:
            self._waiting.append((kind, step, epoch, values))
            return
        self._file.write(json.dumps({"kind": kind, "step": step, "epoch": epoch, **values}) + "\n")
        self._file.flush()
        numbers = {f"{kind}/{name}": float(value) for name, value in values.items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)
        if self._tracking is not None:
            self._tracking.log(numbers, step)

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
            self._board.close()
        if self._tracking is not None:
            self._tracking.close()


def _step_of(row: str) -> float:
    """The step of a row; beyond every step for a row that was cut off when a run was killed.

    A row of the learning-rate finder belongs to the step after it, before which the finder runs again.
    """
    try:
        content = json.loads(row)
        return content["step"] + (content["kind"] == "finder")
    except (ValueError, KeyError):
        return math.inf


def read_curves(metrics: Path) -> Curves:
    """Reads the learning curves from a metrics.jsonl, whose last line may be unfinished.

    Raises:
        UserError: there is no such file, or it has no complete row.
    """
    if not metrics.is_file():
        raise UserError(f"{metrics}: no such file; expected the metrics.jsonl of a run")
    rows = [row for row in map(_row, metrics.read_text().splitlines()) if row is not None]
    if not rows:
        raise UserError(f"{metrics}: holds no finished row, so there are no curves to draw; train for a step first")
    # A step trained again after a resumption replaces what was there.
    train = {row["step"]: row for row in rows if row["kind"] == "train"}
    train = [train[step] for step in sorted(train)]
    loss = _series((row["step"], row["loss"]) for row in train)
    return Curves(
        loss=loss,
        smoothed=_smoothed(loss),
        rate=_series((row["step"], row["lr"]) for row in train),
        scores=_scores(row for row in rows if row["kind"] == "validation"),
        epochs=np.array([b["step"] for a, b in pairwise(train) if b["epoch"] > a["epoch"]], np.int64),
        averaging=next((row["step"] for row in train if row.get("averaging")), None),
    )


def _row(line: str) -> dict | None:
    """A row; None for a line cut off when the run was killed."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "kind" in row and "step" in row else None


def _series(pairs: Iterable[tuple[int, float]]) -> Series:
    latest = dict(pairs)
    steps = np.array(sorted(latest), np.int64)
    values = np.array([latest[step] for step in steps.tolist()], np.float64)
    return Series(steps, np.where(np.isfinite(values), values, np.nan))


def _smoothed(loss: Series) -> Series:
    """The loss averaged over about 4 % of the run, but at least a few steps, where it is finite."""
    finite = np.isfinite(loss.values)
    beta = 1 - 1 / max(2, finite.sum() / 100)
    return Series(loss.steps[finite], smooth(loss.values[finite], beta))


def _scores(rows: Iterable[dict]) -> dict[tuple[str, str], Series]:
    """All floats of the validation rows whose names begin with dice or iou."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(("dice", "iou")) and isinstance(value, float):
                found.setdefault((name, row.get("weights", "last")), []).append((row["step"], value))
    return {key: _series(pairs) for key, pairs in found.items()}
