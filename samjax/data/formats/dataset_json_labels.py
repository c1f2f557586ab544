"""The label values that a dataset.json of Decathlon or nnU-Net describes; contradictions in it are refused.

nnU-Net's predictions hold the values of `labels` or, where the labels are overlapping regions, those of
`regions_class_order`: the regions are written in the order of their entries, each over the ones before it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samjax.data.labels import (
    BACKGROUND,
    EDEMA,
    ENHANCING,
    IGNORED,
    LARGEST_VALUE,
    NON_ENHANCING,
    scheme_text,
)
from samjax.errors import UserError
from samjax.files import parse_json

DESCRIPTION = "dataset.json"
"""The name of the file."""
_COMPARTMENTS = frozenset({EDEMA, NON_ENHANCING, ENHANCING})

Meanings = dict[int, frozenset[int]]
"""Label value -> the canonical codes that voxels with it may have; a single one if the names decide."""

# What a label's name means, tried in this order: codes of a compartment or a region, or None where it says two things.
# "~" stands for "tumour" in both spellings.
_LABEL_NAMES: tuple[tuple[re.Pattern[str], frozenset[int] | None], ...] = tuple(
    (re.compile(pattern.replace("~", "tumou?r"), re.IGNORECASE), None if codes is None else frozenset(codes))
    for pattern, codes in (
        (r"ignor|\bvoid\b|don.?t.?care|unannotated", {IGNORED}),
        (r"background|cavity|\brc\b", {BACKGROUND}),
        (r"whole|\bwt\b", _COMPARTMENTS),
        (r"(?=.*edema)(?=.*(?:necro|\bncr\b|\bnetc?\b|cyst|core|enhancing ~))|hyperintense ~", None),
        (r"o?edema|\bed\b|snfh|hyperintens", {EDEMA}),  # SNFH: surrounding non-enhancing FLAIR hyperintensity
        (r"(?=.*(?:non ?enh|necro))(?=.*(?<!non )(?<!non)enhanc)", {NON_ENHANCING, ENHANCING}),
        (r"non ?enh|necro|\bncr\b|\bnetc?\b|cyst", {NON_ENHANCING}),
        (r"enhanc|\bet\b", {ENHANCING}),  # also "enhancing core"
        (r"core|\btc\b", {NON_ENHANCING, ENHANCING}),
    )
)


def read_description(path: Path) -> Mapping[str, Any]:
    """The content of a dataset.json.

    Raises:
      UserError: it cannot be read, is no object, or names something twice.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object with channel_names (or modality) and labels")
    return content


def whole_number(text: Any, path: Path) -> int:
    """The number of a channel or label, which a dataset.json may spell as text; a `UserError` where it is none."""
    try:
        if isinstance(text, bool) or float(text) != int(float(text)):
            raise ValueError
        return int(float(text))
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: {text!r} is not the number of a channel or label") from None


def dataset_scheme(content: Mapping[str, Any], path: Path, *, required: bool) -> str | None:
    """The scheme of the label files that `labels` describe, spelled as `labels.find_scheme` takes it.

    In the scheme, voxels to be ignored have a value of their own.

    Raises:
      UserError: the labels contradict themselves, or, if `required`, do not name all compartments.
    """
    entries = _entries(content, path)
    if scheme := scheme_of_meanings(_stored_meanings(entries, path)):
        return scheme
    if required:
        raise UserError(
            f"{path}: its labels ({content.get('labels')}) do not name edema, non-enhancing and enhancing tumour; "
            "say what the values mean with --labels, such as --labels edema=1,non-enhancing=2,enhancing=3"
        )
    return None


def predicted_meanings(path: Path) -> Meanings | None:
    """The meanings of the values of predictions next to a dataset.json; None if a name has no known meaning.

    Raises:
      UserError: it cannot be read or contradicts itself.
    """
    content = read_description(path)
    entries = [entry for entry in _entries(content, path) if entry[2] != {IGNORED}]
    if not any(len(values) > 1 for _, values, _ in entries):
        return _stored_meanings(entries, path)
    regions = [(name, meaning) for name, values, meaning in entries if values != [0]]
    if any(meaning is None for _, meaning in regions):
        return None
    meanings: Meanings = {}
    for number, ((name, meaning), value) in enumerate(zip(regions, content["regions_class_order"], strict=True)):
        own = meaning.difference(*(later for _, later in regions[number + 1 :])) - {BACKGROUND}
        if meanings.get(value, own) != own:
            raise UserError(f"{path}: regions_class_order writes {value} for {name} and for another region")
        if own or meaning == {BACKGROUND}:
            meanings[value] = own or meaning
    return meanings


def predicted_values(path: Path) -> list[int]:
    """The values other than 0 that predictions next to a dataset.json may hold, sorted."""
    content = read_description(path)
    entries = [entry for entry in _entries(content, path) if entry[2] != {IGNORED}]
    if any(len(values) > 1 for _, values, _ in entries):
        return sorted(set(content["regions_class_order"]))
    return sorted({value for _, values, _ in entries for value in values} - {0})


def scheme_of_meanings(meanings: Meanings | None) -> str | None:
    """The scheme of meanings in which each value means one thing and every compartment has a value; else None."""
    if meanings is None or any(len(meaning) != 1 for meaning in meanings.values()):
        return None
    codes = {0: BACKGROUND, **{value: min(meaning) for value, meaning in sorted(meanings.items())}}
    return scheme_text(codes) if set(codes.values()) >= _COMPARTMENTS else None


_Entry = tuple[str, list[int], frozenset[int] | None]
"""A label's name, its values, and the name's meaning; None if it is not known."""


def _entries(content: Mapping[str, Any], path: Path) -> list[_Entry]:
    """The labels in the order they are listed: name -> value or values, or value -> name (Decathlon)."""
    named = content.get("labels")
    entries: list[_Entry] = []
    for key, value in (named if isinstance(named, dict) else {}).items():
        name, values = (str(value), [key]) if key.isdigit() else (key, value)
        numbers = [whole_number(number, path) for number in (values if isinstance(values, list) else [values])]
        words = re.sub(r"[-_/]", " ", name)
        entries.append((name, numbers, next((codes for pattern, codes in _LABEL_NAMES if pattern.search(words)), None)))
    _verify(entries, path)
    if any(len(values) > 1 for _, values, _ in entries):
        _verify_order(entries, content.get("regions_class_order"), path)
    return entries


def _verify(entries: list[_Entry], path: Path) -> None:
    """Refuses names and values that cannot be true together."""
    seen: dict[frozenset[int], str] = {}
    for name, values, meaning in entries:
        if not values or not all(0 <= value <= LARGEST_VALUE for value in values):
            raise UserError(f"{path}: label {name!r} has the values {values}; expected 0 to {LARGEST_VALUE}")
        other = seen.setdefault(frozenset(values), name)
        if other != name:
            raise UserError(f"{path}: {other!r} and {name!r} both have the value {_listed(values)}; expected one name")
        if "background" in name.lower() and values != [0]:
            raise UserError(f"{path}: {name!r} has the value {_listed(values)}; expected 0")
        if 0 in values and meaning is not None and meaning != {BACKGROUND}:
            raise UserError(f"{path}: {name!r} has the value 0, which is the background's")


def _verify_order(entries: list[_Entry], order: Any, path: Path) -> None:
    """Refuses regions without the values that nnU-Net writes them with."""
    regions = [name for name, values, meaning in entries if values != [0] and meaning != {IGNORED}]
    if not isinstance(order, list) or not all(isinstance(value, int) for value in order):
        raise UserError(
            f"{path}: its labels are regions of several values, but there is no regions_class_order that gives the "
            f"value each is written with ({', '.join(regions)}); add it"
        )
    if len(order) != len(regions):
        raise UserError(
            f"{path}: regions_class_order has {len(order)} values for {len(regions)} regions ({', '.join(regions)}); "
            "expected one each"
        )


def _stored_meanings(entries: list[_Entry], path: Path) -> Meanings | None:
    """The meaning of each value of the label files.

    Regions overlap: with whole tumour (1, 2, 3), core (2, 3) and enhancing (3), value 1 is what whole tumour has
    beyond the core. So a value means the part that all regions listing it have in common, without the parts of the
    smaller ones among the others.
    """
    common: Meanings = {}
    for name, values, meaning in entries:
        if meaning is None:
            return None
        for value in values:
            common[value] = common.get(value, meaning) & meaning
            if not common[value]:
                raise UserError(f"{path}: value {value} is listed for {name!r} and for what shares nothing with it")
    return {
        value: meaning.difference(*(other for other in common.values() if other < meaning))
        for value, meaning in common.items()
    }


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values))
