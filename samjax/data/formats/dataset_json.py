"""The layouts with a dataset.json: Decathlon (one 4-D file a case), nnU-Net raw (`ID_0000.nii.gz`, ...)."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from samjax.data.cases import MODALITIES, Case, Problem, Source, missing_modalities, modality_of, patient_of
from samjax.data.formats.nifti import read_header
from samjax.data.labels import BACKGROUND, EDEMA, ENHANCING, NON_ENHANCING, scheme_text
from samjax.errors import UserError

DESCRIPTION = "dataset.json"
_CHANNEL_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")

# What a label's name in dataset.json means, tried in this order: codes of a compartment or a region.
_LABEL_NAMES: tuple[tuple[re.Pattern[str], frozenset[int]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), frozenset(codes))
    for pattern, codes in (
        (r"background|ignore|cavity|\brc\b", {BACKGROUND}),
        (r"non[-_ ]?enh|necro|\bncr\b|\bnetc?\b|cyst", {NON_ENHANCING}),
        (r"o?edema|\bed\b|snfh|hyperintens", {EDEMA}),
        (r"whole|\bwt\b", {EDEMA, NON_ENHANCING, ENHANCING}),
        (r"core|\btc\b", {NON_ENHANCING, ENHANCING}),
        (r"enhanc|\bet\b", {ENHANCING}),
    )
)


def description_of(root: Path) -> Path | None:
    """The dataset.json that describes `root`: inside it, above its images folder, or in its only dataset."""
    if (root / DESCRIPTION).is_file() and any(root.glob("images*")):
        return root / DESCRIPTION
    if root.resolve().name.startswith("images") and (root.parent / DESCRIPTION).is_file():
        return root.parent / DESCRIPTION
    inner = sorted(path for path in root.glob(f"*/{DESCRIPTION}") if any(path.parent.glob("images*")))
    if len(inner) > 1:
        names = ", ".join(path.parent.name for path in inner)
        raise UserError(f"{root}: holds several datasets ({names}); point at one of them")
    return inner[0] if inner else None


def find_described(
    root: Path, description: Path, domain: str, layout: str | None, labels: str | None, read_labels: bool
) -> tuple[list[Case], list[Problem]]:
    """The cases of a Decathlon or nnU-Net folder, and the problems of those that cannot be used.

    `root` is the dataset's folder (then imagesTr is read) or one of its images folders.

    Raises:
      UserError: dataset.json cannot be read, or does not say what channels or labels are.
    """
    images = root if root.resolve().name.startswith("images") else description.parent / "imagesTr"
    files = {
        _stem(path): path
        for path in sorted(images.glob("*.nii*"))
        if not path.name.startswith(".") and path.name.endswith((".nii", ".nii.gz"))
    }
    if not files:
        raise UserError(f"{images}: no NIfTI files, though {description} describes some")
    content = _read(description)
    channels = _channels(content, description)
    layout = layout or ("nnunet" if _one_file_a_channel(files) else "msd")
    label_files = {_stem(path): path for path in (images.parent / _labels_folder(images)).glob("*.nii*")}
    cases, problems = [], []
    by_case = _split_channels(files, channels) if layout == "nnunet" else _whole_files(files, channels)
    for case_id, sources in by_case.items():
        if problem := missing_modalities(case_id, sources, images):
            problems.append(problem)
            continue
        label = label_files.get(case_id) if read_labels else None
        scheme = labels or _scheme(content, description, required=label is not None)
        cases.append(Case(case_id, patient_of(case_id), domain, sources, label, scheme, layout))
    return cases, problems


def scheme_of(description: Path) -> str | None:
    """The scheme that the `labels` of a dataset.json spell; None if they do not name all compartments.

    Raises:
      UserError: it cannot be read.
    """
    return _scheme(_read(description), description, required=False)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _one_file_a_channel(files: Mapping[str, Path]) -> bool:
    numbered = [path for stem, path in files.items() if _CHANNEL_FILE.fullmatch(stem)]
    for path in numbered:
        with suppress(UserError):  # one that is damaged does not decide
            return len(read_header(path).get_data_shape()) < 4
    return bool(numbered)


def _labels_folder(images: Path) -> str:
    return images.resolve().name.replace("images", "labels", 1)


def _read(description: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{description}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{description}: expected an object with channel_names (or modality) and labels")
    return content


def _channels(content: Mapping[str, Any], description: Path) -> dict[int, str]:
    """Channel number -> canonical modality; channels that are none of the four are left out."""
    named = content.get("channel_names", content.get("modality"))
    if not isinstance(named, dict):
        raise UserError(f"{description}: no channel_names (or modality), which give the order of the channels")
    found: dict[int, str] = {}
    for number, name in named.items():
        modality = modality_of(str(name))
        if modality is None:
            continue
        if modality in found.values():
            raise UserError(f"{description}: two channels are called {modality}; expected each modality once")
        found[_whole_number(number, description)] = modality
    missing = [modality for modality in MODALITIES if modality not in found.values()]
    if missing:
        listed = ", ".join(map(str, named.values()))
        raise UserError(f"{description}: no channel is {', '.join(missing)} (channels: {listed}); all four are needed")
    return found


def _whole_files(files: Mapping[str, Path], channels: Mapping[int, str]) -> dict[str, dict[str, Source]]:
    return {
        case_id: {modality: Source(path, channel) for channel, modality in channels.items()}
        for case_id, path in files.items()
    }


def _split_channels(files: Mapping[str, Path], channels: Mapping[int, str]) -> dict[str, dict[str, Source]]:
    cases: dict[str, dict[str, Source]] = {}
    for stem, path in files.items():
        match = _CHANNEL_FILE.fullmatch(stem)
        if match is None:
            raise UserError(f"{path}: expected a channel number before the suffix, such as _0000.nii.gz")
        sources = cases.setdefault(match["case"], {})
        modality = channels.get(int(match["channel"]))
        if modality is not None:
            sources[modality] = Source(path)
    return cases


def _scheme(content: Mapping[str, Any], description: Path, *, required: bool) -> str | None:
    """The scheme that dataset.json's `labels` spell: name -> value or values, or value -> name."""
    named = content.get("labels")
    meanings = _meanings(named if isinstance(named, dict) else {}, description)
    if all(len(meaning) == 1 for meaning in meanings.values()):
        codes = {0: BACKGROUND, **{value: min(meaning) for value, meaning in sorted(meanings.items())}}
        if {EDEMA, NON_ENHANCING, ENHANCING} <= set(codes.values()):
            return scheme_text(codes)
    if required:
        raise UserError(
            f"{description}: its labels ({named}) do not name edema, non-enhancing and enhancing tumour; "
            "say what the values mean with --labels, such as --labels edema=1,non-enhancing=2,enhancing=3"
        )
    return None


def _meanings(named: Mapping[str, Any], description: Path) -> dict[int, frozenset[int]]:
    """Value -> the canonical codes it may have, one each where the names make sense; empty if one does not.

    nnU-Net's regions overlap: with whole tumour (1, 2, 3), core (2, 3) and enhancing (3), value 1 is what
    whole tumour has beyond the core. So a value means what all the regions listing it have in common,
    less what the smaller ones among the others take.
    """
    common: dict[int, frozenset[int]] = {}
    for name, values in _names_and_values(named, description):
        meaning = next((codes for pattern, codes in _LABEL_NAMES if pattern.search(name)), None)
        if meaning is None:
            return {}
        for value in values:
            common[value] = common.get(value, meaning) & meaning
    return {
        value: meaning.difference(*(other for other in common.values() if other < meaning))
        for value, meaning in common.items()
    }


def _names_and_values(named: Mapping[str, Any], description: Path) -> list[tuple[str, list[int]]]:
    pairs = []
    for key, value in named.items():
        name, values = (str(value), [key]) if key.isdigit() else (key, value)
        values = values if isinstance(values, list) else [values]
        pairs.append((name, [_whole_number(number, description) for number in values]))
    return pairs


def _whole_number(text: Any, description: Path) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        raise UserError(f"{description}: {text!r} is not the number of a channel or label") from None
