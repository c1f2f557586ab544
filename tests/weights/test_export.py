"""Back to PyTorch's files, without PyTorch."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.errors import UserError
from samjax.models.config import Adaptation
from samjax.models.flat import from_flat
from samjax.models.prompt_encoder import make_prompts
from samjax.models.sam import Sam
from samjax.runs.trained import load_trained
from samjax.weights.base import load_weights
from samjax.weights.export import plain_sam, save_meta, save_transformers
from samjax.weights.pth import read_pth
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import read_safetensors, write_safetensors
from tests.made_runs import merged_run, write_base, write_run
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


def masks_of(model: Sam, size: int) -> np.ndarray:
    """What a model says of a box and a click on noise of its input's size."""
    channels = model.config.in_channels
    images = np.random.default_rng(0).integers(0, 256, (1, 1, size, size, channels)).astype(np.float32)
    prompts = make_prompts(
        jnp.array([[[[9.0, 30.0]]]]), jnp.ones((1, 1, 1), int), jnp.array([[[2.0, 3.0, 40.0, 50.0]]])
    )
    return np.asarray(jax.jit(model.__call__)(images, prompts)[0])


# 4 tokens a side as the base weights, fewer and more.
@pytest.mark.parametrize(
    ("strategy", "size", "roi"), [("lora", 64, "whole-tumor"), ("lora4ch", 48, "all"), ("lora", 96, "whole-tumor")]
)
def test_a_run_becomes_a_plain_sam_that_gives_the_same_masks(tmp_path, strategy, size, roi):
    """Of several regions, those of the prompted one."""
    fine_tuned, flat, architecture = merged_run(tmp_path, strategy, size, roi)
    assert (architecture.image_size, architecture.in_channels) == (size, 4 if strategy == "lora4ch" else 3)
    plain = Sam(architecture, Adaptation())
    from_flat(plain, flat)
    expected = masks_of(fine_tuned, size)
    assert expected.shape[2] == (3 if roi == "all" else 1)
    expected = expected[:, :, :1]
    assert np.abs(masks_of(plain, size) - expected).max() < 1e-5 * np.abs(expected).max()


def test_adapters_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"run: its blocks have adapters.*with `samjax export`"):
        merged_run(tmp_path, "adapter", 64)


def test_what_attends_across_slices_is_refused(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    config, trained = load_trained(write_run(tmp_path / "run", base, tmp_path, depth=2))
    with pytest.raises(UserError, match=r"run: its 2 blocks attend across 2 slices.*with `samjax export`"):
        plain_sam("run", trained.base | trained.trained, config.architecture, config.adaptation, 64)
