"""Rows of scores divided among the axes of a figure: never two sources of prompts on one."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from samjax.data.labels import ROIS
from samjax.evaluation.scoring import Row
from samjax.evaluation.statistics import prompt_source

Key = TypeVar("Key", bound=Hashable)


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """Rows by what `key` says of them, in the order of their appearance."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def checked(rows: Iterable[Row]) -> list[Row]:
    """The rows; ValueError where there are none, or slices and volumes together."""
    rows = list(rows)
    if len({row.slice is None for row in rows}) != 1:
        raise ValueError(f"a figure of {len(rows)} rows: expected at least one, all of slices or all of volumes")
    return rows


def by_source(rows: Iterable[Row], *names: str) -> list[list[Row]]:
    """Rows by the source of their prompts, then by the fields named."""
    return list(grouped(rows, lambda row: (prompt_source(row.prompt), *(getattr(row, n) for n in names))).values())


def runs_of(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Each run and how it was asked, in the order of their appearance."""
    return list(dict.fromkeys((row.run, row.prompt) for row in rows))


def rois_of(rows: Iterable[Row]) -> list[str]:
    """The regions, in our usual order."""
    found = {row.roi for row in rows}
    return [roi for roi in ROIS if roi in found]


def count_text(rows: Sequence[Row]) -> str:
    """How many slices or volumes were scored, by however many runs, and of how many patients."""
    scans = len({(row.domain, row.case, row.slice) for row in rows})
    patients = len({(row.domain, row.patient) for row in rows})
    return f"{plural(scans, 'volume' if rows[0].slice is None else 'slice')} of {plural(patients, 'patient')}"


def plural(count: int, noun: str) -> str:
    """As in "1 slice" and "2 slices"."""
    return f"{count} {noun}{'s'[: count != 1]}"
