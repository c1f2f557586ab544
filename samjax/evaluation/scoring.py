"""Rows of scores, one a slice and one a volume, and what they come to."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from samjax.data.cache import CachedCase
from samjax.data.labels import roi_mask
from samjax.data.slices import decathlon_slices, enough_pixels
from samjax.evaluation.metrics import score, score_slices
from samjax.evaluation.summary import Summary, summarise
from samjax.files import replacing

SCOPES = ("slice", "slice_all", "volume")


@dataclass(frozen=True)
class Row:
    """The scores of a slice, or of a volume where `slice` is None. HD95 in mm."""

    run: str
    domain: str
    patient: str
    case: str
    slice: int | None
    roi: str
    prompt: str
    true_pixels: int
    pred_pixels: int
    dice: float
    hd95: float


@dataclass(frozen=True)
class SliceRule:
    """Which slices the scope `slice` holds: enough pixels of the ROI, or paper A's rule for all its regions."""

    min_pixels: int = 1
    decathlon: bool = False

    def chosen(self, case: CachedCase, roi: str) -> np.ndarray:
        """Bool (Z,)."""
        return decathlon_slices(case.counts) if self.decathlon else enough_pixels(case.counts, roi, self.min_pixels)

    def __str__(self) -> str:
        if self.decathlon:
            return "slices where every region of paper A has 250 pixels"
        return f"slices with at least {self.min_pixels} pixels of the ROI"


@dataclass(frozen=True)
class CaseScores:
    """All rows of a case: its slices, which of them the scope `slice` holds, and the volume."""

    slices: tuple[Row, ...]
    chosen: tuple[bool, ...]
    volume: Row


def score_case(
    case: CachedCase, predicted: np.ndarray, *, run: str, roi: str, prompt: str, rule: SliceRule
) -> CaseScores:
    """Scores one prediction (Z, rows, columns) bool against the case's label."""
    _, labels = case.read(0, case.shape[0])
    true = roi_mask(labels, roi)
    spacing = case.geometry.spacing
    about = {
        "run": run,
        "domain": case.case.domain,
        "patient": case.case.patient,
        "case": case.case.id,
        "roi": roi,
        "prompt": prompt,
    }
    columns = score_slices(predicted, true, spacing)
    slices = tuple(
        Row(**about, slice=z, **{name: column[z].item() for name, column in columns.items()}) for z in range(len(true))
    )
    chosen = tuple(bool(x) for x in rule.chosen(case, roi))
    return CaseScores(slices, chosen, Row(**about, slice=None, **score(predicted, true, spacing)))


def of_scope(scores: Iterable[CaseScores], scope: str) -> list[Row]:
    """The rows that a scope holds."""
    if scope == "volume":
        return [case.volume for case in scores]
    return [
        row
        for case in scores
        for row, chosen in zip(case.slices, case.chosen, strict=True)
        if chosen or scope == "slice_all"
    ]


def summarise_rows(rows: Sequence[Row]) -> dict[str, Summary]:
    """Dice and HD95 over rows; the intervals resample patients."""
    nonempty = [row.true_pixels > 0 for row in rows]
    patients = [f"{row.domain}/{row.patient}" for row in rows]
    return {
        metric: summarise([getattr(row, metric) for row in rows], nonempty, patients) for metric in ("dice", "hd95")
    }


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows as CSV; numbers in full, so that they can be checked."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
