"""Messages name a command the way the running one was called."""

import subprocess
import sys
from pathlib import Path

from samjax.commands import command

ROOT = Path(__file__).parents[1]
SAYS = "from samjax.commands import command, command_typed; print(command('eval', '--run', 'my run'), command_typed())"


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
    missing = "error: no run yet: train one with"
    expected = f"{missing} python train.py, or name one with --run\n"
    assert printed(ROOT, "eval.py", "--cache-dir", tmp_path) == expected
    absolute = f"{missing} python {ROOT / 'train.py'}, or name one with --run\n"
    assert printed(tmp_path, ROOT / "eval.py", "--cache-dir", tmp_path) == absolute


def test_a_module_names_the_module(tmp_path):
    found = printed(tmp_path, "-m", "samjax", "eval", "--cache-dir", tmp_path)
    assert found == "error: no run yet: train one with python -m samjax train, or name one with --run\n"
