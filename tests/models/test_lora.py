"""LoRA: merging, ranks, and what each target adapts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.models.config import Adaptation
from samjax.models.flat import flat_shapes
from samjax.models.lora import LoRA, lora_updates, merge_lora
from samjax.models.sam import Sam
from tests.models.cases import MINI, adapted_weights, encode, our_sam, pictures, relative_error, sam_with

LORA = Adaptation(lora_rank=4)
QKV = "image_encoder/blocks/2/attn/qkv/kernel"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return pictures(2, 1, 16, 16, 3)


@pytest.fixture(scope="module")
def base_embeddings(images) -> np.ndarray:
    return np.asarray(encode(our_sam(MINI), images))


@pytest.mark.parametrize("alpha", [None, 10.0])
def test_merged_is_unmerged(images, base_embeddings, alpha):
    adaptation = Adaptation(lora_rank=4, lora_alpha=alpha)
    unmerged = sam_with(adapted_weights(), adaptation)
    merged = sam_with(merge_lora(adapted_weights(), adaptation))
    found, expected = encode(unmerged, images), np.asarray(encode(merged, images))
    assert relative_error(found, expected) < 1e-5
    assert relative_error(found, base_embeddings) > 0.05


def test_merging_leaves_no_lora_and_its_arguments_unchanged():
    before = {path: value.copy() for path, value in adapted_weights().items()}
    merged = merge_lora(adapted_weights(), LORA)
    assert not any("lora" in path for path in merged)
    assert all(np.array_equal(value, before[path]) for path, value in adapted_weights().items())


def test_alpha_scales_the_update():
    by_default = lora_updates(adapted_weights(), LORA)
    doubled = lora_updates(adapted_weights(), Adaptation(lora_rank=4, lora_alpha=8.0))
    assert all(np.array_equal(doubled[module], 2 * update) for module, update in by_default.items())


def test_its_gradients_are_those_of_the_two_products():
    rng = np.random.default_rng(0)
    x, a, b, weights = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 3, 5, 6), (6, 4), (4, 7), (2, 3, 5, 7))
    )
    adaptation = Adaptation(lora_rank=4, lora_alpha=6.0)

    def through_lora(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        lora = LoRA(6, 7, adaptation)
        lora.a, lora.b = nnx.Param(a), nnx.Param(b)
        return jnp.sum(weights * jnp.sin(lora(x)))

    def by_products(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(weights * jnp.sin(1.5 * (x @ a @ b)))

    found, expected = (jax.grad(f, argnums=(0, 1, 2))(x, a, b) for f in (through_lora, by_products))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert relative_error(ours, np.asarray(theirs)) < 1e-5


def test_q_and_v_have_rank_4_each_and_different_row_spaces():
    """Each has its own pair: sharing one side would leave the joint rank at 4."""
    updates = lora_updates(adapted_weights(), LORA)
    for index in range(MINI.depth):
        q, k, v = (updates[f"image_encoder/blocks/{index}/attn/lora/{target}"] for target in "qkv")
        assert [np.linalg.matrix_rank(update) for update in (q, k, v)] == [4, 4, 4]
        for first, second in ((q, k), (q, v), (k, v)):
            assert np.linalg.matrix_rank(np.concatenate([first, second], axis=1)) == 8
            assert np.linalg.matrix_rank(np.concatenate([first, second], axis=0)) == 8


@pytest.mark.parametrize(("target", "columns"), [("q", slice(0, 24)), ("k", slice(24, 48)), ("v", slice(48, 72))])
def test_a_target_adapts_its_own_columns(target, columns):
    only = {
        path: value for path, value in adapted_weights().items() if "/lora/" not in path or f"/lora/{target}/" in path
    }
    change = merge_lora(only, LORA)[QKV] - only[QKV]
    assert np.abs(change[:, columns]).min(axis=0).max() > 0
    change[:, columns] = 0
    assert not change.any()


def test_targets_decide_which_modules_exist():
    paths = {
        targets: {path.split("/lora/")[1] for path in lora_paths(targets)}
        for targets in (("q", "v", "mlp"), ("k",), ("mlp",))
    }
    assert paths[("q", "v", "mlp")] == {f"{name}/{part}" for name in ("q", "v", "lin1", "lin2") for part in "ab"}
    assert paths[("k",)] == {"k/a", "k/b"}
    assert paths[("mlp",)] == {"lin1/a", "lin1/b", "lin2/a", "lin2/b"}


def lora_paths(targets: tuple[str, ...]) -> set[str]:
    shapes = flat_shapes(Sam(MINI, Adaptation(lora_rank=4, lora_targets=targets)))
    return {path for path in shapes if "/lora/" in path}
