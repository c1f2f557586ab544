"""Values drawn by path against the modules' own initialisers."""

import itertools
import re

import jax
import numpy as np
import pytest
from flax import nnx

from samjax.models.config import SamConfig
from samjax.models.flat import to_flat
from samjax.models.initialise import initial_values
from samjax.models.sam import Sam
from tests.models.cases import ADAPTATION

# One of every module, with equal widths: each new shape takes time to compile.
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
def modules() -> dict[str, np.ndarray]:
    """What the modules draw, by stored path."""
    fast = jax.random.key(0, impl="unsafe_rbg")
    return to_flat(nnx.state(Sam(CONFIG, ADAPTATION, rngs=nnx.Rngs(fast))), CONFIG.block_spans)


@pytest.fixture(scope="module")
def drawn(modules) -> dict[str, np.ndarray]:
    return initial_values({path: value.shape for path, value in modules.items()}, seed=0)


def test_constants_are_the_same(modules, drawn):
    constant = {path for path, value in modules.items() if np.ptp(value) == 0}
    assert constant == {path for path, value in drawn.items() if np.ptp(value) == 0}
    assert all(np.array_equal(drawn[path], modules[path]) for path in constant)


BLOCKS = re.compile(r"image_encoder/blocks/\d+/(attn|mlp)/\w+/kernel")
OWN = {
    "image_encoder/pos_embed",
    "image_encoder/neck/2/kernel",
    "prompt_encoder/pe_layer/positional_encoding_gaussian_matrix",
}


def test_mean_and_deviation_are_the_same(modules, drawn):
    """Within six standard errors of a normal sample of that size; but for those that begin otherwise."""
    for path, expected in modules.items():
        if np.ptp(expected) == 0 or BLOCKS.fullmatch(path) or path in OWN:
            continue
        found, count = drawn[path], expected.size
        assert found.dtype == np.float32
        assert abs(found.mean() - expected.mean()) < 6 * (2 / count) ** 0.5 * expected.std(), path
        assert abs(np.log(found.std() / expected.std())) < 6 / count**0.5, path


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


def test_frequencies_reach_from_far_below_the_modules_own_to_these(modules, drawn):
    path = "prompt_encoder/pe_layer/positional_encoding_gaussian_matrix"
    found = drawn[path]
    assert found[:, : found.shape[1] // 4].std() < 0.25 * modules[path].std()
    assert found[:, -found.shape[1] // 4 :].std() > 0.5 * modules[path].std()


def test_each_path_has_its_own_values_and_they_depend_on_the_seed_and_path_alone(drawn):
    path = "image_encoder/blocks/0/attn/lora/q/a"
    alone = initial_values({path: drawn[path].shape}, seed=0)
    assert np.array_equal(alone[path], drawn[path])
    assert not np.array_equal(initial_values({path: drawn[path].shape}, seed=1)[path], drawn[path])
    assert not np.array_equal(drawn[path], drawn[path.replace("/q/", "/v/")])


def test_a_path_without_a_rule_is_an_error():
    with pytest.raises(KeyError, match="no rule draws image_encoder/gamma"):
        initial_values({"image_encoder/gamma": (3,)}, seed=0)
