"""How many parameters each way of training trains in ViT-B, and how an adapted model starts."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from samjax.models.adapt import PATCH_KERNEL, adapt, random_sam
from samjax.models.config import PRESETS, Adaptation, ComputeConfig
from samjax.models.flat import from_flat, to_flat
from samjax.models.prompt_encoder import Buffer
from samjax.models.sam import Sam
from samjax.strategies import ADAPTERS, CROSS_SLICE, LORA, MASK_DECODER, PATCH_EMBEDDING, STRATEGIES, trainable_filter
from samjax.weights.architecture import expected_shapes
from tests.models.cases import ADAPTATION, MINI, our_sam, our_weights, pictures

VIT_B = PRESETS["vit_b"]
RANK_4 = Adaptation(lora_rank=4)
FOUR_CHANNELS = replace(VIT_B, in_channels=4)


def trainable(config, adaptation, *patterns: str) -> int:
    """The number of values that train where these patterns of paths do."""
    model = Sam(config, adaptation)
    _, chosen, _ = nnx.split(model, trainable_filter(replace(STRATEGIES["lora"], stages=(patterns,))), ...)
    return sum(leaf.size for leaf in jax.tree.leaves(chosen))


@pytest.mark.parametrize(
    ("config", "adaptation", "patterns", "count"),
    [
        (VIT_B, RANK_4, (LORA,), 589_824),
        (VIT_B, replace(RANK_4, lora_targets=("q", "v", "mlp")), (LORA,), 516_096),
        (FOUR_CHANNELS, Adaptation(), (PATCH_EMBEDDING,), 787_200),
        (VIT_B, Adaptation(), (MASK_DECODER,), 4_058_340),
        (VIT_B, Adaptation(inner_regions=2), (MASK_DECODER,), 4_058_340 + 2 * 141_092),
        (VIT_B, Adaptation(slices=4), (CROSS_SLICE,), 3_551_472),
        (VIT_B, Adaptation(adapters=True), (ADAPTERS,), 12 * 2 * (2 * 768 * 192 + 192 + 768)),
        (
            FOUR_CHANNELS,
            Adaptation(adapters=True, slices=4),
            STRATEGIES["adapter"].stages[0],
            787_200 + 7_100_928 + 3_551_472 + 4_058_340,
        ),
        (FOUR_CHANNELS, replace(RANK_4, slices=4), STRATEGIES["lora4ch"].stages[0], 8_986_836),
        (VIT_B, Adaptation(), (".*",), 93_735_472),
        (VIT_B, Adaptation(), STRATEGIES["decoder"].stages[0], 4_058_340),
        (VIT_B, replace(RANK_4, slices=4), STRATEGIES["lora"].stages[0], 589_824 + 3_551_472 + 4_058_340),
    ],
    ids=[
        "lora",
        "lora q,v,mlp",
        "patches",
        "decoder",
        "regions",
        "cross-slice",
        "adapters",
        "adapter",
        "lora4ch",
        "all",
        "A",
        "B",
    ],
)
def test_trainable_parameters_of_vit_b(config, adaptation, patterns, count):
    assert trainable(config, adaptation, *patterns) == count


def test_the_gaussian_matrix_never_trains():
    model = Sam(VIT_B)
    *_, rest = nnx.split(model, trainable_filter(replace(STRATEGIES["lora"], stages=((".*",),))), ...)
    buffers = [path for path, leaf in nnx.to_flat_state(rest) if isinstance(leaf, Buffer)]
    assert ["/".join(path) for path in buffers] == ["prompt_encoder/pe_layer/positional_encoding_gaussian_matrix"]
    assert len(nnx.to_flat_state(rest)) == 1


def flat(model) -> dict[str, np.ndarray]:
    return to_flat(nnx.state(model), model.config.block_spans)


def test_adapting_keeps_the_base_and_draws_the_rest():
    base = our_weights(MINI)
    before = {path: value.copy() for path, value in base.items()}
    found = flat(adapt(MINI, base, ADAPTATION, ComputeConfig()))
    assert all(np.array_equal(found[path], value) for path, value in before.items())
    assert all(np.array_equal(base[path], value) for path, value in before.items())
    added = found.keys() - base.keys()
    assert added == {path for path in found if "/lora/" in path or "/cross_slice/" in path}
    zero = {path for path in added if not found[path].any()}
    ends = ("/b", "cross_slice/up/kernel", "cross_slice/bias", "up/bias", "down/bias")
    assert zero == {path for path in added if path.endswith(ends)}


def test_step_0_is_the_base_bit_for_bit():
    """With LoRA, adapters, and LoRA and attention across four slices; optimised as a run would be."""
    optimised = {"xla_backend_optimization_level": 3}
    images, encode = pictures(4, 1, 16, 16, 3), jax.jit(Sam.encode, compiler_options=optimised)
    base = np.asarray(encode(our_sam(MINI), images))
    with_lora = adapt(MINI, our_weights(MINI), RANK_4, ComputeConfig())
    assert np.array_equal(encode(with_lora, images), base)
    with_adapters = adapt(MINI, our_weights(MINI), Adaptation(adapters=True), ComputeConfig())
    assert np.array_equal(encode(with_adapters, images), base)
    with_both = adapt(MINI, our_weights(MINI), ADAPTATION, ComputeConfig())
    assert np.array_equal(encode(with_both, images.swapaxes(0, 1)), base.swapaxes(0, 1))


def test_every_adapter_is_used():
    images = pictures(4, 1, 16, 16, 3)
    model = adapt(MINI, our_weights(MINI), Adaptation(adapters=True), ComputeConfig())
    values, base = flat(model), np.asarray(Sam.encode(model, images))
    ends = {path for path in values if path.endswith("/up/kernel") and "/adapters/" in path}
    assert len(ends) == 2 * MINI.depth
    for path in ends:
        from_flat(model, {**values, path: values[path] + 0.1})
        assert not np.allclose(np.asarray(Sam.encode(model, images)), base)


def test_what_is_drawn_depends_on_the_seed_alone():
    first, same, other = (
        flat(adapt(MINI, our_weights(MINI), ADAPTATION, ComputeConfig(), patch_channels=4, seed=seed))
        for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[path], same[path]) for path in first)
    different = {path for path in first if not np.array_equal(first[path], other[path])}
    drawn = ("/a", "cross_slice/down/kernel")
    assert different == {PATCH_KERNEL} | {path for path in first if path.endswith(drawn)}


def patches(model, images: np.ndarray) -> np.ndarray:
    return np.asarray(model.image_encoder.patch_embed["proj"](images))


@pytest.mark.parametrize("channels", [1, 4])
def test_inflated_patch_embedding_gives_for_equal_channels_what_it_gave_for_grey(channels):
    base = our_weights(MINI)
    inflated = adapt(MINI, base, Adaptation(), ComputeConfig(), patch_channels=channels, patch_init="inflate")
    grey = np.random.RandomState(0).standard_normal((1, 1, 16, 16, 1)).astype(np.float32)
    expected = patches(adapt(MINI, base, Adaptation(), ComputeConfig()), np.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(patches(inflated, np.repeat(grey, channels, axis=-1)), expected, atol=1e-5)


def test_inflated_patch_embedding_weighs_all_channels_alike():
    kernel = flat(
        adapt(MINI, our_weights(MINI), Adaptation(), ComputeConfig(), patch_channels=4, patch_init="inflate")
    )[PATCH_KERNEL]
    expected = 0.75 * our_weights(MINI)[PATCH_KERNEL].mean(axis=2)
    assert kernel.shape == (4, 4, 4, 24)
    for channel in range(4):
        np.testing.assert_allclose(kernel[:, :, channel], expected, rtol=1e-6)


def test_random_patch_embedding_keeps_the_base_elsewhere():
    base = our_weights(MINI)
    found = flat(adapt(MINI, base, Adaptation(), ComputeConfig(), patch_channels=4))
    assert found[PATCH_KERNEL].shape == (4, 4, 4, 24)
    assert found[PATCH_KERNEL].std() == pytest.approx(64**-0.5, rel=0.1)
    assert all(np.array_equal(found[path], base[path]) for path in base if path != PATCH_KERNEL)


def test_random_sam_has_every_parameter():
    model = random_sam(MINI, seed=3)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(nnx.state(model)))
    assert {path: value.shape for path, value in flat(model).items()} == expected_shapes(MINI)
