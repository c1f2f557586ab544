"""Messages name a command the way the running one was called."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from samjax.command_lines import command, command_typed

ROOT = Path(__file__).parents[1]
SAYS = (
    "from samjax.command_lines import command, command_typed; "
    "print(command('eval', '--run', 'my run'), command_typed())"
)


def printed(where: Path, *arguments: object, **settings: str) -> str:
    """The output of a Python process that finds this package in the repository."""
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=where,
        env={"PYTHONPATH": str(ROOT), "PATH": "", **settings},
        capture_output=True,
        text=True,
    )
    return result.stdout + result.stderr


def test_a_library_names_the_installed_command(tmp_path):
    assert command("train", "--run", tmp_path) == f"samjax train --run {tmp_path}"
    own = tmp_path / "train.py"  # not the repository's
    own.write_text(SAYS)
    assert printed(tmp_path, "train.py") == "samjax eval --run 'my run' train.py\n"
    assert printed(tmp_path, "-c", SAYS) == "samjax eval --run 'my run' -c\n"


def test_a_script_names_the_scripts_beside_it(tmp_path):
    clone = tmp_path / "clone"  # the repository itself may hold runs
    shutil.copytree(ROOT / "samjax", clone / "samjax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("eval.py", "train.py"):
        shutil.copy(ROOT / name, clone)
    missing = "error: no run yet: train one with"
    expected = f"{missing} python train.py, or name one with --run\n"
    assert printed(clone, "eval.py", "--cache-dir", tmp_path) == expected
    absolute = f"{missing} python {clone / 'train.py'}, or name one with --run\n"
    assert printed(tmp_path, clone / "eval.py", "--cache-dir", tmp_path) == absolute


def test_a_module_names_the_module(tmp_path):
    found = printed(tmp_path, "-m", "samjax", "eval", "--cache-dir", tmp_path)
    assert found == "error: no run yet: train one with python -m samjax train, or name one with --run\n"


@pytest.mark.parametrize(
    ("main", "program", "check", "typed"),
    [
        (SimpleNamespace(__file__=ROOT / "eval.py"), "eval.py", "python -m samjax check", "python eval.py --seed 1"),
        (
            SimpleNamespace(__file__=ROOT / "convert/flax_to_torch.py"),
            "convert/flax_to_torch.py",
            "python -m samjax check",
            "python flax_to_torch.py --seed 1",
        ),
        (
            SimpleNamespace(__file__=ROOT / "samjax/__main__.py", __spec__=SimpleNamespace(name="samjax.__main__")),
            str(ROOT / "samjax/__main__.py"),
            "python -m samjax check",
            "python -m samjax --seed 1",
        ),
        (SimpleNamespace(__file__="/usr/bin/samjax"), "/usr/bin/samjax", "samjax check", "samjax --seed 1"),
        (SimpleNamespace(), "", "samjax check", "'' --seed 1"),  # a notebook
    ],
)
def test_commands_that_are_no_script_and_the_line_that_was_typed(monkeypatch, main, program, check, typed):
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", [program, "--seed", "1"])
    assert command("check") == check
    assert command_typed() == typed
