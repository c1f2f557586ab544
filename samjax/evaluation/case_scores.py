"""Computes all scores of one prediction of one case, in this process or in another one.

Nothing here imports JAX: a worker process starts in half a second and leaves the devices alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import IGNORED, roi_mask
from samjax.data.loading.pools import Pool, make_pool
from samjax.data.loading.workers import Wording
from samjax.evaluation.baselines import FLAIR_ROI, of_boxes, of_clicks, of_flair
from samjax.evaluation.slice_rule import SliceRule
from samjax.metrics.lesions import lesion_scores
from samjax.metrics.overlap import precision, sensitivity, volume_similarity
from samjax.metrics.rows import TOLERANCE_MM, CaseScores, Row, prompt_of_region
from samjax.metrics.scores import score, score_slices
from samjax.metrics.surfaces import surface_dice

MOST_PENDING = 8
"""The number of predictions that may wait in memory to be scored, divided among the workers."""


@dataclass(frozen=True)
class OraclePrompts:
    """The prompts from the ground truth, which the baselines are drawn from."""

    roi: str
    click: np.ndarray | None
    """The first click's pixel (x, y), (Z, 2); None if the prompts are boxes."""
    area: float = 0.0
    """The size of the disk at the click in pixels."""


@dataclass(frozen=True)
class ScoringJob:
    """One model's prediction of one case, to be scored."""

    case: CachedCase
    masks: dict[str, np.ndarray]
    """The predicted mask (Z, rows, columns) bool of each region."""
    run: str
    prompt: str
    rule: SliceRule
    oracle: OraclePrompts | None
    """The prompts; None if none came from the ground truth."""
    flair: bool = False
    """Whether to score the FLAIR threshold too, for which the case's FLAIR file is read."""


@dataclass(frozen=True)
class Scored:
    """The result of a `ScoringJob`."""

    scores: list[CaseScores]
    """The prediction's scores, region by region."""
    baselines: dict[str, CaseScores]
    """The scores of the baselines by name: masks drawn from the prompts alone, or from FLAIR without a model."""


def score_job(job: ScoringJob) -> Scored:
    """Scores every region, and the baselines that stand beside it; the label is read once.

    Raises:
        UserError: the FLAIR threshold is asked for and the FLAIR file cannot be read.
    """
    labels = job.case.whole_labels()

    def scored(name: str, roi: str, predicted: np.ndarray) -> CaseScores:
        about = {
            "run": name,
            "domain": job.case.case.domain,
            "patient": job.case.case.patient,
            "case": job.case.case.id,
            "roi": roi,
            "prompt": prompt_of_region(job.prompt, roi, job.oracle and job.oracle.roi),
        }
        return score_labels(predicted, labels, job.case.geometry.spacing, job.rule.chosen(job.case, roi), about)

    scores = [scored(job.run, roi, mask) for roi, mask in job.masks.items()]
    roi, drawn = FLAIR_ROI, of_flair(job.case.case) if job.flair else {}
    if (oracle := job.oracle) is not None:
        roi, truth = oracle.roi, roi_mask(labels, oracle.roi)
        drawn = of_boxes(truth) if oracle.click is None else of_clicks(truth, oracle.click, oracle.area)
    return Scored(scores, {name: scored(name, roi, mask) for name, mask in drawn.items()})


def score_labels(
    predicted: np.ndarray,
    labels: np.ndarray,
    spacing: tuple[float, float, float],
    chosen: np.ndarray,
    about: Mapping[str, str],
) -> CaseScores:
    """Scores one region of a prediction against a label.

    Voxels that the label ignores are background in both, and slices in which all voxels are ignored have no row.

    Args:
        predicted: (Z, rows, columns) bool.
        labels: (Z, rows, columns) uint8 canonical codes.
        spacing: mm along slices, rows and columns.
        chosen: (Z,) bool, the slices that the scope `slice` holds.
        about: the names of the rows: run, domain, patient, case, roi and prompt.
    """
    true, counted = roi_mask(labels, about["roi"]), labels != IGNORED
    predicted = predicted & counted
    columns = score_slices(predicted, true, spacing)
    scored = np.flatnonzero(counted.any((1, 2)))
    slices = tuple(
        Row(**about, slice=int(z), **{name: column[z].item() for name, column in columns.items()}) for z in scored
    )
    lesions = lesion_scores(predicted, true, spacing, challenge_of(about["case"]))
    volume = Row(
        **about,
        slice=None,
        **score(predicted, true, spacing),
        surface_dice=surface_dice(predicted, true, spacing, TOLERANCE_MM),
        volume_similarity=volume_similarity(predicted, true),
        sensitivity=sensitivity(predicted, true),
        precision=precision(predicted, true),
        lesion_dice=lesions.dice,
        lesion_hd95=lesions.hd95,
    )
    return CaseScores(slices, tuple(bool(x) for x in chosen[scored]), volume)


def challenge_of(case: str) -> str:
    """The BraTS 2023 challenge whose lesion-wise rules apply to a case: that in its name, or GLI if there is none."""
    found = re.search(r"BraTS-(GLI|SSA|PED|MEN|MET)\b", case)
    return found[1] if found else "GLI"


def scoring_pool(workers: int) -> Pool:
    """A pool that calls `score_job` in `workers` processes, or in this one for 0. It must be closed."""
    wording = Wording(lambda job: f"case {job.case.case.id}", "scoring worker", "score with --workers 0")
    return make_pool(score_job, workers, max(1, MOST_PENDING // workers) if workers else 0, wording)
