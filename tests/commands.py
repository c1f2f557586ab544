"""The commands inside the test's own process: what they refuse is seen in a fraction of a second."""

import gc
import runpy
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
_CHANGED = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
"""What a command sets for its process."""


def run_here(command: str, *arguments: object) -> None:
    """Runs a script at the top of the project, such as `eval.py`, with these arguments."""
    settings = {name: getattr(jax.config, name) for name in _CHANGED}
    threshold = gc.get_threshold()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [command, *map(str, arguments)])
            runpy.run_path(str(ROOT / command), run_name="__main__")
    finally:
        gc.set_threshold(*threshold)
        for name, value in settings.items():
            jax.config.update(name, value)


def refusal(capsys: pytest.CaptureFixture[str], command: str, *arguments: object) -> str:
    """The one line with which a command ends, after `error: `; its exit code is 2."""
    with pytest.raises(SystemExit) as ended:
        run_here(command, *arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    line = error.splitlines()[-1]
    assert line.startswith("error: ")
    return line.removeprefix("error: ")
