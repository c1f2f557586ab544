"""Loading and saving weights files of every kind, and the one line a wrong file gets."""

import hashlib
import json
import pickle
from dataclasses import asdict, replace

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from samjax.errors import UserError
from samjax.weights.architecture import expected_shapes
from samjax.weights.files import file_sha256, load_weights, match, save_weights
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import write_safetensors
from tests.weights.checkpoints import SMALL, TORCH_SAVE, random_flat, random_named, same


def expect_line(path, *parts: str) -> None:
    """Loading `path` fails with one line that begins with its name and holds every part."""
    with pytest.raises(UserError) as caught:
        load_weights(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert len(line) < 700
    for part in parts:
        assert part in line


@pytest.mark.parametrize("spelling", ["meta", "transformers"])
@pytest.mark.parametrize("write", [write_pth, lambda path, tensors: write_safetensors(path, tensors, {})])
def test_every_container_and_spelling(tmp_path, spelling, write):
    theirs = random_named(spelling)
    write(tmp_path / "source", theirs)
    flat, config, sha256 = load_weights(tmp_path / "source")
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
    expect_line(tmp_path / "a.pth", "mask_decoder/iou_token/embedding is of type int64", "floating-point")


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


def test_match_accepts_only_the_same():
    expected = {"a": (2, 3), "b": (1,)}
    good = {"a": np.zeros((2, 3)), "b": np.zeros(1)}
    match(good, expected, "it")
    for bad in ({"a": good["a"]}, good | {"c": good["b"]}, good | {"b": np.zeros((1, 1))}, {}):
        with pytest.raises(UserError, match="it: its tensors are not those of this SAM"):
            match(bad, expected, "it")


def test_every_missing_tensor_is_noticed(tmp_path):
    """Whichever tensor is left out, the file is refused."""
    theirs = random_named("meta")
    for name in theirs:
        others = {other: value for other, value in theirs.items() if other != name}
        write_safetensors(tmp_path / "a.safetensors", others, {})
        with pytest.raises(UserError):
            load_weights(tmp_path / "a.safetensors")


def test_malicious(tmp_path):
    write_pth(tmp_path / "a.pth", random_named("meta"))
    data = (tmp_path / "a.pth").read_bytes()
    evil = b"cposix\nsystem\n"
    name = b"ctorch._utils\n_rebuild_tensor_v2\n"
    assert data.count(name) > 100
    patched = data.replace(name, evil + b"0" * (len(name) - len(evil)), 1)
    (tmp_path / "a.pth").write_bytes(patched)
    expect_line(tmp_path / "a.pth", "names posix.system", "nothing of it was executed")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["it is empty"]),
        (b"<!DOCTYPE html><html></html>", ["neither a PyTorch checkpoint nor a safetensors file", "DOCTYPE"]),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"rest", ["PyTorch before 1.6", "torch.save"]),
        (b"PK\x03\x04" + b"\0" * 100, ["truncated or damaged"]),
        (b"\x40\0\0\0\0\0\0\0{" + b" " * 20, ["truncated or damaged"]),
    ],
    ids=["empty", "web page", "old torch", "cut zip", "cut safetensors"],
)
def test_other_files(tmp_path, content, parts):
    (tmp_path / "a.pth").write_bytes(content)
    expect_line(tmp_path / "a.pth", *parts)


def test_no_file(tmp_path):
    expect_line(tmp_path / "none.pth", "no such file")
    expect_line(tmp_path, "is a folder")


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
