"""What a run tells while it trains."""

import json
from pathlib import Path

import pytest

from samjax.training import progress as reporting
from samjax.training.progress import MetricsLog, TrainingDisplay


def test_a_log_touches_no_file_before_it_begins(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    before = "".join(json.dumps({"kind": "train", "step": step, "epoch": 0}) + "\n" for step in (1, 2, 3))
    path.write_text(before)
    log = MetricsLog(path, resumed_step=2)
    log.write("finder", 2, 0, lr=0.5)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
    log.begin()
    log.write("train", 3, 0, loss=1.5)
    log.begin()
    log.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["kind"], row["step"]) for row in rows] == [("train", 1), ("train", 2), ("finder", 2), ("train", 3)]


def test_a_log_that_never_began_leaves_all_as_it_was(tmp_path: Path):
    log = MetricsLog(tmp_path / "metrics.jsonl", resumed_step=0)
    log.write("finder", 0, 0, lr=0.5)
    log.close()
    assert not list(tmp_path.iterdir())


def test_the_time_left_is_that_of_steps_without_compiling(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    clock = iter([100.0, 130.0, 220.0])  # the first step after 100 s of compiling, then 30 s a step
    monkeypatch.setattr(reporting.time, "monotonic", lambda: next(clock))
    display = TrainingDisplay(total=7, done=2)
    for step in (3, 4, 7):
        display.step(step, loss=0.5, lr=1e-3, rate=2.0)
    assert capsys.readouterr().out.splitlines() == [
        "step 3/7  loss 0.5000  lr 1.0e-03  2.0 slices/s",
        "step 4/7  loss 0.5000  lr 1.0e-03  2.0 slices/s  1.5 min left",
        "step 7/7  loss 0.5000  lr 1.0e-03  2.0 slices/s  0.0 min left",
    ]
