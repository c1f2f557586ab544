"""The surface that finds the brain, what it refuses and what it doubts."""

import numpy as np
import pytest

from samjax.data.imaging.geometry import geometry_of, to_ours
from samjax.data.synthetic.head import Pose, Sequence, scan_head
from samjax.data.synthetic.phantom import PhantomOptions, make_case
from samjax.errors import UserError
from samjax.prepare.grid import Grid
from samjax.prepare.recognition import stripped_brain
from samjax.prepare.stripping import Brain, bright_body, find_brain, middle_of_head, symmetry
from samjax.prepare.surface import Surface, fill, grow, sphere
from tests.prepare.heads import brain_on, dice, head


def ball(radius: float, centre: float = 40.0) -> Surface:
    directions, faces = sphere(3)
    return Surface(directions * radius + centre, faces)


def registered(seed: int, sequence: Sequence, tumour: str = "inside") -> tuple[dict[str, np.ndarray], Grid]:
    """Scans of a head on one grid."""
    images = {}
    for modality in ("t1", "t1gd", "t2", "flair"):
        array, affine = scan_head(head(seed, tumour), modality, 4, Pose(), sequence)
        geometry = geometry_of(array.shape, affine, modality)
        images[modality] = to_ours(array, geometry).astype(np.float32)
    return images, Grid(geometry.oriented_affine, geometry.shape)


def test_a_sphere_is_closed_and_points_outwards():
    directions, faces = sphere(3)
    assert (len(directions), len(faces)) == (642, 1280)
    surface = Surface(directions, faces)
    assert np.sum(surface.normals * directions, axis=1).min() > 0.99
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert ball(30).volume == pytest.approx(4 / 3 * np.pi * 27, rel=0.02)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 2.0)])
def test_a_surface_is_filled(spacing):
    shape = tuple(int(80 / side) for side in spacing)
    mask = fill(ball(30), spacing, shape)
    places = np.indices(shape) * np.array(spacing)[:, None, None, None]
    true = np.sum((places - 40) ** 2, axis=0) <= 30**2
    assert dice(mask, true) > 0.95
    assert mask.sum() * np.prod(spacing) == pytest.approx(true.sum() * np.prod(spacing), rel=0.06)


def test_a_surface_grows_to_the_dark_shell_and_not_through_a_small_gap():
    places = np.indices((40, 40, 40)) * 2.0 - 40
    distance = np.sqrt(np.sum(places**2, axis=0))
    image = np.where(np.abs(distance - 33) < 3, 0, 1).astype(np.float32)
    image[:, 19:21, 19:21] = 1  # a canal through the shell
    surface = grow(image, 2.0, np.full(3, 44.0), 15.0, 0.8)
    radius = np.linalg.norm(surface.vertices - 40, axis=1)
    assert np.median(radius) == pytest.approx(30, abs=1.5)
    assert radius.max() < 36


@pytest.mark.parametrize(("seed", "tumour", "noise", "bias"), [(1, "inside", 0.05, 0.15), (3, "none", 0.08, 0.2)])
def test_the_brain_of_a_head_is_found(seed, tumour, noise, bias):
    images, grid = registered(seed, Sequence((3, 3, 3), noise, bias), tumour)
    brain = find_brain(images, 3.0, "P1")
    mask = fill(brain.surface, grid.spacing, grid.shape)
    true = fill_true(seed, tumour, grid)
    assert dice(mask, true) > 0.95
    assert np.count_nonzero(true & ~mask) < 0.02 * np.count_nonzero(true)
    assert brain.doubts == []
    assert brain.volume == pytest.approx(true.sum() * 0.027, rel=0.08)


def test_a_surface_that_leaks_is_doubted():
    """So noisy and unevenly bright a head of voxels of 3 mm is beyond the method; it must say so."""
    images, grid = registered(2, Sequence((3, 3, 3), noise=0.1, bias=0.3), "surface")
    brain = find_brain(images, 3.0, "P1")
    assert dice(fill(brain.surface, grid.spacing, grid.shape), fill_true(2, "surface", grid)) < 0.95
    assert any("no skull is found around" in doubt for doubt in brain.doubts)


def fill_true(seed: int, tumour: str, grid: Grid) -> np.ndarray:
    from samjax.data.synthetic.head import true_brain

    return true_brain(head(seed, tumour), grid.affine, grid.shape)


def test_noise_and_a_box_are_no_brain():
    noise = np.random.default_rng(0).random((60, 70, 70)).astype(np.float32)
    with pytest.raises(UserError, match=r"case P1: the brain was not found, what was taken for it has \d+ ml"):
        find_brain({"t1": noise}, 3.0, "P1")


def test_t1gd_counts_only_where_it_is_alone():
    images, _ = registered(1, Sequence((3, 3, 3)))
    middle = middle_of_head(images, 3.0)
    all_of_them = bright_body(images, 3.0, middle)
    images.pop("t1gd")
    np.testing.assert_array_equal(bright_body(images, 3.0, middle), all_of_them)


def test_a_mask_that_is_not_symmetric_or_has_no_skull_around_is_doubted():
    whole = ball(60, 100.0)
    assert symmetry(whole) > 0.97
    dented = whole.vertices.copy()
    dented[dented[:, 2] > 120, 2] = 120  # one side cut off
    dented[dented[:, 1] > 150, 1] += 25
    assert symmetry(Surface(dented, whole.faces)) < symmetry(whole) - 0.05
    doubts = Brain(whole, 1000.0, symmetry=0.8, closed=0.7).doubts
    assert len(doubts) == 2
    assert "not symmetric" in doubts[0]
    assert "no skull is found around 30 %" in doubts[1]
    assert Brain(whole, 1000.0, symmetry=0.95, closed=0.97).doubts == []


def test_stripped_scans_are_recognised():
    options = PhantomOptions((48, 48, 36))
    image = make_case("adult", 0, 0, options)["images"]["t1"].transpose(2, 1, 0)
    brain = stripped_brain(image, (4.0, 4.0, 4.0))
    assert np.count_nonzero(brain) >= np.count_nonzero(image)
    assert stripped_brain(image - np.float32(3), (4.0, 4.0, 4.0)) is not None  # another background
    assert stripped_brain(image, (8.0, 8.0, 8.0)) is None  # eight times the volume

    images, _ = registered(1, Sequence((3, 3, 3)))
    head_alone = np.where(images["t1"] > np.percentile(images["t1"], 60), images["t1"], 0)
    assert stripped_brain(images["t1"], (3.0, 3.0, 3.0)) is None  # noise around
    assert stripped_brain(head_alone, (3.0, 3.0, 3.0)) is None  # the air is 0, but the head is too large
    assert stripped_brain(head_alone[34:], (3.0, 3.0, 3.0)) is None  # the upper half of it alone


def test_the_true_brain_of_a_pose_has_the_volume_of_the_head():
    images, grid = registered(1, Sequence((3, 3, 3)))
    assert brain_on(1, grid).sum() == pytest.approx(head(1).brain.sum(), rel=0.02)
    assert images["t1"].shape == grid.shape
