"""The whole model: names of parameters, both masks, the way from pixels, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.models.config import ComputeConfig
from samjax.models.flat import from_flat, to_flat
from samjax.models.sam import Sam
from tests.models.cases import (
    ADAPTATION,
    MINI,
    adapted_weights,
    decode,
    into_slots,
    our_sam,
    our_weights,
    prompts_of_every_type,
    relative_error,
    sam_with,
)


def arguments(kind: str = "point and mask") -> dict:
    """A prompt as `Sam.decode` takes it."""
    return into_slots([prompts_of_every_type(16, 16, patch=4)[kind]], 2, (16, 16))


@pytest.fixture(scope="module")
def embedding() -> np.ndarray:
    return np.random.RandomState(0).standard_normal((1, 4, 4, 16)).astype(np.float32)


def test_flat_parameters_go_in_and_come_out_bit_for_bit():
    model = sam_with(adapted_weights(), ADAPTATION)
    flat = to_flat(nnx.state(model), MINI.block_spans)
    assert flat.keys() == adapted_weights().keys()
    assert all(np.array_equal(flat[path], value) for path, value in adapted_weights().items())


def test_a_part_of_the_state_comes_out_by_the_same_names():
    part = nnx.state(our_sam(MINI), nnx.PathContains("mask_decoder"))
    assert set(to_flat(part, 2)) == {path for path in our_weights(MINI) if path.startswith("mask_decoder/")}


def test_parameters_that_are_not_named_stay():
    model = our_sam(MINI)
    token = np.ones((1, 16), np.float32)
    from_flat(model, {"mask_decoder/iou_token/embedding": token})
    flat, before = to_flat(nnx.state(model), MINI.block_spans), our_weights(MINI)
    assert np.array_equal(flat.pop("mask_decoder/iou_token/embedding"), token)
    assert all(np.array_equal(value, before[path]) for path, value in flat.items())


def test_unknown_and_misshapen_parameters_are_errors():
    model = Sam(MINI)
    with pytest.raises(KeyError, match="the model has no parameter mask_decoder/gamma"):
        from_flat(model, {"mask_decoder/gamma": np.zeros(3)})
    with pytest.raises(ValueError, match=r"shape \(2, 16\), expected \(1, 16\)"):
        from_flat(model, {"mask_decoder/iou_token/embedding": np.zeros((2, 16), np.float32)})


def test_layer_norms_have_sams_epsilon():
    """1e-5 in the two-way transformer, 1e-6 everywhere else."""
    found = {
        "/".join(map(str, path)): module.epsilon
        for path, module in nnx.iter_modules(Sam(MINI))
        if isinstance(module, nnx.LayerNorm)
    }
    assert len(found) == 2 * 2 + 2 + 2 + 2 * 4 + 1 + 1
    assert found == {path: 1e-5 if "transformer" in path else 1e-6 for path in found}


def test_single_and_multi_mask_are_different_tokens(embedding):
    model = our_sam(MINI)
    single, single_iou = decode(model, embedding, **arguments())
    multi, multi_iou = decode(model, embedding, **arguments(), multimask=True)
    assert (single.shape, single_iou.shape) == ((1, 1, 1, 16, 16), (1, 1, 1))
    assert (multi.shape, multi_iou.shape) == ((1, 1, 3, 16, 16), (1, 1, 3))
    for index in range(3):
        assert relative_error(multi[:, :, index], np.asarray(single[:, :, 0])) > 0.1


def test_calling_the_model_encodes_and_decodes(monkeypatch):
    """The pictures go to the decoder in the order of the samples, then of the slices."""
    embeddings = np.arange(2 * 3 * 4 * 4 * 16, dtype=np.float32).reshape(2, 3, 4, 4, 16)
    encoded = []
    monkeypatch.setattr(Sam, "encode", lambda self, *given: encoded.append(given) or embeddings)
    monkeypatch.setattr(Sam, "decode", lambda self, *given, multimask: (*given, multimask))
    given, prompts, multimask = Sam(MINI)("images", "prompts", "valid", multimask=True)
    assert encoded == [("images", "valid")]
    assert (prompts, multimask) == ("prompts", True)
    assert np.array_equal(given[4], embeddings[1, 1])


def test_bfloat16_decoder_gives_float32_masks_close_to_float32s(embedding):
    half = sam_with(our_weights(MINI), compute=ComputeConfig(dtype="bfloat16"))
    masks, iou = decode(half, embedding, **arguments())
    expected, expected_iou = decode(our_sam(MINI), embedding, **arguments())
    assert masks.dtype == iou.dtype == jnp.float32
    assert 1e-4 < relative_error(masks, np.asarray(expected)) < 0.05
    assert relative_error(iou, np.asarray(expected_iou)) < 0.05
