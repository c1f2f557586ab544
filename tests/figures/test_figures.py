"""Figures: what is drawn is what was given; sources of prompts stay apart; few, equal and extreme values are fine."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from samjax.figures import canvas
from samjax.figures.box_plots import draw_boxes
from samjax.figures.calibration import draw_calibration
from samjax.figures.clicks import draw_clicks
from samjax.figures.extremes import draw_extremes, ranked
from samjax.figures.modalities import ComparedSlice, draw_modalities
from samjax.figures.overlays import PredictedSlice, overlay
from samjax.figures.sizes import draw_sizes
from samjax.metrics.rows import Row
from samjax.metrics.summary import Summary, summarise

ADULT = Row("a", "adult", "p0", "p0-0", None, "whole-tumor", "box", 900, 800, 0.8, 3.0)


def scored(run: str, dice, prompt: str = "box", **about) -> list[Row]:
    """A volume of each of as many patients."""
    return [
        replace(
            ADULT, run=run, prompt=prompt, patient=f"p{i}", case=f"p{i}-0", dice=float(value),
            hd95=20 * (1 - float(value)), true_pixels=100 * (i + 1) ** 2, **about,
        )
        for i, value in enumerate(dice)
    ]  # fmt: skip


def marked(axis, marker: str) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata()) for line in axis.lines if line.get_marker() == marker]


def texts(axis) -> str:
    return " | ".join([axis.get_title("left"), *(text.get_text() for text in axis.texts)])


def legend_of(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("metric", ["dice", "hd95"])
def test_boxes_show_the_rows(kept, tmp_path, metric):
    rng = np.random.default_rng(0)
    rows = scored("a", rng.random(9)) + scored("b", rng.random(7), roi="tumor-core") + scored("b", rng.random(9))
    draw_boxes(rows, metric, tmp_path / "boxes.png")
    (axis,) = kept[0].axes
    groups = [("tumor-core", "b"), ("whole-tumor", "a"), ("whole-tumor", "b")]
    expected = [[getattr(row, metric) for row in rows if (row.roi, row.run) == group] for group in groups]
    assert [values.tolist() for values in marked(axis, ".")] == expected
    assert [float(mean[0]) for mean in marked(axis, "D")] == pytest.approx([np.mean(values) for values in expected])
    boxes = [patch.get_path().get_extents() for patch in axis.patches]
    quartiles = [np.percentile(values, (25, 75)) for values in expected]
    assert np.array([(box.ymin, box.ymax) for box in boxes]) == pytest.approx(np.array(quartiles))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["n = 7", "n = 9", "n = 9"]
    assert texts(axis) == ("adult: 9 volumes of 9 patients; prompts from ground truth (box) | tumor-core | whole-tumor")
    low, high = axis.get_ylim()
    assert low < 0
    assert high > max(map(max, expected))
    assert legend_of(kept[0]) == ["a (box)", "b (box)", "median", "mean"]


def test_prompted_and_prompt_free_runs_never_share_an_axis(kept, tmp_path):
    rows = [
        row
        for domain in ("adult", "pediatric")
        for run, prompt, value in (("free", "none", 0.3), ("boxed", "box", 0.8), ("clicked", "point, 3 clicks", 0.7))
        for row in scored(run, [value] * 4, prompt, domain=domain)
    ]
    draw_boxes(rows, "dice", tmp_path / "boxes.png")
    draw_sizes(rows, tmp_path / "sizes.png")
    prompts = "prompts from ground truth (box / point, 3 clicks)"
    titles = [axis.get_title("left") for axis in kept[0].axes]
    about = "4 volumes of 4 patients"
    assert titles == [
        f"{domain}: {about}; {source}" for domain in ("adult", "pediatric") for source in ("no prompts", prompts)
    ]
    for boxes, sizes in zip(kept[0].axes, kept[1].axes, strict=True):
        drawn = {float(value) for line in marked(boxes, ".") for value in line}
        assert drawn == ({0.3} if "no prompts" in boxes.get_title("left") else {0.8, 0.7})
        assert drawn == {float(y) for points in sizes.collections for y in points.get_offsets()[:, 1]}


def test_of_many_values_those_beyond_the_whiskers_are_shown(kept, tmp_path):
    dice = np.append(np.linspace(0.6, 0.8, 60), [0.1, 0.05])
    draw_boxes(scored("a", dice), "dice", tmp_path / "boxes.png")
    assert [sorted(values.tolist()) for values in marked(kept[0].axes[0], ".")] == [[0.05, 0.1]]


def test_as_many_runs_as_there_may_be_look_different():
    looks = {(canvas.colour(number), canvas.hatch(number)) for number in range(20)}
    points = {(canvas.colour(number), canvas.marker(number)) for number in range(20)}
    assert len(looks) == len(points) == 20


def test_slices_and_volumes_are_not_drawn_together(tmp_path):
    with pytest.raises(ValueError, match="all of slices or all of volumes"):
        draw_boxes([ADULT, replace(ADULT, slice=3)], "dice", tmp_path / "boxes.png")
    with pytest.raises(ValueError, match="0 rows"):
        draw_sizes([], tmp_path / "sizes.png")


def test_sizes_show_the_rows_and_their_correlation(kept, tmp_path):
    rng = np.random.default_rng(1)
    rows = scored("a", rng.random(20)) + scored("b", np.linspace(0.2, 0.9, 20))
    rows += scored("a", [1.0, 0.0, 0.5], domain="pediatric")
    rows[-1] = replace(rows[-1], true_pixels=0)
    draw_sizes(rows, tmp_path / "sizes.png")
    adult, pediatric = kept[0].axes
    for points, run in zip(adult.collections, "ab", strict=True):
        own = [(row.true_pixels, row.dice) for row in rows if (row.run, row.domain) == (run, "adult")]
        assert points.get_offsets().tolist() == pytest.approx(np.array(own))
    rho = scipy.stats.spearmanr(range(20), [row.dice for row in rows[:20]]).statistic
    labels = [text.get_text() for text in adult.get_legend().get_texts()]
    assert labels == [f"a (box): ρ = {rho:.2f}, n = 20", "b (box): ρ = 1.00, n = 20"]
    assert adult.get_xscale() == "log"
    title = pediatric.get_title("left").splitlines()
    assert title[:2] == ["pediatric, whole-tumor", "3 volumes of 3 patients, 1 of them empty and left out"]
    assert title[2] == "prompts from ground truth (box)"
    assert pediatric.get_legend().get_texts()[0].get_text() == "a (box): ρ = -1.00, n = 2"


def test_the_reliability_diagram_shows_the_bins(kept, tmp_path):
    draw_calibration([0.25, 0.9, 0.95, 1.15], [0.45, 0.7, 0.8, 0.9], tmp_path / "c.png", run="decoder", prompt="none")
    above, below = kept[0].axes
    assert above.lines[1].get_xydata().tolist() == pytest.approx(np.array([[0.25, 0.45], [1.0, 0.8]]))
    assert [bar.get_height() for bar in below.patches] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 3]
    assert above.get_title("left").splitlines() == [
        "Predicted IoU of decoder", "4 slices; no prompts", "expected calibration error 0.200",
    ]  # fmt: skip
    assert below.get_xlim()[1] > 1


def test_clicks_show_means_and_intervals(kept, tmp_path):
    rng = np.random.default_rng(3)
    curve = [summarise(rng.random(8), np.ones(8)) for _ in range(4)]
    alone = [Summary(0.5, None, None, 1, 0.5, 1)] * 2
    draw_clicks({"a": curve, "b": alone}, tmp_path / "clicks.png")
    (axis,) = kept[0].axes
    assert axis.lines[0].get_xydata().tolist() == [[k, summary.mean] for k, summary in enumerate(curve, 1)]
    (band,) = axis.collections
    for click, summary in enumerate(curve, 1):
        corners = {y for x, y in band.get_paths()[0].vertices.tolist() if x == click}
        assert corners == set(summary.ci95)
    assert legend_of(kept[0]) == ["a (n = 8)", "b (n = 1)"]
    assert "prompts from ground truth (point)" in axis.get_title("left")


def square(size: int = 12, at: int = 20) -> np.ndarray:
    mask = np.zeros((60, 50), bool)
    mask[at : at + size, 15:30] = True
    return mask


def shown(run: str, case: str, at: int) -> PredictedSlice:
    picture = np.zeros((60, 50), np.uint8)
    picture[6:55, 5:45] = np.random.default_rng(4).integers(1, 255, (49, 40))
    return PredictedSlice(run, case, 7, picture, square(), square(at=at))


def test_worst_median_and_best(kept, tmp_path):
    items = [shown("a", f"c{at}", at) for at in (24, 20, 28, 22)]  # the further from 20, the worse
    assert {name: item.case for name, item in ranked(items).items()} == {"worst": "c28", "median": "c24", "best": "c20"}
    assert [item.case for item in ranked(items[:2]).values()] == ["c24", "c20"]
    assert list(ranked(items[:1])) == ["the only one"]
    draw_extremes([*items, shown("b", "c24", 24)], {"a": "box", "b": "none"}, tmp_path / "extremes.png")
    axes = kept[0].axes
    assert len(axes) == 6
    inside = (slice(2, 59), slice(1, 49))  # the brain and a margin of four
    for axis, item in zip(axes, (items[2], items[0], items[1], shown("b", "c24", 24)), strict=False):
        assert np.array_equal(axis.images[0].get_array(), overlay(item)[inside])
        assert f"Dice {item.dice:.2f}\n{item.case}, slice 7" in axis.get_title()
    assert axes[0].get_ylabel() == "a, 4 slices\nprompts from ground truth\n(box)"
    assert axes[3].get_ylabel() == "b, 1 slice\nno prompts"


def test_modalities_beside_predictions(kept, tmp_path):
    images = np.stack([np.full((60, 50), value, np.uint8) for value in (10, 20, 30, 40)], -1)
    panels = [ComparedSlice(f"c{i}", i, images, square(), {"a": square(at=24), "b": square()}) for i in range(2)]
    draw_modalities(panels, {"a": "box", "b": "none"}, tmp_path / "panel.png")
    axes = np.array(kept[0].axes).reshape(2, 7)
    assert [axis.get_title() for axis in axes[0]] == ["T1", "T1-Gd", "T2", "FLAIR", "label", "a", "b"]
    for row, panel in zip(axes, panels, strict=True):
        assert [int(axis.images[0].get_array().max()) for axis in row[:5]] == [10, 20, 30, 40, 40]
        for axis, run in zip(row[5:], "ab", strict=True):
            item = PredictedSlice(run, panel.case, panel.slice, images[..., 3], panel.truth, panel.predicted[run])
            assert np.array_equal(axis.images[0].get_array(), overlay(item))
            assert axis.get_xlabel() == f"Dice {item.dice:.2f}"
    assert kept[0].get_suptitle().replace("\n", " ") == "2 slices; a: prompts from ground truth (box); b: no prompts"


@pytest.mark.parametrize("dice", [[0.5], [1.0, 1.0, 1.0], [0.0, 1.0]])
def test_few_and_equal_values_can_be_drawn(kept, tmp_path, dice):
    rows = scored("a", dice)
    draw_boxes(rows, "dice", tmp_path / "dice.png")
    draw_boxes(rows, "hd95", tmp_path / "hd95.png")
    draw_sizes(rows, tmp_path / "sizes.png")
    draw_sizes([replace(row, true_pixels=0) for row in rows], tmp_path / "empty.png")
    draw_calibration(dice, dice, tmp_path / "calibration.png", run="a", prompt="box")
    assert len(kept) == 5


def test_empty_pictures_can_be_drawn(kept, tmp_path):
    empty = np.zeros((20, 20), np.uint8)
    nothing = empty.astype(bool)
    draw_extremes([PredictedSlice("a", "c", 0, empty, nothing, nothing)], {"a": "none"}, tmp_path / "extremes.png")
    panel = ComparedSlice("c", 0, np.zeros((20, 20, 4), np.uint8), nothing, {})
    draw_modalities([panel], {}, tmp_path / "panel.png")
    assert len(kept) == 2


def test_figures_are_written_twice_and_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        draw_clicks({"a": [Summary(0.5, None, None, 1, 0.5, 1)]}, tmp_path / name / "clicks.png")
    files = [sorted((tmp_path / name).iterdir()) for name in ("one", "two")]
    assert [path.name for path in files[0]] == ["clicks.pdf", "clicks.png"]
    for one, two in zip(*files, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert files[0][0].read_bytes().startswith(b"%PDF")
    assert files[0][1].read_bytes().startswith(b"\x89PNG")


def test_what_fails_writes_nothing(tmp_path):
    with pytest.raises(KeyError):
        draw_extremes([shown("a", "c", 20)], {}, tmp_path / "extremes.png")
    assert list(tmp_path.iterdir()) == []
