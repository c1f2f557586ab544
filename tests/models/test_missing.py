"""Channels of missing modalities are 0 where the network sees them, whatever the pictures hold."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from samjax.models.missing import without_missing
from samjax.models.sam import normalise
from samjax.models.unet import UNetConfig, random_unet
from tests.training import small

PRESENT = np.array([[True, False, True, False], [True, True, True, True]])


def pictures(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(1, 256, shape).astype(np.float32))


def test_a_missing_channel_is_zero_after_the_normalisation_and_the_others_stay():
    normalised = normalise(pictures(2, 1, 16, 16, 4))
    seen = np.asarray(without_missing(normalised, PRESENT[:, None]))
    assert (seen[0][..., [1, 3]] == 0).all()
    np.testing.assert_array_equal(seen[0][..., [0, 2]], normalised[0][..., [0, 2]])
    np.testing.assert_array_equal(seen[1], normalised[1])
    raw_zero = np.asarray(normalise(jnp.zeros((1, 1, 16, 16, 4))))
    assert (np.abs(raw_zero) > 1).all(), "background is not what a missing modality looks like"


def test_sam_sees_the_same_whatever_a_missing_channel_holds():
    encode = jax.jit(lambda state, *inputs: nnx.merge(graphdef, state).encode(*inputs))
    graphdef, state = nnx.split(small.lora4ch())
    images, valid = pictures(2, small.DEPTH, 64, 64, 4), jnp.ones((2, small.DEPTH), bool)
    whole = encode(state, images, valid, PRESENT)
    emptied = images.at[0, ..., 1].set(0).at[0, ..., 3].set(0)
    np.testing.assert_array_equal(encode(state, emptied, valid, PRESENT), whole)
    assert (encode(state, emptied, valid, np.ones_like(PRESENT))[0] != whole[0]).any()
    np.testing.assert_allclose(encode(state, images, valid)[1], whole[1], rtol=1e-4, atol=1e-4)


def test_so_does_the_unet():
    call = jax.jit(lambda state, *inputs: nnx.merge(graphdef, state)(*inputs))
    graphdef, state = nnx.split(random_unet(UNetConfig(features=(4, 8))))
    images = pictures(2, 16, 16, 4)
    whole = call(state, images, PRESENT)
    emptied = images.at[0, ..., 1].set(0).at[0, ..., 3].set(0)
    np.testing.assert_array_equal(call(state, emptied, PRESENT), whole)
    assert (call(state, images, np.ones_like(PRESENT))[0] != whole[0]).any()
