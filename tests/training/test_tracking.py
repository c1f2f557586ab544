"""Trackers beside TensorBoard: the same numbers, one run there after a resumption, and no run that waits or ends."""

import json
import threading
import time
from pathlib import Path

import pytest

from samjax.errors import UserError
from samjax.training import tracking
from samjax.training.metrics_log import MetricsLog
from samjax.training.run_options import FREE
from samjax.training.tracking import IDS, Tracked, Tracking, require


class Recorder:
    """A tracker that keeps what it is told."""

    made: list["Recorder"]

    def __init__(self, tracked: Tracked, known: str | None):
        self.tracked, self.known, self.id = tracked, known, known or f"id-{len(self.made)}"
        self.rows: list[tuple[dict, int]] = []
        self.finished = False
        self.made.append(self)

    def log(self, values, step):
        self.rows.append((values, step))

    def finish(self):
        self.finished = True


@pytest.fixture
def recorded(monkeypatch) -> list[Recorder]:
    Recorder.made = []
    monkeypatch.setattr(tracking, "TRACKERS", {"mlflow": Recorder})
    return Recorder.made


def logged(folder: Path, resumed: int = 0, steps: tuple[int, ...] = (1, 2), kind: str = "mlflow") -> None:
    log = MetricsLog(folder / "metrics.jsonl", resumed, Tracking(kind, Tracked(folder, {"strategy": "lora4ch"})))
    log.begin()
    for step in steps:
        log.write("train", step, 0, loss=1 / step, finite=True, samples=["a"])
    log.close()


def test_numbers_go_there_and_a_resumed_run_goes_on_there(tmp_path, recorded):
    logged(tmp_path)
    assert recorded[0].rows == [
        ({"train/loss": 1.0, "train/finite": 1.0}, 1),
        ({"train/loss": 0.5, "train/finite": 1.0}, 2),
    ]
    assert (recorded[0].known, recorded[0].finished) == (None, True)
    assert json.loads((tmp_path / IDS).read_text()) == {"mlflow": "id-0"}
    logged(tmp_path, 2, (3,))
    assert recorded[1].known == "id-0"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("where", ["__init__", "log", "finish"])
def test_what_fails_there_is_one_warning(tmp_path, recorded, monkeypatch, capsys, where):
    def fail(*arguments):
        raise ConnectionError("no such server\nand more")

    monkeypatch.setattr(Recorder, where, fail)
    logged(tmp_path, steps=(1, 2, 3))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert capsys.readouterr().err.splitlines() == [
        "warning: --track mlflow: ConnectionError: no such server; the run goes on without it"
    ]


def test_a_slow_tracker_does_not_slow_the_run(tmp_path, recorded, monkeypatch, capsys):
    held = threading.Event()
    monkeypatch.setattr(Recorder, "log", lambda *arguments: held.wait(60))
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.2)
    start = time.perf_counter()
    logged(tmp_path, steps=tuple(range(1, 200)))
    assert time.perf_counter() - start < 30
    assert "--track mlflow: not done after 0.2 s; its last values may be missing there" in capsys.readouterr().err
    held.set()


def test_a_missing_package_is_said_before_the_run_begins(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--track wandb: needs wandb, which is missing: pip install 'samjax\[wandb\]'"):
        require("wandb")
    require(None)
    assert "track" in FREE


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_it_in_a_local_store(tmp_path, monkeypatch, capsys):
    from mlflow.tracking import MlflowClient

    store = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions ask for it
    (tmp_path / "run").mkdir()
    logged(tmp_path / "run")
    logged(tmp_path / "run", 2, (3, 4))
    assert capsys.readouterr().err == ""
    client = MlflowClient(store)
    (experiment,) = [one for one in client.search_experiments() if one.name == "samjax"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params) == ("run", "FINISHED", {"strategy": "lora4ch"})
    assert [(x.step, x.value) for x in client.get_metric_history(run.info.run_id, "train/loss")] == [
        (1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3)), (4, 0.25),
    ]  # fmt: skip


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_it_offline(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 120)
    logged(tmp_path, kind="wandb")
    number = json.loads((tmp_path / IDS).read_text())["wandb"]
    logged(tmp_path, 2, (3,), kind="wandb")
    assert capsys.readouterr().err == ""
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert {folder.name.rsplit("-", 1)[1] for folder in folders} == {number}
    assert all(list(folder.glob("*.wandb")) for folder in folders)
