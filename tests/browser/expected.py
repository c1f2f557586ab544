"""What the masks must be: the answers of `Predictor` and of the command predict."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

from samjax import Predictor
from tests.browser.conftest import NAMES
from tests.cli.process import samjax


@cache
def predictor(cases: Path, name: str) -> Predictor:
    """The shipped model with a case."""
    found = Predictor.from_run("glioma")
    found.set_volume(next(cases.rglob(f"{name}-t2f.nii.gz")).parent)
    return found


def segmented(cases: Path, name: str = NAMES[0], **prompts) -> np.ndarray:
    """The mask of `Predictor.segment`, (slices, rows, columns) uint8 canonical codes."""
    return predictor(cases, name).segment(**prompts).mask


def predicted(cases: Path, output: Path, points: Sequence[Sequence[int]]) -> nib.Nifti1Image:
    """The file of the command predict with these clicks (slice, row, column, label), propagated."""
    clicks = output.parent / "clicks.json"
    clicks.write_text(json.dumps({NAMES[0]: [[point[2], point[1], point[0], point[3]] for point in points]}))
    case = next(cases.rglob(f"{NAMES[0]}-t2f.nii.gz")).parent
    run = samjax(
        *("predict", "--run", "glioma", "--input", case, "--output", output),
        *("--points", clicks, "--propagate", "--postprocess", "none"),
    )
    assert run.returncode == 0, run.stderr
    return nib.load(output / f"{NAMES[0]}.nii.gz")
