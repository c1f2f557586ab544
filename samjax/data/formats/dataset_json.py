"""The layouts with a dataset.json: Decathlon (one 4-D file per case), nnU-Net raw (`ID_0000.nii.gz`, ...)."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samjax.data.cases import MODALITIES, Case, Problem, Source, modality_of
from samjax.data.formats.dataset_json_labels import (
    DESCRIPTION,
    dataset_scheme,
    read_description,
    whole_number,
)
from samjax.data.formats.label_files import ignored_label
from samjax.data.formats.names import folder_name, image_name, nifti_files, nifti_stem
from samjax.data.formats.nifti import read_header
from samjax.data.formats.scan_files import walk
from samjax.data.patients import patient_of
from samjax.errors import UserError

_IMAGES = re.compile(r"images(?P<part>Tr|Ts|Te|Val)?")
_CHANNEL_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def description_of(root: Path) -> Path | None:
    """The dataset.json that describes `root`: inside it, above its images folder, or in its only dataset.

    A dataset.json without a folder such as imagesTr next to it is passed over.

    Raises:
      UserError: `root` holds several datasets, or one and BraTS files beside it.
    """
    if (root / DESCRIPTION).is_file() and _has_images(root):
        return root / DESCRIPTION
    above = Path(os.path.abspath(root)).parent / DESCRIPTION
    if _IMAGES.fullmatch(folder_name(root)) and above.is_file():
        return above
    inner = sorted(path for path in root.glob(f"*/{DESCRIPTION}") if _has_images(path.parent))
    if len(inner) > 1:
        names = ", ".join(path.parent.name for path in inner)
        raise UserError(f"{root}: holds several datasets ({names}); point at one of them")
    if inner and (other := _scan_outside(root, inner[0].parent)):
        raise UserError(f"{root}: holds the dataset {inner[0].parent.name} and other scans ({other}); point at one")
    return inner[0] if inner else None


def find_described(
    root: Path, description: Path, domain: str, layout: str | None, labels: str | None, read_labels: bool
) -> tuple[list[Case], list[Problem]]:
    """The cases of a Decathlon or nnU-Net folder, and the problems of those that cannot be used.

    `root` is the dataset's folder (then imagesTr is read) or one of its images folders.

    Raises:
      UserError: dataset.json cannot be read, contradicts itself or the files, or does not describe its channels or
        labels are.
    """
    images = root if _IMAGES.fullmatch(folder_name(root)) else description.parent / "imagesTr"
    files = nifti_files(images)
    if not files:
        others = sorted(path for path in description.parent.glob("images*") if path != images and nifti_files(path))
        advice = f"; point at {others[0]}" if others else ""
        raise UserError(f"{images}: no NIfTI files, though {description} describes some{advice}")
    content = read_description(description)
    named = _channel_names(content, description)
    channels = _channels_of(named, description)
    _verify_ending(content.get("file_ending"), files, description)
    layout = layout or ("nnunet" if _one_file_a_channel(files) else "msd")
    if layout == "nnunet":
        found, problems = _split_channels(files, channels, _channel_count(content))
    else:
        found, problems = _whole_files(files, channels)
    chosen = _DescribedLabels()
    if read_labels:
        chosen = _choose_labels(images, [*found, *{problem.case for problem in problems}])
    unnamed = set(MODALITIES) - set(channels.values())
    why = f"the channels of {description.name} are {', '.join(named.values())}" if unnamed else ""
    cases = []
    for case_id, sources in found.items():
        if problem := chosen.problem_of.get(case_id) or _nothing_known(case_id, sources, images, named):
            problems.append(problem)
            continue
        label = chosen.label_of.get(case_id)
        if labels:
            scheme, source = labels, "from --labels"
        else:
            scheme = dataset_scheme(content, description, required=label is not None)
            source = f"from {description}" if scheme else ""
        cases.append(Case(case_id, patient_of(case_id), domain, sources, label, scheme, layout, source, why))
    return cases, problems + chosen.ignored


def _channel_names(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Channel number -> the name that dataset.json gives it.

    Raises:
      UserError: there are no names, or two lists of them differ.
    """
    lists = [content[key] for key in ("channel_names", "modality") if key in content]
    if not lists:
        raise UserError(f"{path}: no channel_names (or modality), which give the order of the channels")
    for given in lists:
        if not isinstance(given, dict):
            raise UserError(f'{path}: channel_names (or modality) is {given!r}; expected {{"0": "T1", "1": ...}}')
    found, *others = ({whole_number(key, path): str(name) for key, name in given.items()} for given in lists)
    if any(other != found for other in others):
        raise UserError(f"{path}: channel_names ({lists[0]}) and modality ({lists[1]}) differ; remove one")
    return found


def _channels_of(named: Mapping[int, str], path: Path) -> dict[int, str]:
    """Channel number -> canonical modality, from the channels' names; channels that are none of the four are left out.

    Raises:
      UserError: a modality is named twice, or none is named.
    """
    channels: dict[int, str] = {}
    for number, name in named.items():
        modality = modality_of(name)
        if modality is None:
            continue
        if modality in channels.values():
            raise UserError(f"{path}: two channels are called {modality}; expected each modality once")
        channels[number] = modality
    if not channels:
        raise UserError(f"{path}: no channel is any of {', '.join(MODALITIES)} (channels: {', '.join(named.values())})")
    return channels


def _channel_count(content: Mapping[str, Any]) -> int:
    """The number of channels that are named, those of other modalities included."""
    return len(content.get("channel_names", content.get("modality", {})))


def _has_images(folder: Path) -> bool:
    """Whether there is a folder such as imagesTr; one just called images must hold the NIfTI files itself."""
    return any(
        match and (match["part"] or nifti_files(path))
        for path in folder.glob("images*")
        if (match := _IMAGES.fullmatch(path.name))
    )


def _scan_outside(root: Path, dataset: Path) -> Path | None:
    """A scan in BraTS layout under `root` that is not in the dataset's folder."""
    for folder, names in walk(root):
        if folder != dataset and dataset not in folder.parents:
            for name in names:
                if image_name(nifti_stem(name) or ""):
                    return folder / name
    return None


def _verify_ending(ending: object, files: Mapping[str, list[Path]], description: Path) -> None:
    """Refuses a file_ending that none of the files has."""
    names = [path.name for paths in files.values() for path in paths]
    if ending is not None and not any(name.lower().endswith(str(ending).lower()) for name in names):
        raise UserError(
            f"{description}: file_ending is {ending!r}, but none of the {len(names)} files has it ({names[0]}, ...); "
            "correct it"
        )


def _one_file_a_channel(files: Mapping[str, list[Path]]) -> bool:
    numbered = [paths[0] for stem, paths in files.items() if _CHANNEL_FILE.fullmatch(stem)]
    for path in numbered:
        with suppress(UserError):  # one that is damaged does not decide
            return len(read_header(path).get_data_shape()) < 4
    return bool(numbered)


_Found = tuple[dict[str, dict[str, Source]], list[Problem]]


def _whole_files(files: Mapping[str, list[Path]], channels: Mapping[int, str]) -> _Found:
    """Each case's channels in its 4-D file."""
    problems = [_twice(stem, "files", paths) for stem, paths in files.items() if len(paths) > 1]
    cases = {
        case_id: {modality: Source(paths[0], channel) for channel, modality in channels.items()}
        for case_id, paths in files.items()
        if len(paths) == 1
    }
    return cases, problems


def _split_channels(files: Mapping[str, list[Path]], channels: Mapping[int, str], named: int) -> _Found:
    """Each case's files of one channel each."""
    cases: dict[str, dict[str, Source]] = {}
    problems: dict[str, Problem] = {}
    for stem, paths in files.items():
        match = _CHANNEL_FILE.fullmatch(stem)
        if match is None:
            message = f"{paths[0].name}: expected a channel number before the suffix, such as _0000.nii.gz"
            problems.setdefault(stem, Problem(stem, paths[0], message))
            continue
        case, channel = match["case"], int(match["channel"])
        if len(paths) > 1:
            problems.setdefault(case, _twice(case, f"files for channel {channel}", paths))
        elif channel >= named and channel not in channels:
            message = f"case {case}: {paths[0].name} is channel {channel}, but {DESCRIPTION} names {named} channels"
            problems.setdefault(case, Problem(case, paths[0], message))
        sources = cases.setdefault(case, {})
        if channel in channels:
            sources[channels[channel]] = Source(paths[0])
    return {case: sources for case, sources in cases.items() if case not in problems}, list(problems.values())


def _nothing_known(case: str, sources: Mapping[str, Source], images: Path, named: Mapping[int, str]) -> Problem | None:
    """The problem of a case whose files are all of other modalities."""
    if sources:
        return None
    listed = ", ".join(named.values())
    return Problem(case, images, f"case {case}: none of {', '.join(MODALITIES)} (channels: {listed})")


def _twice(case: str, what: str, paths: list[Path]) -> Problem:
    return Problem(case, paths[1], f"case {case}: two {what}, {paths[0].name} and {paths[1].name}; remove one")


@dataclass
class _DescribedLabels:
    """The label of each case, the problems of cases whose label is uncertain, and files that are no case's label."""

    label_of: dict[str, Path] = field(default_factory=dict)
    problem_of: dict[str, Problem] = field(default_factory=dict)
    ignored: list[Problem] = field(default_factory=list)


def _choose_labels(images: Path, cases: list[str]) -> _DescribedLabels:
    """The labels of the cases, from the labels folder that belongs to `images`."""
    folder = images.parent / folder_name(images).replace("images", "labels", 1)
    known, found = set(cases), _DescribedLabels()
    for stem, paths in nifti_files(folder).items():
        numbered = _CHANNEL_FILE.fullmatch(stem)
        if stem in known and len(paths) > 1:
            found.problem_of[stem] = _twice(stem, "files for the label", paths)
        elif stem in known:
            found.label_of[stem] = paths[0]
        elif numbered and numbered["case"] in known:
            case, name = numbered["case"], paths[0].name
            right = case + (".nii.gz" if name.lower().endswith(".gz") else ".nii")
            message = (
                f"case {case}: its label is called {name}, but labels have no channel number; rename it to {right}"
            )
            found.problem_of[case] = Problem(case, paths[0], message)
        else:
            found.ignored.append(ignored_label(paths[0], f"there is no case {stem} in {folder_name(images)}"))
    return found
