"""The pixels that the eraser touches."""

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.serve.strokes import near_stroke


def test_a_stroke_is_measured_in_millimetres():
    found = near_stroke((9, 9), (2.0, 1.0), [[4, 4]], 2.0)
    assert found[[3, 5], 4].all()
    assert found[4, 2:7].all()
    assert found.sum() == 7


@pytest.mark.parametrize(
    ("stroke", "radius"), [([], 1), ([[1, np.nan]], 1), ([[1, 1]], 0), ([[1, 1]], np.inf), ("a", 1)]
)
def test_a_stroke_that_is_none_is_refused(stroke: object, radius: float):
    with pytest.raises(UserError, match="stroke"):
        near_stroke((4, 4), (1, 1), stroke, radius)
