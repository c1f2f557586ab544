"""Back to PyTorch's files, without PyTorch."""

import json

import pytest

from samjax.errors import UserError
from samjax.weights.export import save_meta, save_transformers
from samjax.weights.files import load_weights
from samjax.weights.pth import read_pth
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import read_safetensors, write_safetensors
from tests.weights.checkpoints import SMALL, random_named, same


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_meta_to_ours_to_meta_is_bitwise_the_same(tmp_path, suffix):
    theirs = random_named("meta")
    write_pth(tmp_path / "source.pth", theirs)
    written = save_meta(tmp_path / f"back{suffix}", load_weights(tmp_path / "source.pth").flat)
    assert same(read_pth(written) if suffix == ".pth" else read_safetensors(written)[0], theirs)


@pytest.mark.parametrize("target", ["back.safetensors", "folder"])
def test_transformers_to_ours_to_transformers_is_bitwise_the_same(tmp_path, target):
    theirs = random_named("transformers")
    write_safetensors(tmp_path / "source.safetensors", theirs, {"format": "pt"})
    weights = load_weights(tmp_path / "source.safetensors")
    written = save_transformers(tmp_path / target, weights.flat, weights.config)
    back, metadata = read_safetensors(written)
    assert same(back, theirs)
    assert metadata == {"format": "pt"}  # transformers refuses a file without it
    assert (tmp_path / target / "config.json").exists() == (target == "folder")


def test_the_folder_holds_the_config(tmp_path):
    write_safetensors(tmp_path / "source.safetensors", random_named("transformers"), {})
    weights = load_weights(tmp_path / "source.safetensors")
    save_transformers(tmp_path / "folder", weights.flat, weights.config)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["model_type"] == "sam"
    assert config["vision_config"]["global_attn_indexes"] == list(SMALL.global_attn_indexes)
    assert config["mask_decoder_config"]["layer_norm_eps"] == 1e-5


def test_refuses_to_write_where_something_else_lies(tmp_path):
    write_pth(tmp_path / "source.pth", random_named("meta"))
    weights = load_weights(tmp_path / "source.pth")
    with pytest.raises(UserError, match=r"back\.bin: expected a name that ends in \.pth or \.safetensors"):
        save_meta(tmp_path / "back.bin", weights.flat)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("precious")
    with pytest.raises(UserError, match="run: exists and is no empty folder"):
        save_transformers(tmp_path / "run", weights.flat, weights.config)
    assert (tmp_path / "run" / "config.json").read_text() == "precious"
