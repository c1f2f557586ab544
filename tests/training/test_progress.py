"""What a run tells while it trains."""

import pytest

from samjax.training import progress as reporting
from samjax.training.progress import TrainingDisplay


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
