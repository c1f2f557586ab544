"""Divides rows of scores among the axes of a figure; no axes show two sources of prompts."""

from collections.abc import Iterable

from samjax.data.labels import ROIS
from samjax.metrics.rows import Row, prompt_source


def checked(rows: Iterable[Row]) -> list[Row]:
    """Returns the rows; a ValueError if there are none, or slices and volumes together."""
    rows = list(rows)
    if len({row.slice is None for row in rows}) != 1:
        raise ValueError(f"a figure of {len(rows)} rows: expected at least one, all of slices or all of volumes")
    return rows


def by_source(rows: Iterable[Row], *names: str) -> list[list[Row]]:
    """Groups of rows with one source of prompts and one value of each field named, in the order of their appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((prompt_source(row.prompt), *(getattr(row, name) for name in names)), []).append(row)
    return list(groups.values())


def runs_of(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Each run with its prompt, in the order of their appearance."""
    return list(dict.fromkeys((row.run, row.prompt) for row in rows))


def rois_of(rows: Iterable[Row]) -> list[str]:
    """The regions, in the order of `labels.ROIS`."""
    found = {row.roi for row in rows}
    return [roi for roi in ROIS if roi in found]
