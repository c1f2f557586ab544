"""Test-time rotations: what is turned comes back, and the mean is of what each rotation sees."""

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from samjax.data.cases import MODALITIES
from samjax.errors import UserError
from samjax.inference import rotations
from samjax.inference.predictions import SlicePrediction
from samjax.inference.prompts import SlicePrompt
from samjax.inference.rotations import TurnedVolume, evenly_spaced, refuse_boxes, seen_pixels, turned, turned_prompt

PLANE = (40, 50)


class Encoded:
    """A stand-in for a model: the logit is the FLAIR's brightness above 100, and higher at clicks and for bright ones.

    It also keeps the volumes that it is given.
    """

    given: ClassVar[list[np.ndarray]] = []

    def __init__(self, model: object, images: np.ndarray, slices: int, modalities: tuple[str, ...]):
        assert images.dtype == np.uint8
        assert modalities == MODALITIES
        self.images = images
        Encoded.given.append(images)

    def predict_slices(self, prompts: list[SlicePrompt], logits: bool) -> list[SlicePrediction]:
        found = []
        for prompt in prompts:
            plane = self.images[prompt.slice, ..., 3].astype(np.float32) / 10 - 10
            for x, y, _ in prompt.clicks:
                rows, columns = np.indices(plane.shape)
                plane = np.maximum(plane, 8 - (rows - y) ** 2 - (columns - x) ** 2)
            found.append(SlicePrediction(prompt.slice, plane[None] > 0, np.float32([0.5]), plane[None]))
        return found

    def class_logits(self) -> np.ndarray:
        bright = self.images[..., 3].astype(np.float32) / 10 - 10
        return np.stack([-bright, bright, bright - 30, bright - 30])


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Two slices with a bright ellipse off the centre, 200 inside and 50 around it."""
    monkeypatch.setattr(rotations, "EncodedVolume", Encoded)
    Encoded.given = []
    rows, columns = np.indices(PLANE)
    inside = ((rows - 12) / 5) ** 2 + ((columns - 33) / 8) ** 2 < 1
    plane = np.where(inside, 200, 50).astype(np.uint8)
    return np.broadcast_to(plane[None, ..., None], (2, *PLANE, 4)).copy()


def model(unet: bool = False) -> SimpleNamespace:
    return SimpleNamespace(is_unet=unet, angles=(-20.0, 0.0, 20.0), rois=("whole-tumor",), nested=False)


def test_the_angles_are_evenly_spaced_and_hold_the_scan_as_it_is():
    assert evenly_spaced(1, 20, "run") == evenly_spaced(1, 0, "run") == (0.0,)
    assert evenly_spaced(5, 20, "run") == (-20, -10, 0, 10, 20)
    with pytest.raises(UserError, match="--rotations 4: expected an odd number"):
        evenly_spaced(4, 20, "run")
    with pytest.raises(UserError, match="run was trained without rotations"):
        evenly_spaced(3, 0, "run")


def test_clicks_turn_with_the_slices():
    plane = np.zeros((1, *PLANE, 1), np.float32)
    plane[0, 9:12, 36:39] = 1
    there = turned(plane, 20)[0, ..., 0]
    rows, columns = np.indices(PLANE)
    centre = (there * columns).sum() / there.sum(), (there * rows).sum() / there.sum()
    ((x, y, label),) = turned_prompt(SlicePrompt(0, ((37, 10, 1),)), PLANE, 20).clicks
    np.testing.assert_allclose((x, y), centre, atol=0.05)
    assert label == 1
    assert np.hypot(x - 37, y - 10) > 4
    assert turned_prompt(SlicePrompt(0, ((49, 0, 1),)), PLANE, 20) is None
    assert not seen_pixels(PLANE, 20)[0, 49]
    with pytest.raises(UserError, match="boxes and masks cannot be turned"):
        turned_prompt(SlicePrompt(0, box=(1, 1, 2, 2)), PLANE, 20)
    with pytest.raises(UserError, match=r"--boxes: not with --rotations 3"):
        refuse_boxes(3, "--boxes")


def test_pixels_that_are_turned_out_are_not_seen():
    seen = seen_pixels(PLANE, 20)
    back = turned(turned(np.ones((1, *PLANE, 1), np.float32), 20), -20)[0, ..., 0]
    inner = seen & (np.indices(PLANE).min(0) > 1)
    assert 0.7 < seen.mean() < 1
    assert back[~seen].max() < 1
    assert np.median(back[inner]) == pytest.approx(1, abs=1e-5)


def test_a_model_that_turns_with_the_image_gives_the_same_mask(images):
    volume = TurnedVolume(model(), images)
    found = volume.segment(logits=True)
    straight = images[..., 3] > 100
    assert len(Encoded.given) == 3
    assert np.abs(Encoded.given[1].astype(int) - images).max() > 100, "the images were turned"
    both = 2 * (found.mask & straight).sum() / (found.mask.sum() + straight.sum())
    assert both > 0.97
    assert (found.mask == straight)[:, 20:].all()
    assert found.logits.shape == (1, *images.shape[:3])
    np.testing.assert_allclose(found.iou, 0.5)
    np.testing.assert_array_equal(volume.segment().mask, found.mask)


def test_clicks_reach_the_same_place_in_each_rotation(images):
    images[:] = 50
    clicked = SlicePrompt(1, ((40.0, 28.0, 1),))
    (found,) = TurnedVolume(model(), images).predict_slices([clicked])
    rows, columns = np.nonzero(found.mask)
    np.testing.assert_allclose((rows.mean(), columns.mean()), (28, 40), atol=0.2)
    assert 15 < len(rows) < 30
    corner = SlicePrompt(0, ((48.0, 1.0, 1),))
    (found,) = TurnedVolume(model(), images).predict_slices([corner])
    assert found.mask[1, 48], "rotations that lose the click are left out"


def test_the_classes_of_a_unet_are_averaged(images):
    found = TurnedVolume(model(unet=True), images)
    classes = found.class_logits()
    np.testing.assert_allclose(np.exp(classes).sum(axis=0), 1, atol=1e-4)
    straight = images[..., 3] > 100
    assert ((found.segment().mask > 0) == straight).mean() > 0.99
