"""Writes a run's patients and split as a dataset of nnU-Net v2 (`samjax nnunet`).

Training and validation cases go to imagesTr, test cases to imagesTs, so that nnU-Net plans, preprocesses and trains
without having seen a test patient. docs/nnunet.md has the next steps.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samjax.data.cases import MODALITIES, Case, Source
from samjax.data.formats.nifti import read_header, write_like
from samjax.data.imaging.geometry import Geometry, geometry_of, to_source
from samjax.data.imaging.volumes import Scan, read_scan, verify_grid
from samjax.data.labels import BACKGROUND, COMPARTMENTS, IGNORED, find_scheme, to_canonical
from samjax.data.splits import PARTS, Splits
from samjax.errors import UserError
from samjax.files import replacing
from samjax.options import NnunetOptions

SUFFIX = ".nii.gz"
CHANNEL_NAMES = {"t1": "T1", "t1gd": "T1Gd", "t2": "T2", "flair": "FLAIR"}
"""Spellings that nnU-Net standardises by their z-score, as it does with any name but a few such as CT."""
LABELS = {"background": BACKGROUND, **COMPARTMENTS}
"""The canonical codes, which are consecutive, as nnU-Net wants its labels."""


@dataclass(frozen=True)
class Exported:
    """Paths of a dataset: `raw` its folder in nnUNet_raw, `splits` its splits_final.json in nnUNet_preprocessed."""

    raw: Path
    splits: Path
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def export_nnunet(
    cases: Sequence[Case], splits: Splits, out: Path, name: str, number: int = NnunetOptions.number
) -> Exported:
    """Writes the labelled cases of all parts of a split as a raw dataset of nnU-Net v2.

    The channels are the modalities that the cases have. Images that are 3-D .nii.gz files on the grid of their case's
    first image are hard-linked, or copied where `out` is on another file system; all others, and the labels, are
    written anew.

    Args:
        cases: cases whose patients `splits` divides; others are left out.
        out: a folder; nnUNet_raw/DatasetNNN_NAME and nnUNet_preprocessed/DatasetNNN_NAME are made in it.
        name: name of the dataset; characters other than letters and digits become "-".
        number: number of the dataset, 1 to 999.

    Raises:
        UserError: the dataset is there already, two cases have one id, a part is empty, a case lacks a modality that
            others have, or a file cannot be used.
    """
    if not 1 <= number <= 999:
        raise UserError(f"--number {number}: expected 1 to 999")
    dataset = f"Dataset{number:03d}_{re.sub(r'[^A-Za-z0-9]+', '-', name)}"
    raw, split_file = out / "nnUNet_raw" / dataset, out / "nnUNet_preprocessed" / dataset / "splits_final.json"
    for path in (raw, split_file):
        if path.exists():
            raise UserError(f"{path}: exists already; remove it, or give the dataset another --number")
    parts = {part: [case for case in splits.select(cases, part) if case.label is not None] for part in PARTS}
    _verify(parts)
    modalities = _common_modalities([case for part in parts.values() for case in part])
    raw.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=raw.parent, prefix=".tmp-") as temporary:
        folder = Path(temporary) / dataset
        for part, members in parts.items():
            for case in members:
                _write_case(case, folder, "Ts" if part == "test" else "Tr")
        members = [case for part in parts.values() for case in part]
        description = _description(modalities, len(parts["train"]) + len(parts["val"]), _has_ignored(members))
        (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n")
        folder.rename(raw)
    ids = {part: tuple(case.id for case in members) for part, members in parts.items()}
    with replacing(split_file) as temporary_file:
        temporary_file.write_text(json.dumps([{"train": ids["train"], "val": ids["val"]}], indent=2) + "\n")
    return Exported(raw, split_file, **ids)


def _verify(parts: dict[str, list[Case]]) -> None:
    """Refuses empty parts, and cases that would get the same files (as in two domains, or with --overfit)."""
    seen: dict[str, Case] = {}
    for part, members in parts.items():
        if not members:
            raise UserError(f"no labelled case is of the {part} part; is the data where the run found it?")
        for case in members:
            if case.id in seen:
                where = {seen[case.id].domain, case.domain}
                twice = f"in {' and in '.join(sorted(where))}" if len(where) > 1 else "in two parts of the split"
                raise UserError(f"case {case.id}: {twice}; nnU-Net needs every case once")
            seen[case.id] = case


def _common_modalities(cases: Sequence[Case]) -> tuple[str, ...]:
    """The modalities of the cases; refuses cases that lack one that others have."""
    found = tuple(modality for modality in MODALITIES if any(modality in case.images for case in cases))
    for case in cases:
        if case.modalities != found:
            missing = ", ".join(modality for modality in found if modality not in case.images)
            raise UserError(
                f"case {case.id}: no {missing}, which other cases have; nnU-Net needs the same channels in every case"
            )
    return found


def _has_ignored(cases: Sequence[Case]) -> bool:
    """Whether some voxels of the labels are not to be counted."""
    return any(case.scheme is not None and find_scheme(case.scheme).ignored for case in cases)


def _description(modalities: Sequence[str], training: int, ignored: bool) -> dict[str, object]:
    """The content of dataset.json; `ignored` adds nnU-Net's label for voxels that are not to be counted."""
    return {
        "channel_names": {str(number): CHANNEL_NAMES[modality] for number, modality in enumerate(modalities)},
        "labels": LABELS | ({"ignore": IGNORED} if ignored else {}),
        "numTraining": training,
        "file_ending": SUFFIX,
    }


def _write_case(case: Case, folder: Path, part: str) -> None:
    """Writes imagesTr/CASE_0000.nii.gz, ... and labelsTr/CASE.nii.gz, or those of Ts."""
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(exist_ok=True)
    first = case.reference
    grid, opened = _grid(first.path), {}
    reference = None
    for number, modality in enumerate(case.modalities):
        source, target = case.images[modality], images / f"{case.id}_{number:04d}{SUFFIX}"
        if source.channel is None and source.path.name.endswith(SUFFIX) and _grid(source.path, flat=True) == grid:
            _link(source.path.resolve(), target)
        else:
            reference = reference or read_scan(first, opened)
            scan = read_scan(source, opened)
            _write(target, scan, scan.array, first.path, reference)
    reference = reference or read_scan(first, opened)
    label = read_scan(Source(case.label), opened)
    if case.scheme is None:
        raise UserError(f"{case.label}: the scheme of its values is not known; name it with --labels")
    codes = to_canonical(label.array, case.scheme, case.label)
    _write(labels / f"{case.id}{SUFFIX}", label, codes, first.path, reference)


def _grid(path: Path, flat: bool = False) -> Geometry | None:
    """The grid of a file's volumes; with `flat`, None for a file that is not 3-D."""
    header = read_header(path)
    shape = header.get_data_shape()
    if len(shape) < 3 or (flat and len(shape) != 3):
        return None
    return geometry_of(shape[:3], header.get_best_affine(), path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one that has no hard links
        shutil.copyfile(source, target)


def _write(target: Path, scan: Scan, array: np.ndarray, like: Path, reference: Scan) -> None:
    """Writes `array` (slice, row, column), which is on the grid of `scan`, on the axes of the reference's file."""
    verify_grid(scan, reference)
    write_like(target, to_source(array, reference.geometry), like, array.dtype)
