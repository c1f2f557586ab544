"""`samjax export`: base weights, and a run."""

import pytest

from samjax.cli.main import dispatch
from samjax.errors import UserError
from samjax.inference.export import load
from tests.made_runs import write_base, write_run


def test_base_weights_are_exported(tmp_path, capsys):
    base = write_base(tmp_path / "base.safetensors")
    out = tmp_path / "out"
    dispatch(["export", str(out), "--weights", str(base), "--platforms", "cpu"])
    assert f"{out}: encoder, decoder for cpu; largest difference " in capsys.readouterr().out
    assert load(out).description["channels"] == "flair,t1gd,t2"


def test_a_run_is_what_is_exported(tmp_path):
    run = write_run(tmp_path / "run", tmp_path, tmp_path, strategy="unet", lora_rank=8)
    with pytest.raises(UserError, match="run: a U-Net; only SAM is exported"):
        dispatch(["export", str(tmp_path / "out"), "--run", str(run)])
