"""A given mask is corrected by clicks and boxes, taken back, and saved where the scan lies."""

from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from flax import nnx

from samjax.data.imaging.geometry import to_ours
from samjax.data.on_device.channels import parse_channels
from samjax.errors import UserError
from samjax.inference.model import SegmentationModel
from samjax.inference.predictor import Predictor
from samjax.inference.programs import MASK_LOGIT, mask_logits
from samjax.inference.prompts import SlicePrompt, regions_of, slots_of
from tests.data.trees import example, save_brats
from tests.training import small

SHAPE = (5, 32, 32)
CLICK, BOX = (2, 12, 9, 1), (2, 6, 5, 2, 20, 24)


def model(*prompts: str) -> SegmentationModel:
    return SegmentationModel.on_local_devices(
        *nnx.split(small.lora4ch()), name="one", rois=("whole-tumor",), channels=parse_channels("all"),
        depth=small.DEPTH, image_size=64, native=32, prompts=prompts,
    )  # fmt: skip


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (*SHAPE, 4), np.uint8)


@pytest.fixture
def predictor(images: np.ndarray) -> Predictor:
    found = Predictor(model("box", "point", "none", "mask"))
    found.set_volume(images)
    return found


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """A mask on slices 1 to 3."""
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 8:20, 4:24] = True
    return mask


def test_the_mask_reaches_the_model_as_logits(predictor: Predictor, drawn: np.ndarray):
    volume = predictor._volume.encoded
    logits = jax.device_get(mask_logits(drawn[1:4], size=64, devices=predictor.model.devices))
    places = np.linspace(1, 31, 16).astype(int)  # each logit is of 2 x 2 pixels
    rows, columns = (np.abs(places - middle) for middle in (14, 14))
    inside = (rows[:, None] < 5) & (columns[None] < 9)
    outside = (rows[:, None] > 7) | (columns[None] > 11)
    np.testing.assert_array_equal(logits[:, inside], MASK_LOGIT)
    np.testing.assert_array_equal(logits[:, outside], -MASK_LOGIT)
    slots = slots_of([SlicePrompt(2, ((9, 12, 1),))])
    by_hand = jax.device_get(volume.decode([2], slots, logits[1:2]).masks)[0, 0]
    found = predictor.segment(points=[CLICK], initial=drawn)
    np.testing.assert_array_equal(found.mask[2], by_hand)
    assert not np.array_equal(found.mask[2], predictor.segment(points=[CLICK]).mask[2])


def test_slices_without_prompts_stay_as_they_are(predictor: Predictor, drawn: np.ndarray):
    found = predictor.segment(points=[CLICK], initial=drawn)
    np.testing.assert_array_equal(found.mask[[0, 1, 3, 4]], drawn[[0, 1, 3, 4]])
    assert not np.array_equal(found.mask[2], drawn[2])
    np.testing.assert_array_equal(np.isnan(found.iou), [True, True, False, True, True])


def test_a_slice_without_the_mask_is_prompted_without_it(predictor: Predictor, drawn: np.ndarray):
    """Both slices go through the model together; the mask counts for the one that has it."""
    clicks = [CLICK, (4, 9, 9, 1)]
    found, plain = predictor.segment(points=clicks, initial=drawn), predictor.segment(points=clicks)
    np.testing.assert_array_equal(found.mask[4], plain.mask[4])
    assert not np.array_equal(found.mask[2], plain.mask[2])


def test_negative_clicks_alone_correct_a_mask(predictor: Predictor, drawn: np.ndarray):
    click = (2, 12, 9, 0)
    found = predictor.segment(points=[click], initial=predictor.segment(boxes=[(1, 8, 4, 3, 19, 23)]))
    assert found.mask[1].any()
    for points in ([(4, 12, 9, 0)], [click, (0, 1, 1, 0)]):  # on slices without the mask they say nothing
        with pytest.raises(UserError, match="negative clicks only"):
            predictor.segment(points=points, initial=drawn)


def test_a_box_and_clicks_on_one_slice_are_one_prompt(predictor: Predictor):
    both = predictor.segment(boxes=[BOX], points=[CLICK, (2, 7, 6, 0)])
    prompt = SlicePrompt(2, ((9, 12, 1), (6, 7, 0)), (5, 6, 24, 20))
    (by_hand,) = predictor.predict_slices([prompt])
    np.testing.assert_array_equal(both.mask[2], by_hand.mask)
    assert not np.array_equal(both.mask[2], predictor.segment(boxes=[BOX]).mask[2])


def test_of_several_boxes_a_click_belongs_to_the_one_that_holds_it():
    boxes = [(2, 1, 1, 2, 8, 8), (1, 15, 15, 3, 27, 30)]
    first, second = regions_of(boxes, [(2, 20, 20, 1), (3, 1, 1, 0)], SHAPE)
    assert first[2].clicks == ()
    assert second[2].clicks == ((20, 20, 1),)
    assert second[3].clicks == ((1, 1, 0),)  # the only box of that slice, also for what lies outside of it
    with pytest.raises(UserError, match="no box of these"):
        regions_of(boxes, [(2, 10, 10, 1)], SHAPE)
    with pytest.raises(UserError, match="several boxes of these"):
        regions_of([(2, 1, 1, 2, 8, 8), (2, 5, 5, 2, 30, 30)], [(2, 6, 6, 1)], SHAPE)


def test_propagation_replaces_the_slices_that_it_reaches(predictor: Predictor, drawn: np.ndarray):
    found = predictor.segment(points=[CLICK], propagate=True, initial=drawn)
    alone = predictor.segment(points=[CLICK], initial=drawn)
    np.testing.assert_array_equal(found.mask[2], alone.mask[2])
    stayed = np.isnan(found.iou)
    np.testing.assert_array_equal(found.mask[stayed], drawn[stayed])


def test_masks_that_cannot_be_corrected_are_refused(predictor: Predictor, images: np.ndarray, drawn: np.ndarray):
    with pytest.raises(UserError, match="corrected by clicks or boxes"):
        predictor.segment(initial=drawn)
    with pytest.raises(UserError, match="initial mask of bool"):
        predictor.segment(points=[CLICK], initial=drawn[1:])
    with pytest.raises(UserError, match="expected one region"):
        predictor.segment(points=[CLICK], initial=drawn * np.uint8(3))
    unlearnt = Predictor(model("box", "point"))
    unlearnt.set_volume(images)
    with pytest.raises(UserError, match="prompt mask: one was trained with box, point only"):
        unlearnt.segment(points=[CLICK], initial=drawn)


def test_predictions_are_taken_back_one_by_one(predictor: Predictor, images: np.ndarray):
    assert predictor.prediction is None
    first = predictor.segment(boxes=[BOX])
    second = predictor.segment(points=[(2, 12, 9, 0)], initial=first)
    np.testing.assert_array_equal(predictor.prediction.mask, second.mask)
    back = predictor.undo()
    np.testing.assert_array_equal(back.mask, first.mask)
    np.testing.assert_array_equal(back.iou, first.iou)
    assert predictor.undo() is None
    with pytest.raises(UserError, match="no prediction to take back"):
        predictor.undo()
    predictor.segment(boxes=[BOX])
    predictor.set_volume(images)
    assert predictor.prediction is None


def test_the_saved_file_lies_where_the_scan_does(predictor: Predictor, images: np.ndarray, tmp_path: Path):
    with pytest.raises(UserError, match="no prediction to save"):
        predictor.save(tmp_path / "mask.nii.gz")
    predictor.segment(boxes=[BOX])
    with pytest.raises(UserError, match="came from an array"):
        predictor.save(tmp_path / "mask.nii.gz")

    scan = example()
    folder = save_brats(tmp_path / "Brats18_X_1", "Brats18_X_1", scan, orientation="RAS")
    predictor.set_volume(folder)
    found = predictor.segment(boxes=[(2, 4, 4, 5, 14, 12)])
    predictor.save(tmp_path / "mask.nii.gz")
    saved = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(saved.affine, nib.load(folder / "Brats18_X_1_t1.nii.gz").affine)
    values = to_ours(np.asarray(saved.dataobj), predictor.geometry)
    np.testing.assert_array_equal(values, 2 * found.mask)  # the outermost compartment's value in this scheme
    predictor.save(tmp_path / "msd.nii.gz", labels="msd")
    assert np.asarray(nib.load(tmp_path / "msd.nii.gz").dataobj).max() == 1
    with pytest.raises(UserError, match=r"ends in .nii"):
        predictor.save(tmp_path / "mask.png")
    with pytest.raises(UserError, match="cannot be written"):
        predictor.save(tmp_path / "msd.nii.gz" / "mask.nii")  # a file where a folder is needed


def test_prompts_of_all_spaces_give_one_mask(predictor: Predictor, tmp_path: Path):
    folder = save_brats(tmp_path / "Brats18_X_1", "Brats18_X_1", example(), orientation="RAS")
    predictor.set_volume(folder)
    geometry = predictor.geometry
    ours = predictor.segment(points=[(4, 7, 8, 1)])
    array = np.zeros(geometry.source_shape, bool)
    to_ours(array, geometry)[4, 7, 8] = True  # a view
    (voxel,) = np.argwhere(array)
    place = nib.affines.apply_affine(np.array(geometry.affine), voxel)
    for space, at in (("source", voxel), ("ras", place)):
        np.testing.assert_array_equal(predictor.segment(points=[(*at, 1)], space=space).mask, ours.mask)
