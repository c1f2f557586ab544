"""All scores of one prediction, computed in this process or in another one.

Nothing here imports JAX: a worker process starts in half a second and leaves the devices alone.
"""

from dataclasses import dataclass

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import roi_mask
from samjax.data.loading.pools import Pool, make_pool
from samjax.data.loading.workers import Wording
from samjax.evaluation.baselines import of_boxes, of_clicks
from samjax.evaluation.scoring import CaseScores, SliceRule, score_case

MOST_PENDING = 8
"""The number of predictions that may wait in memory to be scored, with up to so many workers."""


@dataclass(frozen=True)
class OraclePrompts:
    """The prompts from the ground truth, which the baselines are drawn from."""

    roi: str
    click: np.ndarray | None
    """(Z, 2) the first click's pixel (x, y); None where the prompts are boxes."""
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
    """The prompts; None where none came from the ground truth."""


@dataclass(frozen=True)
class Scored:
    """The scores that a `ScoringJob` comes to."""

    scores: list[CaseScores]
    """The prediction's scores, region by region."""
    baselines: dict[str, CaseScores]
    """The scores of masks drawn from the prompts alone, by the baseline's name."""


def score_job(job: ScoringJob) -> Scored:
    """Scores every region, and the baselines."""

    def scored(mask: np.ndarray, run: str, roi: str) -> CaseScores:
        return score_case(job.case, mask, run=run, roi=roi, prompt=job.prompt, rule=job.rule)

    scores = [scored(mask, job.run, roi) for roi, mask in job.masks.items()]
    if (oracle := job.oracle) is None:
        return Scored(scores, {})
    truth = roi_mask(job.case.read(0, job.case.shape[0])[1], oracle.roi)
    drawn = of_boxes(truth) if oracle.click is None else of_clicks(truth, oracle.click, oracle.area)
    return Scored(scores, {name: scored(mask, name, oracle.roi) for name, mask in drawn.items()})


def scoring_pool(workers: int) -> Pool:
    """A pool that calls `score_job` in so many processes, or in this one where `workers` is 0. To be closed."""
    wording = Wording(lambda job: f"case {job.case.case.id}", "scoring worker", "score with --workers 0")
    return make_pool(score_job, workers, max(1, MOST_PENDING // workers) if workers else 0, wording)
