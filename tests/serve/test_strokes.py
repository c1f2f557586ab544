"""The pixels that the eraser touches."""

from itertools import pairwise

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.serve.strokes import near_stroke


def test_a_stroke_is_measured_in_millimetres():
    found = near_stroke((9, 9), (2.0, 1.0), [[4, 4]], 2.0)
    assert found[[3, 5], 4].all()
    assert found[4, 2:7].all()
    assert found.sum() == 7


@pytest.mark.parametrize("stroke", [[[4, 4], [4, 9], [12, 2.5]], [[-3, -3], [30, 40]], [[-9, 5]], [[15, 19], [15, 19]]])
def test_pixels_far_from_the_line_are_looked_at_too(stroke: list[list[float]]):
    shape, spacing, radius = (16, 20), np.array([1.5, 0.7]), 2.3
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * spacing
    line = np.array(stroke) * spacing
    steps = np.linspace(0, 1, 2001)[:, None]
    places = np.concatenate([a + steps * (b - a) for a, b in pairwise(line)] or [line])
    away = np.min([((centres - place) ** 2).sum(axis=-1) for place in places], axis=0)
    np.testing.assert_array_equal(near_stroke(shape, spacing, stroke, radius), away <= radius**2)


@pytest.mark.parametrize(
    ("stroke", "radius"), [([], 1), ([[1, np.nan]], 1), ([[1, 1]], 0), ([[1, 1]], np.inf), ("a", 1)]
)
def test_a_stroke_that_is_none_is_refused(stroke: object, radius: float):
    with pytest.raises(UserError, match="stroke"):
        near_stroke((4, 4), (1, 1), stroke, radius)
