"""The three planes of a volume, and the voxels that they need."""

import numpy as np
import pytest

from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.planes import PLANES, cubic_grid, parse_planes, require_cubic
from samjax.errors import UserError

SHAPE = (5, 6, 7)


def marked(axis: int, index: int) -> np.ndarray:
    """A volume in which one end of an axis (to the superior, the posterior, the patient's left) is marked."""
    volume = np.zeros(SHAPE, bool)
    volume[tuple(index if n == axis else slice(None) for n in range(3))] = True
    return volume


@pytest.mark.parametrize("name", PLANES)
def test_pictures_lie_as_the_table_says(name):
    """Superior, anterior and the patient's right, where the plane's pictures show them."""
    superior, anterior, right = (PLANES[name].seen(marked(*end)) for end in ((0, -1), (1, 0), (2, 0)))
    if name == "axial":
        assert anterior[:, 0].all()
        assert right[:, :, 0].all()
        assert superior[-1].all()
    elif name == "coronal":
        assert superior[:, 0].all()
        assert right[:, :, 0].all()
        assert anterior[0].all()
    else:
        assert superior[:, 0].all()
        assert anterior[:, :, 0].all()
        assert right[0].all()
    assert [end.sum() for end in (superior, anterior, right)] == [42, 35, 30]


@pytest.mark.parametrize("plane", PLANES.values(), ids=str)
def test_what_is_seen_in_a_plane_goes_back_to_its_place(plane):
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    seen = plane.seen(np.stack([volume, -volume], axis=-1))
    assert seen.shape == (*plane.shape(SHAPE), 2)
    logits = np.moveaxis(seen, -1, 0)
    np.testing.assert_array_equal(plane.back(logits), [volume, -volume])
    start, stop = plane.box((1, 2, 3), (3, 6, 5), SHAPE)
    inside = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    np.testing.assert_array_equal(plane.back(seen[..., 0][inside]), volume[1:3, 2:6, 3:5])


def test_planes_are_named_once_and_sorted():
    assert parse_planes("sagittal, axial") == ("axial", "sagittal")
    for text in ("", "axial,frontal", "axial,axial"):
        with pytest.raises(UserError, match=r"--planes .*expected one or several of axial, coronal, sagittal"):
            parse_planes(text)


def test_a_grid_takes_the_distance_between_the_slices_where_voxels_are_about_cubic():
    assert str(cubic_grid(RunGrid.parse("1"), [1.0, 1.0, 1.004], "all")) == "1,1,1"
    assert str(cubic_grid(RunGrid.parse("1"), [1.0, 1.1, 1.2], "all")) == "1,1,1.1"
    with pytest.raises(UserError, match=r"--planes all: .*3 x 0.9 x 0.9 mm .*--spacing 0.9,0.9,0.9$"):
        cubic_grid(RunGrid.parse("0.9"), [0.9, 3.0], "all")


@pytest.mark.parametrize(("spacing", "words"), [("1", "as they are"), ("1,1,1.3", "1.3 x 1 x 1 mm")])
def test_a_grid_that_is_not_cubic_is_refused(spacing, words):
    require_cubic(RunGrid.parse("1,1.1,1.2"), "all")
    with pytest.raises(UserError, match=rf"--planes all: .*{words}.*--spacing 1,1,1$"):
        require_cubic(RunGrid.parse(spacing), "all")
