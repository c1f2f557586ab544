"""What `--weights` names, loading and saving weights of every kind, and the one line a wrong file gets."""

import hashlib
import json
from dataclasses import asdict, replace

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from samjax.errors import UserError
from samjax.weights import base
from samjax.weights.architecture import expected_shapes
from samjax.weights.base import file_sha256, load_weights, save_weights
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import write_safetensors
from tests.weights.checkpoints import SMALL, TORCH_SAVE, expect_line, random_flat, random_named, same


def test_random_weights_are_known_by_their_values(monkeypatch: pytest.MonkeyPatch):
    before = base.load_base("random")
    assert base.load_base("random").sha256 == before.sha256
    drawn = base.initial_values

    def otherwise(shapes: dict[str, tuple[int, ...]], seed: int):
        values = drawn(shapes, seed)
        values["image_encoder/pos_embed"] = values["image_encoder/pos_embed"] + 1e-3
        return values

    monkeypatch.setattr(base, "initial_values", otherwise)
    assert base.load_base("random").sha256 != before.sha256


def test_tiny_is_the_shipped_file_where_there_is_one(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "SHIPPED", tmp_path / "none.safetensors")
    assert base.load_base("tiny").sha256 == base.load_base("random").sha256
    with pytest.raises(UserError, match="--weights nowhere: no such file"):
        base.load_base("nowhere")


@pytest.mark.parametrize("spelling", ["meta", "transformers"])
@pytest.mark.parametrize("write", [write_pth, lambda path, tensors: write_safetensors(path, tensors, {})])
def test_every_container_and_spelling(tmp_path, spelling, write):
    theirs = random_named(spelling)
    write(tmp_path / "source", theirs)
    flat, config, sha256, _ = load_weights(tmp_path / "source")
    assert config == SMALL
    assert {path: value.shape for path, value in flat.items()} == expected_shapes(SMALL)
    assert sha256 == hashlib.sha256((tmp_path / "source").read_bytes()).hexdigest()
    linear = "image_encoder.blocks.0.mlp.lin1" if spelling == "meta" else "vision_encoder.layers.0.mlp.lin1"
    assert np.array_equal(flat["image_encoder/blocks/0/mlp/lin1/kernel"], theirs[f"{linear}.weight"].T)


def test_ours_comes_back_bitwise_with_its_source(tmp_path):
    config = replace(SMALL, decoder_heads=4)  # leaves no trace in the shapes
    flat = random_flat(config)
    save_weights(tmp_path / "a.safetensors", flat, config, source="sam.pth", source_sha256="12ab")
    weights = load_weights(tmp_path / "a.safetensors")
    assert same(weights.flat, flat)
    assert weights.config == config
    assert weights.sha256 == "12ab"
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata.pop("config")) == json.loads(json.dumps(asdict(config)))
    assert metadata == {
        "format": "samjax",
        "format_version": "1",
        "source": "sam.pth",
        "source_sha256": "12ab",
    }


def test_weights_without_a_source_are_known_by_their_own_sha256(tmp_path):
    save_weights(tmp_path / "a.safetensors", random_flat(), SMALL)
    assert load_weights(tmp_path / "a.safetensors").sha256 == file_sha256(tmp_path / "a.safetensors")


def test_transposed_views_are_saved_as_what_they_are(tmp_path):
    write_pth(tmp_path / "a.pth", random_named("meta"))
    weights = load_weights(tmp_path / "a.pth")
    save_weights(tmp_path / "a.safetensors", weights.flat, weights.config)
    assert same(load_weights(tmp_path / "a.safetensors").flat, weights.flat)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floating_types_become_float32(tmp_path, dtype):
    theirs = {name: value.astype(dtype) for name, value in random_named("meta").items()}
    write_pth(tmp_path / "a.pth", theirs)
    flat = load_weights(tmp_path / "a.pth").flat
    assert {value.dtype for value in flat.values()} == {np.dtype(np.float32)}
    token = theirs["mask_decoder.iou_token.weight"].astype(np.float32)
    assert np.array_equal(flat["mask_decoder/iou_token/embedding"], token)


def test_float32_is_not_copied(tmp_path):
    write_pth(tmp_path / "a.pth", random_named("meta"))
    assert all(not value.flags.owndata for value in load_weights(tmp_path / "a.pth").flat.values())


def test_integers_are_refused(tmp_path):
    theirs = random_named("meta")
    theirs["mask_decoder.iou_token.weight"] = theirs["mask_decoder.iou_token.weight"].astype(np.int64)
    write_pth(tmp_path / "a.pth", theirs)
    expect_line(tmp_path / "a.pth", "mask_decoder.iou_token.weight is of type int64", "floating-point")


def test_another_model(tmp_path):
    resnet = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,), "bn1.bias": (64,), "fc.weight": (10, 64)}
    write_pth(tmp_path / "a.pth", {name: np.zeros(shape, np.float32) for name, shape in resnet.items()})
    expect_line(tmp_path / "a.pth", "not a SAM checkpoint", "4 tensors", "conv1.weight, bn1.weight, bn1.bias, ...")
    expect_line(TORCH_SAVE, "not a SAM checkpoint")


def test_both_sides_of_a_mismatch_stand_in_one_line(tmp_path):
    theirs = random_named("meta")
    for index in range(4):
        del theirs[f"prompt_encoder.point_embeddings.{index}.weight"]
    theirs["image_encoder.blocks.0.attn.lora.weight"] = np.zeros((2, 2), np.float32)
    theirs["mask_decoder.iou_token.weight"] = np.zeros((2, 64), np.float32)
    write_pth(tmp_path / "a.pth", theirs)
    expect_line(
        tmp_path / "a.pth",
        "1 unused (image_encoder.blocks.0.attn.lora.weight)",
        "4 missing (prompt_encoder/point_embeddings/0/embedding, ",
        "embedding, ...)",
        "1 of another shape (mask_decoder/iou_token/embedding is (2, 64), expected (1, 64))",
    )


def test_every_missing_tensor_is_noticed(tmp_path):
    """Whichever tensor is left out, the file is refused."""
    theirs = random_named("meta")
    for name in theirs:
        others = {other: value for other, value in theirs.items() if other != name}
        write_safetensors(tmp_path / "a.safetensors", others, {})
        with pytest.raises(UserError):
            load_weights(tmp_path / "a.safetensors")


def test_names_that_garble_the_terminal(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"a\n\x1b[2Jb": np.zeros(1, np.float32)}, {})
    expect_line(tmp_path / "a.safetensors", r"'a\n\x1b[2Jb'")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format_version": "2"}, "format version 2"),
        ({"config": "{}"}, "no valid architecture"),
        ({"config": '{"global_attn_indexes": [1], "unknown": 3}'}, "no valid architecture"),
        ({"config": "not json"}, "no valid architecture"),
    ],
)
def test_metadata_of_ours(tmp_path, change, part):
    good = {"format": "samjax", "format_version": "1", "config": json.dumps(asdict(SMALL))}
    write_safetensors(tmp_path / "a.safetensors", random_flat(), good | change)
    expect_line(tmp_path / "a.safetensors", part)


def test_metadata_that_contradict_the_tensors(tmp_path):
    metadata = {
        "format": "samjax",
        "format_version": "1",
        "config": json.dumps(asdict(replace(SMALL, depth=4))),
    }
    write_safetensors(tmp_path / "a.safetensors", random_flat(), metadata)
    expect_line(tmp_path / "a.safetensors", "missing (image_encoder/blocks/3/")


def test_incomplete_weights_are_not_saved(tmp_path):
    flat = random_flat()
    del flat["image_encoder/pos_embed"]
    with pytest.raises(UserError, match="1 missing"):
        save_weights(tmp_path / "a.safetensors", flat, SMALL)
    assert not list(tmp_path.iterdir())
