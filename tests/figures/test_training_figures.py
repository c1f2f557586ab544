"""Figures that training writes: the sweep of learning rates, the first validation, and pictures of pretraining."""

import numpy as np

from samjax.figures.canvas import SCREEN
from samjax.figures.first_validation import draw_first_validation
from samjax.figures.palette import LABEL_OUTLINE, PREDICTION_OUTLINE
from samjax.figures.shapes import draw_shapes
from samjax.figures.sweep import draw_sweep


def test_a_sweep_shows_its_losses_and_the_suggestion(kept, tmp_path):
    rates = np.geomspace(1e-6, 1e-1, 6)
    losses, smoothed = np.array([1.0, 0.9, 0.7, 0.4, 0.6, 40.0]), np.array([1.0, 0.95, 0.7, 0.45, 0.5, 0.9])
    draw_sweep(tmp_path / "sweep.png", rates, losses, smoothed, 1e-4)
    (axis,) = kept[0].axes
    assert [line.get_ydata().tolist() for line in axis.lines[:2]] == [losses.tolist(), smoothed.tolist()]
    assert axis.lines[2].get_xdata() == [1e-4, 1e-4]
    assert "suggestion 1.0e-04" in [text.get_text() for text in axis.get_legend().get_texts()]
    assert axis.get_xscale() == "log"
    low, high = axis.get_ylim()
    assert low < 0.4
    assert high > 1


def test_the_divergence_of_a_sweep_is_cut_off(kept, tmp_path):
    losses = np.array([1.0, 0.9, 0.7, 0.4, 0.6, 40.0])
    draw_sweep(tmp_path / "sweep.png", np.geomspace(1e-6, 1e-1, 6), losses, np.minimum(losses, 1.0), None)
    (axis,) = kept[0].axes
    assert axis.get_ylim()[1] < 2
    assert axis.get_title() == "no suggestion"


def test_a_validation_slice_shows_every_channel_and_both_outlines(kept, tmp_path):
    channels = np.stack([np.full((20, 16), value, np.float32) for value in (10, 20, 30)], -1)
    label, predicted = np.zeros((2, 20, 16), bool)
    label[4:9, 3:8], predicted[5:12, 4:9] = True, True
    draw_first_validation(tmp_path / "first.png", "case a, slice 3", channels, ("T1", "T2", "FLAIR"), label, predicted)
    axes = kept[0].axes
    assert [axis.get_title() for axis in axes] == ["T1", "T2", "FLAIR", "label blue, prediction orange"]
    assert [float(axis.images[0].get_array().max()) for axis in axes] == [10, 20, 30, 30]
    outlines = {
        "#" + "".join(f"{round(255 * part):02x}" for part in contour.get_edgecolor()[0][:3]): contour
        for contour in axes[-1].collections
    }
    assert outlines.keys() == {LABEL_OUTLINE, PREDICTION_OUTLINE}
    corners = outlines[LABEL_OUTLINE].get_paths()[0].get_extents()
    assert (corners.x0, corners.x1, corners.y0, corners.y1) == (2.5, 7.5, 3.5, 8.5)
    assert kept[0].get_suptitle() == "case a, slice 3"


def test_a_prediction_of_nothing_or_everything_has_no_outline(kept, tmp_path):
    label = np.zeros((8, 8), bool)
    label[2:5, 2:5] = True
    for predicted in (np.zeros_like(label), np.ones_like(label)):
        picture = np.zeros((8, 8, 1), np.float32)
        draw_first_validation(tmp_path / "first.png", "slice", picture, ("T1",), label, predicted)
        assert len(kept[-1].axes[-1].collections) == 1


def test_pictures_show_the_outlines_of_their_targets(kept, tmp_path):
    ids = np.zeros((4, 12, 12), np.int32)
    ids[:, 1:4, 1:4], ids[:, 6:9, 6:9] = 1, 2
    targets = np.array([[1, 2], [1, 0], [0, 0], [2, 0]])
    draw_shapes(tmp_path / "pictures.png", np.zeros((4, 12, 12, 3), np.uint8), ids, targets)
    axes = kept[0].axes
    assert len(axes) == 6
    assert [len(axis.collections) for axis in axes] == [2, 1, 0, 1, 0, 0]
    assert [len(axis.images) for axis in axes] == [1, 1, 1, 1, 0, 0]


def test_figures_of_training_are_written_as_png_alone(tmp_path):
    draw_sweep(tmp_path / "sweep.png", np.zeros(0), np.zeros(0), np.zeros(0), None)
    assert [path.suffix for path in tmp_path.iterdir()] == list(SCREEN) == [".png"]
