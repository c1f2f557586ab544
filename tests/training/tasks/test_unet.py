"""The U-Net's batches: what counts, padding, counts of a region, and that the number of devices does not matter."""

from functools import cache, partial

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from samjax.data.labels import IGNORED, ROIS
from samjax.data.on_device.augment import Augmentation
from samjax.data.on_device.channels import parse_channels
from samjax.models.unet import UNetConfig, random_unet
from samjax.training.step import initial_state, make_train_step, replicate, unreplicate
from samjax.training.tasks.objective import SliceResults
from samjax.training.tasks.unet import ClassObjective, class_results
from samjax.training.tasks.unet_loss import unet_loss
from tests.training import small

CONFIG = UNetConfig(in_channels=4, features=(4, 6, 6))
CHANNELS = parse_channels("all")
ROWS, COLUMNS = 33, 38
"""Of the slices, in squares of 40."""
SAMPLES = 8


def batch() -> dict[str, np.ndarray]:
    """Slices with some of each class; the third shows none, the sixth is padding, the seventh lies outside its scan."""
    found = {
        name: x[:, :1] if name in ("images", "labels", "slices") else x for name, x in small.batch(SAMPLES).items()
    }
    rng = np.random.default_rng(1)
    for number in range(SAMPLES):
        for code in (1, 2, 3):
            top, left = rng.integers(2, 20, 2)
            found["labels"][number, 0, top : top + 9, left : left + 7] = code
    found["labels"][2] = 0
    found["valid"][5] = False
    found["slices"][6] = False
    found["extent"][:] = ROWS, COLUMNS
    found["images"][:, :, ROWS:], found["images"][:, :, :, COLUMNS:] = 0, 0
    return found


COUNTED = np.array([[number not in (5, 6)] for number in range(SAMPLES)])
INSIDE = (np.arange(small.NATIVE) < ROWS)[:, None] & (np.arange(small.NATIVE) < COLUMNS)


@cache
def compiled(roi: str = "whole-tumor"):
    graphdef, state = nnx.split(random_unet(CONFIG, seed=2))
    objective = ClassObjective(roi, CHANNELS)
    run = jax.jit(lambda batch: class_results(nnx.merge(graphdef, state), batch, jax.random.key(0), objective))
    return lambda batch: jax.device_get(run(batch))


def results(batch: dict[str, np.ndarray], roi: str = "whole-tumor") -> SliceResults:
    return compiled(roi)(batch)


@cache
def classes() -> np.ndarray:
    """(b, N, N) of the model by itself, padding left as it is."""
    images = CHANNELS(batch()["images"][:, 0])
    return np.asarray(random_unet(CONFIG, seed=2)(images).argmax(-1))


def test_every_slice_of_a_scan_counts_whether_it_shows_something_or_not():
    np.testing.assert_array_equal(results(batch()).counted, COUNTED)


@pytest.mark.parametrize("roi", ["whole-tumor", "tumor-core", "edema"])
def test_counts_are_of_the_region_within_the_slice(roi):
    found = results(batch(), roi).overlap
    predicted, true = (np.isin(x, list(ROIS[roi])) & INSIDE for x in (classes(), batch()["labels"][:, 0]))
    expected = {
        "both": predicted & true,
        "pred": predicted,
        "true": true,
        "pixels": np.broadcast_to(INSIDE, true.shape),
    }
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask.sum((1, 2))[:, None], err_msg=name)
    assert 0 < found["both"].sum() < found["pred"].sum()


def test_the_loss_is_that_of_all_classes_whatever_the_region():
    loss = results(batch()).loss
    np.testing.assert_array_equal(loss, results(batch(), "edema").loss)
    logits = random_unet(CONFIG, seed=2)(CHANNELS(batch()["images"][:, 0]), supervised=True)
    expected = unet_loss(logits, batch()["labels"][:, 0], np.broadcast_to(INSIDE, classes().shape))
    np.testing.assert_allclose(loss[:, 0], expected, rtol=1e-5)


def test_what_lies_in_the_padding_has_no_influence():
    dirty = batch()
    dirty["images"][..., ~INSIDE, :] = 200
    dirty["labels"][..., ~INSIDE] = 3
    for one, other in zip(jax.tree.leaves(results(batch())), jax.tree.leaves(results(dirty)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_four_devices_make_the_update_of_one():
    objective = ClassObjective("whole-tumor", CHANNELS, Augmentation())
    graphdef, trainable = nnx.split(random_unet(CONFIG, seed=2))
    sgd, updated = optax.identity(), []
    for devices in (1, 4):
        step = make_train_step(graphdef, partial(class_results, objective=objective), sgd, seed=7)
        state, nothing = replicate(initial_state(trainable, sgd), devices), replicate(nnx.State({}), devices)
        rate, update_average = np.full(devices, 1, np.float32), np.full(devices, False)
        state, metrics = step(state, nothing, small.on_devices(batch(), devices), rate, update_average)
        assert int(metrics["counted"][0]) == COUNTED.sum()
        updated.append((float(metrics["loss"][0]), small.leaves(unreplicate(state).trainable.tree())))
    (loss, one), (other_loss, four) = updated
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(one, small.leaves(trainable), strict=True)) > 1e-2
    for a, b in zip(one, four, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_ignored_pixels_count_nowhere():
    made = batch()
    made["labels"][0, 0, :, 10:] = IGNORED
    made["labels"][1, 0] = IGNORED
    changed = {name: x.copy() for name, x in made.items()}
    changed["extent"][0] = ROWS, 10  # the same pixels are left where the slice ends there
    model, objective = random_unet(CONFIG, 0), ClassObjective("whole-tumor", CHANNELS)
    results, cut = (class_results(model, x, jax.random.key(0), objective) for x in (made, changed))
    assert results.counted[:2, 0].tolist() == [True, False]
    assert results.overlap["pixels"][:2, 0].tolist() == [ROWS * 10, 0]
    assert results.overlap["true"][0, 0] == (made["labels"][0, 0, :ROWS, :10] > 0).sum() == cut.overlap["true"][0, 0]
