"""The folder of a run: its lock, and what its messages say."""

import subprocess
import sys
from pathlib import Path

import pytest

from samjax.errors import UserError
from samjax.runs.folder import CONFIG, WEIGHTS, find_run, locked, new_run_folder, what_next

HOLD = """
import sys
from pathlib import Path
from samjax.runs.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen:
    """A process that holds a run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.communicate()


@pytest.mark.parametrize("how", [subprocess.Popen.kill, end])
def test_a_run_is_held_by_one_process_until_that_ends(tmp_path, how):
    """Also when it is killed."""
    process = holder(tmp_path)
    try:
        with pytest.raises(UserError) as caught, locked(tmp_path):
            pass
        assert str(caught.value) == f"--run {tmp_path}: another process is training there"
    finally:
        how(process)
        process.communicate()
    with locked(tmp_path):
        pass


def test_a_run_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        1 / 0  # noqa: B018
    end(holder(tmp_path))


def test_what_to_type_next_depends_on_what_a_run_leaves(tmp_path):
    assert what_next(tmp_path).endswith(f": samjax eval --run {tmp_path}")
    (tmp_path / WEIGHTS).touch()
    assert what_next(tmp_path).endswith(f": samjax train --strategy lora4ch --weights {tmp_path / WEIGHTS}")


def test_a_folder_that_cannot_be_used_is_answered_by_what_to_type(tmp_path, monkeypatch):
    (tmp_path / CONFIG).touch()
    with pytest.raises(UserError, match=f"continue it with samjax train --resume --run {tmp_path}, or name another"):
        new_run_folder(tmp_path, "lora")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run yet: train one with samjax train, or name one with --run"):
        find_run(None)
