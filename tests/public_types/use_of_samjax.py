"""What a program that uses samjax may rely on; `make types` checks these types, nothing runs."""

from pathlib import Path
from typing import assert_type

import numpy as np

from samjax import Predictor
from samjax.errors import UserError
from samjax.inference.predictions import VolumePrediction
from samjax.metrics.overlap import dice


def use(case: Path, out: Path) -> float:
    """A scan, segmented without prompts and by a click, and compared."""
    try:
        predictor = assert_type(Predictor.from_run("glioma"), Predictor)
        predictor.set_volume(case)
    except UserError:
        return 0.0
    assert_type(predictor.missing, tuple[str, ...])
    found = assert_type(predictor.segment(), VolumePrediction)
    clicked = predictor.segment(points=[(1, 2, 3, 1)], initial=found, space="ras")
    assert_type(predictor.undo(), VolumePrediction | None)
    predictor.save(out, labels="brats2023")
    mask: np.ndarray = clicked.mask
    return assert_type(dice(mask > 0, found.mask > 0), float)


def wrong(predictor: Predictor) -> None:
    """Each of these lines is an error; the checker says so where it stops being one."""
    predictor.segment(space="mm")  # type: ignore[arg-type]
    predictor.set_volume(3)  # type: ignore[arg-type]
    predictor.save()  # type: ignore[call-arg]
