"""ONNX programs by onnxruntime against the models they came from (make extras)."""

import json

import jax
import numpy as np
import pytest

from samjax.cli.main import dispatch
from samjax.errors import UserError
from samjax.inference.loading import model_of_run
from samjax.models.prompt_encoder import make_prompts
from tests.made_runs import write_base, write_run

SIZE = 64


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")  # of jax2onnx and onnx
@pytest.mark.parametrize(
    "options",
    [{"depth": 1}, {"depth": 2, "modality_dropout": 0.3}, {"strategy": "decoder", "roi": "all"}],
    ids=str,
)
def test_programs_give_what_the_model_gives(tmp_path, capsys, options):
    import onnxruntime

    run = write_run(tmp_path / "run", write_base(tmp_path / "base.safetensors"), tmp_path, **options)
    dispatch(["export", str(tmp_path / "out"), "--run", str(run), "--format", "onnx"])
    assert "encoder, decoder for onnx; largest difference " in capsys.readouterr().out
    description = json.loads((tmp_path / "out/deployment.json").read_text())
    assert all(0 < found <= 1e-4 for found in description["difference"].values())

    model = model_of_run(run)
    encoder, decoder = (
        onnxruntime.InferenceSession(str(tmp_path / "out" / description["programs"][name]["file"]))
        for name in ("encoder", "decoder")
    )
    assert [x.name for x in encoder.get_inputs()] == [x["name"] for x in description["programs"]["encoder"]["inputs"]]
    rng = np.random.default_rng(3)
    channels = model.channels.count
    given = {
        "images": rng.uniform(0, 255, (3, model.depth, SIZE, SIZE, channels)).astype(np.float32),
        "slices": np.ones((3, model.depth), bool),
    }
    given["slices"][0, 1:] = False
    if model.modality_dropout:
        given["present"] = np.arange(3 * channels).reshape(3, channels) % 3 > 0
    (embeddings,) = encoder.run(None, given)
    expected = np.asarray(jax.jit(model.network().encode)(*given.values()))
    assert np.abs(embeddings - expected).max() <= 1e-4 * np.abs(expected).max()

    labels = np.full((3, 2, 8), -2, np.int32)
    labels[0, 0, :2], labels[1, 1, 0] = (1, 0), 1
    prompts = {
        "points": rng.uniform(0, SIZE, (3, 2, 8, 2)).astype(np.float32),
        "labels": labels,
        "boxes": np.float32([[[3, 4, 40, 50]] * 2] * 3),
        "has_box": rng.random((3, 2)) < 0.5,
        "masks": rng.normal(size=(3, 2, SIZE // 4, SIZE // 4)).astype(np.float32),
        "has_mask": rng.random((3, 2)) < 0.5,
    }
    found = decoder.run(None, {"embeddings": expected[:, 0], **prompts})
    points, labels, boxes, has_box, masks, has_mask = prompts.values()
    slots = make_prompts(points[..., :2, :], labels[..., :2], boxes, has_box)  # the other slots are empty

    @jax.jit
    def decode(embeddings):
        return model.network().decode(embeddings, slots, masks=masks, has_mask=has_mask, multimask=None)

    for ours, theirs in zip(found, decode(expected[:, 0]), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_a_program_that_differs_is_noticed(tmp_path, monkeypatch):
    from samjax.inference import onnx_export

    run = write_run(tmp_path / "run", write_base(tmp_path / "base.safetensors"), tmp_path, depth=1)
    merged = onnx_export.merge_lora
    monkeypatch.setattr(
        onnx_export, "merge_lora", lambda flat, adaptation: {k: x * 1.01 for k, x in merged(flat, adaptation).items()}
    )
    with pytest.raises(RuntimeError, match=r"encoder\.onnx: differs from the model by"):
        onnx_export.deploy_onnx(model_of_run(run), tmp_path / "out")


def test_without_the_packages_it_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    run = write_run(tmp_path / "run", write_base(tmp_path / "base.safetensors"), tmp_path, depth=1)
    with pytest.raises(UserError, match=r"--format onnx needs onnxruntime, .* pip install 'samjax\[onnx\]'"):
        dispatch(["export", str(tmp_path / "out"), "--run", str(run), "--format", "onnx"])
    assert not (tmp_path / "out").exists()
