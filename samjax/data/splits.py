"""Dividing patients into training, validation and test.

All scans of a patient fall on one side. A domain's division depends on its patients and the seed alone,
so adding another domain, or listing files in another order, changes nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import Case
from samjax.errors import UserError

PARTS = ("train", "val", "test")
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1  # of what is not test
_FEWEST = 3


@dataclass(frozen=True)
class Split:
    """The patients of each part of one domain, sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """A case as a run recorded it: its patient, and the digests of its images and label ("" if there is none)."""

    patient: str
    fingerprint: str = ""
    label: str = ""


@dataclass(frozen=True)
class Splits:
    """The splits of all domains, as a run's `split.json` holds them."""

    seed: int
    fold: str | None
    """"K/N", the K of a split file, or None."""
    domains: Mapping[str, Split]
    members: Mapping[str, Mapping[str, Member]] = field(default_factory=dict)
    """The cases of each domain by id; empty in runs of versions that did not record them."""

    def to_json(self) -> dict[str, Any]:
        """A dict for JSON, with the hash of its other content under "sha256"."""
        domains = {name: {part: list(getattr(split, part)) for part in PARTS} for name, split in self.domains.items()}
        content: dict[str, Any] = {"seed": self.seed, "fold": self.fold, "domains": domains}
        if self.members:
            content["cases"] = {
                name: {case: asdict(member) for case, member in sorted(cases.items())}
                for name, cases in self.members.items()
            }
        return {**content, "sha256": _digest(content)}

    @property
    def sha256(self) -> str:
        """The hash, hexadecimal; equal for equal splits."""
        return self.to_json()["sha256"]

    def select(self, cases: Iterable[Case], part: str) -> list[Case]:
        """The cases whose patient is of `part` ("train", "val", "test"; "all": any part) of its domain.

        A case that the split lists by its id belongs to the patient listed there, whatever its name.
        """
        if part not in (*PARTS, "all"):
            raise UserError(f"--split {part}: expected one of {', '.join(PARTS)}, all")
        wanted = {
            (name, patient)
            for name, split in self.domains.items()
            for one in (PARTS if part == "all" else (part,))
            for patient in getattr(split, one)
        }
        return [case for case in cases if (case.domain, self.patient_of(case)) in wanted]

    def patient_of(self, case: Case) -> str:
        """The patient that the split lists for a case of one of its domains, else the case's own."""
        member = self.members.get(case.domain, {}).get(case.id)
        return member.patient if member else case.patient


def splits_from_json(content: Any, where: object) -> Splits:
    """The split that `Splits.to_json` wrote; `where` names the file in errors.

    Raises:
      UserError: parts are missing, or the hash does not fit: the file was changed by hand.
    """
    try:
        domains = {
            name: Split(*(tuple(map(str, parts[part])) for part in PARTS)) for name, parts in content["domains"].items()
        }
        members = {
            name: {case: Member(**member) for case, member in cases.items()}
            for name, cases in content.get("cases", {}).items()
        }
        splits, written = Splits(int(content["seed"]), content["fold"], domains, members), content["sha256"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: not a split written by this program ({type(error).__name__}: {error})") from None
    if splits.sha256 != written:
        raise UserError(f"{where}: its sha256 is {written}, but its content gives {splits.sha256}; restore it")
    return splits


def with_members(splits: Splits, cases: Sequence[CachedCase]) -> Splits:
    """The splits with the patient and the digests of every prepared case that they hold."""
    held = {(case.domain, case.id) for case in splits.select([cached.case for cached in cases], "all")}
    members: dict[str, dict[str, Member]] = {}
    for cached in cases:
        case = cached.case
        if (case.domain, case.id) in held:
            members.setdefault(case.domain, {})[case.id] = Member(case.patient, cached.fingerprint, cached.label_digest)
    return replace(splits, members=members)


def split_cases(cases: Iterable[Case], seed: int, fold: str | None = None) -> Splits:
    """Divides the patients of the labelled cases, domain by domain; see `split_patients`."""
    patients: dict[str, set[str]] = {}
    for case in cases:
        if case.label is not None:
            patients.setdefault(case.domain, set()).add(case.patient)
    return Splits(seed, fold, {name: split_patients(patients[name], seed, fold, name) for name in sorted(patients)})


def only_patient(case: Case) -> Splits:
    """A split with one case's patient in every part, to check that a model can learn it."""
    part = (case.patient,)
    return Splits(0, None, {case.domain: Split(part, part, part)})


def split_patients(patients: Iterable[str], seed: int, fold: str | None = None, domain: str = "") -> Split:
    """Divides the patients of one domain.

    Args:
      patients: in any order; repeats count once.
      seed: the seed of the order that they are drawn in.
      fold: None takes a fifth as test; "K/N" takes part K (from 1) of N. A tenth of the others validates. Each part
        has at least one patient.
      domain: name of the domain, for errors.

    Raises:
      UserError: too few patients for three parts, or `fold` is no K/N.
    """
    names = sorted(set(patients))
    which = f"domain {domain}: " if domain else ""
    if len(names) < _FEWEST:
        raise UserError(f"{which}{len(names)} labelled patients; a split into train, val and test needs {_FEWEST}")
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    if fold is None:
        number = max(1, round(len(order) * TEST_SHARE))
        test, rest = order[:number], order[number:]
    else:
        part, parts = _parse_fold(fold)
        test = order[part - 1 :: parts]
        rest = [name for index, name in enumerate(order) if index % parts != part - 1]
        if not test or len(rest) < _FEWEST - 1:
            raise UserError(f"--fold {fold}: {which}{len(names)} patients cannot be divided so")
    number = max(1, round(len(rest) * VALIDATION_SHARE))
    return Split(tuple(sorted(rest[number:])), tuple(sorted(rest[:number])), tuple(sorted(test)))


def _parse_fold(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts) and int(parts) >= 2:
        return int(part), int(parts)
    raise UserError(f"--fold {text}: expected K/N with K from 1 to N and N at least 2, such as 1/5")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
