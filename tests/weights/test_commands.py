"""Weights through the commands: every kind is converted to the same file, every refusal is one line and exit code 2."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.weights.base import load_weights, save_weights
from samjax.weights.hugging_face import transformers_config
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import read_safetensors, write_safetensors
from tests.commands import refusal, run_here
from tests.weights.checkpoints import SMALL, random_flat, random_named, same, write_nested

META, THEIRS = random_named("meta"), random_named("transformers")
TOKEN = "mask_decoder.iou_token.weight"
INDEX = "model.safetensors.index.json"


def changed(dtype: type, value: float) -> dict[str, np.ndarray]:
    """The weights with one wrong value."""
    token = META[TOKEN].astype(dtype)
    token[0, 5] = value
    return META | {TOKEN: token}


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", THEIRS, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(transformers_config(SMALL)))
    return folder


def write_shards(folder: Path) -> Path:
    """Two shards, of which the first holds one tensor."""
    folder.mkdir()
    rest = {name: x for name, x in THEIRS.items() if name != TOKEN}
    write_safetensors(folder / "1.safetensors", {TOKEN: THEIRS[TOKEN]}, {})
    write_safetensors(folder / "2.safetensors", rest, {})
    shard_of = {TOKEN: "1.safetensors"} | dict.fromkeys(rest, "2.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": shard_of}))
    return folder / INDEX


SOURCES: dict[str, Callable[[Path], Path]] = {
    "wrapped": lambda place: write_nested(place / "a.pth", {"model_state": META, "optimizer": {"lr": 0.1}}),
    "twice, with a prefix": lambda place: write_nested(
        place / "a.pth", {"a": {"b": {f"module.sam.{name}": x for name, x in META.items()}}}
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_wrapped_checkpoint_becomes_the_plain_one_s_file(tmp_path, source):
    write_pth(tmp_path / "plain.pth", META)
    for name, path in (("plain", tmp_path / "plain.pth"), ("other", SOURCES[source](tmp_path))):
        run_here("convert/torch_to_flax.py", path, tmp_path / f"{name}.safetensors")
    plain, other = (read_safetensors(tmp_path / f"{name}.safetensors")[0] for name in ("plain", "other"))
    assert same(plain, other)


@pytest.mark.parametrize("write", [write_folder, write_shards])
def test_folders_and_shards_are_converted_there_and_back(tmp_path, write, capsys):
    source = write(tmp_path / "hf")
    run_here("convert/torch_to_flax.py", source, tmp_path / "ours.safetensors")
    weights = load_weights(source)
    assert same(load_weights(tmp_path / "ours.safetensors").flat, weights.flat)
    assert load_weights(tmp_path / "ours.safetensors").sha256 == weights.sha256
    assert f"source  {source}  sha256 {weights.sha256}" in capsys.readouterr().out
    run_here("convert/flax_to_torch.py", source, tmp_path / "back", "--format", "transformers")
    assert same(read_safetensors(tmp_path / "back" / "model.safetensors")[0], THEIRS)


def pair(place: Path) -> Path:
    return write_nested(place / "a.pth", {"student": META, "teacher": random_named("meta", seed=1)})


def with_mean(place: Path) -> Path:
    write_pth(place / "a.pth", META | {"pixel_mean": np.zeros((3, 1, 1), np.float32)})
    return place / "a.pth"


def written(tensors: dict[str, np.ndarray]) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        write_pth(place / "a.pth", tensors)
        return place / "a.pth"

    return write


def index_that(change: Callable[[Path, dict[str, str]], None]) -> Callable[[Path], Path]:
    """Shards with an index, or files, that are changed."""

    def write(place: Path) -> Path:
        index = write_shards(place / "hf")
        shard_of = json.loads(index.read_text())["weight_map"]
        change(index.parent, shard_of)
        index.write_text(json.dumps({"weight_map": shard_of}))
        return index

    return write


def folder_of(part: str, key: str, value: object) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        folder = write_folder(place / "hf")
        content = transformers_config(SMALL)
        content[part] = content[part] | {key: value}
        (folder / "config.json").write_text(json.dumps(content))
        return folder

    return write


def copy_token(folder: Path, shard_of: dict[str, str]) -> None:
    rest = {name: x for name, x in THEIRS.items() if name != TOKEN}
    write_safetensors(folder / "2.safetensors", rest | {TOKEN: THEIRS[TOKEN]}, {})


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nan": (written(changed(np.float32, np.nan)), f"a.pth: {TOKEN} holds nan (1 of 64 values)"),
    "infinite half": (written(changed(np.float16, np.inf)), f"a.pth: {TOKEN} holds inf (1 of 64 values)"),
    "too large": (written(changed(np.float64, -1e200)), f"a.pth: {TOKEN} holds -1e+200 (1 of 64 values)"),
    "two SAMs": (pair, "a.pth: holds 2 SAMs ('student', 'teacher')"),
    "another mean": (with_mean, "a.pth: pixel_mean is (0, 0, 0), but samjax normalises"),
    "missing shard": (index_that(lambda folder, _: (folder / "1.safetensors").unlink()), "1.safetensors not found"),
    "shard elsewhere": (
        index_that(lambda _, shard_of: shard_of.update({TOKEN: "../1.safetensors"})),
        f"lists {TOKEN!r} in '../1.safetensors'",
    ),
    "in two shards": (index_that(copy_token), f"{TOKEN} lies in 2.safetensors, but the index lists it in 1.saf"),
    "another config": (
        folder_of("vision_config", "num_attention_heads", 8),
        "config.json: vision_config has num_attention_heads = 8, but the tensors beside it make 2",
    ),
    "folder without weights": (lambda place: place, "is a folder without model.safetensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_is_one_line_and_leaves_nothing(tmp_path, name, capsys):
    write, part = REFUSED[name]
    source = write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert part in refusal(capsys, "convert/torch_to_flax.py", source, tmp_path / "ours.safetensors")
    assert sorted(tmp_path.rglob("*")) == before


def test_training_and_scoring_do_not_begin_on_them(tmp_path, capsys):
    """Our own files too: written by something else than samjax."""
    save_weights(tmp_path / "good.safetensors", random_flat(), SMALL)
    tensors, metadata = read_safetensors(tmp_path / "good.safetensors")
    tensors = tensors | {"mask_decoder/iou_token/embedding": changed(np.float32, np.nan)[TOKEN]}
    write_safetensors(tmp_path / "bad.safetensors", tensors, metadata)
    part = f"{tmp_path / 'bad.safetensors'}: mask_decoder/iou_token/embedding holds nan"
    weights = ("--weights", tmp_path / "bad.safetensors", "--cache-dir", tmp_path / "cache")
    assert part in refusal(capsys, "train.py", "--run", tmp_path / "run", *weights)
    write_cohort(tmp_path / "data", "adult", 1, seed=5, options=PhantomOptions((32, 32, 6)))
    scans = ("--data", tmp_path / "data", "--labels", "brats2023", "--no-cache", "--workers", "0")
    assert part in refusal(capsys, "eval.py", "--strategy", "zeroshot", "--output", tmp_path / "out", *scans, *weights)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists()
