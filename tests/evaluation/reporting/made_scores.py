"""What small made-up models come to on small cases."""

import numpy as np

from samjax.evaluation.collected import Collected
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.reporting.summary_json import summary_of
from samjax.evaluation.slice_rule import SliceRule
from tests.evaluation.cases import collect_one, made_case, made_model, no_rounds, predicted, square

SHAPE = (4, 12, 12)
RULE = SliceRule(min_pixels=5)


def model(name: str, prompt: str, roi: str = "whole-tumor", clicks: int = 1) -> PromptedModel:
    return made_model(name, prompt, (roi,), clicks)


def cases(count: int = 2, domain: str = "demo"):
    """Slices of 24, 4 and no pixels."""
    labels = square(SHAPE, slice(1, 2), slice(2, 8), slice(3, 7), code=3)
    labels[2, 3:5, 3:5] = 3
    return [made_case(labels, f"{domain}-{number}", domain) for number in range(count)]


def collected(model: PromptedModel, chosen=None) -> Collected:
    """A model that misses the last row of every region."""
    found = Collected(model)
    for case in cases() if chosen is None else chosen:
        mask = (case.labels > 0) & np.roll(case.labels > 0, -1, axis=1)
        rounds = no_rounds(SHAPE[0], model.clicks)
        rounds.prompted[1:3], rounds.click[1:3] = True, (4, 4)
        rounds.counts[:] = 10, 10, 20
        collect_one(found, case, predicted(mask, None if model.prompt == "none" else rounds), RULE, 20.0)
    return found


def summary(*found: Collected) -> dict:
    return summary_of(found, RULE, [])
