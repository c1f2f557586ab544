"""The U-Net's shapes, names and initial values, what it does with margins, and the ways to compute it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.models.config import ComputeConfig
from samjax.models.flat import flat_shapes, to_flat
from samjax.models.unet import UNet, UNetConfig, random_unet, standardise
from samjax.training.tasks.unet_loss import unet_loss
from tests.models.cases import relative_error
from tests.models.unets import SMALL, predict, scans, unet, weights


@pytest.mark.parametrize(
    ("features", "sizes"),
    [
        ((4, 6, 8, 8, 8), [(37, 50), (18, 25), (9, 12)]),
        ((4, 6, 8, 8), [(37, 50), (18, 25)]),
        ((4, 6), [(37, 50)]),
    ],
)
def test_all_but_the_two_lowest_resolutions_are_supervised(features, sizes):
    model = UNet(UNetConfig(in_channels=2, features=features))
    images = jax.ShapeDtypeStruct((3, 37, 50, 2), np.uint8)
    single = jax.eval_shape(UNet.__call__, model, images)
    several = jax.eval_shape(lambda model, images: model(images, supervised=True), model, images)
    assert (single.shape, single.dtype) == ((3, 37, 50, 4), np.float32)
    assert [(level.shape, level.dtype) for level in several] == [((3, *size, 4), np.float32) for size in sizes]


def test_names_shapes_and_number_of_parameters():
    shapes = flat_shapes(UNet(UNetConfig()))
    convs = {f"encoder/{level}/convs/{index}" for level in range(5) for index in range(2)}
    convs |= {f"decoder/{level}/convs/{index}" for level in range(4) for index in range(2)}
    expected = {f"{conv}/{name}" for conv in convs for name in ("conv/kernel", "conv/bias", "norm/scale", "norm/bias")}
    expected |= {f"decoder/{level}/up/{name}" for level in range(4) for name in ("kernel", "bias")}
    expected |= {f"heads/{level}/{name}" for level in range(3) for name in ("kernel", "bias")}
    assert shapes.keys() == expected
    assert shapes["encoder/0/convs/0/conv/kernel"] == (3, 3, 4, 16)
    assert shapes["encoder/2/convs/0/conv/kernel"] == (3, 3, 32, 64)
    assert shapes["decoder/2/up/kernel"] == (2, 2, 128, 64)
    assert shapes["decoder/2/convs/0/conv/kernel"] == (3, 3, 128, 64)
    assert shapes["heads/2/kernel"] == (1, 1, 64, 4)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 1_944_636


def test_flat_parameters_go_in_and_come_out_bit_for_bit():
    flat = to_flat(nnx.state(unet()), SMALL.block_spans)
    assert flat.keys() == weights().keys()
    assert all(np.array_equal(flat[path], value) for path, value in weights().items())


def test_initial_values_are_those_of_he():
    config = UNetConfig(in_channels=3, features=(24, 48), classes=64)
    drawn = to_flat(nnx.state(random_unet(config, seed=1)), 1)
    again, other = (to_flat(nnx.state(random_unet(config, seed=seed)), 1) for seed in (1, 2))
    for path, value in drawn.items():
        assert np.array_equal(value, again[path])
        if not path.endswith("/kernel"):
            assert np.array_equal(value, np.full(value.shape, path.endswith("/scale")))
            continue
        assert not np.array_equal(value, other[path])
        deviation = 48**-0.5 if "/up/" in path else np.sqrt(2 / 1.0001 / np.prod(value.shape[:-1]))
        assert abs(np.log(value.std() / deviation)) < 5 / value.size**0.5, path
        assert abs(value.mean()) < 5 * deviation / value.size**0.5, path


def test_a_picture_is_standardised_over_its_non_zero_pixels():
    images = scans(2, 5, 6, 3)
    found = np.asarray(standardise(images))
    assert found.dtype == np.float32
    assert not found[images == 0].any()
    for picture, scaled in zip(images, found, strict=True):
        for channel in range(3):
            tissue = picture[..., channel][picture[..., channel] > 0].astype(np.float64)
            expected = (tissue - tissue.mean()) / tissue.std()
            np.testing.assert_allclose(scaled[..., channel][picture[..., channel] > 0], expected, atol=1e-5)


def test_a_picture_without_contrast_is_zero():
    images = np.zeros((3, 7, 7, 1), np.float32)
    images[1] = 200.3
    images[2, :3] = 200.3
    np.testing.assert_allclose(standardise(images), 0, atol=1e-4)


def test_filling_up_is_background_at_the_right_and_bottom():
    """The model's own margin is what one of zeros would be; and integers are what floats are."""
    images = scans(1, 37, 50, 2)
    padded = np.pad(images, ((0, 0), (0, 3), (0, 6), (0, 0))).astype(np.float32)
    found, expected = predict(unet(), images), predict(unet(), padded)
    np.testing.assert_allclose(found, expected[:, :37, :50], atol=1e-5)


def test_lower_resolutions_see_the_same_place():
    """A change of the picture moves the logits around it, at each resolution."""
    images = scans(1, 64, 64, 2)
    changed = images.copy()
    changed[0, 40:44, 20:24] ^= 255
    before, after = (predict(unet(), x, supervised=True) for x in (images, changed))
    for level, (a, b) in enumerate(zip(before, after, strict=True)):
        moved = np.abs(np.asarray(b - a))[0].sum(-1)
        row, column = np.unravel_index(moved.argmax(), moved.shape)
        assert abs((row + 0.5) * 2**level - 42) <= 4
        assert abs((column + 0.5) * 2**level - 22) <= 4


def test_shifting_a_scan_inside_its_background_shifts_the_logits():
    config = UNetConfig(in_channels=1, features=(4, 6))
    scan = scans(1, 8, 8, 1)
    images, shifted = np.zeros((2, 1, 48, 48, 1), np.uint8)
    images[:, 18:26, 18:26], shifted[:, 22:30, 16:24] = scan, scan
    model = unet(config=config)
    found, expected = np.asarray(predict(model, shifted)), np.asarray(predict(model, images))
    np.testing.assert_allclose(found[:, 12:40, 6:34], expected[:, 8:36, 8:36], atol=1e-4)


def test_supervision_does_not_change_the_logits():
    images = scans(1, 37, 50, 2)
    single, several = predict(unet(), images), predict(unet(), images, supervised=True)
    np.testing.assert_allclose(single, several[0], atol=1e-6)


@jax.jit
def loss_and_gradient(model: UNet, images: jax.Array) -> tuple[jax.Array, UNet]:
    labels = (images[..., 0] // 64).astype(jnp.uint8)
    pixels = jnp.ones(labels.shape, bool)
    return jax.value_and_grad(lambda model: unet_loss(model(images, supervised=True), labels, pixels).sum())(model)


def test_the_loss_reaches_every_parameter_but_the_biases_that_the_norms_subtract():
    _, gradient = loss_and_gradient(unet(), scans(1, 24, 24, 2))
    largest = {path: np.abs(value).max() for path, value in to_flat(nnx.state(gradient), 1).items()}
    unreached = {path for path, value in largest.items() if value < 1e-6}
    assert unreached == {path for path in largest if path.endswith("/conv/bias")}


def test_recomputation_changes_neither_output_nor_gradient():
    images = scans(1, 24, 24, 2)
    kept, recomputed = (unet(ComputeConfig(remat=remat)) for remat in (False, True))
    assert "remat" not in str(jax.make_jaxpr(UNet.__call__)(kept, images))
    assert str(jax.make_jaxpr(UNet.__call__)(recomputed, images)).count("remat2[") == 4 + 3
    (loss, gradient), (other_loss, other_gradient) = (loss_and_gradient(model, images) for model in (kept, recomputed))
    assert float(loss) == pytest.approx(float(other_loss), rel=1e-5)
    for found, expected in zip(jax.tree.leaves(other_gradient), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bfloat16_keeps_parameters_in_float32_and_stays_close():
    images, half = scans(1, 24, 24, 2), unet(ComputeConfig(dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    convolutions = [eqn for eqn in jax.make_jaxpr(UNet.__call__)(half, images).eqns if "conv_general" in str(eqn)]
    assert convolutions
    assert {var.aval.dtype for eqn in convolutions for var in eqn.invars} == {jnp.dtype("bfloat16")}
    found = predict(half, images)
    assert found.dtype == np.float32
    assert 1e-4 < relative_error(found, predict(unet(), images)) < 0.05
