"""Chooses a rule of `postprocess` for a run from its validation patients.

The rules compared are a small fixed grid. Each is scored by the mean 3-D Dice and HD95 of the validation patients'
prompt-free predictions, and a rule is allowed only if

  - the mean Dice is not lower than without it;
  - it does not lower the Dice of a validation case by more than `SPOILT`, as it would where a second focus was found;
  - applied to the labels of the validation and training cases, it leaves them as they are, so that no focus, ring or
    cavity of a real tumour falls to it. This needs no prediction, so training patients can speak too.

One case in `PER_CASE` may break each of the last two, so in fewer than that none may. Of the allowed rules the one with
the highest Dice is chosen, then that with the lowest HD95, then the mildest; nothing is done unless a rule is better
than none. With fewer than `FEW` validation patients only gentle rules are compared: these leave a component alone that
has a millilitre and a twentieth of the largest one's volume, whatever the few patients look like.

Test patients have no part in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from samjax.data.labels import IGNORED, roi_mask
from samjax.inference.postprocess import RAW, Postprocess, cleaned_parts, components_of, holes_of
from samjax.inference.postprocess_choice import Candidate, PostprocessChoice
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


Predicted = tuple[LabelledCase, np.ndarray]
"""A case with its prediction (Z, rows, columns): a region as bool, or canonical codes as uint8."""


def choose(
    predicted: Iterable[Predicted], labelled: Iterable[LabelledCase], roi: str, weights: str, step: int
) -> PostprocessChoice:
    """Chooses a rule for one region of the predictions, see the module.

    Args:
        predicted: the validation cases with their prompt-free predictions.
        labelled: training cases, of whose labels at most `MOST_LABELS` are looked at.
        roi: the region that is scored.
        weights: the weights that predicted: average or last.
        step: the number of steps of these weights.
    """
    rules = (*GENTLE, *STRONG)
    patients, overlaps, distances, spoilt = [], [], [], []
    for case, mask in predicted:
        scores = _scores(case, mask, roi, rules)
        patients.append(case.patient)
        overlaps.append([one for one, _ in scores])
        distances.append([one for _, one in scores])
        spoilt.append(_changes(case, roi, rules))
    about = {"roi": roi, "weights": weights, "step": step}
    if not patients:
        return PostprocessChoice(
            str(RAW), "no validation patient shows the region", **about, patients=0, cases=0, labels=0
        )
    spoilt += [_changes(case, roi, rules) for case in islice(labelled, MOST_LABELS)]
    few = len(set(patients)) < FEW
    candidates = _candidates(rules[: len(GENTLE)] if few else rules, *map(np.array, (overlaps, distances, spoilt)))
    best = _best(candidates)
    return PostprocessChoice(
        best.rule, _reason(best, candidates, len(set(patients)), few), **about,
        patients=len(set(patients)), cases=len(patients), labels=len(spoilt), candidates=tuple(candidates),
    )  # fmt: skip


def _scores(case: LabelledCase, mask: np.ndarray, roi: str, rules: Sequence[Postprocess]) -> list[tuple[float, float]]:
    """Dice and HD95 of one prediction after each rule; rules that leave the same are computed once."""
    truth, counted = roi_mask(case.labels, roi), case.labels != IGNORED
    parts = components_of(mask != 0, case.spacing)
    known: dict[tuple, tuple[float, float]] = {}
    found = []
    for rule in rules:
        same = rule.stays(parts.volumes).tobytes(), rule.fill
        if same not in known:
            after = cleaned_parts(mask, parts, rule)
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


def _candidates(
    rules: Sequence[Postprocess], overlaps: np.ndarray, distances: np.ndarray, spoilt: np.ndarray
) -> list[Candidate]:
    """The rules with their scores.

    Args:
        rules: the first rules of the columns below; the first one is to do nothing.
        overlaps, distances: (cases, rules) float64.
        spoilt: (labels, rules) bool.
    """
    found = []
    for number, rule in enumerate(rules):
        lost = int((overlaps[:, number] < overlaps[:, 0] - SPOILT).sum())
        changed = int(spoilt[:, number].sum())
        means = float(overlaps[:, number].mean()), float(distances[:, number].mean())
        allowed = (
            means[0] >= overlaps[:, 0].mean() - DICE_EQUAL
            and lost <= len(overlaps) // PER_CASE
            and changed <= len(spoilt) // PER_CASE
        )
        found.append(Candidate(str(rule), *means, lost, changed, bool(number == 0 or allowed)))
    return found


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """The first of the allowed candidates with the highest Dice and, of these, the lowest HD95."""
    allowed = [candidate for candidate in candidates if candidate.allowed]
    highest = max(candidate.dice for candidate in allowed)
    allowed = [candidate for candidate in allowed if candidate.dice >= highest - DICE_EQUAL]
    lowest = min(candidate.hd95 for candidate in allowed)
    return next(candidate for candidate in allowed if candidate.hd95 <= lowest + HD95_EQUAL)


def _reason(best: Candidate, candidates: Sequence[Candidate], patients: int, few: bool) -> str:
    """The reason of a choice in words."""
    raw = candidates[0]
    on = f"on {patients} validation patient{'s' * (patients > 1)}"
    only = "; with so few patients only gentle rules are compared" if few else ""
    if best is raw:
        return f"no rule was better {on}: Dice {raw.dice:.3f}, HD95 {raw.hd95:.1f} mm{only}"
    return f"{on} Dice {raw.dice:.3f} -> {best.dice:.3f}, HD95 {raw.hd95:.1f} -> {best.hd95:.1f} mm{only}"
