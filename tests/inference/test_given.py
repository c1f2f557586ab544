"""What callers give to the predictor: its type, and what of it is refused."""

import numpy as np
import pytest
from PIL import Image

from samjax import Predictor
from samjax.errors import UserError
from samjax.inference.given import picture_of, picture_prompt, spacing_of, volume_of
from samjax.inference.prompts import SlicePrompt, regions_of, require_content

NAN, INF = float("nan"), float("inf")
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
VOLUME = np.random.default_rng(1).integers(0, 256, (2, 6, 8, 4), np.uint8)


@pytest.mark.parametrize("given", [PICTURE, PICTURE.tolist(), Image.fromarray(PICTURE)])
def test_pictures_come_as_arrays_lists_and_images(given: object):
    found = picture_of(given, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PICTURE)


def test_volumes_come_as_arrays_and_lists():
    np.testing.assert_array_equal(volume_of(VOLUME), VOLUME)
    np.testing.assert_array_equal(volume_of(VOLUME.tolist()), VOLUME)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (PICTURE[:0], "empty"),
        (PICTURE[..., 0], r"\(6, 8\): expected uint8"),
        (Image.fromarray(PICTURE[..., 0]), "mode L"),
        (PICTURE / 255, "float64"),
        (PICTURE.astype(np.int64), "int64"),
        ([[[0, 0, 256]]], "int64"),
        ([[[0, 0], [0]]], "no array"),
        (None, "object"),
    ],
)
def test_other_pictures_are_refused(given: object, words: str):
    with pytest.raises(UserError, match=words):
        picture_of(given, 3)


def test_what_the_caller_changes_later_changes_no_mask():
    predictor = Predictor.from_weights("tiny", image_size=64)
    picture, volume, box = PICTURE.copy(), VOLUME.copy(), (0, 1, 1, 1, 4, 6)
    predictor.set_image(PICTURE)
    predictor.set_volume(VOLUME)
    expected = predictor.predict(box=box[1:3] + box[4:])[2], predictor.segment(boxes=[box]).mask
    predictor.set_image(picture)
    predictor.set_volume(volume)
    picture[:], volume[:] = 0, 0
    np.testing.assert_array_equal(predictor.predict(box=box[1:3] + box[4:])[2], expected[0])
    np.testing.assert_array_equal(predictor.segment(boxes=[box]).mask, expected[1])
    with pytest.raises(UserError, match="not finite"):
        predictor.predict(box=(1, 1, 6, 4), mask=np.full((16, 16), NAN))


def test_clicks_and_boxes_of_pictures():
    found = picture_prompt([(7, 5), (0.5, 0)], [1, 0], (-2, -1, 7, 9), (6, 8))
    assert found == SlicePrompt(0, ((7.0, 5.0, 1), (0.5, 0.0, 0)), (-2.0, -1.0, 7.0, 9.0))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"box": (NAN, 0, 1, 1)}, "not finite"),
        ({"box": (5, 0, 4, 1)}, "x0 <= x1"),
        ({"box": (8, 0, 9, 1)}, "in the picture"),
        ({"box": "abcd"}, "expected numbers"),
        ({"box": [(0, 0, 1, 1)]}, "shape"),
        ({"points": [(INF, 0)], "labels": [1]}, "not finite"),
        ({"points": [(8, 0)], "labels": [1]}, "outside of the picture of 8 x 6"),
        ({"points": [(0, 0)], "labels": [2]}, "each 0 or 1"),
        ({"points": [(0, 0)]}, "n labels"),
    ],
)
def test_other_prompts_of_pictures_are_refused(prompt: dict, words: str):
    with pytest.raises(UserError, match=words):
        picture_prompt(**{"points": None, "labels": None, "box": None} | prompt, shape=(6, 8))


@pytest.mark.parametrize("box", [(0, 0, 0, 0, NAN, 1), (0, 0, 0, 0, INF, 1), (0, 0, 0, 0, 1.5, 1)])
def test_boxes_of_volumes_are_whole_numbers(box: tuple):
    with pytest.raises(UserError, match="whole numbers"):
        regions_of(np.array([box]), np.zeros((0, 4)), (2, 6, 8))


def test_prompts_on_background_alone_are_refused():
    images = np.zeros((4, 6, 8, 4), np.uint8)
    images[2, 3, 3, 1] = 9

    def required(boxes: list[tuple], points: list[tuple]) -> None:
        require_content(regions_of(boxes, points, images.shape[:3]), images)

    required([(0, 0, 0, 2, 5, 7)], [])
    required([], [(2, 0, 0, 1)])
    with pytest.raises(UserError, match=r"slice 3 \(from 0, the lowest\) is background alone"):
        required([], [(2, 0, 0, 1), (3, 3, 3, 1)])
    with pytest.raises(UserError, match=r"slices 0 to 1 .* are background alone"):
        required([(0, 0, 0, 1, 5, 7)], [])


def test_a_volume_that_shows_nothing_is_refused():
    predictor = Predictor.from_weights("tiny", image_size=64)
    with pytest.raises(UserError, match="volume: every voxel is 0 in all modalities"):
        predictor.set_volume(np.zeros_like(VOLUME))


@pytest.mark.parametrize("spacing", [(-1, 1, 1), (0, 1, 1), (NAN, 1, 1), (1, 1, 1e6), (1e-3, 1, 1), (1, 1), "abc", 1.0])
def test_a_spacing_is_three_numbers_of_millimetres(spacing):
    with pytest.raises(UserError, match="three numbers from 0"):
        spacing_of(spacing)
    assert spacing_of([5, 1, 0.5]) == (5.0, 1.0, 0.5)
