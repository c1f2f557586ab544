"""Generated heads of 3 mm voxels in known poses, written as a hospital might have them."""

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

from samjax.data.synthetic.head import Head, Pose, Sequence, make_head, scan_head, true_brain
from samjax.prepare.grid import Grid, voxels_to_points

SPACING = 3.0
FIRST = Pose((3.0, -2.0, 4.0), (2.0, 4.0, -3.0))
"""Where the head lies in T1-Gd."""
POSES = {
    "t1gd": FIRST,
    "t1": Pose((9.0, 2.0, -9.0), (14.0, -5.0, 8.0)),
    "t2": Pose((-4.0, 7.0, 13.0), (-8.0, 14.0, 5.0)),
    "flair": Pose((3.0, -12.0, 12.0), (-8.0, -8.0, 6.0)),
}
"""Each 16 to 18 mm and about 15 degrees away from T1-Gd."""
ORIENTATIONS = {"t1gd": "PSR", "t1": "LPS", "t2": "RAS", "flair": "LAS"}
"""How each file stores its axes."""


@cache
def head(seed: int, tumour: str = "inside") -> Head:
    """A head, made once."""
    return make_head(seed, SPACING, tumour)


def scan(seed: int, modality: str, pose: Pose, lowest: float = -100.0) -> tuple[np.ndarray, np.ndarray]:
    """One scan of a head: (i, j, k) int16 and its affine."""
    sequence = Sequence((SPACING,) * 3, noise=0.04, bias=0.15, lowest=lowest)
    return scan_head(head(seed), modality, 5, pose, sequence)


def save(path: Path, array: np.ndarray, affine: np.ndarray, orientation: str) -> None:
    """Writes a scan with its axes along `orientation`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    nib.save(image.as_reoriented(nib.orientations.axcodes2ornt(orientation)), path)


def save_head(folder: Path, seed: int, modalities: tuple[str, ...] = tuple(POSES)) -> None:
    """Writes scans of a head in `POSES`, each with a field of view and an orientation of its own."""
    for number, modality in enumerate(modalities):
        array, affine = scan(seed, modality, POSES[modality], lowest=-100.0 + 6 * number)
        save(folder / f"{modality}.nii.gz", array, affine, ORIENTATIONS[modality])


def wanted(modality: str, reference: str = "t1gd") -> np.ndarray:
    """The true 4 x 4 matrix from points of the reference to points of a scan, in RAS millimetres."""
    return POSES[modality].matrix @ np.linalg.inv(POSES[reference].matrix)


def error(found: np.ndarray, true: np.ndarray, seed: int) -> tuple[float, float]:
    """The largest distance in the brain of a head in T1-Gd, in mm, and the angle, in degrees, between two matrices."""
    brain = voxels_to_points(np.argwhere(head(seed).brain)[::53], head(seed).affine)
    points = voxels_to_points(brain, FIRST.matrix)
    apart = np.linalg.norm(voxels_to_points(points, found) - voxels_to_points(points, true), axis=1).max()
    turn = (np.trace(found[:3, :3] @ true[:3, :3].T) - 1) / 2
    return float(apart), float(np.degrees(np.arccos(np.clip(turn, -1, 1))))


def brain_on(seed: int, grid: Grid, pose: Pose = FIRST) -> np.ndarray:
    """The true brain of a head in a pose, on a grid."""
    return true_brain(head(seed), grid.affine, grid.shape, pose)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))
