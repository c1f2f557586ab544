"""What a case is: its files, its patient, and the problems found while looking for it."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODALITIES = ("t1", "t1gd", "t2", "flair")

# Spellings of the modalities in file names and dataset.json, lower case, without separators.
_SPELLINGS = {
    **dict.fromkeys(("t1", "t1n", "t1w", "t1pre"), "t1"),
    **dict.fromkeys(("t1gd", "t1c", "t1ce", "t1gad", "t1wgd", "t1wgad", "t1wce", "ct1", "t1post"), "t1gd"),
    **dict.fromkeys(("t2", "t2w"), "t2"),
    **dict.fromkeys(("flair", "t2f", "t2flair"), "flair"),
}

# Names that end in the visit. "~" stands for "-", "_", "/" or a space: data sets that are made of these collections
# (nnU-Net's raw folders, exports) join the parts by other characters than the collection did, and put words before.
_VISIT = r"(?:ses|session|visit|time~?point|tp|week|day|fu|follow~?up)~?\d+[a-z]?(?:~\d+)?"
_FOLLOW_UPS = tuple(
    re.compile(pattern.replace("~", "[-_/ ]"), re.IGNORECASE)
    for pattern in (
        r"(?P<patient>(?:.+~)?brats~[a-z]+~\d{5})(?:~.+)?",  # BraTS 2023 on: -000, -001; post-treatment -100, -101
        r"(?P<patient>(?:.+~)?brats1[5-9]~.+)~\d+",  # BraTS 2015 to 2019: Brats18_TCIA01_201_1
        r"(?P<patient>(?:.+~)?brats~(?:2013|tcia)~pat\d+)~\d+",  # BraTS 2015's own names: brats_tcia_pat101_0001
        r"(?P<patient>(?:.+~)?rhuh~(?:gbm~)?\d+)~\d+",  # RHUH-GBM: RHUH-0001_0, _1, _2
        r"(?P<patient>(?:.+~)?upenn~gbm~\d+)(?:~.+)?",  # UPENN-GBM-00001_11, _21
        r"(?P<patient>(?:.+~)?ucsf~pdgm~\d+)(?:~.+)?",  # UCSF-PDGM-0001_FU003d, folders with _nifti
        r"(?P<patient>(?:.+~)?ucsd~ptgbm~\d+)(?:~.+)?",  # UCSD-PTGBM-0001_01
        r"(?P<patient>(?:.+~)?patient~?id~?\d+)~timepoint.+",  # MU-Glioma-Post: PatientID_0003_Timepoint_1
        r"(?P<patient>(?:.+~)?patient~\d+)~week.+",  # LUMIERE: Patient-001/week-000-1
        r"(?P<patient>.+-\d{5})-\d{3}",
        r"(?P<patient>.+?)~ses-[a-z0-9]+.*",  # BIDS sessions
        rf"(?P<patient>.+?)~(?:{_VISIT}|pre|post|(?:pre|post)~?op|baseline)",
    )
)


@dataclass(frozen=True)
class Source:
    """Where one modality lies: a NIfTI file and, in a 4-D file, the index along its last axis."""

    path: Path
    channel: int | None = None


@dataclass(frozen=True)
class Case:
    """One scan. `label` and `scheme` are None where there is no label or its scheme is not known.

    `images` has every one of `MODALITIES`. `scheme` is what `labels.find_scheme` takes, `scheme_source` says in words
    where it is known from. `patient` is shared by the follow-up scans of one person.
    """

    id: str
    patient: str
    domain: str
    images: Mapping[str, Source]
    label: Path | None
    scheme: str | None
    layout: str
    scheme_source: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case, once each, images first."""
        paths = [self.images[modality].path for modality in MODALITIES]
        return tuple(dict.fromkeys([*paths, self.label] if self.label else paths))

    @property
    def identity(self) -> int:
        """A number below 2**31 made of the domain and the id: what is drawn at random for a case depends on it."""
        return zlib.crc32(f"{self.domain}/{self.id}".encode()) >> 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a case, in one line; `unusable` when the case cannot be read because of it.

    `ignored` where it is a file that no case has anything to do with; `case` is then the name of the file.
    """

    case: str
    path: Path
    message: str
    unusable: bool = True
    ignored: bool = False


def patient_of(case_id: str) -> str:
    """The patient of a case: its id without what names the visit, where the naming is one of those known here."""
    for pattern in _FOLLOW_UPS:
        if match := pattern.fullmatch(case_id):
            return match["patient"]
    return case_id


def patient_key(patient: str) -> str:
    """A patient's name without the differences that copying makes: upper case, and what joins its parts."""
    return re.sub(r"[-_/ ]+", "-", patient).lower()


def modality_of(text: str) -> str | None:
    """The canonical modality that `text` spells ("T1w", "t1ce", "T2-FLAIR"), or None."""
    return _SPELLINGS.get(re.sub(r"[-_ ]", "", text).lower())


def missing_modalities(case_id: str, found: Mapping[str, object], folder: Path) -> Problem | None:
    """The problem of a case that lacks some of the four modalities."""
    missing = [modality for modality in MODALITIES if modality not in found]
    if not missing:
        return None
    have = ", ".join(modality for modality in MODALITIES if modality in found) or "none of them"
    return Problem(
        case_id,
        folder,
        f"case {case_id}: no {', '.join(missing)} (has {have}); all four modalities are needed",
    )
