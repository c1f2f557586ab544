"""Patients that two sets of cases have in common, also where the collections gave them different names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from samjax.data.cases import Case
from samjax.data.fingerprint import FingerprintIndex
from samjax.data.patients import patient_key

# Decathlon Task01, BraTS 2016-2021 and BraTS-GLI 2023 hold many of the same patients under new names. Real numbers of
# BraTS-GLI begin below 9: those from 90000 on are of the generated cohort.
_SAME_POOL = (
    ("Decathlon Task01", re.compile(r"brats_\d{3}", re.IGNORECASE), None),
    ("BraTS {}", re.compile(r"brats_?(?:20)?(1[6-9]|2[01])_.+", re.IGNORECASE), None),
    ("BraTS-GLI 2023", re.compile(r"brats-gli-[0-8]\d{4}-\d{3}", re.IGNORECASE), "brats2023"),
)


def shared_patients(train: Iterable[Case], test: Iterable[Case]) -> str | None:
    """A one-line warning if `test` is another collection of the same patients as `train`."""
    if pair := _same_pool(train, test):
        return (
            f"{pair[0]} (training) and {pair[1]} (evaluation) hold many of the same patients "
            "under different names: the scores will be too good"
        )
    return None


def overlapping_domains(cases: Sequence[Case], fingerprints: Mapping[tuple[str, str], str]) -> list[str]:
    """One-line warnings for every two domains that share patients, and for scans that occur twice.

    Each domain is divided by itself, so that a patient of two domains may be trained on in one and tested in the other.

    Args:
      cases: the cases of all domains.
      fingerprints: fingerprints by (domain, case id); cases without one are compared by their names.
    """
    by_domain: dict[str, list[Case]] = {}
    for case in cases:
        by_domain.setdefault(case.domain, []).append(case)
    found = [warning for name, own in by_domain.items() if (warning := _twice(name, own, fingerprints))]
    for first, second in combinations(by_domain, 2):
        why = _overlap(by_domain[first], by_domain[second], fingerprints)
        if why is not None:
            found.append(
                f"the domains {first} and {second} share patients ({why}): patients that one trains on may be in the "
                "other's test part, and the scores will be too good"
            )
    return found


def _overlap(first: Sequence[Case], second: Sequence[Case], prints: Mapping[tuple[str, str], str]) -> str | None:
    """The patients and scans that two domains have in common, in words."""
    index = FingerprintIndex({case.id: prints.get((case.domain, case.id), "") for case in first})
    equal = [(other, case.id) for case in second if (other := index.find(prints.get((case.domain, case.id), "")))]
    if equal:
        return f"{len(equal)} scans are in both, such as {' and '.join(dict.fromkeys(equal[0]))}"
    names = {patient_key(case.patient) for case in first} & {patient_key(case.patient) for case in second}
    if names:
        example = next(case.patient for case in first if patient_key(case.patient) in names)
        return f"{len(names)} have the same name in both, such as {example}"
    if pair := _same_pool(first, second):
        return f"{pair[0]} and {pair[1]} hold many of the same patients under different names"
    return None


def _twice(domain: str, cases: Sequence[Case], prints: Mapping[tuple[str, str], str]) -> str | None:
    """A warning if one scan occurs under the names of two patients."""
    index = FingerprintIndex({})
    patients: dict[str, str] = {}
    for case in cases:
        fingerprint = prints.get((domain, case.id), "")
        other = index.find(fingerprint)
        if other is not None and patients[other] != case.patient:
            return (
                f"domain {domain}: {other} and {case.id} are one scan under two names, and may be divided between "
                "training and test; remove one, or name its patient with --patients"
            )
        index.add(case.id, fingerprint)
        patients[case.id] = case.patient
    return None


def _same_pool(first: Iterable[Case], second: Iterable[Case]) -> tuple[str, str] | None:
    """The names of two different collections of the same patients, joined by "and" where `first` has several."""
    seen = sorted({name for case in first if (name := _collection(case))})
    for name in sorted({name for case in second if (name := _collection(case))}):
        others = [other for other in seen if other != name]
        if others:
            return " and ".join(others), name
    return None


def _collection(case: Case) -> str | None:
    for name, pattern, scheme in _SAME_POOL:
        match = pattern.fullmatch(case.id)
        if match and scheme in (None, case.scheme):
            return name.format(*(f"20{year}" for year in match.groups()))
    return None
