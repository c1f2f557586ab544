"""The two commands of `convert/`, as a user calls them."""

import os
import subprocess
import sys
from pathlib import Path

from samjax.weights.base import file_sha256, load_weights
from samjax.weights.pth import read_pth
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import read_safetensors
from tests.made_runs import write_base, write_run
from tests.weights.checkpoints import SMALL, random_named, same

ROOT = Path(__file__).parents[2]


def run(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "convert" / command, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "500"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_there_and_back(tmp_path):
    theirs = random_named("meta")
    write_pth(tmp_path / "sam.pth", theirs)
    there = run("torch_to_flax.py", tmp_path / "sam.pth", tmp_path / "ours.safetensors")
    assert there.returncode == 0, there.stderr
    assert load_weights(tmp_path / "ours.safetensors").config == SMALL
    for part in (
        "20 x 20",
        f"{len(theirs)} tensors",
        f"{sum(value.size for value in theirs.values()):,} values",
        file_sha256(tmp_path / "sam.pth"),
        file_sha256(tmp_path / "ours.safetensors"),
    ):
        assert part in there.stdout
    back = run("flax_to_torch.py", tmp_path / "ours.safetensors", tmp_path / "back.pth")
    assert back.returncode == 0, back.stderr
    assert same(read_pth(tmp_path / "back.pth"), theirs)
    assert file_sha256(tmp_path / "back.pth") in back.stdout
    other = run("flax_to_torch.py", tmp_path / "ours.safetensors", tmp_path / "hf", "--format", "transformers")
    assert other.returncode == 0, other.stderr
    assert read_safetensors(tmp_path / "hf" / "model.safetensors")[0].keys() == random_named("transformers").keys()


def test_mistakes_are_one_line_and_exit_code_2(tmp_path):
    for arguments, part in (
        ((tmp_path / "none.pth", tmp_path / "a.safetensors"), "no such file"),
        ((tmp_path / "none.pth", tmp_path / "a.msgpack"), "ends in .safetensors"),
        (
            (tmp_path, tmp_path / "a.safetensors", "--download", "vit_b", "--url", "http://127.0.0.1:9"),
            "could not be fetched",
        ),
    ):
        result = run("torch_to_flax.py", *arguments)
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("error: ")
        assert part in result.stderr
    assert not list(tmp_path.iterdir())


def test_runs_are_written_for_pytorch(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    good = write_run(tmp_path / "good", base, tmp_path, depth=1)
    result = run("flax_to_torch.py", good / "final.safetensors", tmp_path / "merged.pth")
    assert result.returncode == 0, result.stderr
    merged = load_weights(tmp_path / "merged.pth")
    assert (merged.config.in_channels, merged.config.image_size) == (4, 64)
    assert file_sha256(good / "final.safetensors") in result.stdout
    assert "in_chans=4" in result.stdout
    refused = (
        (write_run(tmp_path / "deep", base, tmp_path, depth=2), "attend across 2 slices"),
        (write_run(tmp_path / "unet", base, tmp_path, strategy="unet", lora_rank=8), "a run of the U-Net"),
    )
    for folder, part in refused:
        result = run("flax_to_torch.py", folder, tmp_path / "no.pth")
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert part in result.stderr
    assert not (tmp_path / "no.pth").exists()
