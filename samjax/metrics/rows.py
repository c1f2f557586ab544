"""Rows of scores, one per slice and one per volume, and the scopes over which they are averaged.

Scope `slice` holds the slices that a rule chose, as paper A scores them; `slice_all` every slice, empty ones included,
as paper B's code does; `volume` whole scans in 3-D.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from samjax.metrics.summary import Summary, summarise

SCOPES = ("slice", "slice_all", "volume")
SCOPE_NAMES = {"slice": "by slice", "slice_all": "by slice, empty ones included", "volume": "by volume (3-D)"}
VOLUME_METRICS = (
    "surface_dice", "volume_similarity", "sensitivity", "precision", "lesion_dice", "lesion_hd95",
)  # fmt: skip
"""Fields of `Row` that volumes alone have."""
TOLERANCE_MM = 1.0
"""Tolerance of the surface Dice."""

Metric = Literal["dice", "hd95"]


@dataclass(frozen=True)
class Row:
    """The scores of a slice, or of a volume where `slice` is None."""

    run: str
    """Name of the run, of other predictions, or of a baseline."""
    domain: str
    patient: str
    case: str
    slice: int | None
    roi: str
    prompt: str
    """The prompt in words: "none", "box", "point", "point, 3 clicks", "box of whole-tumor" for a region inside that."""
    true_pixels: int
    pred_pixels: int
    dice: float
    hd95: float
    """HD95 in mm."""
    surface_dice: float | None = None
    """Normalised surface Dice at `TOLERANCE_MM`."""
    volume_similarity: float | None = None
    sensitivity: float | None = None
    precision: float | None = None
    lesion_dice: float | None = None
    """Lesion-wise Dice, as in BraTS 2023."""
    lesion_hd95: float | None = None
    """Lesion-wise HD95 in mm, as in BraTS 2023."""


@dataclass(frozen=True)
class CaseScores:
    """All rows of one region of a case."""

    slices: tuple[Row, ...]
    """One row for every slice."""
    chosen: tuple[bool, ...]
    """For each of these rows, whether the scope `slice` holds it."""
    volume: Row


def of_scope(scores: Iterable[CaseScores], scope: str) -> list[Row]:
    """The rows that a scope holds.

    A volume without the region counts where no prompts were given. With prompts from the ground truth there was
    nothing to prompt: the model was not run, and an empty mask of it would be no success.
    """
    if scope == "volume":
        volumes = [case.volume for case in scores]
        return [row for row in volumes if row.true_pixels or prompt_source(row.prompt) == "none"]
    return [
        row
        for case in scores
        for row, chosen in zip(case.slices, case.chosen, strict=True)
        if chosen or scope == "slice_all"
    ]


def prompt_source(prompt: str) -> str:
    """The source of the prompts of a row: "none" or "ground truth"."""
    return "none" if prompt == "none" else "ground truth"


def prompt_of_region(prompt: str, roi: str, prompted_roi: str | None) -> str:
    """The prompt of a region's rows in words, which names `prompted_roi` where the prompt is of that other region."""
    if prompted_roi in (None, roi) or prompt_source(prompt) == "none":
        return prompt
    return f"{prompt} of {prompted_roi}"


def summarise_rows(rows: Sequence[Row], metrics: Sequence[str] = ("dice", "hd95")) -> dict[str, Summary]:
    """Each metric summarised over rows; the intervals resample patients."""
    nonempty = [row.true_pixels > 0 for row in rows]
    patients = [f"{row.domain}/{row.patient}" for row in rows]
    return {metric: summarise([getattr(row, metric) for row in rows], nonempty, patients) for metric in metrics}
