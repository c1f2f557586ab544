"""The log of a run: when it is written, and the learning curves read from it."""

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from samjax.errors import UserError
from samjax.figures.curves import draw_curves
from samjax.training.metrics_log import MetricsLog, read_curves


def train_row(step: int, epoch: int, **values) -> dict:
    row = {"kind": "train", "step": step, "epoch": epoch, "loss": 1 / step, "lr": 1e-4 * step, "seconds": 0.5}
    return row | {"finite": True} | values


def validation_row(step: int, epoch: int, weights: str, **scores) -> dict:
    return {
        "kind": "validation",
        "step": step,
        "epoch": epoch,
        "cases": 2,
        "weights": weights,
        "prompt": "point",
    } | scores


def write(path, rows, tail=""):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


@pytest.fixture
def run(tmp_path):
    """Three epochs of four steps; the weights of the last are averaged."""
    rows = []
    for step in range(1, 13):
        epoch = (step - 1) // 4
        rows.append(train_row(step, epoch, averaging=step > 8))
        if step % 4 == 0:
            rows.append(validation_row(step, epoch, "last", dice=0.1 * epoch, dice_slice=0.05 * epoch))
    rows.append(validation_row(12, 2, "average", dice=0.9, dice_slice=0.8))
    return write(tmp_path / "metrics.jsonl", rows)


def test_the_series_are_the_rows(run):
    curves = read_curves(run)
    steps = np.arange(1, 13)
    np.testing.assert_array_equal(curves.loss.steps, steps)
    np.testing.assert_array_equal(curves.loss.values, 1 / steps)
    np.testing.assert_array_equal(curves.rate.values, 1e-4 * steps)
    np.testing.assert_array_equal(curves.epochs, [5, 9])
    assert curves.averaging == 9
    assert set(curves.scores) == {(name, w) for name in ("dice", "dice_slice") for w in ("last", "average")}
    np.testing.assert_array_equal(curves.scores["dice", "last"].steps, [4, 8, 12])
    np.testing.assert_allclose(curves.scores["dice", "last"].values, [0, 0.1, 0.2])
    np.testing.assert_allclose(curves.scores["dice_slice", "average"].values, [0.8])


def test_scores_are_discovered_by_name(tmp_path):
    row = validation_row(1, 0, "last", iou_box=0.5, iou_point=0.25, dice=0.75, seconds=3.0, iou_cases=7)
    scores = read_curves(write(tmp_path / "metrics.jsonl", [row])).scores
    assert {name: series.values.tolist() for (name, _), series in scores.items()} == {
        "iou_box": [0.5],
        "iou_point": [0.25],
        "dice": [0.75],
    }


def test_an_unfinished_last_line_is_left_out(tmp_path):
    path = write(tmp_path / "metrics.jsonl", [train_row(1, 0)], tail='{"kind": "train", "step": 2, "ep')
    assert read_curves(path).loss.steps.tolist() == [1]
    draw_curves(read_curves(path), tmp_path / "curves.png")


def test_of_a_step_trained_twice_the_later_counts(tmp_path):
    rows = [train_row(1, 0), train_row(2, 0), train_row(3, 0), train_row(2, 0, loss=9.0), train_row(3, 1, loss=8.0)]
    rows += [validation_row(3, 1, "last", dice=0.2), validation_row(3, 1, "last", dice=0.4)]
    curves = read_curves(write(tmp_path / "metrics.jsonl", rows))
    assert curves.loss.steps.tolist() == [1, 2, 3]
    assert curves.scores["dice", "last"].values.tolist() == [0.4]
    assert curves.loss.values.tolist() == [1.0, 9.0, 8.0]
    assert curves.epochs.tolist() == [3]


def test_a_loss_that_is_not_finite_is_a_gap(tmp_path):
    rows = [train_row(1, 0), train_row(2, 0, loss=float("nan")), train_row(3, 0, loss=float("inf")), train_row(4, 0)]
    path = write(tmp_path / "metrics.jsonl", rows)
    np.testing.assert_array_equal(read_curves(path).loss.values, [1, np.nan, np.nan, 0.25])
    draw_curves(read_curves(path), tmp_path / "curves.png")


@pytest.mark.parametrize(
    "rows",
    [
        [train_row(1, 0)],
        [train_row(1, 0, loss=float("nan"), lr=0.0)],
        [validation_row(1, 0, "last", dice=0.5)],
        [validation_row(1, 0, "last", dice=float("nan"))],
        [train_row(step, step) for step in range(1, 100)],
        [train_row(1, 0, lr=1e-2)] + [train_row(step, 0, lr=1e-5) for step in range(2, 20)],
    ],
    ids=["one row", "not finite", "validation only", "score not finite", "many epochs", "log rate"],
)
def test_every_state_of_a_run_can_be_drawn(tmp_path, rows):
    draw_curves(read_curves(write(tmp_path / "metrics.jsonl", rows)), tmp_path / "curves.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]


def test_the_picture_has_a_panel_of_scores_where_there_are_scores(run, tmp_path):
    draw_curves(read_curves(run), tmp_path / "with.png")
    rows = [json.loads(line) for line in run.read_text().splitlines()]
    bare = write(tmp_path / "bare.jsonl", [row for row in rows if row["kind"] == "train"])
    draw_curves(read_curves(bare), tmp_path / "without.png")
    heights = [matplotlib.image.imread(tmp_path / name).shape[0] for name in ("with.png", "without.png")]
    assert heights[0] > heights[1] + 200


def test_files_without_rows_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_curves(tmp_path / "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="no finished row"):
        read_curves(tmp_path / "metrics.jsonl")


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
