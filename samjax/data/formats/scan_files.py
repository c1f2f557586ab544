"""The files under a folder, sorted by their names: scans, labels, other segmentations, other formats."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from samjax.data.formats.names import (
    LabelName,
    folder_name,
    image_name,
    label_name,
    looks_like_segmentation,
    nifti_stem,
    other_format_stem,
)
from samjax.errors import UserError

_RADIOTHERAPY = re.compile(r"brats-men-rt-", re.IGNORECASE)


@dataclass
class ScanFiles:
    """The files below a folder: images by case or, if only the folder names it, by folder; and all others."""

    named: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    by_folder: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)
    labels: list[tuple[Path, LabelName]] = field(default_factory=list)
    unknown_segmentations: list[Path] = field(default_factory=list)
    unread: list[tuple[Path, str]] = field(default_factory=list)
    """Images of other formats, and their names without suffix."""


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders under `root`, links followed except to a folder around them, with the sorted names of their files.

    Hidden files and folders are passed over.
    """
    yield from _walk(root, frozenset())


def _walk(folder: Path, around: frozenset[str]) -> Iterator[tuple[Path, list[str]]]:
    real = os.path.realpath(folder)
    if real in around:
        return
    try:
        with os.scandir(folder) as entries:
            kinds = {entry.name: entry.is_dir() for entry in entries if not entry.name.startswith(".")}
    except OSError:
        return
    yield folder, sorted(name for name, is_folder in kinds.items() if not is_folder)
    for name in sorted(name for name, is_folder in kinds.items() if is_folder):
        yield from _walk(folder / name, around | {real})


def collect_files(root: Path) -> ScanFiles:
    """All image and label files under `root`; MEN-RT cases are refused by a `UserError`."""
    found = ScanFiles()
    for folder, names in walk(root):
        for name in names:
            path, stem = folder / name, nifti_stem(name)
            if stem is None:
                if (stem := other_format_stem(name)) is not None:
                    found.unread.append((path, stem))
            elif image := image_name(stem):
                if _RADIOTHERAPY.match(stem):
                    raise UserError(
                        f"{path}: BraTS MEN-RT has T1Gd alone and a target volume in place of the tumour's "
                        "regions; it cannot be used here, leave it out of the folder"
                    )
                images = (
                    found.by_folder.setdefault(folder, {})
                    if image.case is None or image.case == folder_name(folder)
                    else found.named.setdefault(image.case, {})
                )
                images.setdefault(image.modality, []).append(path)
            elif label := label_name(stem):
                found.labels.append((path, label))
            elif looks_like_segmentation(stem):
                found.unknown_segmentations.append(path)
    return found
