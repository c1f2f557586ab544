"""The table of names, in both spellings and directions."""

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.models.config import PRESETS
from samjax.weights.architecture import expected_shapes
from samjax.weights.names import from_ours, iou_head_depth, spelling_of, to_ours
from tests.weights.checkpoints import GOLDEN, SMALL, random_flat, random_named, same


@pytest.mark.parametrize("spelling", ["meta", "transformers"])
def test_every_official_tensor_has_its_place(spelling):
    ours = to_ours(random_named(spelling), spelling, "", "it")
    assert {path: value.shape for path, value in ours.items()} == expected_shapes(SMALL)


@pytest.mark.parametrize("spelling", ["meta", "transformers"])
def test_there_and_back_is_bitwise_the_same(spelling):
    theirs = random_named(spelling)
    assert same(from_ours(to_ours(theirs, spelling, "", "it"), spelling), theirs)
    ours = random_flat()
    assert same(to_ours(from_ours(ours, spelling), spelling, "", "it"), ours)


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h", "tiny"])
@pytest.mark.parametrize("spelling", ["meta", "transformers"])
def test_presets_are_covered(spelling, name):
    shapes = expected_shapes(PRESETS[name])
    ours = {path: np.broadcast_to(np.float32(0), shape) for path, shape in shapes.items()}
    back = to_ours(from_ours(ours, spelling), spelling, "", "it")
    assert {path: value.shape for path, value in back.items()} == shapes


def test_the_layouts():
    """Each kind of module once, by hand."""
    meta = random_named("meta")
    ours = to_ours(meta, "meta", "", "it")
    pairs = {
        "image_encoder/blocks/2/attn/qkv/kernel": ("image_encoder.blocks.2.attn.qkv.weight", (1, 0)),
        "image_encoder/patch_embed/proj/kernel": ("image_encoder.patch_embed.proj.weight", (2, 3, 1, 0)),
        "mask_decoder/output_upscaling/0/kernel": ("mask_decoder.output_upscaling.0.weight", (2, 3, 0, 1)),
        "image_encoder/neck/1/scale": ("image_encoder.neck.1.weight", (0,)),
        "mask_decoder/mask_tokens/embedding": ("mask_decoder.mask_tokens.weight", (0, 1)),
        "image_encoder/blocks/0/attn/rel_pos_w": ("image_encoder.blocks.0.attn.rel_pos_w", (0, 1)),
    }
    for path, (name, axes) in pairs.items():
        assert np.array_equal(ours[path], meta[name].transpose(axes))


def test_renaming_copies_nothing():
    meta = random_named("meta")
    assert all(not value.flags.owndata for value in to_ours(meta, "meta", "", "it").values())


def test_unknown_names_are_kept_for_the_match():
    meta = random_named("meta") | {
        "image_encoder.blocks.01.norm1.weight": np.zeros(3),
        "pixel_mean": np.zeros(3),
    }
    ours = to_ours(meta, "meta", "", "it")
    assert {"image_encoder.blocks.01.norm1.weight", "pixel_mean"} <= ours.keys()
    with pytest.raises(ValueError, match="pixel_mean"):
        from_ours({"pixel_mean": ours["pixel_mean"]}, "meta")


@pytest.mark.parametrize("prefix", ["", "module.", "module.sam.", "_orig_mod."])
def test_wrapped_models_are_recognised(prefix):
    for spelling in ("meta", "transformers"):
        wrapped = {prefix + name: value for name, value in random_named(spelling).items()}
        assert spelling_of(wrapped) == (spelling, prefix)
        assert to_ours(wrapped, spelling, prefix, "it").keys() == expected_shapes(SMALL).keys()


def test_other_models_are_not():
    assert spelling_of(["conv1.weight", "layer1.0.conv1.weight", "fc.bias"]) is None


def test_two_tensors_with_one_meaning_are_refused():
    wrapped = {f"module.{name}": value for name, value in random_named("meta").items()}
    wrapped["mask_decoder.iou_token.weight"] = wrapped["module.mask_decoder.iou_token.weight"]
    with pytest.raises(UserError, match=r"a\.pth: holds mask_decoder\.iou_token\.weight and another"):
        to_ours(wrapped, "meta", "module.", "a.pth")


def test_the_twin_of_transformers_must_be_the_same():
    theirs = random_named("transformers")
    twin, of = (
        "prompt_encoder.shared_embedding.positional_embedding",
        "shared_image_embedding.positional_embedding",
    )
    assert same(
        to_ours(theirs | {twin: theirs[of]}, "transformers", "", "it"),
        to_ours(theirs, "transformers", "", "it"),
    )
    with pytest.raises(UserError, match="keep one"):
        to_ours(theirs | {twin: theirs[of] + 1}, "transformers", "", "it")


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_iou_heads_of_any_depth(depth):
    head = "mask_decoder/iou_prediction_head/layers"
    flat = {f"{head}/{index}/kernel": np.full((2, 2), index, np.float32) for index in range(depth)}
    for spelling in ("meta", "transformers"):
        theirs = from_ours(flat, spelling)
        assert iou_head_depth(theirs) == depth
        assert same(to_ours(theirs, spelling, "", "it"), flat)
    assert GOLDEN["transformers"]["mask_decoder.iou_prediction_head.proj_out.weight"] == [4, 20]
