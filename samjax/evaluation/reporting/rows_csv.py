"""slices.csv and volumes.csv: the scores of every slice and every volume."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from samjax.files import replacing
from samjax.metrics.rows import VOLUME_METRICS, CaseScores, Row


def write_slices(path: Path, scores: Iterable[CaseScores]) -> None:
    """Writes the rows of all slices, each with the scopes that it entered in a last column, joined by "+"."""
    pairs = [(row, chosen) for case in scores for row, chosen in zip(case.slices, case.chosen, strict=True)]
    _write_csv(
        path,
        [*(field.name for field in fields(Row) if field.name not in VOLUME_METRICS), "scopes"],
        [{**asdict(row), "scopes": "slice+slice_all" if chosen else "slice_all"} for row, chosen in pairs],
    )


def write_volumes(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows of volumes, without the columns that none of them has."""
    names = [field.name for field in fields(Row)]
    kept = [name for name in names if name not in VOLUME_METRICS or any(getattr(row, name) is not None for row in rows)]
    _write_csv(path, kept, [asdict(row) for row in rows])


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict]) -> None:
    """Writes numbers in full, so that they can be checked."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
