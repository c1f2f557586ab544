"""A run's numbers in an experiment tracker beside TensorBoard (`--track wandb` or `--track mlflow`).

A thread of its own talks to the tracker, so that training never waits for it. Whatever goes wrong there is one warning,
and the run goes on without the tracker.
"""

import json
import os
import queue
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from samjax.errors import UserError
from samjax.files import replacing

IDS = "tracker.json"
"""File in the run's folder with the id of its run in each tracker, by which a resumed run goes on there."""
PROJECT = "samjax"
"""Project (wandb) or experiment (mlflow) where WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names none."""
PATIENCE_SECONDS = 20.0
"""How long the end of a run waits for the tracker."""


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of a run at its start."""

    folder: Path
    options: Mapping[str, str]


class Tracker(Protocol):
    """A run in a tracker, used by one thread."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Records numbers of a step."""

    def finish(self) -> None:
        """Ends the run there; it can be resumed."""


class Wandb:
    """Weights & Biases; WANDB_MODE=offline writes to the run's folder alone."""

    def __init__(self, tracked: Tracked, known: str | None):
        import wandb

        self.id = known or uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=tracked.folder.resolve().name,
            id=self.id,
            resume="allow",
            dir=str(tracked.folder),
            config=dict(tracked.options),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        self._run.finish()


class Mlflow:
    """MLflow, at MLFLOW_TRACKING_URI or its default."""

    def __init__(self, tracked: Tracked, known: str | None):
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        if known is not None:
            self.id = known
            self._client.update_run(known, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self.id = self._client.create_run(number, run_name=tracked.folder.resolve().name).info.run_id
        for option, value in tracked.options.items():
            self._client.log_param(self.id, option, value)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self.id, name, value, step=step)

    def finish(self) -> None:
        self._client.set_terminated(self.id)


TRACKERS: dict[str, Callable[[Tracked, str | None], Any]] = {"wandb": Wandb, "mlflow": Mlflow}


def require(kind: str | None) -> None:
    """Raises a `UserError` where the package of the tracker is missing."""
    if kind is not None and find_spec(kind) is None:
        raise UserError(f"--track {kind}: needs {kind}, which is missing: pip install 'samjax[{kind}]'")


class Tracking:
    """Hands rows to a tracker in another thread; `kind` None does nothing."""

    def __init__(self, kind: str | None, tracked: Tracked):
        self._kind, self._tracked = kind, tracked
        self._rows: queue.SimpleQueue[tuple[Mapping[str, float], int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Hands numbers of a step over; returns at once."""
        if self._kind is None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"track-{self._kind}", daemon=True)
            self._thread.start()
        self._rows.put((dict(values), step))

    def close(self) -> None:
        """Waits for what was handed over, but not for long."""
        if self._thread is None:
            return
        self._rows.put(None)
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            self._warn(f"not done after {PATIENCE_SECONDS:g} s; its last values may be missing there")

    def _work(self) -> None:
        try:
            tracker = self._opened()
            while (row := self._rows.get()) is not None:
                tracker.log(*row)
            tracker.finish()
        except Exception as error:  # a run does not depend on what a tracker raises
            reason = (str(error).splitlines() or [""])[0]
            self._warn(f"{type(error).__name__}: {reason}; the run goes on without it")

    def _opened(self) -> Tracker:
        assert self._kind is not None
        path = self._tracked.folder / IDS
        ids = json.loads(path.read_text()) if path.is_file() else {}
        tracker = TRACKERS[self._kind](self._tracked, ids.get(self._kind))
        if tracker.id != ids.get(self._kind):
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({**ids, self._kind: tracker.id}) + "\n")
        return tracker

    def _warn(self, what: str) -> None:
        print(f"warning: --track {self._kind}: {what}", file=sys.stderr)
