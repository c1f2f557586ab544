import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.data.on_device.channels import fit_pca2d, load_pca2d, parse_channels
from samjax.errors import UserError

T1, T1GD, T2, FLAIR = range(4)


@pytest.fixture(scope="module")
def images():
    """(3, 12, 14, 4) uint8 with a background margin; the channels are related, as modalities are."""
    rng = np.random.default_rng(0)
    shared = rng.integers(20, 200, (3, 12, 14, 1))
    mixed = np.clip(shared * [1.0, 0.8, 0.5, 1.1] + rng.normal(0, 12, (3, 12, 14, 4)), 1, 255).astype(np.uint8)
    mixed[:, :2] = mixed[:, :, -3:] = 0
    return mixed


@pytest.mark.parametrize(
    ("text", "canonical", "order"),
    [
        ("flair,t1gd,t2", "flair,t1gd,t2", [FLAIR, T1GD, T2]),
        ("t2,flair,t1gd", "t2,flair,t1gd", [T2, FLAIR, T1GD]),
        ("t1,t2,flair", "t1,t2,flair", [T1, T2, FLAIR]),
        ("t2f,t1ce,T2w", "flair,t1gd,t2", [FLAIR, T1GD, T2]),
        ("t1gd", "t1gd", [T1GD] * 3),
        ("t1c,t1ce,t1gd", "t1gd", [T1GD] * 3),
        ("all", "t1,t1gd,t2,flair", [T1, T1GD, T2, FLAIR]),
        ("flair,t2,t1gd,t1", "flair,t2,t1gd,t1", [FLAIR, T2, T1GD, T1]),
    ],
)
def test_chosen_modalities(images, text, canonical, order):
    channels = parse_channels(text)
    assert channels.text == canonical
    assert channels.count == len(order)
    assert parse_channels(canonical).modalities == channels.modalities
    found = channels(images)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images[..., order])
    ours = jax.jit(channels)(jnp.asarray(images))
    assert ours.dtype == jnp.float32
    np.testing.assert_array_equal(ours, found)


@pytest.mark.parametrize("text", ["", "t3", "t1,t2", "t1,t1,t2", "t1,t2,flair,t1gd,t1", "t1 t2 flair", "PCA", "all,t1"])
def test_other_texts_name_the_flag(text):
    with pytest.raises(UserError, match=rf"^--channels {text}: expected three of t1, t1gd, t2, flair"):
        parse_channels(text)


def two_dimensional_pca(slices):
    """The definition, slice by slice in float64, without scaling."""
    flat = slices.reshape(len(slices), -1, 4).astype(float)
    mean = flat.mean(axis=0)
    covariance = np.mean([(one - mean).T @ (one - mean) for one in flat], axis=0)
    values, vectors = np.linalg.eigh(covariance)
    leading = vectors[:, np.argsort(values)[::-1][:3]]
    leading *= np.sign(leading[np.abs(leading).argmax(axis=0), range(3)])
    return mean, leading, (flat - mean) @ leading


def test_pca2d_follows_its_definition(images):
    mean, axes, components = two_dimensional_pca(images)
    pca = fit_pca2d([images[:1], images[1:]])
    np.testing.assert_allclose(pca.mean, mean.reshape(12, 14, 4), rtol=1e-6)
    np.testing.assert_allclose(pca.axes, axes, atol=1e-5)
    inside = images.reshape(3, -1, 4).any(axis=-1)
    low, high = np.percentile(components[inside], (0.5, 99.5), axis=0)
    np.testing.assert_allclose(pca.low, low, atol=4)  # few pixels: the tails have gaps
    np.testing.assert_allclose(pca.high, high, atol=4)
    expected = np.clip((components - pca.low) / (pca.high - pca.low) * 255, 0, 255).reshape(3, 12, 14, 3)
    found = parse_channels("pca2d", pca)(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert found.min() == 0
    assert found.max() == 255


def test_percentiles_of_many_pixels_are_right_to_a_fraction_of_a_grey_level():
    rng = np.random.default_rng(1)
    slices = rng.normal(120, [30, 25, 20, 10], (10, 120, 120, 4)).clip(1, 255).astype(np.uint8)
    slices[:, :, 70:] = 0
    _, _, components = two_dimensional_pca(slices)
    pca = fit_pca2d([slices[:5], slices[5:]])
    inside = slices.reshape(10, -1, 4).any(axis=-1)
    low, high = np.percentile(components[inside], (0.5, 99.5), axis=0)
    np.testing.assert_allclose(pca.low, low, atol=0.2)
    np.testing.assert_allclose(pca.high, high, atol=0.2)


def test_pca2d_in_jax_with_any_leading_axes(images):
    channels = parse_channels("pca2d", fit_pca2d([images]))
    assert channels.count == 3
    expected = channels(images)
    batched = jnp.asarray(images)[None, None]
    np.testing.assert_allclose(jax.jit(channels)(batched)[0, 0], expected, atol=1e-3)
    np.testing.assert_allclose(jax.vmap(channels)(jnp.asarray(images)), expected, atol=1e-3)
    np.testing.assert_allclose(channels(images[0]), expected[0])


def test_pca2d_on_slices_of_another_size(images):
    channels = parse_channels("pca2d", fit_pca2d([images]))
    expected = channels(images)
    padded = np.pad(images, [(0, 0), (0, 4), (0, 2), (0, 0)])
    np.testing.assert_array_equal(channels(padded)[:, :12, :14], expected)
    np.testing.assert_array_equal(channels(images[:, :9, :10]), expected[:, :9, :10])


def test_pca2d_is_stored_and_loaded(tmp_path, images):
    pca = fit_pca2d([images])
    pca.save(tmp_path / "run" / "pca2d.npz")
    loaded = load_pca2d(tmp_path / "run" / "pca2d.npz")
    np.testing.assert_array_equal(parse_channels("pca2d", loaded)(images), parse_channels("pca2d", pca)(images))
    for name, content in (("none.npz", None), ("bad.npz", b"x")):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            load_pca2d(tmp_path / name)


def test_what_pca2d_needs(images):
    with pytest.raises(UserError, match="no training slices"):
        fit_pca2d([])
    with pytest.raises(ValueError, match="twice"):
        fit_pca2d(iter([images]))
    with pytest.raises(ValueError, match="fitted"):
        parse_channels("pca2d")(images)


def test_identical_modalities_do_not_divide_by_zero():
    same = np.repeat(np.random.default_rng(2).integers(1, 255, (2, 8, 8, 1)).astype(np.uint8), 4, axis=-1)
    found = parse_channels("pca2d", fit_pca2d([same]))(same)
    assert np.isfinite(found).all()
