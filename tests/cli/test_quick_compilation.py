"""Which of XLA's passes a training command leaves out."""

from pathlib import Path

import pytest

from samjax.cli.process import DISABLE_PASSES, SLOW_PASSES, compile_quickly
from samjax.cli.train import _dtype
from samjax.options import TrainOptions


@pytest.mark.parametrize("dtype", ["float32", "tf32"])
def test_slow_passes_are_left_out(dtype):
    environment = {"XLA_FLAGS": "--xla_dump_to=here"}
    compile_quickly(dtype, environment)
    assert environment["XLA_FLAGS"] == f"--xla_dump_to=here {DISABLE_PASSES}={','.join(SLOW_PASSES)}"


def test_bfloat16_keeps_them():
    environment: dict[str, str] = {}
    compile_quickly("bfloat16", environment)
    assert environment == {}


def test_what_the_user_disables_counts():
    environment = {"XLA_FLAGS": f"{DISABLE_PASSES}=cse"}
    compile_quickly("float32", environment)
    assert environment["XLA_FLAGS"] == f"{DISABLE_PASSES}=cse"


def test_a_resumed_run_has_its_own_dtype_unless_another_is_typed():
    run = Path(__file__).parents[1] / "fixtures" / "runs_0_1" / "lora4ch"
    options = TrainOptions(run=run, resume=True, dtype="bfloat16")
    assert _dtype(options, ("run", "resume")) == "float32"
    assert _dtype(options, ("run", "resume", "dtype")) == "bfloat16"
    assert _dtype(TrainOptions(run=Path("nowhere"), resume=True), ("run", "resume")) == "float32"
