"""Scans for the benchmarks: real ones where SAMJAX_REAL_DATA names their folder, else generated."""

import os
from pathlib import Path

from benchmarks.options import Setting
from samjax.data.cache.cases import CachedCase
from samjax.data.cases import Case
from samjax.data.cohort import list_cases, prepare

NATIVE = 240
REAL = "SAMJAX_REAL_DATA"


def generated_cohort(setting: Setting, cases: int, shape: tuple[int, int, int]) -> Path:
    """The folder of a generated BraTS-like cohort of this shape (i, j, k), written the first time."""
    from samjax.data.synthetic.phantom import PhantomOptions, write_cohort

    name = "-".join(map(str, (cases, *shape)))
    root = setting.folder / f"phantom-2023-{name}"
    write_cohort(root, "adult", cases, options=PhantomOptions(shape))
    return root


def one_scan(setting: Setting) -> Case:
    """A case of five files, 240 x 240 x 155 where no other side is asked for."""
    real = os.environ.get(REAL)
    side = setting.side(NATIVE)
    root = Path(real) / "brats18" if real else generated_cohort(setting, 1, (side, side, max(side * 155 // 240, 8)))
    return list_cases({"bench": root}, None, None, 1)[0]


def cached(case: Case, setting: Setting) -> CachedCase:
    """The case from the slice cache of the benchmarks."""
    return prepare([case], setting.folder / "cache", workers=1)[0]
