"""Masks of several regions from one prompt: how they start, and which parameters tell them apart."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from samjax.models.adapt import INNER_REGIONS, adapt
from samjax.models.config import Adaptation, ComputeConfig, SamConfig
from samjax.models.flat import from_flat, to_flat
from samjax.models.prompt_encoder import EMPTY, POSITIVE, Prompts, make_prompts
from samjax.models.sam import Sam
from tests.models.cases import MINI, our_sam, our_weights

INNER = 2
SHORT = replace(MINI, decoder_depth=1, iou_head_depth=2)
"""Quick to compile."""
optimised = jax.jit(Sam.decode, compiler_options={"xla_backend_optimization_level": 3})
decode = jax.jit(Sam.decode, static_argnames="multimask")


def several(config: SamConfig = SHORT) -> Sam:
    """A SAM with two inner regions, as a run starts with it."""
    return adapt(config, our_weights(config), Adaptation(inner_regions=INNER), ComputeConfig())


def embeddings(count: int) -> np.ndarray:
    return np.random.RandomState(0).standard_normal((count, 4, 4, MINI.out_dim)).astype(np.float32)


def prompts(kind: str, count: int) -> Prompts:
    """A click, a box, or nothing, for each of `count` pictures."""
    points = np.full((count, 1, 1, 2), 5, np.float32)
    labels = np.full((count, 1, 1), POSITIVE if kind == "point" else EMPTY, np.int32)
    boxes = np.broadcast_to(np.float32([2, 3, 9, 12]), (count, 1, 4))
    return make_prompts(points, labels, boxes, np.full((count, 1), kind == "box"))


@pytest.mark.parametrize("kind", ["point", "box", "none"])
def test_step_0_is_the_base_s_single_mask_bit_for_bit(kind: str):
    """Optimised as a run would be."""
    base, found = (optimised(model, embeddings(3), prompts(kind, 3)) for model in (our_sam(MINI), several(MINI)))
    for expected, ours in zip(base, found, strict=True):
        assert (expected.shape[2], ours.shape[2]) == (1, 1 + INNER)
        for region in range(1 + INNER):
            np.testing.assert_array_equal(ours[:, :, region], expected[:, :, 0])


def test_the_alternatives_are_the_base_s_and_come_last():
    given = embeddings(2), prompts("point", 2)
    alternatives, every = (decode(our_sam(SHORT), *given, multimask=choice) for choice in (True, None))
    ours = several()
    for expected, found in zip(alternatives, decode(ours, *given, multimask=True), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for expected, found in zip(every, decode(ours, *given, multimask=None), strict=True):
        assert found.shape[2] == SHORT.num_multimask + 1 + INNER
        np.testing.assert_allclose(found[:, :, 0], expected[:, :, 0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[:, :, 1 + INNER :], expected[:, :, 1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["mask_token", "hypernetwork", "iou_layer"])
def test_a_region_s_parameters_change_its_own_output_alone(part: str):
    model, given = several(), (embeddings(2), prompts("point", 2))
    before = decode(model, *given)
    flat = to_flat(nnx.state(model), SHORT.block_spans)
    own = {path: x for path, x in flat.items() if path.startswith(f"{INNER_REGIONS}/1/{part}/")}
    assert own
    from_flat(model, {path: np.asarray(x) + 0.3 for path, x in own.items()})
    after = decode(model, *given)
    logits, iou = (
        [not np.array_equal(a[:, :, region], b[:, :, region]) for region in range(1 + INNER)]
        for a, b in zip(before, after, strict=True)
    )
    assert logits == [False, False, part != "iou_layer"]
    assert iou == [False, False, part != "hypernetwork"]


def test_a_loss_of_an_inner_region_trains_it_and_what_it_shares():
    model = several()
    graphdef, state = nnx.split(model)

    def loss(state: nnx.State) -> jax.Array:
        logits, iou = nnx.merge(graphdef, state).decode(embeddings(2), prompts("point", 2))
        return (logits[:, :, 2] ** 2).sum() + (iou[:, :, 2] ** 2).sum()

    gradients = to_flat(jax.jit(jax.grad(loss))(state), SHORT.block_spans)
    reached = {path for path, gradient in gradients.items() if np.any(gradient)}
    own = {path for path in gradients if path.startswith(f"{INNER_REGIONS}/1/")}
    other = {path for path in gradients if path.startswith(f"{INNER_REGIONS}/0/")}
    assert own <= reached
    assert not other & reached
    assert "mask_decoder/output_upscaling/0/kernel" in reached
    assert "mask_decoder/transformer/layers/0/self_attn/v_proj/kernel" in reached
    assert not any(path.startswith("mask_decoder/output_hypernetworks_mlps/") for path in reached)


def test_each_region_starts_with_copies_of_the_single_mask_s_parameters():
    base = our_weights(SHORT)
    found = to_flat(nnx.state(several()), SHORT.block_spans)
    assert all(path.startswith(f"{INNER_REGIONS}/") for path in found.keys() - base.keys())
    for region in range(INNER):
        place = f"{INNER_REGIONS}/{region}"
        np.testing.assert_array_equal(
            found[f"{place}/mask_token/embedding"], base["mask_decoder/mask_tokens/embedding"][:1]
        )
        for layer in range(3):
            np.testing.assert_array_equal(
                found[f"{place}/hypernetwork/layers/{layer}/kernel"],
                base[f"mask_decoder/output_hypernetworks_mlps/0/layers/{layer}/kernel"],
            )
        np.testing.assert_array_equal(
            found[f"{place}/iou_layer/kernel"], base["mask_decoder/iou_prediction_head/layers/1/kernel"]
        )
    assert not any(path.startswith(INNER_REGIONS) for path in to_flat(nnx.state(our_sam(SHORT)), SHORT.block_spans))


def test_one_region_adds_nothing():
    assert Adaptation().inner_regions == 0
    model = adapt(SHORT, our_weights(SHORT), replace(Adaptation(), inner_regions=0), ComputeConfig())
    assert to_flat(nnx.state(model), SHORT.block_spans).keys() == our_weights(SHORT).keys()
