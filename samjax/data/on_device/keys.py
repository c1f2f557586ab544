"""Random keys of samples and slices, which depend only on the case and the slice, not on a batch or a window."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp


class SampleKeys(NamedTuple):
    """PRNG keys of b samples of Z slices. A slice's own key does not depend on the window it is seen in."""

    augment: jax.Array
    """Key of each sample's augmentation, (b,)."""
    kind: jax.Array
    """Key of each sample's kind of prompt, (b,)."""
    slices: jax.Array
    """Key of each slice, (b, Z)."""
    modalities: jax.Array
    """Key of the modalities that each sample hides, (b,)."""


def sample_keys(key: jax.Array, batch: Mapping[str, jax.Array]) -> SampleKeys:
    """Keys that depend only on `key`, the case and the slices, not on a sample's place in the batch.

    Args:
        batch: `identity` (b,) int32 names each sample's case (`Case.identity`), `start` (b,) int32 its first slice, and
            `slices` has the shape (b, Z).
    """
    depth = batch["slices"].shape[1]

    def of_sample(identity: jax.Array, start: jax.Array) -> SampleKeys:
        augment_key, kind_key, slice_key = _case_keys(key, identity)
        numbers = start + jnp.arange(depth, dtype=start.dtype)
        return SampleKeys(
            jax.random.fold_in(augment_key, start),
            jax.random.fold_in(kind_key, start),
            _folded(slice_key, numbers),
            jax.random.fold_in(_modalities_key(key, identity), start),
        )

    return jax.vmap(of_sample)(batch["identity"], batch["start"])


def slice_keys(key: jax.Array, identity: jax.Array, numbers: jax.Array) -> jax.Array:
    """The keys (n,) of slices `numbers` (n,) int32 of one case: those that `sample_keys` gives them in any window."""
    return _folded(_case_keys(key, identity)[2], numbers)


def _case_keys(key: jax.Array, identity: jax.Array) -> jax.Array:
    return jax.random.split(jax.random.fold_in(key, identity), 3)


def _modalities_key(key: jax.Array, identity: jax.Array) -> jax.Array:
    # 0, 1 and 2 are what the split of `_case_keys` gives.
    return jax.random.fold_in(jax.random.fold_in(key, identity), 3)


def _folded(key: jax.Array, numbers: jax.Array) -> jax.Array:
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
