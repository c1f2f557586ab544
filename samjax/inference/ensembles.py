"""Several runs for one prediction: runs of one region are an ensemble, and different regions are merged."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from samjax.errors import UserError
from samjax.inference.averaging import averaged
from samjax.inference.fitting.predictions import fitted
from samjax.inference.postprocess import AUTO, RAW, Postprocess
from samjax.inference.postprocess_choice import rule_for
from samjax.inference.predictions import VolumePrediction
from samjax.inference.predictor import Predictor
from samjax.inference.regions import MERGE_ORDER, region_codes
from samjax.runs.folder import read_config


def in_merge_order(runs: Sequence[Path]) -> list[Path]:
    """Runs sorted by the `MERGE_ORDER` of their regions and their places.

    The members of an ensemble stand together, and their mean does not depend on the order in which they were given.

    Raises:
        UserError: a run is there twice, or one predicts several regions at once and another does not predict the same.
    """
    places = [run.resolve() for run in runs]
    if len(set(places)) < len(places):
        raise UserError(f"--run {max(places, key=places.count)}: given twice; an ensemble is of different runs")
    rois = {run: read_config(run).rois for run in runs}
    several = [run for run in runs if len(rois[run]) > 1]
    if several and len(set(rois.values())) > 1:
        raise UserError(
            f"--run {several[0]}: predicts several regions at once; give it alone, or with others that predict the same"
        )
    return sorted(runs, key=lambda run: (MERGE_ORDER.index(rois[run][0]), run.resolve()))


def ensembles(predictors: Sequence[Predictor]) -> Iterator[list[Predictor]]:
    """The predictors of each region or, of U-Nets, of all; members of an ensemble stand together."""
    for _, members in groupby(predictors, lambda predictor: predictor.rois):
        yield list(members)


def ensemble_lines(predictors: Sequence[Predictor]) -> list[str]:
    """One line on each ensemble: its regions and its runs."""
    return [
        f"ensemble of {len(members)} ({' and '.join(members[0].rois)}; mean probability): {names_of(members)}"
        for members in ensembles(predictors)
        if len(members) > 1
    ]


def names_of(members: Sequence[Predictor]) -> str:
    """The names of an ensemble's members."""
    return ", ".join(member.name for member in members)


def merged(
    predictors: Sequence[Predictor],
    images: np.ndarray,
    spacing: Sequence[float],
    prompts: Mapping[str, np.ndarray],
    propagate: bool,
    probabilities: bool = False,
    nested: bool = False,
    fit: bool = False,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The canonical codes (slices, rows, columns) uint8 predicted by all predictors, and each region's probabilities.

    The members of an ensemble are averaged, and different regions are written into one map, see `region_codes`.

    Args:
        predictors: of several regions at once, or of one region each in the order of merging.
        images: (slices, rows, columns, 4) uint8.
        spacing: mm between slices, rows and columns.
        prompts: `boxes` or `points` for `Predictor.segment`, the same for all predictors.
        probabilities: whether the probabilities, (slices, rows, columns) float32, are asked for; else there are none.
        nested: whether to clip inner regions to outer ones, where there are several predictors.
        fit: whether the masks are those after the fit to the scan; the probabilities are the models' own.
    """
    masks, found = {}, {}
    for members in ensembles(predictors):

        def of(predictor: Predictor, asked: bool = probabilities or fit or len(members) > 1) -> VolumePrediction:
            predictor.set_volume(images, spacing)
            return predictor.segment(**prompts, propagate=propagate, logits=asked)

        first = members[0]
        one = averaged(map(of, members), first.model)
        if probabilities:
            found |= dict(zip(first.rois, one.probabilities, strict=True))
        if fit:
            one = fitted(one, images, spacing, first.model)
        if len(first.rois) > 1:
            return one.mask, found
        masks[first.rois[0]] = one.mask
    return region_codes(masks, nested), found


def common_rule(text: str, kind: str, runs: Sequence[Path], average: bool = True) -> tuple[Postprocess, str]:
    """The rule by which the masks of an ensemble are cleaned, and the reason in words; of one run as `rule_for` has it.

    Args:
        text: the option --postprocess.
        kind: kind of prompt.
        runs: the folders of its runs.
        average: whether the average of the weights is taken where a run has one.

    Raises:
        UserError: the text is no rule, or a run's choice cannot be read.
    """
    found = [rule_for(text, kind, run, average) for run in runs]
    rules = list(dict.fromkeys(rule for rule, _ in found))
    if len(rules) > 1:
        listed = ", ".join(f"{run.resolve().name} {rule}" for run, (rule, _) in zip(runs, found, strict=True))
        return RAW, f"the runs of the ensemble chose different rules: {listed}"
    if len(runs) > 1 and text == AUTO and rules[0] != RAW:
        return rules[0], f"the choice of all {len(runs)} runs"
    reasons: dict[str, list[str]] = {}
    for run, (_, why) in zip(runs, found, strict=True):
        reasons.setdefault(why, []).append(run.resolve().name)
    if len(reasons) == 1:
        return rules[0], found[0][1]
    return rules[0], "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
