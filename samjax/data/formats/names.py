"""Parses file names: NIfTI or not, the case and modality of a scan, or the case of a label.

Names are compared as composed Unicode (NFC): some file systems store a letter and its accent separately.
"""

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from samjax.data.cases import modality_of

_SUFFIX = re.compile(r"\.nii(?:\.gz)?", re.IGNORECASE)
_OTHER_FORMAT = re.compile(r"(?P<stem>.+?)\.(?:hdr|img|mha|mhd|nrrd|mgz|dcm)(?:\.gz)?", re.IGNORECASE)

_MODALITY = (
    r"t1n|t1c|t1w|t1[-_]?pre|t1[-_]?post|t1w?[-_]?(?:ga?d|ce)|t1|ct1|"  # T1Gad, T1_CE, T1w-Gd, ...
    r"t2[-_]?flair|t2w|t2f|t2|flair"
)
_IMAGE = re.compile(rf"(?:(?P<case>.+?)?[-_])?(?P<modality>{_MODALITY})", re.IGNORECASE)
_SEGMENTATION_LIKE = re.compile(r"seg|mask|label|gtv", re.IGNORECASE)

LABEL_ENDINGS: dict[str, int] = {
    "seg": 0,  # BraTS of every year
    "segmentation": 0,
    "tumor_seg": 0,
    "tumour_seg": 0,
    "tumor_segmentation": 0,  # UCSF-PDGM
    "tumour_segmentation": 0,
    "segm": 0,  # UPENN-GBM, corrected by an expert
    "automated_approx_segm": 1,  # UPENN-GBM, as computed
    "tumorMask": 0,  # MU-Glioma-Post
    "BraTS_tumor_seg": 0,  # UCSD-PTGBM
}
"""Endings that make a file the label of a case, after its name and a separator; the lowest rank found counts."""

LABEL_NAMES: dict[str, str] = {"W39_1998.09.19_Segm": "BraTS20_Training_355"}
"""Labels of published collections whose names differ from their case's."""

LABEL_FOLDERS = ("images_segm", "automated_segm", "labels")
"""Folders (the first two of UPENN-GBM) in which labels lie apart from the scans."""

_LABEL = re.compile(
    rf"(?:(?P<case>.+?)?[-_])?(?P<ending>{'|'.join(sorted(LABEL_ENDINGS, key=len, reverse=True))})", re.IGNORECASE
)
_RANKS = {ending.lower(): rank for ending, rank in LABEL_ENDINGS.items()}

# MU-Glioma-Post names its scans, but not its labels, with "_brain".
_SCAN_INFIX = re.compile(r"(?P<case>PatientID_\d+_Timepoint_\d+)_brain", re.IGNORECASE)

_BIDS = re.compile(r"sub-[^\W_]+(?:_[a-z]+-[^\W_]+)*", re.IGNORECASE)
_BIDS_CASE = ("sub", "ses")
_BIDS_TUMOUR = re.compile(r"(?P<case>sub-.+?)_(?:desc|label)-tumou?r_(?:dseg|seg)", re.IGNORECASE)
_BIDS_STRUCTURE = ("desc", "label", "seg", "atlas", "hemi")
_WITHOUT_CONTRAST = ("none", "no", "pre")


@dataclass(frozen=True)
class ImageName:
    """A scan of one of the four modalities; `case` is None if only its folder names it."""

    case: str | None
    modality: str


@dataclass(frozen=True)
class LabelName:
    """A label; `case` is None if only its folder names it. Of several labels, those of the lowest rank count.

    `anywhere` is True if the name itself shows that it labels the tumour; the label may then lie in another folder.
    """

    case: str | None
    rank: int = 0
    anywhere: bool = False


def composed(text: str) -> str:
    """The text as composed Unicode (NFC)."""
    return unicodedata.normalize("NFC", text)


def folder_name(folder: Path) -> str:
    """The name of a folder as given; for a link its own name, not its target's."""
    return composed(os.path.basename(os.path.abspath(folder)))


def nifti_stem(name: str) -> str | None:
    """The name without `.nii` or `.nii.gz`, whatever their case; None for other files and hidden ones."""
    suffix = _SUFFIX.search(name)
    if name.startswith(".") or suffix is None or suffix.end() != len(name):
        return None
    return composed(name[: suffix.start()]) or None


def other_format_stem(name: str) -> str | None:
    """The name without its suffix, for images of formats that are not read here; None for all other files."""
    match = None if name.startswith(".") else _OTHER_FORMAT.fullmatch(name)
    return composed(match["stem"]) if match else None


def nifti_files(folder: Path) -> dict[str, list[Path]]:
    """The NIfTI files in a folder by their names without suffix, sorted; several if they differ only in the suffix."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (stem := nifti_stem(path.name)) is not None:
            found.setdefault(stem, []).append(path)
    return dict(sorted(found.items()))


def image_name(stem: str) -> ImageName | None:
    """The case and modality in the name of a scan; None if it does not end in a modality."""
    match = _IMAGE.fullmatch(stem)
    if match is None:
        return None
    case, modality = match["case"] or None, modality_of(match["modality"])
    if case is not None and (infix := _SCAN_INFIX.fullmatch(case)):
        case = infix["case"]
    if case is not None and _BIDS.fullmatch(case):
        entities = _entities(case)
        if modality == "t1" and entities.get("ce", "none").lower() not in _WITHOUT_CONTRAST:
            modality = "t1gd"
        case = _bids_case(entities)
    return ImageName(case, modality)


def label_name(stem: str) -> LabelName | None:
    """The case and rank in the name of a label; None if its ending is not known."""
    if stem in LABEL_NAMES:
        return LabelName(LABEL_NAMES[stem])
    if match := _BIDS_TUMOUR.fullmatch(stem):
        return LabelName(_bids_case(_entities(match["case"])), anywhere=True)
    match = _LABEL.fullmatch(stem)
    if match is None:
        return None
    case = match["case"] or None
    if case is not None and _BIDS.fullmatch(case):
        entities = _entities(case)
        if any(name in entities for name in _BIDS_STRUCTURE):
            return None
        case = _bids_case(entities)
    return LabelName(case, _RANKS[match["ending"].lower()])


def looks_like_segmentation(stem: str) -> bool:
    """Whether a file may be taken for a segmentation by its name."""
    return _SEGMENTATION_LIKE.search(stem) is not None


def _entities(name: str) -> dict[str, str]:
    """BIDS entities, such as sub-01_ses-2, by key."""
    pairs = (part.split("-", 1) for part in name.split("_"))
    return {key.lower(): value for key, value in pairs}


def _bids_case(entities: dict[str, str]) -> str:
    return "_".join(f"{key}-{entities[key]}" for key in _BIDS_CASE if key in entities)
