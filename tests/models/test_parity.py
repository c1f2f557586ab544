"""Our model against Meta's, stage by stage, with the same random weights (needs torch and Meta's code).

Meta's code has no position interpolation. For pictures of another size than the weights', ours is therefore
compared with Meta's model whose position embedding was interpolated by PyTorch (`F.interpolate`, bilinear,
`align_corners=False`), and whose global tables of relative positions go through Meta's own `get_rel_pos`.

Nothing here skips: without torch the oracle's fixture fails.
"""

import resource

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.models.config import PRESETS
from samjax.models.resizing import to_native
from samjax.models.sam import Sam
from tests.models.cases import (
    SMALL,
    Stages,
    decoder_stages,
    encoder_stages,
    errors,
    our_sam,
    pictures,
    prompts_of_every_type,
    relative_error,
    without_masks,
)
from tests.models.make_golden import GOLDEN, golden_stages
from tests.models.oracle import MetaSam

pytestmark = pytest.mark.parity

TOLERANCE = 2e-5
"""Of a stage's scale: max |ours - Meta's| / max |Meta's|. The promise is 1e-4; rounding gives 3e-6."""


@pytest.fixture(scope="module")
def meta() -> MetaSam:
    return MetaSam(SMALL)


@pytest.fixture(scope="module")
def ours() -> Sam:
    return our_sam(SMALL)


def check(found: Stages, expected: Stages, what: str) -> None:
    """Compares all stages and prints the error of each (shown by `pytest -s` or on failure)."""
    found_errors = errors(found, expected)
    print(f"\n{what}:", ", ".join(f"{stage} {error:.1e}" for stage, error in found_errors.items()))
    assert max(found_errors.values()) <= TOLERANCE


# 8 x 8 tokens; fewer and more; windows of 3 padded by 1 and 2, by 0 and 2, by 2 and 0.
@pytest.mark.parametrize("size", [(128, 128), (64, 64), (192, 192), (80, 112), (96, 160), (160, 96)])
def test_encoder(meta, ours, size):
    images = pictures(2, *size, 3)
    check(encoder_stages(ours, images), meta.encoder_stages(images), f"encoder at {size[0]} x {size[1]}")


@pytest.mark.parametrize("with_masks", [True, False])
@pytest.mark.parametrize(("size", "slots"), [((128, 128), 2), ((128, 128), 8), ((80, 112), 2)])
def test_prompts_of_every_type_in_one_batch(meta, ours, size, slots, with_masks):
    """Each gives what Meta's code gives for it alone, whatever the number of slots and the other prompts."""
    grid = (size[0] // 16, size[1] // 16)
    embedding = np.random.RandomState(0).standard_normal((*grid, SMALL.out_dim)).astype(np.float32)
    prompts = prompts_of_every_type(*size)
    prompts = prompts if with_masks else without_masks(prompts)
    found = decoder_stages(ours, embedding, list(prompts.values()), slots)
    for (name, prompt), stages in zip(prompts.items(), found, strict=True):
        check(stages, meta.decoder_stages(embedding, prompt), f"{name} in one of {slots} slots")


def test_one_slot(meta, ours):
    embedding = np.random.RandomState(1).standard_normal((8, 8, SMALL.out_dim)).astype(np.float32)
    prompts = prompts_of_every_type(128, 128)
    del prompts["two points"]
    found = decoder_stages(ours, embedding, list(prompts.values()), slots=1)
    for (name, prompt), stages in zip(prompts.items(), found, strict=True):
        check(stages, meta.decoder_stages(embedding, prompt), f"{name} in one slot")


def test_picture_and_prompt_to_mask(meta, ours):
    """From the pixels to the masks, with nothing of Meta's in between."""
    images = pictures(1, 128, 128, 3, seed=5)
    prompt = prompts_of_every_type(128, 128)["point and box"]
    expected = meta.decoder_stages(meta.encoder_stages(images)["neck"][0], prompt)
    (found,) = decoder_stages(ours, encoder_stages(ours, images)["neck"][0], [prompt], slots=1)
    check(found, expected, "picture to mask")


def test_layer_norms_have_metas_epsilon(meta, ours):
    """A wrong epsilon moves the outputs by less than the tolerance, so it is compared by itself."""
    found = {
        "/".join(map(str, path)): module.epsilon
        for path, module in nnx.iter_modules(ours)
        if isinstance(module, nnx.LayerNorm)
    }
    modules = {name.replace(".", "/"): module for name, module in meta.sam.named_modules()}
    # Blocks 2 and 3 are stacked on blocks 0 and 1.
    assert found == {
        path: module.eps
        for path, module in modules.items()
        if hasattr(module, "eps") and not path.startswith(("image_encoder/blocks/2", "image_encoder/blocks/3"))
    }


@pytest.mark.parametrize(("size", "native"), [(128, 155), (128, 240), (1024, 240), (256, 240)])
def test_logits_to_native_resolution(size, native):
    """Meta's `postprocess_masks` for a square picture: two bilinear resizes."""
    from torch import from_numpy
    from torch.nn.functional import interpolate

    logits = np.random.RandomState(0).standard_normal((2, 3, size // 4, size // 4)).astype(np.float32)
    full = interpolate(from_numpy(logits), (size, size), mode="bilinear", align_corners=False)
    expected = interpolate(full, (native, native), mode="bilinear", align_corners=False).numpy()
    # PyTorch computes the positions of 1024 pixels in float32, we in float64.
    assert relative_error(to_native(jnp.asarray(logits), size, native), expected) < 1e-4


def test_stored_golden_numbers_are_what_meta_computes_today():
    computed = golden_stages()
    with np.load(GOLDEN) as file:
        stored = dict(file)
    assert max(errors(computed, stored).values()) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("side", [256, 512, 1024])
def test_vit_b(side):
    """ViT-B with random weights, one picture, from the weights of 1024 x 1024."""
    config = PRESETS["vit_b"]
    images, prompts = pictures(1, side, side, 3), prompts_of_every_type(side, side)
    meta = MetaSam(config)
    encoder = meta.encoder_stages(images)
    decoder = {name: meta.decoder_stages(encoder["neck"][0], prompt) for name, prompt in prompts.items()}
    del meta
    ours = our_sam(config)
    check(encoder_stages(ours, images), encoder, f"ViT-B encoder at {side}")
    found = decoder_stages(ours, encoder["neck"][0], list(prompts.values()), slots=2)
    for name, stages in zip(prompts, found, strict=True):
        check(stages, decoder[name], f"ViT-B at {side}, {name}")
    print(f"peak memory so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
