"""Further clicks come with the mask before them where the model was trained with masks, and only there."""

import jax
import numpy as np
import pytest
from flax import nnx

from samjax.data.on_device.channels import parse_channels
from samjax.errors import UserError
from samjax.inference.encoded import Decoded, EncodedVolume
from samjax.inference.ground_truth import GroundTruthPrompts, segment_by_truth
from samjax.inference.model import SegmentationModel
from samjax.inference.predictor import Predictor
from tests.training import small

ROUNDS = 3


def model(*prompts: str) -> SegmentationModel:
    return SegmentationModel.on_local_devices(
        *nnx.split(small.lora4ch()), name="one", rois=("whole-tumor",), channels=parse_channels("all"),
        depth=small.DEPTH, image_size=64, native=32, prompts=prompts,
    )  # fmt: skip


def played(*prompts: str) -> tuple[list[np.ndarray | None], list[np.ndarray], np.ndarray]:
    """The masks that each round was given, its logits, and the predicted IoU of each round."""
    given, logits = [], []
    decode = EncodedVolume.decode

    def noted(volume: EncodedVolume, slices: object, slots: object, mask: object = None, *more: object) -> Decoded:
        decoded = decode(volume, slices, slots, mask, *more)
        given.append(None if mask is None else jax.device_get(mask))
        logits.append(jax.device_get(decoded.logits))
        return decoded

    rng = np.random.default_rng(0)
    truth = np.zeros((2, 32, 32), bool)
    truth[0, 5:20, 8:25] = truth[1, 10:14, 3:9] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncodedVolume, "decode", noted)
        volume = EncodedVolume(model(*prompts), rng.integers(0, 256, (2, 32, 32, 4), np.uint8))
        found = segment_by_truth(volume, truth, np.ones_like(truth), GroundTruthPrompts("point", ROUNDS), identity=7)
    return given, logits, found.rounds.iou


def test_every_further_click_comes_with_the_logits_of_the_round_before():
    given, logits, _ = played("point", "mask")
    per_slice = [given[start : start + ROUNDS] for start in range(0, len(given), ROUNDS)]
    for number, masks in enumerate(per_slice):
        assert masks[0] is None
        for later, mask in enumerate(masks[1:]):
            np.testing.assert_array_equal(mask, logits[number * ROUNDS + later][:, 0])


def test_a_model_that_saw_no_masks_gets_none():
    given, _, iou = played("point")
    assert given == [None] * len(given)
    with_masks = played("point", "mask")[2]
    np.testing.assert_array_equal(iou[0], with_masks[0])
    assert (iou[1:] != with_masks[1:]).all()


def test_a_mask_prompt_is_refused_where_the_model_saw_none():
    picture, mask = np.zeros((32, 32, 4), np.uint8), np.zeros((16, 16), np.float32)
    click = {"points": np.array([[10, 10]]), "labels": np.array([1])}
    for prompts, refused in ((("point",), True), (("point", "mask"), False)):
        predictor = Predictor(model(*prompts))
        predictor.set_image(picture)
        if refused:
            with pytest.raises(UserError, match="prompt mask: one was trained with point only"):
                predictor.predict(**click, mask=mask)
        else:
            assert predictor.predict(**click, mask=mask)[2].shape == (1, 16, 16)
