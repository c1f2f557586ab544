"""make parity-weights: its table and verdict on small checkpoints (needs torch and Meta's code)."""

from pathlib import Path

import numpy as np
import pytest

from samjax.weights.base import save_weights
from samjax.weights.export import save_meta
from tests import parity_weights
from tests.models.cases import SMALL, our_weights

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_meta(tmp_path_factory.mktemp("weights") / "small.pth", our_weights(SMALL))


@pytest.mark.parametrize("side", [(), ("--image-size", "80")])
def test_a_checkpoint_agrees(file, side, capsys):
    assert parity_weights.main([str(file), *side]) == 0
    out = capsys.readouterr().out
    for stage in ("patch_embed", "blocks/3", "neck", "box: tokens", "none: dense", "point: picture to masks"):
        assert f"\n{stage} " in out
    assert "loads the file by itself" in out
    assert "\nPASS: " in out
    assert "DIFFERS" not in out


def test_other_files_go_to_pytorch_by_our_reader(tmp_path, capsys):
    save_weights(tmp_path / "small.safetensors", our_weights(SMALL), SMALL)
    assert parity_weights.main([str(tmp_path / "small.safetensors"), "--image-size", "80"]) == 0
    assert "loads what samjax read of the file" in capsys.readouterr().out


def test_a_stage_that_differs_is_named_and_the_exit_code_is_one(file, capsys, monkeypatch):
    original = parity_weights.torch_tensors

    def changed(*arguments):
        tensors, how = original(*arguments)
        name = "image_encoder.blocks.2.mlp.lin1.bias"
        return {**tensors, name: tensors[name] * 1.05}, how

    monkeypatch.setattr(parity_weights, "torch_tensors", changed)
    assert parity_weights.main([str(file), "--image-size", "80"]) == 1
    out = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.endswith("DIFFERS") for line in out.splitlines()}
    assert (lines["blocks/1"], lines["blocks/2"], lines["neck"]) == (False, True, True)
    assert "\nFAIL: " in out


def test_values_that_are_no_numbers_differ():
    assert not parity_weights.Row("stage", np.nan, np.nan).agrees


def test_what_cannot_be_used_is_one_line_and_code_two(file, tmp_path, capsys):
    for arguments, part in (
        ([str(tmp_path / "none.pth")], "none.pth: no such file"),
        ([str(file), "--image-size", "100"], "--image-size 100: expected a multiple of the patch, 16"),
        ([str(file), "--image", str(file)], "small.pth: cannot be read"),
    ):
        assert parity_weights.main(arguments) == 2
        assert part in capsys.readouterr().err
