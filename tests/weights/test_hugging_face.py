"""Folders and shards of transformers: the same weights as from the plain file, or one line that says what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.weights.base import file_sha256, load_weights
from samjax.weights.hugging_face import transformers_config
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import write_safetensors
from tests.weights.checkpoints import SMALL, expect_line, random_named, same

THEIRS = random_named("transformers")
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
NAME = "mask_decoder.iou_token.weight"


def write_plain(path: Path, tensors: dict[str, np.ndarray]) -> None:
    write_safetensors(path, tensors, {"format": "pt"})


def write_shards(
    folder: Path,
    tensors: dict[str, np.ndarray] = THEIRS,
    kind: str = "model.safetensors",
    write: Callable[[Path, dict[str, np.ndarray]], None] = write_plain,
) -> Path:
    """Two shards and their index, as save_pretrained writes them; returns the index."""
    stem, suffix = kind.split(".")
    shard_of = {name: f"{stem}-0000{1 + index % 2}-of-00002.{suffix}" for index, name in enumerate(tensors)}
    for shard in sorted(set(shard_of.values())):
        write(folder / shard, {name: x for name, x in tensors.items() if shard_of[name] == shard})
    index = folder / f"{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shard_of}))
    return index


def change_map(index: Path, **changes: object) -> Path:
    """Sets entries of an index's weight_map; None takes one away."""
    content = json.loads(index.read_text())
    content["weight_map"] |= {name.replace("__", "."): shard for name, shard in changes.items()}
    content["weight_map"] = {name: shard for name, shard in content["weight_map"].items() if shard is not None}
    index.write_text(json.dumps(content))
    return index


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, np.ndarray]:
    """What the plain file of the same weights gives."""
    path = tmp_path_factory.mktemp("plain") / "a.safetensors"
    write_plain(path, THEIRS)
    return load_weights(path).flat


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(transformers_config(SMALL)))
    return tmp_path


@pytest.mark.parametrize(("name", "write"), [("model.safetensors", write_plain), ("pytorch_model.bin", write_pth)])
def test_a_folder_is_its_weights_file(folder, plain, name, write):
    write(folder / name, THEIRS)
    found = load_weights(folder)
    assert same(found.flat, plain)
    assert found.config == SMALL
    assert found.sha256 == file_sha256(folder / name) == load_weights(folder / name).sha256


def test_safetensors_come_first_as_in_transformers(folder, plain):
    write_plain(folder / "model.safetensors", THEIRS)
    write_pth(folder / "pytorch_model.bin", random_named("transformers", seed=1))
    write_shards(folder, random_named("transformers", seed=2))
    assert same(load_weights(folder).flat, plain)


@pytest.mark.parametrize(("kind", "write"), [("model.safetensors", write_plain), ("pytorch_model.bin", write_pth)])
def test_shards_are_one_model(folder, plain, kind, write):
    index = write_shards(folder, kind=kind, write=write)
    for path in (folder, index):
        assert same(load_weights(path).flat, plain)


def test_shards_may_be_links_as_in_the_hub_s_cache(folder, plain):
    write_shards(folder)
    (folder / "blobs").mkdir()
    (folder / FIRST).rename(folder / "blobs" / "1a2b")
    (folder / FIRST).symlink_to(Path("blobs") / "1a2b")
    assert same(load_weights(folder).flat, plain)


def test_shards_in_meta_s_names_with_a_prefix(tmp_path, plain):
    meta = random_named("meta")
    expected_file = tmp_path / "a.pth"
    write_pth(expected_file, meta)
    index = write_shards(tmp_path, {f"sam.{name}": x for name, x in meta.items()})
    assert same(load_weights(index).flat, load_weights(expected_file).flat)


def test_shards_are_known_by_their_values_however_they_are_cut(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    first = load_weights(write_shards(tmp_path / "a")).sha256
    reordered = dict(reversed(THEIRS.items()))
    assert load_weights(write_shards(tmp_path / "b", reordered)).sha256 == first
    changed = THEIRS | {NAME: THEIRS[NAME] + 1}
    assert load_weights(write_shards(tmp_path / "c", changed)).sha256 != first


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"mask_decoder__iou_token__weight": "../secret.safetensors"}, [repr(NAME), "'../secret.safetensors'"]),
        ({"mask_decoder__iou_token__weight": "/etc/passwd"}, [repr(NAME), "'/etc/passwd'", "beside the index"]),
        ({"mask_decoder__iou_token__weight": "..\\secret.bin"}, [repr(NAME), "beside the index"]),
        ({"mask_decoder__iou_token__weight": ".."}, [repr(NAME), "'..'"]),
        ({"mask_decoder__iou_token__weight": ""}, [repr(NAME), "''"]),
        ({"mask_decoder__iou_token__weight": 3}, [repr(NAME), "in 3"]),
        ({"mask_decoder__iou_token__weight": "third.safetensors"}, ["third.safetensors not found"]),
        ({"mask_decoder__iou_token__weight": None}, [NAME, "the index does not list it"]),
        ({"another": FIRST}, ["1 tensors are not in the files", f"another should be in {FIRST}"]),
    ],
    ids=["above", "absolute", "windows", "parent", "no name", "number", "missing", "unlisted", "absent"],
)
def test_an_index_that_lies_is_refused(folder, changes, parts):
    expect_line(change_map(write_shards(folder), **changes), *parts)


def test_a_tensor_in_two_shards_is_refused(folder):
    index = write_shards(folder)
    listed = json.loads(index.read_text())["weight_map"][NAME]
    other = FIRST if listed == SECOND else SECOND
    held = {name for name, shard in json.loads(index.read_text())["weight_map"].items() if shard == other}
    write_plain(folder / other, {name: x for name, x in THEIRS.items() if name in {*held, NAME}})
    expect_line(index, f"{NAME} lies in {other}, but the index lists it in {listed}")


def test_a_tensor_that_is_listed_twice_is_refused(folder):
    index = write_shards(folder)
    index.write_text(index.read_text().replace('"weight_map": {', f'"weight_map": {{"{NAME}": "{FIRST}", '))
    expect_line(index, f"{NAME!r} is listed twice")


def test_a_missing_or_damaged_shard_is_named(folder):
    write_shards(folder)
    data = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes(data[:-10])
    with pytest.raises(UserError, match=f"{SECOND}: truncated or damaged"):
        load_weights(folder)
    (folder / SECOND).unlink()
    expect_line(folder / INDEX, f"{SECOND} not found")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{}", "no index of a sharded model"),
        ("[]", "no index of a sharded model"),
        ('{"weight_map": {}}', "no index of a sharded model"),
        ('{"weight_map": ["a"]}', "no index of a sharded model"),
    ],
)
def test_other_json_files(tmp_path, text, part):
    (tmp_path / INDEX).write_text(text)
    expect_line(tmp_path / INDEX, part)


def test_a_folder_without_weights(folder):
    expect_line(folder, "is a folder without model.safetensors, pytorch_model.bin or the index of either")
    expect_line(folder / "none.index.json", "no such file")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_config", "num_attention_heads", 4),
        ("vision_config", "global_attn_indexes", [2]),
        ("vision_config", "hidden_size", 64),
        ("mask_decoder_config", "num_attention_heads", 4),
        ("prompt_encoder_config", "patch_size", 16),
    ],
)
def test_a_config_of_another_model_is_refused(folder, part, key, value):
    write_plain(folder / "model.safetensors", THEIRS)
    content = transformers_config(SMALL)
    ours = content[part][key]
    content[part][key] = value
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"config\.json: {part} has {key} = ") as caught:
        load_weights(folder)
    assert str(caught.value).startswith(str(folder / "config.json"))
    assert repr(ours) in str(caught.value)


def test_a_config_of_another_kind_is_refused(folder):
    write_plain(folder / "model.safetensors", THEIRS)
    (folder / "config.json").write_text('{"model_type": "sam2"}')
    with pytest.raises(UserError, match=r"config\.json: describes a model of type 'sam2'; expected 'sam'"):
        load_weights(folder)


def test_what_a_config_leaves_out_is_not_missed(folder, plain):
    write_plain(folder / "model.safetensors", THEIRS)
    for content in ({}, {"model_type": "sam", "vision_config": {"mlp_dim": None}, "mask_decoder_config": {"x": 1}}):
        (folder / "config.json").write_text(json.dumps(content))
        assert same(load_weights(folder).flat, plain)
    (folder / "config.json").unlink()
    assert same(load_weights(folder).flat, plain)


def test_another_normalisation_is_refused(folder, plain):
    write_plain(folder / "model.safetensors", THEIRS)
    preprocessor = folder / "preprocessor_config.json"
    good = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_rescale": True}
    preprocessor.write_text(json.dumps(good))
    assert same(load_weights(folder).flat, plain)
    for changes in (
        {"image_mean": [0.5, 0.5, 0.5]},
        {"image_std": [1, 1, 1]},
        {"do_rescale": False},
        {"image_std": "x"},
    ):
        preprocessor.write_text(json.dumps(good | changes))
        with pytest.raises(UserError, match=r"preprocessor_config\.json: image_(mean|std) is .*another normalisation"):
            load_weights(folder)
