"""Exported programs against the models they came from, at other sizes than they were traced or checked with."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from samjax.errors import UserError
from samjax.inference import export as deployment
from samjax.inference.export import deploy, load, programs_of
from samjax.inference.loading import model_of_run
from samjax.inference.model import SegmentationModel
from samjax.models.prompt_encoder import make_prompts
from tests.made_runs import write_base, write_run

SIZE = 64
CLOSE = {"rtol": 1e-5, "atol": 1e-4}  # values are of the order of ten


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> SegmentationModel:
    """Four channels, windows of two slices, LoRA."""
    place = tmp_path_factory.mktemp("run")
    run = write_run(place / "run", write_base(place / "base.safetensors"), place, depth=2)
    return model_of_run(run)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("deployed") / "out"
    deploy(model, out)
    return out


def prompts(pictures: int, count: int, clicks: int) -> tuple[np.ndarray, ...]:
    """A click, a box or both, some with a mask."""
    rng = np.random.default_rng(1)
    shape = pictures, count
    labels = rng.choice([-2, 0, 1], (*shape, clicks)).astype(np.int32)
    points = rng.uniform(0, SIZE, (*shape, clicks, 2)).astype(np.float32)
    boxes = np.float32([[[3, 4, 40, 50]] * count] * pictures)
    masks = rng.normal(size=(*shape, SIZE // 4, SIZE // 4)).astype(np.float32)
    return points, labels, boxes, rng.random(shape) < 0.5, masks, rng.random(shape) < 0.5


def test_loaded_programs_give_what_the_model_gives(model, folder):
    loaded = load(folder)
    images = np.random.default_rng(0).integers(0, 256, (1, 2, SIZE, SIZE, 4), np.uint8)
    slices = np.array([[True, False]])
    embeddings = loaded.encode(images, slices)
    np.testing.assert_allclose(embeddings, jax.jit(model.network().encode)(images.astype(np.float32), slices), **CLOSE)
    given = prompts(2, 1, 3)
    points, labels, boxes, has_box, masks, has_mask = given
    decode = jax.jit(partial(model.network().decode, multimask=None))
    expected = decode(embeddings[0], make_prompts(points, labels, boxes, has_box), masks=masks, has_mask=has_mask)
    found = loaded.decode(embeddings[0], *given)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)
    assert found[0].shape == (2, 1, 4, SIZE // 4, SIZE // 4)


def test_all_regions_are_exported(tmp_path):
    joint = model_of_run(write_run(tmp_path / "joint", write_base(tmp_path / "base.safetensors"), tmp_path, roi="all"))
    parameters, (_, decoder) = programs_of(joint)
    assert any("inner_regions/1/" in name for name in parameters)
    inputs = [
        np.zeros([{"b": 2, "p": 1, "k": 3}.get(side, side) for side in shape], dtype)
        for _, shape, dtype, _ in decoder.inputs
    ]
    logits, iou = jax.eval_shape(decoder.function, parameters, *inputs)
    assert (logits.shape, iou.shape) == ((2, 1, 6, SIZE // 4, SIZE // 4), (2, 1, 6))
    assert "the masks of whole-tumor, tumor-core, enhancing, then the alternatives" in decoder.outputs[0][1]


def test_the_description_says_what_goes_in_and_out(folder):
    description = json.loads((folder / "deployment.json").read_text())
    assert description["platforms"] == ["cpu", "cuda", "tpu"]
    assert description["regions"] == [description["region"]] == ["whole-tumor"]
    assert description["channels"] == "t1,t1gd,t2,flair"
    assert description["normalisation"]["mean"] == pytest.approx([np.mean([123.675, 116.28, 103.53])] * 4)
    encoder, decoder = description["programs"]["encoder"], description["programs"]["decoder"]
    assert [entry["name"] for entry in encoder["inputs"][1:]] == ["images", "slices"]
    assert description["modalities"] == {"needed": ["t1", "t1gd", "t2", "flair"], "some_are_enough": False}
    assert encoder["inputs"][1]["shape"] == ["b", 2, SIZE, SIZE, 4]
    assert encoder["outputs"][0]["shape"] == ["b", "2", "4", "4", "16"]
    assert decoder["outputs"][0]["shape"] == ["b", "p", "4", "16", "16"]
    assert description["pictures"]["slice"].startswith("padded right and below with 0 to a square of the larger side, ")
    assert all(0 <= found <= 1e-5 for found in description["difference"].values())


def test_a_run_that_does_without_modalities_is_told_which_are_there(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    run = write_run(tmp_path / "run", base, tmp_path, strategy="decoder", prompt="none", modality_dropout=0.3)
    model = model_of_run(run)
    described = deploy(replace(model, cropped=True), tmp_path / "out", ("cpu",))
    assert described["pictures"]["slice"].startswith("cropped to the rows and columns in which any slice of the scan")
    assert "to a square of the larger side, at least 32 pixels" in described["pictures"]["slice"]
    assert described["modalities"] == {"needed": ["flair", "t1gd", "t2"], "some_are_enough": True}
    assert described["programs"]["encoder"]["inputs"][-1]["shape"] == ["b", 3]
    loaded = load(tmp_path / "out")
    images = np.random.default_rng(0).integers(0, 256, (2, 1, SIZE, SIZE, 3), np.uint8)
    present = np.array([[True, False, True], [True, True, True]])
    encode = jax.jit(model.network().encode)
    expected = encode(images.astype(np.float32), np.ones((2, 1), bool), present)
    np.testing.assert_allclose(loaded.encode(images, present=present), expected, **CLOSE)
    whole = np.asarray(loaded.encode(images))
    np.testing.assert_allclose(whole[1], expected[1], **CLOSE)
    assert np.abs(whole[0] - expected[0]).max() > 0.01


def test_it_runs_with_jax_alone(folder, tmp_path):
    """As the documentation shows it, in a process that knows nothing of samjax."""
    program = """
import json, sys
from pathlib import Path
import jax, numpy as np
from safetensors.numpy import load_file
folder = Path(sys.argv[1])
encoder = jax.export.deserialize(bytearray((folder / "encoder.stablehlo").read_bytes()))
images = np.zeros((3, 2, 64, 64, 4), np.float32)
print(encoder.call(load_file(folder / "parameters.safetensors"), images, np.ones((3, 2), bool)).shape)
assert not any(name.startswith("samjax") for name in sys.modules)
"""
    program = program.replace("import jax,", "import jax, jax.export,")
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(3, 2, 4, 4, 16)"


def test_a_program_that_differs_is_noticed(model, tmp_path, monkeypatch):
    def other(folder: Path) -> deployment.Deployed:
        loaded = load(folder)
        changed = {name: x * 1.01 for name, x in loaded.parameters.items()}
        return deployment.Deployed(loaded.description, changed, loaded.programs)

    monkeypatch.setattr(deployment, "load", other)
    with pytest.raises(RuntimeError, match="the loaded encoder differs from the model"):
        deploy(model, tmp_path / "out", ("cpu",))


def test_refusals(folder, model, tmp_path):
    with pytest.raises(UserError, match="out: exists and is no empty folder"):
        deploy(model, folder)
    with pytest.raises(UserError, match="run: needs all its modalities; leave out `present`"):
        load(folder).encode(np.zeros((1, 2, SIZE, SIZE, 4)), present=np.ones((1, 4), bool))
    with pytest.raises(UserError, match=r"no deployment\.json there"):
        load(tmp_path)
    unet = model_of_run(write_run(tmp_path / "unet", tmp_path, tmp_path, strategy="unet", lora_rank=8))
    with pytest.raises(UserError, match="unet: a U-Net; only SAM is exported"):
        deploy(unet, tmp_path / "new")
    assert not (tmp_path / "new").exists()
