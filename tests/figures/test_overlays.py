"""Predictions over their slices: the colours of each kind of pixel, and the drawing of several runs."""

import numpy as np
from matplotlib import image

from samjax.figures.overlays import (
    MOST_CASES,
    PredictedSlice,
    draw_overlays,
    overlay,
    shown_picture,
)
from samjax.figures.palette import DIMMED, FALSE_NEGATIVE, FALSE_POSITIVE, OPACITY, TRUE_POSITIVE

SIZE = 24


def shown(run: str = "one", case: str = "a", shift: int = 0, grey: int = 0) -> PredictedSlice:
    """A square of truth, and one of prediction that lies lower by `shift`."""
    truth, predicted = np.zeros((2, SIZE, SIZE), bool)
    truth[4:12, 6:18] = True
    predicted[4 + shift : 12 + shift, 6:18] = True
    return PredictedSlice(run, case, 7, np.full((SIZE, SIZE), grey, np.uint8), truth, predicted)


def test_predictions_are_drawn_over_flair_or_what_there_is():
    images = np.random.default_rng(0).integers(1, 256, (SIZE, SIZE, 4), np.uint8)
    np.testing.assert_array_equal(shown_picture(images), images[..., 3])
    images[..., [0, 3]] = 0
    np.testing.assert_array_equal(shown_picture(images), images[..., 1])
    assert shown_picture(np.zeros_like(images)).shape == (SIZE, SIZE)


def test_each_kind_of_pixel_has_its_colour_and_the_rest_is_dimmed():
    item = shown(shift=3, grey=200)
    item.picture[0] = 0
    item.picture[:, 1] = 255
    found = overlay(item)
    assert (found.shape, found.dtype) == ((SIZE, SIZE, 3), np.uint8)
    for (row, column), colour in {
        (8, 10): TRUE_POSITIVE,
        (13, 10): FALSE_POSITIVE,
        (5, 10): FALSE_NEGATIVE,
    }.items():
        expected = (1 - OPACITY) * DIMMED * 200 + OPACITY * np.array(colour)
        np.testing.assert_allclose(found[row, column], expected, atol=1)
    outside = ~(item.truth | item.predicted)
    np.testing.assert_allclose(found[outside], (DIMMED * item.picture)[outside][:, None].repeat(3, 1), atol=1)
    assert found[15, 20].max() == 150
    assert found[0].max() < 255 * DIMMED + 1
    # The slice itself stays as it is.
    assert item.picture[8, 10] == 200


def test_the_colours_differ_even_on_white():
    colours = {tuple(overlay(shown(shift=3, grey=255))[row, 10]) for row in (2, 5, 8, 13)}
    assert len(colours) == 4


def drawn(path, items: list[PredictedSlice]) -> np.ndarray:
    """The picture drawn, (rows, columns, 3) in 0 to 255."""
    draw_overlays(path, items)
    return np.round(image.imread(path)[..., :3] * 255)


def share(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    """Of the pixels, those of a colour as it is over black."""
    return (np.abs(picture - OPACITY * np.array(colour)).max(-1) <= 2).mean()


def test_runs_stand_side_by_side_after_the_slice(tmp_path):
    """Three runs on black slices: exact, too low, and nothing."""
    nothing = shown("three", shift=0)
    nothing.predicted[:] = False
    items = [shown("one"), shown("two", shift=3), nothing]
    picture = drawn(tmp_path / "overlays.png", items)
    itself, one, two, three = np.array_split(picture[: int(0.8 * len(picture))], 4, axis=1)
    assert share(itself, TRUE_POSITIVE) == share(itself, FALSE_POSITIVE) == share(itself, FALSE_NEGATIVE) == 0
    assert share(one, TRUE_POSITIVE) > 0.05
    assert share(one, FALSE_POSITIVE) == share(one, FALSE_NEGATIVE) == 0
    assert min(share(two, colour) for colour in (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE)) > 0.02
    assert share(three, FALSE_NEGATIVE) > 0.05
    assert share(three, TRUE_POSITIVE) == share(three, FALSE_POSITIVE) == 0


def test_cases_are_rows_and_only_the_first_few(tmp_path):
    heights = [
        len(drawn(tmp_path / "overlays.png", [shown(case=str(number)) for number in range(count)]))
        for count in (1, MOST_CASES, MOST_CASES + 1)
    ]
    assert heights[0] < heights[1] == heights[2]


def test_a_slice_without_the_region_is_drawn_too(tmp_path):
    empty = shown()
    empty.truth[:] = False
    picture = drawn(tmp_path / "overlays.png", [empty])
    assert share(picture, FALSE_POSITIVE) > 0.02
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlays.pdf", "overlays.png"]
