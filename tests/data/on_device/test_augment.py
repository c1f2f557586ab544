"""Augmentation against SciPy and dm-pix, and what its defaults do to a slice of 240 x 240."""

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from samjax.data.on_device.augment import Augmentation, augment, coordinate_field, warp_linear, warp_nearest

SIZE = 48
FULL = np.array([SIZE, SIZE], np.int32)
MILD = Augmentation(elastic_alpha=40.0, elastic_sigma=5.0)
STILL = Augmentation(rotation=0.0, elastic_alpha=0.0)


def grid(size: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij")).astype(np.float32)


def field_of(seed: int, options: Augmentation = MILD, size: int = SIZE, extent: np.ndarray = FULL) -> np.ndarray:
    return np.asarray(coordinate_field(jax.random.key(seed), size, extent, options))


def angle_of(field: np.ndarray) -> float:
    """Degrees by which a field without elastic part turns."""
    return np.degrees(np.arctan2(field[1, -1, 0] - field[1, 0, 0], field[0, -1, 0] - field[0, 0, 0]))


def disc(row: float, column: float, radius: float, size: int = SIZE) -> np.ndarray:
    rows, columns = grid(size)
    return np.hypot(rows - row, columns - column) <= radius


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    """Turned, bent, and looking outside the slice in many places."""
    field = field_of(3)
    assert ((field < 0) | (field > SIZE - 1)).any(axis=0).mean() > 0.02
    return field


class TestField:
    def test_without_noise_it_is_a_rotation_about_the_centre(self):
        field = field_of(1, Augmentation(elastic_alpha=0.0))
        angle = np.radians(angle_of(field))
        assert 1 < abs(np.degrees(angle)) < 20
        offset = grid(SIZE) - (SIZE - 1) / 2
        turned = np.stack(
            [
                np.cos(angle) * offset[0] - np.sin(angle) * offset[1],
                np.sin(angle) * offset[0] + np.cos(angle) * offset[1],
            ]
        )
        np.testing.assert_allclose(field, turned + (SIZE - 1) / 2, atol=2e-5)

    def test_padded_slices_turn_about_the_centre_of_what_they_fill(self):
        extent = np.array([31, 41], np.int32)
        field = field_of(1, Augmentation(elastic_alpha=0.0), extent=extent)
        np.testing.assert_allclose(field[:, 15, 20], [15, 20], atol=1e-5)
        assert abs(angle_of(field)) > 1

    def test_the_angle_is_uniform_within_the_bounds(self):
        keys = jax.random.split(jax.random.key(0), 2000)
        make = jax.jit(jax.vmap(lambda key: coordinate_field(key, 8, jnp.array([8, 8]), Augmentation(20.0, 0.0))))
        fields = np.asarray(make(keys))
        angles = np.degrees(
            np.arctan2(fields[:, 1, -1, 0] - fields[:, 1, 0, 0], fields[:, 0, -1, 0] - fields[:, 0, 0, 0])
        )
        assert np.abs(angles).max() <= 20 + 1e-4
        counts, _ = np.histogram(angles, bins=8, range=(-20, 20))
        assert ((counts - 250) ** 2 / 250).sum() < 24.3  # chi-square, 7 degrees of freedom, 0.1 %

    def test_without_strength_it_is_the_identity(self):
        np.testing.assert_array_equal(field_of(0, STILL), grid(SIZE))

    def test_the_same_key_gives_the_same_field_and_another_another(self):
        np.testing.assert_array_equal(field_of(5), field_of(5))
        assert np.abs(field_of(5) - field_of(6)).mean() > 0.3

    def test_noise_is_smoothed_as_by_scipy(self):
        """Away from the borders, where a Gaussian cut off is made to sum to 1 and SciPy reflects instead."""
        larger = 240 / SIZE  # the options are in pixels of a slice of 240
        only_elastic = Augmentation(rotation=0.0, elastic_alpha=larger**2, elastic_sigma=4.0 * larger)
        shift = field_of(2, only_elastic) - grid(SIZE)
        noise_key = jax.random.split(jax.random.key(2))[1]
        noise = np.asarray(jax.random.uniform(noise_key, (2, SIZE, SIZE), minval=-1.0, maxval=1.0))
        smooth = ndimage.gaussian_filter(noise, (0, 4.0, 4.0), truncate=6.0)
        inner = slice(18, -18)
        np.testing.assert_allclose(shift[:, inner, inner], smooth[:, inner, inner], atol=5e-6)

    def test_default_strength_on_slices_of_240_pixels(self):
        """The figures that the docstring of `Augmentation` gives, and no folds."""
        defaults = Augmentation(rotation=0.0)
        extent = jnp.array([240, 240])
        fields = jax.jit(jax.vmap(lambda key: coordinate_field(key, 240, extent, defaults) - grid(240)))(
            jax.random.split(jax.random.key(0), 8)
        )
        shifts = np.asarray(fields)
        along_an_axis = shifts[:, :, 48:-48, 48:-48].std()
        assert 1.8 < along_an_axis < 2.3
        assert 2.3 < np.hypot(shifts[:, 0], shifts[:, 1]).mean() < 3.0
        down, across = np.gradient(shifts, axis=(2, 3))
        jacobian = (1 + down[:, 0]) * (1 + across[:, 1]) - across[:, 0] * down[:, 1]
        assert (jacobian > 0).mean() > 0.9999
        assert jacobian.std() > 0.1

    def test_slices_of_any_size_are_deformed_alike(self):
        defaults = Augmentation(rotation=0.0)
        for size in (96, 160):
            make = jax.jit(
                jax.vmap(lambda key, n=size: coordinate_field(key, n, jnp.array([n, n]), defaults) - grid(n))
            )
            shifts = np.asarray(make(jax.random.split(jax.random.key(1), 16)))
            edge = size // 5
            assert 1.75 < shifts[:, :, edge:-edge, edge:-edge].std() * 240 / size < 2.35


class TestWarp:
    def test_linear_is_scipys_interpolation_with_zeros_around(self, image, field):
        ours = np.asarray(warp_linear(image, field))
        assert ours.dtype == np.float32
        for channel in range(3):
            plane = image[..., channel].astype(np.float32)
            theirs = ndimage.map_coordinates(plane, field, order=1, mode="grid-constant", cval=0.0)
            np.testing.assert_allclose(ours[..., channel], theirs, atol=2e-3)

    def test_linear_is_dm_pix_inside_the_slice(self, image, field):
        """dm-pix drops to 0 at the centres of the outermost pixels, this one pixel further out."""
        ours = np.asarray(warp_linear(image, field))
        plane = jnp.asarray(image[..., 0], jnp.float32)
        theirs = np.asarray(dm_pix.flat_nd_linear_interpolate_constant(plane, field, cval=0.0))
        inside = ((field >= 0) & (field <= SIZE - 1)).all(axis=0)
        assert 0.5 < inside.mean() < 1
        np.testing.assert_allclose(ours[..., 0][inside], theirs[inside], atol=2e-3)
        far = ((field <= -1) | (field >= SIZE)).any(axis=0)
        assert far.any()
        assert not ours[far].any()
        assert not theirs[far].any()

    def test_a_rotation_is_dm_pixs(self, image):
        field = field_of(1, Augmentation(elastic_alpha=0.0))
        turn = -np.radians(angle_of(field))
        theirs = dm_pix.rotate(jnp.asarray(image, jnp.float32), turn, order=1, mode="constant")
        inside = ((field >= 0.01) & (field <= SIZE - 1.01)).all(axis=0)
        ours = np.asarray(warp_linear(image, field))
        np.testing.assert_allclose(ours[inside], np.asarray(theirs)[inside], atol=0.02)

    def test_nearest_keeps_the_values_and_is_scipys(self, field):
        labels = np.random.default_rng(1).integers(0, 4, (SIZE, SIZE, 2), dtype=np.uint8)
        ours = np.asarray(warp_nearest(labels, field))
        assert ours.dtype == np.uint8
        assert set(np.unique(ours)) == {0, 1, 2, 3}
        untied = (np.abs(field - np.floor(field) - 0.5) > 1e-4).all(axis=0)
        for channel in range(2):
            theirs = ndimage.map_coordinates(labels[..., channel], field, order=0, mode="grid-constant", cval=0)
            np.testing.assert_array_equal(ours[..., channel][untied], theirs[untied])

    def test_the_identity_changes_no_bit(self, image):
        np.testing.assert_array_equal(np.asarray(warp_linear(image, grid(SIZE))), image.astype(np.float32))
        np.testing.assert_array_equal(np.asarray(warp_nearest(image, grid(SIZE))), image)


class TestAugment:
    def test_all_slices_and_channels_move_alike(self, image):
        plane = image[..., 0]
        images = np.broadcast_to(plane[None, :, :, None], (3, SIZE, SIZE, 4)) * np.array([1, 0.5, 0.25, 0.125])
        labels = np.broadcast_to(plane % 4, (3, SIZE, SIZE))
        warped, warped_labels = map(np.asarray, augment(jax.random.key(3), images, labels, FULL, MILD))
        assert warped.shape == images.shape
        assert np.abs(warped[0, ..., 0] - plane).mean() > 10
        for depth in range(3):
            np.testing.assert_array_equal(warped_labels[depth], warped_labels[0])
            for channel, scale in enumerate((1, 0.5, 0.25, 0.125)):
                np.testing.assert_allclose(warped[depth, ..., channel], scale * warped[0, ..., 0], atol=1e-3)

    def test_slices_and_channels_keep_their_places(self):
        """Each holds its own constant, so that a mix-up of axes would show."""
        values = np.arange(1, 13, dtype=np.uint8).reshape(3, 1, 1, 4)
        images = np.broadcast_to(values, (3, SIZE, SIZE, 4))
        labels = np.broadcast_to(np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1), (3, SIZE, SIZE))
        warped, warped_labels = map(np.asarray, augment(jax.random.key(3), images, labels, FULL, MILD))
        middle = SIZE // 2
        np.testing.assert_allclose(warped[:, middle, middle], values[:, 0, 0], rtol=1e-6)
        np.testing.assert_array_equal(warped_labels[:, middle, middle], [1, 2, 3])
        assert warped_labels.dtype == np.uint8

    @pytest.mark.parametrize("seed", range(3))
    def test_image_and_label_move_together(self, seed):
        shape = disc(14, 30, 7)
        images = np.broadcast_to(200 * shape[None, :, :, None], (1, SIZE, SIZE, 1)).astype(np.uint8)
        warped, labels = map(np.asarray, augment(jax.random.key(seed), images, shape[None] * 3, FULL, MILD))
        centre = ndimage.center_of_mass(labels[0])
        np.testing.assert_allclose(ndimage.center_of_mass(warped[0, ..., 0]), centre, atol=0.15)
        assert np.hypot(centre[0] - 14, centre[1] - 30) > 0.5
        expected = (warped[0, ..., 0] > 100) * 3
        assert (expected != labels[0]).sum() <= 0.1 * shape.sum()

    def test_compiled_and_batched_it_gives_each_sample_what_it_gives_alone(self):
        rng = np.random.default_rng(2)
        images = rng.integers(0, 256, (2, 2, SIZE, SIZE, 4), dtype=np.uint8)
        labels = rng.integers(0, 4, (2, 2, SIZE, SIZE), dtype=np.uint8)
        extents = np.array([[SIZE, SIZE], [30, 40]], np.int32)
        keys = jax.random.split(jax.random.key(0))
        batched = jax.jit(jax.vmap(lambda *sample: augment(*sample, MILD)))
        both = batched(keys, images, labels, extents)
        again = batched(keys, images, labels, extents)
        for index in range(2):
            warped, warped_labels = augment(keys[index], images[index], labels[index], extents[index], MILD)
            np.testing.assert_allclose(both[0][index], warped, atol=0.05)
            assert (np.asarray(both[1][index]) != np.asarray(warped_labels)).mean() < 1e-3
        np.testing.assert_array_equal(both[0], again[0])
        assert np.abs(np.asarray(both[0][0]) - np.asarray(both[0][1])).mean() > 1
