"""Groups scan files by case, and finds the name of the case and of its patient."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from samjax.data.formats.names import composed, folder_name, image_name, nifti_stem
from samjax.data.formats.scan_files import ScanFiles
from samjax.data.patients import patient_of

# Folders named after a visit: the folder above them is the patient's.
_VISIT = re.compile(
    r"(?:pre|post|intra|baseline|initial|follow[-_ ]?up|fu|recurrence|visit|session|ses|week|month|day|year|"
    r"time[-_ ]?point|tp)(?:[-_ ]?(?:op|rt|surgery|treatment|therapy))?(?:[-_ ]?\d+)*"
    r"|\d{4}[-_.]?\d\d[-_.]?\d\d",
    re.IGNORECASE,
)


@dataclass
class FoundScan:
    """The images of one case, by modality; several files for one modality are a mistake."""

    id: str
    patient: str
    images: dict[str, list[Path]] = field(default_factory=dict)
    named_by: list[Path] = field(default_factory=list)
    """The folders that give the case its name."""

    def is_named_by(self, folder: str) -> bool:
        """Whether the case has its name from a folder of this name."""
        return any(folder_name(path) == folder for path in self.named_by)

    @property
    def folders(self) -> list[Path]:
        """The folders that hold the images, sorted."""
        return sorted({path.parent for paths in self.images.values() for path in paths})


def scans_of(files: ScanFiles, root: Path) -> list[FoundScan]:
    """The images of each case, named by its files or its folder."""
    scans = {case: FoundScan(case, patient_of(case), dict(images)) for case, images in files.named.items()}
    for folder, (name, patient) in _named_by_folder(files.by_folder, root).items():
        scan = scans.setdefault(name, FoundScan(name, patient))
        scan.named_by.append(folder)
        for modality, paths in files.by_folder[folder].items():
            scan.images[modality] = scan.images.get(modality, []) + paths
    return list(scans.values())


_Folders = Mapping[Path, dict[str, list[Path]]]


def _named_by_folder(folders: _Folders, root: Path) -> dict[Path, tuple[str, str]]:
    """The name and patient of the case in each folder.

    Where folders are named after visits (P1/pre, P2/pre), or have one name and files without any other name, their
    patient is the folder above, and its name comes first. Two folders of one name whose files repeat that name are
    one case twice.
    """
    bare = {folder for folder, images in folders.items() if _without_name(images)}
    times = Counter(folder_name(folder) for folder in bare)
    of_patients = {folder.parent for folder in bare if times[folder_name(folder)] > 1}
    above = {
        folder: int((folder in bare and folder.parent in of_patients) or _is_visit(folder, root)) for folder in folders
    }
    while clashing := _clashing(above, root):
        for folder in clashing:
            above[folder] += 1
    found = {}
    for folder, count in above.items():
        name, own = _with_folders_above(folder, count, root), folder_name(folder)
        found[folder] = name, (name.removesuffix(f"_{own}") if count else patient_of(own))
    return found


def _is_visit(folder: Path, root: Path) -> bool:
    return len(folder.relative_to(root).parts) > 1 and _VISIT.fullmatch(folder_name(folder)) is not None


def _clashing(above: Mapping[Path, int], root: Path) -> list[Path]:
    """The folders that are not yet told apart by the folders above them, although more of these would do so."""
    full = {folder: _with_folders_above(folder, count, root) for folder, count in above.items()}
    times = Counter(full.values())
    return [
        folder
        for folder, count in above.items()
        if count and times[full[folder]] > 1 and count < len(folder.relative_to(root).parts) - 1
    ]


def _with_folders_above(folder: Path, above: int, root: Path) -> str:
    inner = [composed(part) for part in folder.relative_to(root).parts]
    inner = [folder_name(root), *inner] if len(inner) <= above else inner
    return "_".join(inner[-above - 1 :]) if inner else folder_name(root)


def _without_name(images: Mapping[str, list[Path]]) -> bool:
    """Whether the name of any file is only the modality."""
    stems = (nifti_stem(path.name) for paths in images.values() for path in paths)
    return any(image.case is None for stem in stems if (image := image_name(stem or "")))
