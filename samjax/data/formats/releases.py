"""The label scheme of a collection, from the names of its cases and of the release's own folder.

The names of GLI and PED cases are the same in BraTS 2023 and 2024, whose label values differ. There the name of the
release's folder decides, in full and in one of the spellings below; a year elsewhere in a path decides nothing.

| accepted, in any case, with "-", "_", " " or nothing between words | examples |
|---|---|
| BraTS YEAR, with or without ASNR, MICCAI or ISBI before it | BraTS2023, brats_2024 |
| BraTS YEAR TASK, or BraTS YEAR BraTS TASK | ASNR-MICCAI-BraTS2023-PED-Challenge-TrainingData |
| BraTS TASK YEAR | BraTS-PEDs2024_Training |
| TASK YEAR | GLI-2024, PEDs-2024 |

Each may end in Challenge, in Training, AdditionalTraining, Validation or their short forms with or without Data and a
number (Training_1), and in a version (V2, v1.1).
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from samjax.data.formats.names import folder_name

_EARLIER = re.compile(r"brats_?(?:20)?(?:1[5-9]|2[01])_.+", re.IGNORECASE)
_LATER = re.compile(r"brats-(?P<task>[a-z]+)-\d.*", re.IGNORECASE)
_ONE_SCHEME = {"men", "met", "ssa", "goat"}
_BY_YEAR = {
    "gli": {"2023": "brats2023", "2024": "gli2024"},
    "ped": {"2023": "brats2023", "2024": "ped2024"},
}
_BETWEEN = r"[-_ ]?"
_WHAT = rf"(?:additional{_BETWEEN})?(?:training|train|validation|valid|val|test|testing)"
_TAIL = (
    rf"(?:{_BETWEEN}challenge)?(?:{_BETWEEN}{_WHAT}(?:{_BETWEEN}data(?:set)?)?(?:{_BETWEEN}\d)?)?"
    rf"(?:{_BETWEEN}v\d(?:\.\d)?)?"
)
_RELEASE = re.compile(
    rf"(?:(?:asnr|miccai|isbi){_BETWEEN})*"
    r"(?:"
    rf"brats{_BETWEEN}(?P<year1>2023|2024)(?:{_BETWEEN}(?:brats{_BETWEEN})?(?P<task1>gli|peds?))?"
    rf"|(?:brats{_BETWEEN})?(?P<task2>gli|peds?){_BETWEEN}(?P<year2>2023|2024)"
    r")" + _TAIL,
    re.IGNORECASE,
)
_PHANTOM_RECORD = "cohort.json"
_PHANTOM_KEYS = {"version", "domain", "seed", "shape", "finished"}


@dataclass(frozen=True)
class KnownScheme:
    """The name of a label scheme, and its source in words."""

    scheme: str
    source: str


def known_scheme(case_id: str, root: Path, folder: Path) -> KnownScheme | None:
    """The scheme of a case in `folder` somewhere under `root`; None if the names do not give it.

    Of several releases' folders around the case, the nearest one counts. If `root` is the case's own folder, the
    folder above it counts too.
    """
    if _EARLIER.fullmatch(case_id):
        return KnownScheme("brats2021", "from the names of the cases, as of BraTS 2015-2021")
    match = _LATER.fullmatch(case_id)
    if match is None:
        return None
    task = match["task"].lower()
    if task in _ONE_SCHEME:
        return KnownScheme("brats2023", f"from the names of the cases (BraTS-{match['task']})")
    for above in _folders_above(root, folder):
        if _is_phantom(above):
            return KnownScheme("brats2023", f"from {above.name}/{_PHANTOM_RECORD} of the generated cohort")
        if task in _BY_YEAR and (year := _release_year(folder_name(above), task)):
            return KnownScheme(_BY_YEAR[task][year], f"from the folder's name {folder_name(above)}")
    return None


def schemes_to_choose(case_id: str) -> tuple[str, ...]:
    """The schemes that a case of this name may have."""
    match = _LATER.fullmatch(case_id)
    if match and match["task"].lower() in _BY_YEAR:
        return tuple(_BY_YEAR[match["task"].lower()].values())
    return ("brats2021", "brats2023", "ped2024", "gli2024", "msd")


def _folders_above(root: Path, folder: Path) -> list[Path]:
    """The case's folder and those around it, up to `root`, nearest first."""
    inner = folder.relative_to(root).parts
    above = [root.joinpath(*inner[:count]) for count in range(len(inner), -1, -1)]
    return [*above, Path(os.path.abspath(root)).parent] if folder == root else above


def _release_year(name: str, task: str) -> str | None:
    match = _RELEASE.fullmatch(name)
    if match is None:
        return None
    named = (match["task1"] or match["task2"] or task).lower().removesuffix("s")
    return (match["year1"] or match["year2"]) if named == task else None


def _is_phantom(folder: Path) -> bool:
    """Whether the generated cohort's own record lies in the folder."""
    try:
        record = json.loads((folder / _PHANTOM_RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.keys() >= _PHANTOM_KEYS
