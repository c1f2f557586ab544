"""Chooses a rule of `postprocess` for a run from its validation patients.

The rules compared are a small fixed grid. Each is scored by the mean 3-D Dice and HD95 of the validation patients'
prompt-free predictions, and a rule is allowed only if

  - the mean Dice is not lower than without it;
  - it does not lower the Dice of a validation case by more than `SPOILT`, as it would where a second focus was found;
  - applied to the labels of the validation and training cases, it leaves them as they are, so that no focus, ring or
    cavity of a real tumour falls to it. This needs no prediction, so training patients can speak too.

One case in `PER_CASE` may break each of the last two, so in fewer than that none may. Each rule is also compared with
the prediction fitted to its scan (`fitting`) before it, which is allowed only if the mean Dice rises by `FIT_GAIN` and
most cases gain. Of the allowed rules the one with the highest Dice is chosen, then that with the lowest HD95; nothing
is done unless a rule is better than none. Few patients often leave several rules equal. Between these, predictions of
training cases decide in the same way, and then the mildest is taken. The model has seen these cases, so if anything it
leaves less on them to be removed.

With fewer than `FEW` validation patients only gentle rules are compared: these leave a component alone that has a
millilitre and a twentieth of the largest one's volume, whatever the few patients look like.

Test patients have no part in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import IGNORED, roi_mask
from samjax.inference.fitting.predictions import fitted
from samjax.inference.model import SegmentationModel
from samjax.inference.postprocess import RAW, Postprocess, cleaned_parts, components_of, holes_of
from samjax.inference.postprocess_choice import Candidate, PostprocessChoice
from samjax.inference.predictions import VolumePrediction
from samjax.metrics.hausdorff import hd95
from samjax.metrics.overlap import dice

GENTLE = tuple(
    Postprocess(min_mm3=smallest, share=share, fill=fill)
    for smallest, share in ((0, 0), (100, 0), (1000, 0), (0, 0.02), (0, 0.05))
    for fill in (False, True)
)
"""The rules that are always compared, none and the mildest first."""
STRONG = tuple(Postprocess(share=share, fill=fill) for share in (0.1, 0.2) for fill in (False, True))
"""The rules that are compared too where `FEW` validation patients or more can tell of them."""
FEW = 10
SPOILT = 0.01
"""The Dice that a validation case may lose, and the share of its voxels in which a label may change."""
PER_CASE = 50
"""Number of cases of which one may be spoilt."""
DICE_EQUAL, HD95_EQUAL = 0.0005, 0.1
"""Differences of the mean Dice, and of the mean HD95 in mm, that decide nothing."""
FIT_GAIN = 0.01
"""Mean Dice by which the fit to the scan has to raise a rule's."""
MOST_LABELS = 200
"""Largest number of training cases whose labels are looked at, the first ones."""


@dataclass(frozen=True)
class LabelledCase:
    """A case with a label."""

    patient: str
    labels: np.ndarray
    """(Z, rows, columns) uint8 canonical codes."""
    spacing: tuple[float, float, float]
    """mm along slices, rows and columns."""


class Predicted(NamedTuple):
    """A case with its prediction (Z, rows, columns): a region as bool, or canonical codes as uint8."""

    case: LabelledCase
    mask: np.ndarray
    fitted: np.ndarray | None = None
    """The same prediction fitted to its scan; None if that is not compared."""


def labelled_case(case: CachedCase) -> LabelledCase:
    """A prepared case for `choose`."""
    return LabelledCase(case.case.patient, case.whole_labels(), case.geometry.spacing)


def predicted_case(case: CachedCase, found: VolumePrediction, fitting: SegmentationModel | None = None) -> Predicted:
    """A prepared case and its prediction for `choose`; fitted to the scan too if its model is given, with logits."""
    labelled = labelled_case(case)
    if fitting is None:
        return Predicted(labelled, found.mask)
    images = case.read(0, case.shape[0])[0]
    return Predicted(labelled, found.mask, fitted(found, images, labelled.spacing, fitting).mask)


class _Scores(NamedTuple):
    """Scores of predictions after each rule, one row for each case."""

    patients: list[str]
    overlaps: np.ndarray
    """Dice, (cases, rules) float64."""
    distances: np.ndarray
    """HD95 in mm, (cases, rules) float64."""
    changed: np.ndarray
    """Whether the rule changes the case's label, (cases, rules) bool."""


def choose(
    predicted: Iterable[Predicted],
    labelled: Iterable[LabelledCase],
    roi: str,
    weights: str,
    step: int,
    seen: Iterable[Predicted] = (),
    fits: bool = False,
) -> PostprocessChoice:
    """Chooses a rule for one region of the predictions, see the module.

    Args:
        predicted: the validation cases with their prompt-free predictions.
        labelled: training cases, of whose labels at most `MOST_LABELS` are looked at.
        roi: the region that is scored.
        weights: the weights that predicted: average or last.
        step: the number of steps of these weights.
        seen: training cases with their prompt-free predictions, which are asked for only where they have to decide.
        fits: whether all predictions have a fitted one beside them, which is compared too.
    """
    gentle, strong = (_with_fits(rules) if fits else rules for rules in (GENTLE, STRONG))
    rules = (*gentle, *strong)
    found = _scored(predicted, roi, rules)
    number, about = len(set(found.patients)), {"roi": roi, "weights": weights, "step": step}
    if not number:
        return PostprocessChoice(
            str(RAW), "no validation patient shows the region", **about, patients=0, cases=0, labels=0
        )
    few = number < FEW
    changed = np.array([*found.changed, *(_changes(case, roi, rules) for case in islice(labelled, MOST_LABELS))])
    candidates = _candidates(rules[: len(gentle)] if few else rules, found, changed)
    allowed = [place for place, candidate in enumerate(candidates) if candidate.allowed]
    leading = _leading(allowed, found)
    asked = 0
    if leading[0] > 0 and len(leading) > 1:
        second = _scored(seen, roi, rules)
        if asked := len(second.patients):
            leading = _leading(leading, second)
    best = candidates[leading[0]]
    return PostprocessChoice(
        best.rule, _reason(best, candidates[0], number, few, asked), **about, patients=number,
        cases=len(found.patients), labels=len(changed), seen=asked, candidates=tuple(candidates),
    )  # fmt: skip


def _with_fits(rules: Sequence[Postprocess]) -> tuple[Postprocess, ...]:
    return (*rules, *(replace(rule, fit=True) for rule in rules))


def _scored(predicted: Iterable[Predicted], roi: str, rules: Sequence[Postprocess]) -> _Scores:
    """Scores predictions one after the other."""
    patients, overlaps, distances, changed = [], [], [], []
    for case, mask, after_fit in predicted:
        scores = _scores(case, mask, after_fit, roi, rules)
        patients.append(case.patient)
        overlaps.append([one for one, _ in scores])
        distances.append([one for _, one in scores])
        changed.append(_changes(case, roi, rules))
    return _Scores(patients, np.array(overlaps), np.array(distances), np.array(changed))


def _scores(
    case: LabelledCase, mask: np.ndarray, after_fit: np.ndarray | None, roi: str, rules: Sequence[Postprocess]
) -> list[tuple[float, float]]:
    """Dice and HD95 of one prediction after each rule; rules that leave the same are computed once."""
    truth, counted = roi_mask(case.labels, roi), case.labels != IGNORED
    masks = {False: mask} if after_fit is None else {False: mask, True: after_fit}
    parts = {fit: components_of(one != 0, case.spacing) for fit, one in masks.items()}
    known: dict[tuple, tuple[float, float]] = {}
    found = []
    for rule in rules:
        same = rule.fit, rule.stays(parts[rule.fit].volumes).tobytes(), rule.fill
        if same not in known:
            after = cleaned_parts(masks[rule.fit], parts[rule.fit], rule)
            after = (after if after.dtype == bool else roi_mask(after, roi)) & counted
            known[same] = dice(after, truth), hd95(after, truth, case.spacing)
        found.append(known[same])
    return found


def _changes(case: LabelledCase, roi: str, rules: Sequence[Postprocess]) -> list[bool]:
    """For each rule, whether it changes the label of a region by more than `SPOILT`."""
    truth = roi_mask(case.labels, roi)
    parts = components_of(truth, case.spacing)
    total = parts.volumes.sum()
    holes = holes_of(parts.numbers > 0).sum() * float(np.prod(case.spacing))
    changed = [parts.volumes[~rule.stays(parts.volumes)].sum() + holes * rule.fill for rule in rules]
    return [bool(volume > SPOILT * total) for volume in changed]


def _candidates(rules: Sequence[Postprocess], found: _Scores, changed: np.ndarray) -> list[Candidate]:
    """The rules with their scores.

    Args:
        rules: the first rules of the columns below; the first one is to do nothing.
        found: the scores of the validation cases.
        changed: (labels, rules) bool, whether a rule changes a label.
    """
    listed = []
    for place, rule in enumerate(rules):
        overlaps, uncleaned = found.overlaps[:, place], found.overlaps[:, rules.index(Postprocess(fit=rule.fit))]
        lost = int((overlaps < uncleaned - SPOILT).sum())
        spoilt = int(changed[:, place].sum())
        means = float(overlaps.mean()), float(found.distances[:, place].mean())
        allowed = (
            means[0] >= uncleaned.mean() - DICE_EQUAL
            and (not rule.fit or _pays(overlaps - found.overlaps[:, rules.index(replace(rule, fit=False))]))
            and lost <= len(found.patients) // PER_CASE
            and spoilt <= len(changed) // PER_CASE
        )
        listed.append(Candidate(str(rule), *means, lost, spoilt, bool(place == 0 or allowed)))
    return listed


def _pays(gains: np.ndarray) -> bool:
    """Whether a fit pays that raises the Dice of each case by so much."""
    return bool(gains.mean() >= FIT_GAIN and (gains > 0).mean() > 0.5)


def _leading(places: Sequence[int], found: _Scores) -> list[int]:
    """The places, among those given, of the rules with the highest Dice and, of these, the lowest HD95."""
    overlaps, distances = found.overlaps.mean(0), found.distances.mean(0)
    highest = max(overlaps[place] for place in places)
    places = [place for place in places if overlaps[place] >= highest - DICE_EQUAL]
    lowest = min(distances[place] for place in places)
    return [place for place in places if distances[place] <= lowest + HD95_EQUAL]


def _reason(best: Candidate, raw: Candidate, patients: int, few: bool, asked: int) -> str:
    """The reason of a choice in words."""
    on = f"on {patients} validation patient{'s' * (patients > 1)}"
    more = f"; gentle rules only, as for fewer than {FEW} patients" if few else ""
    if asked:
        more += f"; ties decided by {asked} training case{'s' * (asked > 1)}"
    if best is raw:
        return f"no rule was better {on}: Dice {raw.dice:.3f}, HD95 {raw.hd95:.1f} mm{more}"
    return f"{on} Dice {raw.dice:.3f} -> {best.dice:.3f}, HD95 {raw.hd95:.1f} -> {best.hd95:.1f} mm{more}"
