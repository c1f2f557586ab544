"""Initial values: constants, deviations, and what differs from them so that a SAM can be trained from here."""

import itertools
import re

import jax
import numpy as np
import pytest
from flax import nnx

from samjax.models.config import SamConfig
from samjax.models.flat import flat_shapes
from samjax.models.initialise import initial_values
from samjax.models.sam import Sam
from samjax.models.unet import UNet, UNetConfig
from tests.models.cases import ADAPTATION

# One of every module.
CONFIG = SamConfig(
    embed_dim=64,
    depth=1,
    num_heads=2,
    global_attn_indexes=(0,),
    image_size=128,
    mlp_dim=64,
    out_dim=64,
    decoder_mlp_dim=64,
    decoder_depth=1,
    num_multimask=1,
    mask_channels=64,
    iou_head_dim=64,
    iou_head_depth=2,
)


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    return initial_values(flat_shapes(Sam(CONFIG, ADAPTATION)), seed=0)


ZERO = re.compile(r".*/(bias|rel_pos_[hw]|lora/\w+/b|cross_slice/up/kernel)")
BLOCKS = re.compile(r"image_encoder/blocks/\d+/(attn|mlp)/\w+/kernel")
OWN = {
    "image_encoder/pos_embed",
    "image_encoder/neck/2/kernel",
    "prompt_encoder/pe_layer/positional_encoding_gaussian_matrix",
}


def test_what_starts_at_zero_and_at_one(drawn):
    for path, value in drawn.items():
        constant = 0 if ZERO.fullmatch(path) else 1 if path.endswith("/scale") else None
        assert (np.ptp(value) == 0) == (constant is not None), path
        assert constant is None or (value == constant).all(), path


def test_deviations_are_those_that_keep_the_size_of_what_goes_through(drawn):
    """1 / sqrt(fan-in) (LeCun et al. 1998), within six standard errors of a normal sample; embeddings have 1."""
    for path, found in drawn.items():
        if np.ptp(found) == 0 or BLOCKS.fullmatch(path) or path in OWN:
            continue
        assert found.dtype == np.float32
        # Each pixel of a transposed convolution's output has one pixel of its input.
        fan_in = found.shape[2] if "output_upscaling" in path else np.prod(found.shape[:-1])
        deviation = 1.0 if path.endswith("/embedding") else fan_in**-0.5
        assert abs(found.mean()) < 6 * (2 / found.size) ** 0.5 * deviation, path
        assert abs(np.log(found.std() / deviation)) < 6 / found.size**0.5, path


def test_every_value_of_a_model_comes_from_here_or_from_a_file():
    """The modules draw none themselves."""
    for model in (Sam(CONFIG, ADAPTATION), UNet(UNetConfig())):
        assert {type(leaf) for leaf in jax.tree.leaves(nnx.state(model))} == {jax.ShapeDtypeStruct}


def test_the_blocks_begin_small_so_that_the_picture_shows_in_the_embedding(drawn):
    kernels = [value for path, value in drawn.items() if BLOCKS.fullmatch(path)]
    assert len(kernels) == 4
    assert all(value.std() == pytest.approx(0.02, rel=0.05) for value in kernels)


def test_positions_are_told_apart_and_near_ones_are_alike(drawn):
    row = drawn["image_encoder/pos_embed"][0, 3]
    near = [float(row[0] @ row[place]) for place in range(len(row))]
    assert near[0] == pytest.approx(row.shape[-1] / 2, rel=1e-5)
    assert all(before > after for before, after in itertools.pairwise(near[:4]))


def test_the_neck_hands_tokens_on(drawn):
    kernel = drawn["image_encoder/neck/2/kernel"]
    tokens = np.random.default_rng(0).normal(size=(500, kernel.shape[2]))
    passed = tokens @ kernel[1, 1]
    assert np.corrcoef(passed.ravel(), tokens.ravel())[0, 1] > 0.95


def test_frequencies_reach_from_far_below_sams_own_deviation_of_one_to_it(drawn):
    found = drawn["prompt_encoder/pe_layer/positional_encoding_gaussian_matrix"]
    assert found[:, : found.shape[1] // 4].std() < 0.25
    assert 0.5 < found[:, -found.shape[1] // 4 :].std() < 1.2


def test_each_path_has_its_own_values_and_they_depend_on_the_seed_and_path_alone(drawn):
    path = "image_encoder/blocks/0/attn/lora/q/a"
    alone = initial_values({path: drawn[path].shape}, seed=0)
    assert np.array_equal(alone[path], drawn[path])
    assert not np.array_equal(initial_values({path: drawn[path].shape}, seed=1)[path], drawn[path])
    assert not np.array_equal(drawn[path], drawn[path.replace("/q/", "/v/")])


def test_a_path_without_a_rule_is_an_error():
    with pytest.raises(KeyError, match="no rule draws image_encoder/gamma"):
        initial_values({"image_encoder/gamma": (3,)}, seed=0)
