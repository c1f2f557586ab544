"""The volumes of predicted regions: volumes.csv and volumes.json beside the predictions of a folder.

They hold every prediction that the folder's records know and whose file is there, also those of earlier commands, and
are counted in the files themselves.
"""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from samjax.data.formats.nifti import read_nifti
from samjax.data.labels import roi_codes, to_canonical
from samjax.errors import UserError
from samjax.files import replacing
from samjax.inference.prediction_records import read_records, target

CSV, JSON = "volumes.csv", "volumes.json"
COLUMNS = ("case", "region", "voxels", "ml")


@dataclass(frozen=True)
class RegionVolume:
    """The volume of one region of one prediction."""

    case: str
    region: str
    voxels: int
    ml: float
    """Millilitres, by the affine of the file."""


def clear_volumes(output: Path) -> None:
    """Removes the tables of a folder whose predictions are about to change.

    Raises:
        UserError: its volumes.csv is another kind of table, such as the scores that eval writes, or cannot be removed.
    """
    path = output / CSV
    try:
        if path.is_file():
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                header = file.readline().strip()
            if header != ",".join(COLUMNS):
                raise UserError(f"--output {output}: {CSV} there is no table of predicted volumes; name another folder")
        for name in (CSV, JSON):
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be replaced ({error.strerror or error})") from error


def write_volumes(output: Path, rois: Sequence[str], cases: Iterable[str] = ()) -> None:
    """Writes the tables of a folder, if it holds any prediction; says which files cannot be read.

    Args:
        output: the folder of predictions.
        rois: the regions of the predictions of `cases`; those of others are in the records.
        cases: ids of cases.

    Raises:
        UserError: the tables cannot be written.
    """
    cases, found = set(cases), []
    for case, recorded in sorted(read_records(output).items()):
        path, regions = target(output, case), rois if case in cases else recorded.regions
        if path.is_file():
            try:
                found += volumes_of(case, path, recorded.recipe.scheme, regions)
            except UserError as error:
                print(f"no volume of {case}: {error}", file=sys.stderr)
    try:
        _write(output, found)
    except OSError as error:
        raise UserError(f"{output / CSV}: cannot be written ({error.strerror or error})") from error


def volumes_of(case: str, path: Path, scheme: str, rois: Sequence[str]) -> list[RegionVolume]:
    """The volume of each region in a label map.

    Args:
        case: the case's id.
        path: the NIfTI file.
        scheme: the scheme of its values.
        rois: the regions that it tells apart.

    Raises:
        UserError: the file cannot be read, or has a value that is not of the scheme.
    """
    image = read_nifti(path)
    codes = to_canonical(image.array, scheme, path)
    ml = abs(float(np.linalg.det(image.header.get_best_affine()[:3, :3]))) / 1000
    found = []
    for roi in rois:
        voxels = sum(int(np.count_nonzero(codes == code)) for code in roi_codes(roi))
        found.append(RegionVolume(case, roi, voxels, voxels * ml))
    return found


def _write(output: Path, rows: Sequence[RegionVolume]) -> None:
    """Writes both tables, each whole or not at all; nothing where there are no rows."""
    if not rows:
        return
    with replacing(output / CSV) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "ml": f"{row.ml:.3f}"} for row in rows)
    content: dict[str, dict] = {}
    for row in rows:
        content.setdefault(row.case, {})[row.region] = {"voxels": row.voxels, "ml": round(row.ml, 3)}
    with replacing(output / JSON) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
