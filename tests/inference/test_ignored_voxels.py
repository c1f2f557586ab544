"""Clicks and counts from a label some of whose voxels are to be ignored."""

import numpy as np
from flax import nnx

from samjax.data.labels import IGNORED
from samjax.data.on_device.channels import parse_channels
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.volumes import segment_cases
from tests.evaluation.cases import made_case, square
from tests.training import small

SHAPE = (3, 28, 32)


def test_what_is_predicted_where_the_label_is_ignored_is_neither_counted_nor_answered():
    model = SegmentationModel.on_local_devices(
        *nnx.split(small.lora4ch()), name="one", rois=("whole-tumor",), channels=parse_channels("all"),
        depth=small.DEPTH, image_size=64,
    )  # fmt: skip
    plain = square(SHAPE, slice(0, 2), slice(4, 15), slice(2, 9), code=2)
    ignored = plain.copy()
    ignored[:, :, 12:] = IGNORED
    both = [made_case(labels, "a") for labels in (plain, ignored)]
    (_, whole), (_, partly) = segment_cases(model, both, GroundTruthPrompts("point"))
    np.testing.assert_array_equal(whole.mask, partly.mask, err_msg="the first click is the same")
    np.testing.assert_array_equal(whole.rounds.click, partly.rounds.click)
    assert whole.mask[:2, :, 12:].any(), "the model predicts something there, else this tests nothing"
    np.testing.assert_array_equal(partly.rounds.counts[0, :2, 1], whole.mask[:2, :, :12].sum((1, 2)))
    np.testing.assert_array_equal(whole.rounds.counts[0, :2, 1], whole.mask[:2].sum((1, 2)))

    labels = np.full(SHAPE, IGNORED, np.uint8)
    found = whole.mask[0]
    labels[0][found] = 2  # right wherever anything is labelled, so no further click is given
    (_, once), (_, twice) = (
        next(iter(segment_cases(model, [made_case(labels, "a")], GroundTruthPrompts("point", clicks))))
        for clicks in (1, 2)
    )
    assert once.rounds.counts[0, 0, 0] == once.rounds.counts[0, 0, 1]
    np.testing.assert_array_equal(once.rounds.counts[0, 0, 1:2], twice.rounds.counts[0, 0, 1:2])
