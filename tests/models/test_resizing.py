"""Native slices to the model's input and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from samjax.models.resizing import inside, resize_matrix, to_input, to_native


@pytest.mark.parametrize(("target", "source"), [(1024, 240), (240, 1024), (256, 64), (7, 5), (5, 7), (4, 4), (3, 1)])
def test_matrix_is_linear_interpolation_between_pixel_centres(target, source):
    signal = np.random.RandomState(0).standard_normal(source).astype(np.float32)
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    matrix = resize_matrix(target, source)
    np.testing.assert_allclose(matrix @ signal, np.interp(centres, np.arange(source), signal), atol=1e-5)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_upsampling_by_two_by_hand():
    """The values that PyTorch gives for `interpolate([0, 1, 3], scale_factor=2, mode="linear")`."""
    found = resize_matrix(6, 3) @ np.float32([0, 1, 3])
    assert found.tolist() == [0, 0.25, 0.75, 1.5, 2.5, 3]


def test_logits_go_through_the_input_size():
    """Two resizes, as `postprocess_masks`: straight to native resolution would be something else."""
    logits = np.random.RandomState(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    found = np.asarray(to_native(jnp.asarray(logits), 32, 20))
    full = np.stack([resize_matrix(32, 8) @ plane @ resize_matrix(32, 8).T for plane in logits.reshape(-1, 8, 8)])
    twice = np.stack([resize_matrix(20, 32) @ plane @ resize_matrix(20, 32).T for plane in full])
    np.testing.assert_allclose(found.reshape(6, 20, 20), twice, atol=1e-5)
    straight = resize_matrix(20, 8) @ logits[0, 0] @ resize_matrix(20, 8).T
    assert np.abs(found[0, 0] - straight).max() > 0.01


def test_rows_and_columns_are_not_exchanged():
    logits = np.zeros((4, 4), np.float32)
    logits[0, 3] = 1
    native = to_native(jnp.asarray(logits), 16, 16)
    assert native[0, 15] == pytest.approx(1)
    assert native[15, 0] == 0


def test_to_input_keeps_channels_and_agrees_with_the_matrix():
    images = np.random.RandomState(0).randint(0, 256, (2, 5, 5, 3)).astype(np.uint8)
    found = to_input(jnp.asarray(images), 8)
    matrix = resize_matrix(8, 5)
    expected = np.einsum("ry,zyxc,sx->zrsc", matrix, images.astype(np.float32), matrix)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_inside_is_the_slice_in_its_padded_square():
    found = inside(jnp.array([[2, 3], [4, 4]]), 4)
    expected = np.zeros((2, 4, 4), bool)
    expected[0, :2, :3] = True
    expected[1] = True
    assert np.array_equal(found, expected)
