"""Rows of scores, one a slice and one a volume, and what they come to."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import IGNORED, roi_mask
from samjax.data.slices import decathlon_slices, enough_pixels
from samjax.evaluation.summary import Summary, summarise
from samjax.files import replacing
from samjax.metrics.lesions import lesion_scores
from samjax.metrics.overlap import (
    precision,
    score,
    score_slices,
    sensitivity,
    surface_dice,
    volume_similarity,
)

SCOPES = ("slice", "slice_all", "volume")
SCOPE_NAMES = {"slice": "by slice", "slice_all": "by slice, empty ones included", "volume": "by volume (3-D)"}
TOLERANCE_MM = 1.0
"""Of the surface Dice."""
VOLUME_METRICS = (
    "surface_dice", "volume_similarity", "sensitivity", "precision", "lesion_dice", "lesion_hd95",
)  # fmt: skip


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
    surface_dice: float | None = None
    """Normalised, at `TOLERANCE_MM`; this and what follows are of volumes only."""
    volume_similarity: float | None = None
    sensitivity: float | None = None
    precision: float | None = None
    lesion_dice: float | None = None
    """Lesion-wise as in BraTS 2023."""
    lesion_hd95: float | None = None


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
        if self.min_pixels == 1:
            return "slices that show the ROI"
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
    """Scores one prediction (Z, rows, columns) bool against the case's label.

    Voxels that the label ignores are background in both, and slices of which nothing else is labelled have no row.
    """
    _, labels = case.read(0, case.shape[0])
    true, counted = roi_mask(labels, roi), labels != IGNORED
    predicted = predicted & counted
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
    scored = np.flatnonzero(counted.any((1, 2)))
    slices = tuple(
        Row(**about, slice=int(z), **{name: column[z].item() for name, column in columns.items()}) for z in scored
    )
    chosen = tuple(bool(x) for x in rule.chosen(case, roi)[scored])
    volume = Row(**about, slice=None, **score(predicted, true, spacing), **_volume_scores(predicted, true, case))
    return CaseScores(slices, chosen, volume)


def _volume_scores(predicted: np.ndarray, true: np.ndarray, case: CachedCase) -> dict[str, float]:
    spacing = case.geometry.spacing
    lesions = lesion_scores(predicted, true, spacing, challenge_of(case.case.id))
    return {
        "surface_dice": surface_dice(predicted, true, spacing, TOLERANCE_MM),
        "volume_similarity": volume_similarity(predicted, true),
        "sensitivity": sensitivity(predicted, true),
        "precision": precision(predicted, true),
        "lesion_dice": lesions.dice,
        "lesion_hd95": lesions.hd95,
    }


def challenge_of(case: str) -> str:
    """The BraTS 2023 challenge whose lesion-wise rules a case goes by: by its name, GLI where that tells nothing."""
    found = re.search(r"BraTS-(GLI|SSA|PED|MEN|MET)\b", case)
    return found[1] if found else "GLI"


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


def summarise_rows(rows: Sequence[Row], metrics: Sequence[str] = ("dice", "hd95")) -> dict[str, Summary]:
    """Metrics over rows; the intervals resample patients."""
    nonempty = [row.true_pixels > 0 for row in rows]
    patients = [f"{row.domain}/{row.patient}" for row in rows]
    return {metric: summarise([getattr(row, metric) for row in rows], nonempty, patients) for metric in metrics}


def write_slices(path: Path, scores: Iterable[CaseScores]) -> None:
    """Writes the rows of all slices, each with the scopes that it entered in a last column, joined by "+"."""
    pairs = [(row, chosen) for case in scores for row, chosen in zip(case.slices, case.chosen, strict=True)]
    _write_csv(
        path,
        [*(field.name for field in fields(Row) if field.name not in VOLUME_METRICS), "scopes"],
        [{**asdict(row), "scopes": "slice+slice_all" if chosen else "slice_all"} for row, chosen in pairs],
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows as CSV, without the columns that none of them has; numbers in full, so that they can be checked."""
    names = [field.name for field in fields(Row)]
    kept = [name for name in names if name not in VOLUME_METRICS or any(getattr(row, name) is not None for row in rows)]
    _write_csv(path, kept, [asdict(row) for row in rows])


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict]) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
