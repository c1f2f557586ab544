"""A model that sees cropped slices: what surrounds the scan changes nothing, and prompts and masks stay in place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samjax.inference.encoded import BEYOND, frame_of
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.model import SegmentationModel
from samjax.inference.prompts import SlicePrompt
from samjax.inference.source import SourceVolume
from tests.made_runs import write_base, write_run

SHAPE = (5, 22, 27)
MARGINS = (0, 0), (7, 4), (3, 9)
"""Voxels of air before and after the scan, along each axis."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SegmentationModel:
    place: Path = tmp_path_factory.mktemp("cropped")
    base = write_base(place / "base.safetensors")
    run = write_run(place / "sam", base, place, seed=2, strategy="full", depth=2, prompt="mixed", clicks=2)
    return replace(model_of_run(run), cropped=True)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(1, 256, (*SHAPE, 4), np.uint8)


@pytest.fixture(scope="module")
def surrounded(images: np.ndarray) -> np.ndarray:
    return np.pad(images, (*MARGINS, (0, 0)))


def inside(array: np.ndarray) -> np.ndarray:
    (top, _), (left, _) = MARGINS[1:]
    return array[..., top : top + SHAPE[1], left : left + SHAPE[2]]


def test_the_frame_is_what_any_slice_and_modality_shows(surrounded):
    assert frame_of(surrounded) == (slice(7, 29), slice(3, 30))
    assert frame_of(np.zeros_like(surrounded)) == (slice(0, 33), slice(0, 39))
    dot = np.zeros((4, 10, 12, 4), np.uint8)
    dot[2, 3, 4, 1] = dot[0, 8, 4, 3] = 1
    assert frame_of(dot) == (slice(3, 9), slice(4, 5))


def test_air_around_a_scan_changes_nothing(model, images, surrounded):
    tight, wide = (SourceVolume(model, x).segment(logits=True) for x in (images, surrounded))
    np.testing.assert_array_equal(inside(wide.mask), tight.mask)
    np.testing.assert_array_equal(inside(wide.logits), tight.logits)
    assert 0 < tight.mask.mean() < 1
    assert wide.mask.sum() == tight.mask.sum()
    outside = np.ones(wide.mask.shape, bool)
    inside(outside)[:] = False
    assert (wide.logits[:, outside] == BEYOND).all()
    whole = SourceVolume(replace(model, cropped=False), surrounded).segment()
    assert (whole.mask != wide.mask).any()


@pytest.mark.parametrize(
    "prompt",
    [
        SlicePrompt(2, ((4.0, 9.0, 1), (20.0, 3.0, 0))),
        SlicePrompt(2, box=(5.0, 4.0, 16.0, 19.0)),
        SlicePrompt(2, ((8.0, 8.0, 1),), mask=np.tri(*SHAPE[1:]) > 0),
    ],
    ids=["clicks", "box", "mask"],
)
def test_prompts_are_of_the_scan_with_its_air(model, images, surrounded, prompt):
    (top, left) = (side[0] for side in MARGINS[1:])
    moved = SlicePrompt(
        2,
        tuple((x + left, y + top, label) for x, y, label in prompt.clicks),
        None if prompt.box is None else tuple(np.add(prompt.box, (left, top, left, top)).tolist()),
        None if prompt.mask is None else np.pad(prompt.mask, MARGINS[1:]),
    )
    tight = SourceVolume(model, images).predict_slices([prompt])[0]
    wide = SourceVolume(model, surrounded).predict_slices([moved])[0]
    np.testing.assert_array_equal(inside(wide.masks), tight.masks)
    np.testing.assert_array_equal(wide.ious, tight.ious)


@pytest.mark.parametrize("kind", ["box", "point"])
def test_prompts_from_labels_and_their_counts_are_the_same(model, images, surrounded, kind):
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 5:15, 8:20] = 2
    wide_labels = np.pad(labels, MARGINS)
    prompts = GroundTruthPrompts(kind, 2 if kind == "point" else 1, 0)
    tight = SourceVolume(model, images).segment_by_truth(labels, prompts, 7)
    wide = SourceVolume(model, surrounded).segment_by_truth(wide_labels, prompts, 7)
    np.testing.assert_array_equal(inside(wide.mask), tight.mask)
    np.testing.assert_array_equal(wide.rounds.counts, tight.rounds.counts)
    if kind == "point":
        shown = wide.rounds.prompted
        np.testing.assert_array_equal(wide.rounds.click[shown], tight.rounds.click[shown] + (3, 7))
    wide_labels[2, 0, 0] = 2  # where the scan shows nothing
    beyond = SourceVolume(model, surrounded).segment_by_truth(wide_labels, prompts, 7)
    assert beyond.rounds.counts[-1, 2, 2] == tight.rounds.counts[-1, 2, 2] + 1
