"""One run of the command on two generated heads, which several tests look at."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samjax.cli.main import dispatch
from tests.prepare.heads import FIRST, save, save_head, scan


@dataclass(frozen=True)
class Run:
    """What the command wrote and printed."""

    input: Path
    output: Path
    printed: str
    errors: str

    def record(self, case: str) -> dict[str, Any]:
        return json.loads((self.output / case / f"{case}-prepared.json").read_text())


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """P1 has four scans of one head; P2 has T1-Gd of it and, by mistake, the T2 of another; P3 is damaged."""
    pytest.importorskip("SimpleITK")
    place = tmp_path_factory.mktemp("prepare")
    save_head(place / "in" / "P1", seed=1)
    save_head(place / "in" / "P2", seed=1, modalities=("t1gd",))
    save(place / "in" / "P2" / "t2.nii.gz", *scan(7, "t2", FIRST), "RAS")
    (place / "in" / "P3").mkdir()
    (place / "in" / "P3" / "t1.nii.gz").write_bytes(b"no scan")
    arguments = ["--input", str(place / "in"), "--output", str(place / "out"), "--spacing", "4"]
    printed, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(errors), pytest.raises(SystemExit) as end:
        dispatch(["prepare", *arguments])
    assert end.value.code == 1  # one case was left out
    return Run(place / "in", place / "out", printed.getvalue(), errors.getvalue())
