"""`samjax check`: exit codes, what it prints and what it writes."""

import json
import shutil

import pytest

from tests.cli.process import samjax
from tests.data.imaging.test_volumes import broken
from tests.data.trees import example, save_brats


def test_exit_codes_table_and_findings(tmp_path):
    root, scan = tmp_path / "data [red]", example()  # no markup of rich
    for number in range(3):
        save_brats(root / f"BraTS2021_{number:05d}", f"BraTS2021_{number:05d}", scan)
    done = samjax("check", root, "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 cases, 3 of them with a label: all can be used." in done.stdout

    broken(root / "BraTS2021_00001" / "BraTS2021_00001_t2.nii.gz", "nan", scan)
    shutil.rmtree(root / "BraTS2021_00002")
    done = samjax("check", root, "--json", tmp_path / "out" / "found.json", "--workers", "1")
    assert done.returncode == 1
    assert "1 cannot be used" in done.stdout
    assert "NaN" in done.stdout
    assert str(root) in done.stdout
    found = json.loads((tmp_path / "out" / "found.json").read_text())
    assert found["unusable"] == ["BraTS2021_00001"]
    assert (found["cases"], found["labelled"]) == (2, 2)
    (problem,) = found["problems"]
    assert problem["file"].endswith("BraTS2021_00001_t2.nii.gz")
    assert problem["unusable"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such file"),
        ([".", "--layout", "x"], "--layout x"),
        ([], "required"),
        ([".", "--foo"], "foo"),
    ],
)
def test_bad_usage(arguments, message):
    done = samjax("check", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
