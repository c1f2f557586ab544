"""The folder of a prepared case: images, the brain's mask, transforms, a record and a picture."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from samjax.errors import UserError
from samjax.figures.preparation import draw_preparation
from samjax.prepare.case import Prepared
from samjax.prepare.grid import Grid
from samjax.prepare.itk import simple_itk
from samjax.version import __version__

FILE_NAMES = {"t1": "t1n", "t1gd": "t1c", "t2": "t2w", "flair": "t2f"}
"""The modalities in file names, as in BraTS from 2023 on."""


def record_path(output: Path, case: str) -> Path:
    """The record of a prepared case, which is there exactly if its folder is whole."""
    return output / case / f"{case}-prepared.json"


def write_case(output: Path, prepared: Prepared, options: dict[str, Any]) -> Path:
    """Writes a prepared case into its folder, replacing one that is there.

    The folder is written under another name and renamed, so that it is whole or not there.

    Args:
      output: the folder of prepared cases.
      prepared: the case.
      options: what the user asked for, for the record.

    Raises:
      UserError: the folder cannot be written.
    """
    case = prepared.scans.id
    folder = output / case
    try:
        output.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=output, prefix=".tmp-"))
        try:
            made.chmod(output.stat().st_mode & 0o777)
            _fill_folder(made, prepared, options)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return folder


def read_record(output: Path, case: str) -> dict[str, Any] | None:
    """The record of a case that was prepared; None if there is none."""
    path = record_path(output, case)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path}: not a record of samjax prepare; replace it with --overwrite") from None


def _fill_folder(folder: Path, prepared: Prepared, options: dict[str, Any]) -> None:
    case = prepared.scans.id
    for name, image in prepared.images.items():
        _save(folder / f"{case}-{FILE_NAMES[name]}.nii.gz", image, prepared.grid)
    _save(folder / f"{case}-brain.nii.gz", prepared.brain.astype(np.uint8), prepared.grid)
    for name, movement in prepared.movements.items():
        if movement.transform is not None:
            simple_itk().WriteTransform(movement.transform, str(folder / f"{case}-{FILE_NAMES[name]}.tfm"))
    draw_preparation(
        folder / f"{case}-prepared.png", case, prepared.reference, prepared.shown.before, prepared.shown.after,
        prepared.shown.brain,
    )  # fmt: skip
    text = json.dumps(_record(prepared, options), indent=2)
    (folder / f"{case}-prepared.json").write_text(text + "\n", encoding="utf-8")


def _save(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Writes (slice, row, column) values with columns along the first axis, as BraTS does."""
    affine = grid.affine[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, path)


def _record(prepared: Prepared, options: dict[str, Any]) -> dict[str, Any]:
    modalities = {}
    for name, source in prepared.scans.images.items():
        modalities[name] = {"source": str(source.path), "stripped_before": name in prepared.stripped}
        if name in prepared.movements:
            movement = prepared.movements[name]
            modalities[name] |= {
                "shift_mm": round(movement.shift, 3),
                "rotation_degrees": round(movement.degrees, 3),
                "reference_to_source_ras_mm": movement.matrix.round(6).tolist(),
                "mutual_information_before": round(movement.agreement.before, 4),
                "mutual_information_after": round(movement.agreement.after, 4),
                "mutual_information_moved": round(movement.agreement.moved, 4),
                "covered": round(movement.agreement.covered, 4),
            }
    found = prepared.found
    return {
        "samjax": __version__,
        "case": prepared.scans.id,
        "options": options,
        "reference": prepared.reference,
        "missing": prepared.scans.missing,
        "grid": {"shape": prepared.grid.shape, "affine_from_slice_row_column": prepared.grid.affine.round(6).tolist()},
        "brain_ml": round(float(prepared.brain.sum() * np.prod(prepared.grid.spacing) / 1000), 1),
        "symmetry": round(found.symmetry, 3) if found else None,
        "closed": round(found.closed, 3) if found else None,
        "modalities": modalities,
        "doubts": list(prepared.doubts),
    }
