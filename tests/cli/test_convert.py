"""`samjax convert` and the two scripts of `convert/`, as a user calls them."""

import subprocess

import pytest

from samjax.cli.main import dispatch
from samjax.errors import UserError
from samjax.weights.base import file_sha256, load_weights
from samjax.weights.pth import read_pth
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import read_safetensors
from tests.cli.process import ROOT, python
from tests.made_runs import write_base, write_run
from tests.weights.checkpoints import SMALL, random_named, same


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return python(ROOT / "convert" / script, *arguments)


def convert(*arguments: object) -> None:
    dispatch(["convert", *map(str, arguments)])


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


def test_one_command_converts_whatever_it_is_given_to_the_other_side(tmp_path, capsys):
    theirs = random_named("meta")
    write_pth(tmp_path / "sam.pth", theirs)
    convert(tmp_path / "sam.pth", tmp_path / "ours.safetensors")
    assert load_weights(tmp_path / "ours.safetensors").config == SMALL
    assert read_safetensors(tmp_path / "ours.safetensors")[1]["format"] == "samjax"

    convert(tmp_path / "ours.safetensors", tmp_path / "back.pth")
    assert same(read_pth(tmp_path / "back.pth"), theirs)
    convert(tmp_path / "ours.safetensors", tmp_path / "back.safetensors")  # only its content says that it is ours
    assert same(read_safetensors(tmp_path / "back.safetensors")[0], theirs)
    convert(tmp_path / "back.safetensors", tmp_path / "again.safetensors")
    assert same(read_safetensors(tmp_path / "again.safetensors")[0], load_weights(tmp_path / "ours.safetensors").flat)

    convert(tmp_path / "sam.pth", tmp_path / "hf.safetensors", "--format", "transformers")
    assert read_safetensors(tmp_path / "hf.safetensors")[0].keys() == random_named("transformers").keys()
    convert(tmp_path / "hf.safetensors", tmp_path / "from_hf.safetensors")
    assert same(read_safetensors(tmp_path / "from_hf.safetensors")[0], load_weights(tmp_path / "sam.pth").flat)
    said = [line.rsplit("  ", 1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("written ")]
    expected = ("samjax", "Meta's code", "Meta's code", "samjax", "transformers", "samjax")
    assert said == [f"for {user}" for user in expected]


def test_a_run_is_converted_for_pytorch(tmp_path):
    good = write_run(tmp_path / "good", write_base(tmp_path / "base.safetensors"), tmp_path, depth=1)
    for number, source in enumerate((good, good / "final.safetensors")):
        convert(source, tmp_path / f"merged{number}.safetensors")
        assert load_weights(tmp_path / f"merged{number}.safetensors").config.in_channels == 4


def test_of_several_regions_one_is_written_and_named(tmp_path, capsys):
    joint = write_run(tmp_path / "joint", write_base(tmp_path / "base.safetensors"), tmp_path, depth=1, roi="all")
    convert(joint, tmp_path / "whole.safetensors")
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("region ")]
    assert said == (
        "region  whole-tumor alone, since PyTorch's SAM has one single mask; `samjax export` writes tumor-core and "
        "enhancing too, or train a run of its own (--roi tumor-core)"
    )
    names = read_safetensors(tmp_path / "whole.safetensors")[0]
    assert not any("inner_regions" in name for name in names)
    assert names["mask_decoder.mask_tokens.weight"].shape[0] == 4
    load_weights(tmp_path / "whole.safetensors")


def test_options_of_both_ways_are_refused_together(tmp_path):
    with pytest.raises(UserError, match="--download fetches a checkpoint for samjax; leave out --format"):
        convert(tmp_path, tmp_path / "a.safetensors", "--download", "vit_b", "--format", "meta")
    with pytest.raises(UserError, match=r"a\.msgpack: expected a name that ends in \.pth or \.safetensors"):
        convert(write_base(tmp_path / "base.safetensors"), tmp_path / "a.msgpack")
    assert [path.name for path in tmp_path.iterdir()] == ["base.safetensors"]
