"""From shapes to the architecture and back."""

import json
import zlib
from dataclasses import replace

import pytest

from samjax.errors import UserError
from samjax.models.config import PRESETS
from samjax.weights.architecture import deduce, expected_shapes
from tests.weights.checkpoints import SMALL

VIT_B = PRESETS["vit_b"]


@pytest.mark.parametrize("config", [*PRESETS.values(), SMALL], ids=[*PRESETS, "small"])
def test_every_architecture_is_found_again(config):
    assert deduce(expected_shapes(config), "it") == config


@pytest.mark.parametrize(
    "change",
    [
        {"in_channels": 4},
        {"image_size": 512},
        {"num_multimask": 1},
        {"iou_head_depth": 2},
        {"decoder_depth": 3},
        {"global_attn_indexes": ()},
        {"global_attn_indexes": (0, 11)},
        {"window_size": 100},  # wider than the picture
    ],
)
def test_every_field_leaves_its_trace(change):
    config = replace(VIT_B, **change)
    assert deduce(expected_shapes(config), "it") == config


@pytest.mark.parametrize(
    ("config", "count", "crc32"),
    [
        (VIT_B, 314, 2726023737),
        (PRESETS["vit_l"], 482, 3744066162),
        (PRESETS["vit_h"], 594, 1303144667),
        (PRESETS["tiny"], 230, 2194675541),
        (SMALL, 188, 2732699515),
    ],
    ids=["vit_b", "vit_l", "vit_h", "tiny", "small"],
)
def test_names_and_shapes_are_those_of_a_table_written_by_hand(config, count, crc32):
    """Of which the CRC-32 is left: files of weights are checked against these names, so none may change unnoticed."""
    shapes = expected_shapes(config)
    assert len(shapes) == count
    assert zlib.crc32(json.dumps(sorted(shapes.items())).encode()) == crc32


def test_published_numbers():
    shapes = expected_shapes(VIT_B)
    size = dict.fromkeys(shapes, 1)
    for path, shape in shapes.items():
        for side in shape:
            size[path] *= side
    assert len(shapes) == 314
    assert sum(size.values()) == 93_735_472 + 256  # the parameters and the Gaussian matrix, a buffer
    assert sum(count for path, count in size.items() if path.startswith("mask_decoder")) == 4_058_340


def test_window_as_wide_as_the_picture():
    """At 224 pixels ViT-B's windows are the whole picture and all tables are equally long."""
    at_224 = replace(VIT_B, image_size=224)
    assert deduce(expected_shapes(at_224), "it") == at_224
    other = replace(SMALL, window_size=5)
    found = deduce(expected_shapes(other), "it")
    assert found == replace(other, global_attn_indexes=(0, 1, 2))
    assert expected_shapes(found) == expected_shapes(other)


@pytest.mark.parametrize(
    ("path", "shape", "reason"),
    [
        ("image_encoder/pos_embed", None, "image_encoder/pos_embed is missing"),
        ("image_encoder/blocks/1/attn/rel_pos_h", None, "blocks/1/attn/rel_pos_h is missing"),
        ("image_encoder/patch_embed/proj/kernel", (768, 3), r"has the shape \(768, 3\)"),
        ("image_encoder/blocks/0/attn/rel_pos_h", (27, 0), r"has the shape \(27, 0\)"),
        ("image_encoder/blocks/0/attn/rel_pos_h", (27, 60), "no multiple of the 60"),
        ("image_encoder/blocks/0/attn/rel_pos_h", (29, 64), r"\[27, 29\] entries fit no single window"),
        ("image_encoder/pos_embed", (1, 32, 32, 768), r"\[27, 127\] entries fit no single window"),
    ],
)
def test_incomplete_or_inconsistent_shapes(path, shape, reason):
    shapes = expected_shapes(VIT_B)
    del shapes[path]
    with pytest.raises(UserError, match=reason) as caught:
        deduce(shapes | ({path: shape} if shape else {}), "a.pth")
    assert str(caught.value).startswith("a.pth: ")
