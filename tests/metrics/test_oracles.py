"""Equality with MONAI, MedPy and surface-distance (`make oracles`).

The real labels are wanted in SAMJAX_REAL_DATA (a folder with brats18/).
"""

import importlib
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from samjax.metrics.hausdorff import hd95_by_area, hd95_pooled
from samjax.metrics.lesions import RULES, lesion_scores
from samjax.metrics.overlap import dice, precision, sensitivity, volume_similarity
from samjax.metrics.scores import score
from samjax.metrics.surfaces import surface_dice
from tests.metrics.masks import SPACINGS, ellipsoid, empty, pairs

pytestmark = pytest.mark.oracles
CASES = [(ndim, name) for ndim in (2, 3) for name in pairs(ndim)]
REAL = Path(os.environ.get("SAMJAX_REAL_DATA", "/nonexistent")) / "brats18"


def quietly(function):
    """The same function, its warnings unheard: these packages use what others have deprecated."""

    def call(*args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)

    return call


@pytest.fixture(scope="module")
def monai():
    """(hd95, dice) of a pair, in float32 as MONAI has it."""
    torch, package = (quietly(importlib.import_module)(name) for name in ("torch", "monai.metrics"))

    def both(pred, true, spacing):
        pred, true = (torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (pred, true))
        distance = package.compute_hausdorff_distance(pred, true, True, percentile=95, spacing=spacing)
        return float(distance), float(package.compute_dice(pred, true, include_background=True))

    return quietly(both)


@pytest.fixture(scope="module")
def medpy():
    return quietly(importlib.import_module)("medpy.metric.binary")


@pytest.fixture(scope="module")
def surface_distance():
    package = quietly(importlib.import_module)("surface_distance")

    def distances(pred, true, spacing):
        return package.compute_surface_distances(true, pred, spacing)

    return package, quietly(distances)


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_monai(ndim, name, monai):
    pred, true = pairs(ndim)[name]
    for spacing in SPACINGS[ndim]:
        row = score(pred, true, spacing)
        assert (row["hd95"], row["dice"]) == pytest.approx(monai(pred, true, spacing), rel=2e-6)


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_medpy(ndim, name, medpy):
    pred, true = pairs(ndim)[name]
    for spacing in SPACINGS[ndim]:
        expected = medpy.hd95(pred, true, spacing)
        assert hd95_pooled(pred, true, spacing) == pytest.approx(expected, rel=1e-12)
    assert dice(pred, true) == pytest.approx(medpy.dc(pred, true), rel=1e-12)
    assert sensitivity(pred, true) == pytest.approx(medpy.sensitivity(pred, true), rel=1e-12)
    assert precision(pred, true) == pytest.approx(medpy.precision(pred, true), rel=1e-12)
    signed = medpy.ravd(pred, true) * true.sum() / (true.sum() + pred.sum())
    assert volume_similarity(pred, true) == pytest.approx(1 - abs(signed), rel=1e-12)


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_surface_distance(ndim, name, surface_distance):
    package, distances = surface_distance
    pred, true = pairs(ndim)[name]
    for spacing in SPACINGS[ndim]:
        found = distances(pred, true, spacing)
        # Exactly at a multiple of the spacing a rounding error would show.
        for tolerance in (0.0, 0.5, spacing[0], 2 * spacing[-1], 3.7):
            expected = package.compute_surface_dice_at_tolerance(found, tolerance)
            assert surface_dice(pred, true, spacing, tolerance) == pytest.approx(expected, rel=1e-12)
        expected = package.compute_robust_hausdorff(found, 95)
        assert hd95_by_area(pred, true, spacing) == pytest.approx(expected, rel=1e-12)


def as_defined(pred, true, spacing, rules, surface_distance):
    """The 2023 definition step by step on whole images, nothing cropped and nothing saved."""
    ndimage = importlib.import_module("scipy.ndimage")
    package, distances = surface_distance
    grown = ndimage.generate_binary_structure(3, 2)
    neighbours = np.ones((3, 3, 3))
    lesions = ndimage.label(ndimage.binary_dilation(true, grown, rules.dilations), neighbours)[0] * true
    components = ndimage.label(pred, neighbours)[0]
    dices, distances_mm, matched = [], [], set()
    for number in range(1, lesions.max() + 1):
        lesion = lesions == number
        inside = components * ndimage.binary_dilation(lesion, grown, rules.dilations)
        touched = set(np.unique(inside)) - {0}
        matched |= touched
        whole = np.isin(components, list(touched))
        if lesion.sum() * np.prod(spacing) > rules.ignored_mm3:
            dices.append(2 * (whole & lesion).sum() / (whole.sum() + lesion.sum()))
            found = distances(whole, lesion, spacing) if touched else None
            distances_mm.append(package.compute_robust_hausdorff(found, 95) if touched else 374)
    false = components.max() - len(matched)
    if not dices and not false:
        return 1.0, 0.0
    return sum(dices) / (len(dices) + false), (sum(distances_mm) + 374 * false) / (len(dices) + false)


@pytest.mark.parametrize("challenge", RULES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.6, 0.7)])
@pytest.mark.parametrize("seed", range(6))
def test_lesions(seed, spacing, challenge, surface_distance):
    # Blobs anywhere, also across the border; most of them in both masks, though not at the same place.
    rng = np.random.default_rng(seed)
    pred, true = empty(40, 36, 30), empty(40, 36, 30)
    for _ in range(9):
        centre, radii = rng.uniform(0, pred.shape), rng.uniform(0.8, 5, 3)
        for mask in (pred, true):
            if rng.random() < 0.7:
                mask |= ellipsoid(mask.shape, centre + rng.normal(0, 1.5, 3), radii * rng.uniform(0.8, 1.2, 3))
    scores = lesion_scores(pred, true, spacing, challenge)
    expected = as_defined(pred, true, spacing, RULES[challenge], surface_distance)
    assert (scores.dice, scores.hd95) == pytest.approx(expected, rel=1e-12)


def perturbed(true, rng):
    """The truth with a wobbling outline, a far blob, and its top third forgotten."""
    ndimage = importlib.import_module("scipy.ndimage")
    depth = ndimage.distance_transform_edt(true) - ndimage.distance_transform_edt(~true)
    noise = ndimage.gaussian_filter(rng.standard_normal(true.shape), 4)
    wobbling = depth + 2 * noise / noise.std() > 0
    forgotten = wobbling.copy()
    forgotten[np.flatnonzero(true.any(axis=(1, 2)))[-true.shape[0] // 3 :]] = False
    blob = ellipsoid(true.shape, rng.uniform(0, true.shape), (4, 9, 7))
    return {"wobbling": wobbling, "forgotten": forgotten, "blob": wobbling | blob}


@pytest.mark.skipif(not REAL.is_dir(), reason="SAMJAX_REAL_DATA is not set")
@pytest.mark.parametrize("place", range(10))
def test_real_labels_perturbed(place, monai, medpy, surface_distance):
    nibabel = importlib.import_module("nibabel")
    path = sorted(REAL.glob("*/*_seg.nii*"))[place]
    label = np.asarray(nibabel.load(path).dataobj).T
    rng = np.random.default_rng(place)
    package, distances = surface_distance
    spacing = (1.0, 1.0, 1.0)
    for true in (label > 0, label == 4):
        # The peers take seconds for a whole volume: they get the tumour with a margin, we get everything.
        box = tuple(slice(max(0, axis.min() - 6), axis.max() + 7) for axis in np.nonzero(true))
        for pred in perturbed(np.ascontiguousarray(true[box]), rng).values():
            whole = empty(*true.shape)
            whole[box] = pred
            near = [np.pad(mask, 1) for mask in (pred, true[box])]
            row = score(whole, true, spacing)
            # Among many distances MONAI finds the place of the percentile in float32.
            assert (row["hd95"], row["dice"]) == pytest.approx(monai(*near, spacing), rel=2e-4)
            assert hd95_pooled(whole, true, spacing) == pytest.approx(medpy.hd95(*near), rel=1e-12)
            found = distances(*near, spacing)
            expected = package.compute_surface_dice_at_tolerance(found, 1.0)
            assert surface_dice(whole, true, spacing, 1.0) == pytest.approx(expected, rel=1e-12)
            expected = package.compute_robust_hausdorff(found, 95)
            assert hd95_by_area(whole, true, spacing) == pytest.approx(expected, rel=1e-12)
