"""Reads splits from files: a run's split.json, nnU-Net's splits_final.json, or lists of the parts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samjax.data.cases import Case
from samjax.data.splits import PARTS, Split, Splits, splits_from_json
from samjax.errors import UserError

Names = Mapping[str, Sequence[str]]
"""Part -> names of patients or cases."""


def read_split_file(
    path: Path, fold: str | None, cases: Sequence[Case], needed: Sequence[str] = ("train", "val")
) -> tuple[Splits, list[str]]:
    """The split of the labelled cases by a file, and notes on names and cases that it does not cover.

    The file is a run's split.json; a list of {"train": [...], "val": [...]}, as nnU-Net's splits_final.json, of which
    `fold` chooses one, counted from 0 as nnU-Net does; or one such object. A "test" list is taken where there is one.
    Names are of cases or of patients.

    Args:
      needed: the parts that must hold a patient of every domain.

    Raises:
      UserError: the file cannot be used, has no such fold, divides the scans of one patient, or leaves a part that is
        needed without patients.
    """
    content = _read(path)
    by_domain = _parts_of_domains(content, path, fold, sorted({case.domain for case in cases}))
    domains, notes = {}, []
    for domain, names in by_domain.items():
        own = [case for case in cases if case.domain == domain and case.label is not None]
        domains[domain], more = _split(own, names, f"--split-file {path}", domain, needed)
        notes += more
    return Splits(0, fold, domains), notes


def _read(path: Path) -> Any:
    try:
        return json.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--split-file {path}: cannot be read as JSON ({error})") from None


def _parts_of_domains(content: Any, path: Path, fold: str | None, domains: Sequence[str]) -> dict[str, Names]:
    """The names of each part of each domain."""
    if isinstance(content, list):
        chosen = content[_fold_number(path, fold, len(content))]
        return dict.fromkeys(domains, _names(chosen, path))
    if fold is not None:
        raise UserError(f"--fold {fold}: {path} holds one split, not a list of folds; leave --fold out")
    if not isinstance(content, dict) or "domains" not in content:
        return dict.fromkeys(domains, _names(content, path))
    if "sha256" in content:
        splits_from_json(content, path)
    written = content["domains"]
    if not isinstance(written, dict) or not written:
        raise UserError(f"--split-file {path}: its domains are {json.dumps(written)[:60]}; expected an object of them")
    if len(written) == len(domains) == 1:  # the same data may be called otherwise now
        return {domains[0]: _names(next(iter(written.values())), path)}
    if absent := [name for name in domains if name not in written]:
        raise UserError(
            f"--split-file {path}: has no domain {absent[0]} (it has {', '.join(written)}); "
            "name the data so with NAME=DIR"
        )
    return {name: _names(written[name], path) for name in domains}


def _fold_number(path: Path, fold: str | None, folds: int) -> int:
    if folds == 1 and fold is None:
        return 0
    if fold is not None and fold.isdecimal() and int(fold) < folds:
        return int(fold)
    given = f"--fold {fold}" if fold is not None else f"--split-file {path}"
    raise UserError(f"{given}: {path} holds {folds} folds; choose one with --fold 0 to --fold {folds - 1}")


def _names(content: Any, path: Path) -> Names:
    lists = isinstance(content, dict) and all(isinstance(content.get(part, []), list) for part in PARTS)
    if not lists or not {"train", "val"} <= content.keys():
        raise UserError(
            f"--split-file {path}: expected a run's split.json, or nnU-Net's list of "
            '{"train": [...], "val": [...]}, or one such object'
        )
    return {part: [str(name) for name in content.get(part, [])] for part in PARTS}


def _split(
    cases: Sequence[Case], names: Names, where: str, domain: str, needed: Sequence[str]
) -> tuple[Split, list[str]]:
    """One domain's split, and notes on names without a case and cases without a name."""
    patients = {case.patient for case in cases}
    of_case = {case.id: case.patient for case in cases}
    parts: dict[str, tuple[str, str]] = {}
    unknown = []
    for part in PARTS:
        for name in names[part]:
            patient = of_case.get(name, name if name in patients else None)
            if patient is None:
                unknown.append(name)
                continue
            before, as_what = parts.setdefault(patient, (part, name))
            if before != part:
                raise UserError(
                    f"{where}: patient {patient} is in {before} (as {as_what}) and in {part} (as {name}); a patient's "
                    "scans belong into one part. Mend the file, or say with --patients who is who"
                )
    found = {part: tuple(sorted(name for name, (own, _) in parts.items() if own == part)) for part in PARTS}
    for part in needed:
        if not found[part]:
            raise UserError(f"{where}: names no labelled patient of domain {domain} for {part}")
    notes = []
    if unknown:
        notes.append(f"{where}: {_some(unknown)} of the file are not among the labelled cases of {domain}")
    if unused := sorted(patients - parts.keys()):
        notes.append(f"{where}: {_some(unused)} of {domain} are in none of its parts and are left out")
    return Split(**found), notes


def _some(names: Sequence[str]) -> str:
    """The number of names, and the first of them."""
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
