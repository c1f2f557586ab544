"""The meter: steps are logged late, non-finite ones end the run, and a useless prediction raises an alarm."""

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.training import meter as module
from samjax.training.meter import MOST_NONFINITE, Dispatched, Meter
from samjax.training.step import replicate


class Recorder:
    """Stands in for the log and the display, and keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.shown: list[tuple] = []
        self.said: list[str] = []

    def write(self, kind: str, step: int, epoch: int, **values: object) -> None:
        self.rows.append({"kind": kind, "step": step, "epoch": epoch, **values})

    def step(self, *values: float) -> None:
        self.shown.append(values)

    def say(self, text: str) -> None:
        self.said.append(text)

    @property
    def alarms(self) -> list[str]:
        return [text for text in self.said if "ALARM" in text]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def meter(recorder: Recorder) -> Meter:
    return Meter(recorder, recorder, lambda: 0.25)


def dispatched(step: int, finite: bool = True, pred: int = 40, true: int = 50, epoch: int = 0) -> Dispatched:
    metrics = {
        "loss": np.float32(step / 8 if finite else np.nan),
        "finite": np.bool_(finite),
        "grad_norm": np.float32(2.5),
        "counted": np.int32(3),
        "both": np.int32(min(pred, true)),
        "pred": np.int32(pred),
        "true": np.int32(true),
        "pixels": np.int32(1000),
    }
    return Dispatched(step, epoch, 1e-3, step > 2, 6, [f"case{step} from slice 4"], replicate(metrics))


def dispatch(meter: Meter, finite: list[bool]) -> None:
    """As many steps, numbered from 1."""
    for number, value in enumerate(finite, start=1):
        meter.dispatched(dispatched(number, value))


def test_a_step_is_logged_when_the_next_one_is_dispatched(meter, recorder):
    meter.dispatched(dispatched(1))
    assert recorder.rows == []
    meter.dispatched(dispatched(2))
    assert [row["step"] for row in recorder.rows] == [1]
    meter.dispatched(dispatched(3, epoch=1))
    meter.flush()
    meter.flush()
    assert [row["step"] for row in recorder.rows] == [1, 2, 3]
    row = recorder.rows[2]
    assert row.pop("seconds") > 0
    assert row == {
        "kind": "train", "step": 3, "epoch": 1, "loss": 3 / 8, "lr": 1e-3, "data_wait_seconds": 0.25, "slices": 6,
        "counted": 3, "grad_norm": 2.5, "finite": True, "averaging": True,
    }  # fmt: skip
    assert [values[:3] for values in recorder.shown] == [(1, 1 / 8, 1e-3), (2, 2 / 8, 1e-3), (3, 3 / 8, 1e-3)]


def test_seconds_are_those_since_the_step_before_and_leave_out_other_work(recorder, monkeypatch):
    """The clock is read on starting, and for each step when it is logged."""
    times = iter([100.0, 103.0, 105.0, 1000.0, 1007.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(times))
    meter = Meter(recorder, recorder, lambda: 0.0)
    meter.dispatched(dispatched(1))
    meter.dispatched(dispatched(2))
    meter.flush()
    meter.restart()
    meter.dispatched(dispatched(3))
    meter.flush()
    assert [row["seconds"] for row in recorder.rows] == [3, 2, 7]
    assert [shown[3] for shown in recorder.shown] == [6 / 3, 6 / 2, 6 / 7]


def test_ten_steps_in_a_row_without_a_finite_loss_end_the_run_and_name_the_samples(meter):
    with pytest.raises(UserError) as caught:
        dispatch(meter, [True] * 2 + [False] * 18)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("step 12: 10 steps in a row")
    assert "--lr" in message
    for step in range(1, 14):
        assert (f"case{step} from slice 4" in message) == (3 <= step <= 12)


def test_nine_do_not_if_a_finite_one_follows(meter, recorder):
    dispatch(meter, 4 * [*[False] * (MOST_NONFINITE - 1), True])
    meter.flush()
    assert len(recorder.rows) == 40
    assert [row["step"] for row in recorder.rows if row["finite"]] == [10, 20, 30, 40]
    meter.end_epoch(0)
    assert recorder.said == ["epoch 1: 36 steps skipped, loss or gradient not finite"]


@pytest.mark.parametrize(
    ("steps", "alarm"),
    [
        ([(0, 50), (0, 0)], "predicted nothing"),
        ([(1000, 50), (981, 50)], "predicted everything"),
        ([(1000, 0), (1000, 0)], "predicted everything"),
        ([(0, 50), (1, 50)], None),
        ([(1000, 50), (980, 50)], None),
        ([(0, 0), (0, 0)], None),
        ([(40, 50), (60, 50)], None),
    ],
)
def test_an_alarm_if_an_epoch_predicts_nothing_or_everything(meter, recorder, steps, alarm):
    for number, (pred, true) in enumerate(steps):
        meter.dispatched(dispatched(number, pred=pred, true=true))
    meter.flush()
    assert recorder.alarms == []
    meter.end_epoch(4)
    assert len(recorder.alarms) == len(recorder.said) == (alarm is not None)
    assert all(alarm in text and "epoch 5" in text for text in recorder.alarms)


def test_each_epoch_is_judged_by_itself(meter, recorder):
    """Empty, then useful, then boundless, then useful."""
    for epoch, (pred, finite) in enumerate([(0, False), (40, True), (1000, True), (40, True)]):
        for step in range(2):
            meter.dispatched(dispatched(2 * epoch + step, finite, pred, epoch=epoch))
        meter.flush()
        meter.end_epoch(epoch)
    assert ["epoch 1: 2 steps" in text for text in recorder.said] == [True, False, False]
    assert ["epoch 1 predicted nothing" in text for text in recorder.said] == [False, True, False]
    assert ["epoch 3 predicted everything" in text for text in recorder.said] == [False, False, True]


def test_an_epoch_without_a_step_is_silent(meter, recorder):
    meter.end_epoch(0)
    assert recorder.said == []
