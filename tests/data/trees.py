"""Small generated cases, written as NIfTI trees in each layout that users have."""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

MODALITIES = ("t1", "t1gd", "t2", "flair")
OLD_NAMES = {"t1": "_t1", "t1gd": "_t1ce", "t2": "_t2", "flair": "_flair", "label": "_seg"}
NEW_NAMES = {"t1": "-t1n", "t1gd": "-t1c", "t2": "-t2w", "flair": "-t2f", "label": "-seg"}
# Source values of the canonical codes 0 to 3 (background, edema, non-enhancing, enhancing).
VALUES = {
    "brats2021": (0, 2, 1, 4),
    "brats2023": (0, 2, 1, 3),
    "gli2024": (0, 2, 1, 3),
    "ped2024": (0, 4, 2, 1),
    "msd": (0, 1, 2, 3),
}


@dataclass(frozen=True)
class Example:
    """`images` by modality, int16, and canonical `label`, uint8, of shape (slice, row, column)."""

    images: dict[str, np.ndarray]
    label: np.ndarray


def example(seed: int = 0, shape: tuple[int, int, int] = (9, 20, 16)) -> Example:
    """A box of noise with a margin of background, nowhere symmetric, and a tumour of all compartments."""
    rng = np.random.default_rng(seed)
    inside = (slice(1, shape[0] - 1), slice(2, shape[1] - 3), slice(4, shape[2] - 1))
    images = {}
    for number, modality in enumerate(MODALITIES):
        image = np.zeros(shape, np.int16)
        image[inside] = rng.integers(50, 900 + 100 * number, image[inside].shape)
        image[2:5, 6:12, 9:13] = 0  # background inside the head, as of a cavity
        images[modality] = image
    label = np.zeros(shape, np.uint8)
    label[2:7, 4:14, 5:12] = 1
    label[3:6, 5:11, 6:10] = 2
    label[4, 6:9, 7:9] = 3
    return Example(images, label)


def affine_of(orientation: str, shape: tuple[int, int, int], spacing=(1.0, 1.0, 1.0), turn: float = 0.0):
    """The affine and axis order of an array stored along `orientation` ("LPS", ...), from (S, P, L) data.

    `spacing` is (slice, row, column) in mm; `turn` rotates the grid by so many degrees about z and x.
    """
    ours = np.zeros((4, 4))
    ours[2, 0], ours[1, 1], ours[0, 2], ours[3, 3] = spacing[0], -spacing[1], -spacing[2], 1
    ours[:3, 3] = 90.0, 110.0, -60.0
    a, b = np.radians([turn, turn / 2])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("SPL"), nib.orientations.axcodes2ornt(orientation)
    )
    affine = ours @ nib.orientations.inv_ornt_aff(change, shape)
    affine[:3] = about_z @ about_x @ affine[:3]
    return affine, change


def save(path: Path, array: np.ndarray, orientation="LPS", spacing=(1.0, 1.0, 1.0), turn=0.0, dtype=None):
    """Writes a (slice, row, column[, channel]) array along `orientation`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine, change = affine_of(orientation, array.shape[:3], spacing, turn)
    stored = nib.orientations.apply_orientation(array, change)
    image = nib.Nifti1Image(stored.astype(dtype or array.dtype), affine)
    nib.save(image, path)
    return path


def save_brats(folder: Path, case_id: str, scan: Example, scheme="brats2021", suffix=".nii.gz", **how) -> Path:
    """Writes one case's files into `folder`; `scheme` None leaves the label out."""
    names = OLD_NAMES if "_" in case_id else NEW_NAMES
    for modality, image in scan.images.items():
        save(folder / f"{case_id}{names[modality]}{suffix}", image, **how)
    if scheme is not None:
        save(folder / f"{case_id}{names['label']}{suffix}", source_label(scan, scheme), **how)
    return folder


def source_label(scan: Example, scheme: str) -> np.ndarray:
    """The label in the values of `scheme`, uint8."""
    return np.array(VALUES[scheme], np.uint8)[scan.label]


def save_msd(root: Path, scans: dict[str, Example], order=("flair", "t1", "t1gd", "t2"), values="msd") -> Path:
    """A Decathlon task: 4-D files in imagesTr, labels in labelsTr, dataset.json with the given order."""
    for case_id, scan in scans.items():
        save(root / "imagesTr" / f"{case_id}.nii.gz", np.stack([scan.images[m] for m in order], -1))
        save(root / "labelsTr" / f"{case_id}.nii.gz", source_label(scan, values))
    spelled = {"flair": "FLAIR", "t1": "T1w", "t1gd": "t1gd", "t2": "T2w"}
    names = ("background", "edema", "non-enhancing tumor", "enhancing tumour")
    content = {
        "name": "BRATS",
        "modality": {str(number): spelled[modality] for number, modality in enumerate(order)},
        "labels": {str(value): name for value, name in sorted(zip(VALUES[values], names, strict=True))},
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def save_nnunet(root: Path, scans: dict[str, Example], labels: dict, order=("t1", "t1gd", "t2", "flair")) -> Path:
    """An nnU-Net raw dataset: ID_0000.nii.gz, ..., and dataset.json with `labels` as given."""
    for case_id, scan in scans.items():
        for number, modality in enumerate(order):
            save(root / "imagesTr" / f"{case_id}_{number:04d}.nii.gz", scan.images[modality])
        save(root / "labelsTr" / f"{case_id}.nii.gz", source_label(scan, "msd"))
    channels = {str(number): modality.upper() for number, modality in enumerate(order)}
    content = {"channel_names": channels, "labels": labels, "file_ending": ".nii.gz"}
    if any(isinstance(values, list) for values in labels.values()):
        content["regions_class_order"] = list(range(1, len(labels)))
    (root / "dataset.json").write_text(json.dumps(content))
    return root
