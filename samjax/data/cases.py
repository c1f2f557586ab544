"""Cases: the files, the patient and the label scheme of each, and the problems found while looking for them."""

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


@dataclass(frozen=True)
class Source:
    """The place of one modality: a NIfTI file and, in a 4-D file, the index along its last axis."""

    path: Path
    channel: int | None = None


@dataclass(frozen=True)
class Case:
    """One scan. `label` and `scheme` are None where there is no label or its scheme is not known.

    `images` has at least one of `MODALITIES`, in any order. `scheme` is an argument for `labels.find_scheme`, and
    `scheme_source` its source in words. `patient` is shared by the follow-up scans of one person.
    """

    id: str
    patient: str
    domain: str
    images: Mapping[str, Source]
    label: Path | None
    scheme: str | None
    layout: str
    scheme_source: str = ""
    why_missing: str = ""
    """The reason why modalities are missing, in words, where the files give one."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the case has, in the order of `MODALITIES`."""
        return tuple(modality for modality in MODALITIES if modality in self.images)

    @property
    def reference(self) -> Source:
        """The image that stands for the case's grid and header: that of the first modality it has."""
        return self.images[self.modalities[0]]

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case, once each, images first."""
        paths = [self.images[modality].path for modality in self.modalities]
        return tuple(dict.fromkeys([*paths, self.label] if self.label else paths))

    @property
    def identity(self) -> int:
        """A number below 2**31 made of the domain and the id, on which the random draws for a case depend."""
        return zlib.crc32(f"{self.domain}/{self.id}".encode()) >> 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a case, in one line; `unusable` when the case cannot be read because of it.

    `ignored` is True for a file that belongs to no case; `case` is then the name of the file.
    """

    case: str
    path: Path
    message: str
    unusable: bool = True
    ignored: bool = False


def modality_of(text: str) -> str | None:
    """The canonical modality that `text` spells ("T1w", "t1ce", "T2-FLAIR"), or None."""
    return _SPELLINGS.get(re.sub(r"[-_ ]", "", text).lower())


def lacking_problem(case: Case) -> Problem | None:
    """The problem of a case that lacks some modalities: it is usable for models that can do without them."""
    lacking = [modality for modality in MODALITIES if modality not in case.images]
    if not lacking:
        return None
    why = f"; {case.why_missing}" if case.why_missing else ""
    message = f"case {case.id}: no {', '.join(lacking)} (has {', '.join(case.modalities)}){why}"
    return Problem(case.id, case.reference.path.parent, message, unusable=False)
