"""The scans of a resumed run: their place now, and a check that they are those with which it began."""

from collections.abc import Sequence
from pathlib import Path

from samjax.data.cache.cases import CachedCase
from samjax.data.cohort import named_folders
from samjax.data.splits import Member, Splits
from samjax.errors import UserError


def moved_folders(started: dict[str, str], given: tuple[str, ...], folder: Path) -> dict[str, str]:
    """The folders of a run's domains now, from the --data of the command that resumes it.

    DIR alone stands for the domain with that folder, or else the domain with the folder's name.

    Raises:
        UserError: the domains are not those of the run, or a folder does not exist.
    """
    places = {Path(place).resolve(): name for name, place in started.items()}
    found: dict[str, str] = {}
    for text in given:
        ((name, path),) = named_folders((text,)).items()
        found[name if "=" in text else places.get(path.resolve(), name)] = str(path)
    if found.keys() != started.keys() or len(found) != len(given):
        have = ", ".join(f"{name}={place}" for name, place in started.items()) or "none"
        raise UserError(
            f"--resume --run {folder}: changed --data {' '.join(given)} (the run has {have}); start a new run for "
            "that, or name where each of its domains is now"
        )
    return {name: found[name] for name in started}


def existing_folders(data: dict[str, str], folder: Path) -> dict[str, Path]:
    """The folder of each domain of the run in `folder`; a `UserError` if one no longer exists."""
    folders = {name: Path(place) for name, place in data.items()}
    for name, place in folders.items():
        if not place.exists():
            raise UserError(
                f"--run {folder}: the scans of {name} are no longer in {place}; say where with --data {name}=DIR"
            )
    return folders


def check_scans(cases: Sequence[CachedCase], splits: Splits, data: dict[str, str], folder: Path) -> None:
    """Refuses, by a `UserError`, scans in which a case of the split is missing or has other images or another label.

    Args:
        cases: the cases prepared now.
        splits: splits of the run; those of versions that did not record cases are not checked.
        data: the folder of each domain, for the message.
        folder: folder of the run.
    """
    found = {(case.case.domain, case.case.id): case for case in cases}
    for domain, members in splits.members.items():
        for name, member in sorted(members.items()):
            what = _difference(member, found.get((domain, name)))
            if what is None:
                continue
            raise UserError(
                f"--resume --run {folder}: the scans of {domain} in {data[domain]} are not those that the run began "
                f"with: {name} {what}; restore it, or name the right folder with --data {domain}=DIR"
            )


def _difference(member: Member, case: CachedCase | None) -> str | None:
    """The difference of a case from what the run recorded of it; None if there is none."""
    if case is None:
        return "is not there"
    if member.fingerprint and member.fingerprint != case.fingerprint:
        return "has other images"
    return "has another label" if member.label and member.label != case.label_digest else None
