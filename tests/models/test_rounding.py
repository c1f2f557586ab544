"""What frozen parameters are held in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.models.adapt import adapt
from samjax.models.config import Adaptation, ComputeConfig
from samjax.models.rounding import in_compute_dtype
from samjax.strategies import STRATEGIES, trainable_filter
from tests.models.cases import MINI, our_weights

ADAPTED = Adaptation(lora_rank=2, slices=2)


def parts(dtype: str) -> tuple[nnx.Module, nnx.GraphDef, nnx.State, nnx.State]:
    model = adapt(MINI, our_weights(MINI), ADAPTED, ComputeConfig(dtype))
    return model, *nnx.split(model, trainable_filter(STRATEGIES["lora"]), ...)


@pytest.mark.parametrize("dtype", ["float32", "tf32"])
def test_float32_stays(dtype):
    model, _, _, frozen = parts(dtype)
    for held, given in zip(jax.tree.leaves(in_compute_dtype(model, frozen)), jax.tree.leaves(frozen), strict=True):
        assert held.dtype == jnp.float32
        assert np.array_equal(held, given)


def test_bfloat16_holds_what_its_products_take_and_nothing_else():
    model, _, _, frozen = parts("bfloat16")
    before = {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(frozen)}
    held = {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(in_compute_dtype(model, frozen))}
    assert held.keys() == before.keys()
    halved = {path for path, x in held.items() if x.dtype == jnp.bfloat16}
    assert halved
    assert all(path.rsplit("/", 1)[1] in ("kernel", "bias") for path in halved)
    assert not any("norm" in path or "rel_pos" in path or "pos_embed" in path for path in halved)
    assert {path for path in before if "/mlp/lin" in path or "/qkv/" in path or "patch_embed/" in path} <= halved
    for path, x in held.items():
        assert np.array_equal(x, before[path].astype(x.dtype)), path


def test_the_model_gives_the_same():
    model, graphdef, trainable, frozen = parts("bfloat16")
    pictures = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (1, 2, 64, 64, 3)), jnp.float32)

    @jax.jit
    def encode(frozen: nnx.State) -> jax.Array:
        return nnx.merge(graphdef, trainable, frozen).encode(pictures).astype(jnp.float32)

    expected = encode(frozen)
    found = encode(in_compute_dtype(model, frozen))
    # XLA may leave out the rounding of what it converts and widens again.
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
