"""The appearance of generated windows: the direction of disease, determinism, and what a scan looks like."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.data.on_device import appearance
from samjax.data.on_device.appearance import Appearance, appear
from samjax.data.on_device.contrast import MATERIALS, draw_contrast
from samjax.data.on_device.draws import SIZE, Draws
from samjax.data.synthetic.anatomy import HEAD_TISSUES, INSIDE
from samjax.data.synthetic.lesions import PARTS
from samjax.data.synthetic.windows import MARGIN

T1, T1GD, T2, FLAIR = range(4)
DEPTH, SIDE = 2, 48
OPTIONS = Appearance()


@pytest.fixture(scope="module")
def contrasts():
    keys = jax.random.split(jax.random.key(0), 300)
    return jax.device_get(jax.jit(jax.vmap(lambda key: draw_contrast(Draws(key))))(keys))


def of(contrasts, modality, material):
    return contrasts.mean[:, modality, MATERIALS.index(material)]


def window(seed=0):
    """A square of brain with edema in its middle, in air."""
    head = np.zeros((DEPTH + 2 * MARGIN, SIDE, SIDE, 2), np.uint8)
    head[:, 8:40, 8:40] = HEAD_TISSUES.index("white"), INSIDE
    head[:, 8:40, 8:14, 0] = HEAD_TISSUES.index("csf")
    tumour = np.zeros((*head.shape[:3], 3), np.uint8)
    tumour[:, 18:30, 18:30] = PARTS.index("edema"), 0, 255
    volumes = np.zeros(len(MATERIALS), np.float32)
    for name, amount in (("white", 800), ("grey", 700), ("csf", 200), ("edema", 80)):
        volumes[MATERIALS.index(name)] = amount
    return head, tumour, volumes, np.bool_(True), np.float32(1)


@pytest.fixture(scope="module")
def drawn():
    draw = jax.jit(jax.vmap(partial(appear, options=OPTIONS), in_axes=(0, None, None, None, None, None)))
    return np.asarray(draw(jax.random.split(jax.random.key(1), 24), *window()))


def test_disease_is_dark_on_t1_and_bright_on_t2_and_flair(contrasts):
    for part in ("edema", "solid"):
        assert (of(contrasts, T1, part) < of(contrasts, T1, "white")).all()
        assert (of(contrasts, T2, part) > of(contrasts, T2, "white")).all()
        assert (of(contrasts, FLAIR, part) > of(contrasts, FLAIR, "white")).all()
    assert (of(contrasts, T2, "necrosis") > of(contrasts, T2, "white")).all()


def test_contrast_agent_brightens_what_takes_it_up(contrasts):
    rise = of(contrasts, T1GD, "enhancing") / of(contrasts, T1GD, "white")
    assert (rise > of(contrasts, T1, "enhancing") / of(contrasts, T1, "white")).all()
    assert (of(contrasts, T1GD, "enhancing") > of(contrasts, T1GD, "solid")).all()


def test_healthy_contrast_is_usually_that_of_the_sequence_and_sometimes_any(contrasts):
    for modality, brighter, darker in ((T1, "white", "grey"), (T2, "csf", "white"), (FLAIR, "grey", "csf")):
        usual = (of(contrasts, modality, brighter) > of(contrasts, modality, darker)).mean()
        assert 0.7 < usual < 0.99


def test_one_key_draws_numbers_of_their_kind_and_no_more_than_it_has():
    draws = Draws(jax.random.key(3))
    normal, uniform = draws.normal((600,)), draws.uniform((600,), 2, 4)
    assert abs(normal.mean()) < 0.15
    assert abs(normal.std() - 1) < 0.1
    assert uniform.min() >= 2
    assert uniform.max() <= 4
    assert abs(uniform.mean() - 3) < 0.1
    with pytest.raises(ValueError, match=f"more than {SIZE}"):
        draws.uniform((1000,))


def test_images_are_whole_numbers_of_a_byte_and_nothing_shows_outside_a_stripped_brain(drawn):
    assert drawn.shape == (24, DEPTH, SIDE, SIDE, 4)
    assert ((drawn == np.round(drawn)) & (drawn >= 0) & (drawn <= 255)).all()
    brain = window()[0][MARGIN, ..., 1] >= INSIDE
    assert not drawn[:, :, ~brain].any()
    assert (drawn[:, :, brain].std(axis=(1, 2)) > 1).all()


def test_edema_is_seen_in_the_images(drawn):
    inside, around = drawn[:, :, 21:27, 21:27].mean((1, 2, 3)), drawn[:, :, 30:38, 18:38].mean((1, 2, 3))
    assert ((inside - around)[:, FLAIR] > 0).mean() > 0.8
    assert ((inside - around)[:, T2] > 0).mean() > 0.8
    assert ((inside - around)[:, T1] < 0).mean() > 0.8


def test_what_is_drawn_depends_on_the_key_alone():
    draw = jax.jit(partial(appear, options=OPTIONS))
    first, again, other = (np.asarray(draw(jax.random.key(seed), *window())) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert draw._cache_size() == 1


def test_thick_slices_are_means_of_those_of_the_window():
    weights = jax.vmap(
        lambda key: appearance._thick(Draws(key), Appearance(thick_share=0.5), 4, 4 + 2 * MARGIN, jnp.float32(1))
    )(jax.random.split(jax.random.key(0), 40))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    assert (weights >= 0).all()
    thin = np.asarray(weights.max(axis=-1) > 0.99).all(axis=-1)
    assert 0.3 < thin.mean() < 0.7  # a thin modality shows the window's slices as they are


def test_the_point_spread_keeps_the_mean_and_moves_by_the_shift():
    matrix = appearance._spread(40, jnp.full((4, 2), 1.0), jnp.full((4, 2), 2.0), jnp.zeros((4, 2)))[0, 0]
    line = jnp.zeros(40).at[20].set(1.0)
    moved = matrix @ line
    np.testing.assert_allclose(moved.sum(), 1, rtol=1e-3)
    assert int(moved.argmax()) == 18
