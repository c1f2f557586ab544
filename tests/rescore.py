"""Scores saved predictions with nibabel and NumPy alone, by brute force: a check that shares no code with eval.py.

python tests/rescore.py PREDICTIONS VOLUMES.CSV DATA LABEL_VALUE [LABEL_VALUE ...]
"""

import csv
import sys
from pathlib import Path

import nibabel as nib
import numpy as np


def boundary(mask: np.ndarray) -> np.ndarray:
    """Indices of the voxels with a face-neighbour outside the mask; outside the image is outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(mask.ndim):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return np.argwhere(padded & ~inner) - 1


def directed(source: np.ndarray, target: np.ndarray) -> float:
    """95th percentile of the distances from points (n, 3) to the nearest of points (m, 3)."""
    nearest = np.empty(len(source))
    for start in range(0, len(source), 256):
        part = source[start : start + 256, None, :] - target[None]
        nearest[start : start + 256] = np.sqrt((part**2).sum(-1).min(axis=1))
    return float(np.percentile(nearest, 95))


def score(predicted: np.ndarray, true: np.ndarray, spacing: np.ndarray) -> tuple[float, float]:
    """Dice and HD95 in mm by their definitions, with the documented values for empty masks."""
    if not predicted.any() and not true.any():
        return 1.0, 0.0
    dice = 2 * (predicted & true).sum() / (predicted.sum() + true.sum())
    if not predicted.any() or not true.any():
        return float(dice), float(np.linalg.norm(np.array(true.shape) * spacing))
    a, b = boundary(predicted) * spacing, boundary(true) * spacing
    return float(dice), max(directed(a, b), directed(b, a))


def rescore(
    predictions: Path, volumes: Path, data: Path, values: list[int], run: str | None = None
) -> dict[str, tuple[float, float]]:
    """Differences to the rows of `run` (None: all) in volumes.csv by case, as (Dice, HD95).

    Raises AssertionError where affines, shapes or cases differ.
    """
    differences = {}
    with open(volumes, newline="") as file:
        rows = [row for row in csv.DictReader(file) if run in (None, row["run"])]
    for row in rows:
        case = row["case"]
        label = nib.load(next(path for path in data.rglob(f"{case}*seg.nii*") if path.is_file()))
        predicted = nib.load(predictions / f"{case}.nii.gz")
        assert np.array_equal(predicted.affine, label.affine), f"{case}: another affine"
        assert predicted.shape == label.shape, f"{case}: another shape"
        true = np.isin(np.asanyarray(label.dataobj), values)
        spacing = np.sqrt((label.affine[:3, :3] ** 2).sum(axis=0))
        dice, hd95 = score(np.asanyarray(predicted.dataobj) > 0, true, spacing)
        differences[case] = abs(dice - float(row["dice"])), abs(hd95 - float(row["hd95"]))
    assert differences, "no case"
    return differences


if __name__ == "__main__":
    found = rescore(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), list(map(int, sys.argv[4:])))
    for case, (dice, hd95) in found.items():
        print(f"{case}: Dice differs by {dice:.1e}, HD95 by {hd95:.1e} mm")
