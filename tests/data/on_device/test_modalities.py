"""Hidden modalities of training samples: how often, never all, and what they depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.data.on_device.channels import parse_channels
from samjax.data.on_device.keys import sample_keys
from samjax.data.on_device.modalities import draw_shown, shown_channels
from tests.training import small

KEY = jax.random.key(7)
MANY = jax.random.split(KEY, 4000)
draws = jax.jit(jax.vmap(draw_shown, in_axes=(0, None, None)))


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_each_modality_is_hidden_with_the_probability_asked_for(dropout: float):
    shown = np.asarray(draws(MANY, jnp.ones(4, bool), dropout))
    kept_alone = dropout**4 / 4  # of all four hidden, one is shown all the same
    np.testing.assert_allclose(1 - shown.mean(0), dropout - kept_alone, atol=4 * np.sqrt(dropout / len(MANY)))
    hidden = (~shown).astype(float)
    together = (hidden[:, 0] * hidden[:, 1]).mean()
    np.testing.assert_allclose(together, dropout**2, atol=0.03, err_msg="each is hidden by itself")


def test_never_all_are_hidden_and_what_is_missing_is_never_shown():
    present = jnp.array([False, True, False, True])
    shown = np.asarray(draws(MANY, present, 0.97))
    assert shown.any(axis=1).all()
    assert not shown[:, [0, 2]].any()
    alone = shown[shown.sum(axis=1) == 1]
    np.testing.assert_allclose(alone[:, 1].mean(), 0.5, atol=0.04, err_msg="the one that stays is any of them")
    assert np.asarray(draws(MANY[:50], jnp.array([False, False, True, False]), 0.97))[:, 2].all()


def test_without_dropout_nothing_is_drawn():
    assert shown_channels(KEY, {}, parse_channels("all"), 0.0) is None


def test_samples_are_drawn_apart_by_case_and_slice_and_not_by_their_place():
    batch = {name: np.repeat(x, 32, axis=0) for name, x in small.batch(2).items()}
    batch["start"] = np.arange(64, dtype=np.int32)
    channels = parse_channels("all")
    shown = np.asarray(shown_channels(KEY, batch, channels, 0.5))
    assert len(np.unique(shown, axis=0)) > 8
    back = {name: x[::-1] for name, x in batch.items()}
    np.testing.assert_array_equal(shown_channels(KEY, back, channels, 0.5), shown[::-1])
    other = batch | {"identity": batch["identity"] + 1}
    assert (np.asarray(shown_channels(KEY, other, channels, 0.5)) != shown).any()
    assert (np.asarray(shown_channels(jax.random.key(8), batch, channels, 0.5)) != shown).any()


def test_the_key_is_none_of_the_others():
    """Else a hidden modality would tell which prompt or augmentation comes with it."""
    keys = sample_keys(KEY, small.batch(2))
    drawn = [jax.random.key_data(x).reshape(-1, 2).tolist() for x in keys]
    flat = [tuple(pair) for pairs in drawn for pair in pairs]
    assert len(set(flat)) == len(flat)


def test_the_channels_follow_the_modalities():
    present = np.array([[True, False, True, True], [True, True, True, False]])
    channels = parse_channels("flair,t1gd,t2")
    np.testing.assert_array_equal(channels.present(present), [[True, False, True], [False, True, True]])
    assert channels.needed == ("flair", "t1gd", "t2")
    assert parse_channels("t1gd").needed == ("t1gd",)
    assert parse_channels("pca2d").needed == ("t1", "t1gd", "t2", "flair")
    with pytest.raises(ValueError, match="pca2d"):
        parse_channels("pca2d").present(present)
    batch = small.batch(2) | {"present": present}
    shown = np.asarray(shown_channels(KEY, batch, channels, 1e-9))
    np.testing.assert_array_equal(shown, channels.present(present))
