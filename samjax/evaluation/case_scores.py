"""All scores of one prediction, computed in this process or in another one.

Nothing here imports JAX: a worker process starts in half a second and leaves the devices alone.
"""

import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import roi_mask
from samjax.errors import UserError
from samjax.evaluation.baselines import of_boxes, of_clicks
from samjax.evaluation.scoring import CaseScores, SliceRule, score_case


@dataclass(frozen=True)
class OraclePrompts:
    """The prompts from the ground truth, of which the baselines are drawn."""

    roi: str
    click: np.ndarray | None
    """(Z, 2) the first click's pixel (x, y); None: boxes."""
    area: float = 0.0
    """Pixels of the disk at the click."""


@dataclass(frozen=True)
class ScoringJob:
    """One model's prediction of one case, to be scored."""

    case: CachedCase
    masks: dict[str, np.ndarray]
    """(Z, rows, columns) bool of each region."""
    run: str
    prompt: str
    rule: SliceRule
    oracle: OraclePrompts | None
    """None where no prompts came from the ground truth."""


@dataclass(frozen=True)
class Scored:
    """What a `ScoringJob` comes to."""

    scores: list[CaseScores]
    """Of each region."""
    baselines: dict[str, CaseScores]
    """Of what the prompts alone are worth, by name."""


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


@contextmanager
def scoring_pool(workers: int) -> Iterator[Executor]:
    """So many processes to score in; with none, all is scored here and at once."""
    if workers == 0:
        yield _Here()
        return
    # Spawned, since JAX's threads run here. Ctrl-C is for this process to hear.
    ignoring = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), **ignoring)
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError("a scoring process was killed; if memory ran out, score with --workers 0") from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Here(Executor):
    """Does what is submitted at once."""

    def submit(self, function, /, *args, **kwargs) -> Future:
        done: Future = Future()
        done.set_result(function(*args, **kwargs))
        return done
