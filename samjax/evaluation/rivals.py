"""Models against the baselines that stand beside them: who does not beat a rule without learning has learnt nothing.

Each model is compared with each of its baselines on the cases that both have, in 3-D, patient by patient. It beats a
baseline if its mean Dice is higher and it is also better on more than half of the patients; a few cases in which the
baseline fails are not enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from samjax.evaluation.statistics import pairs, signed_rank
from samjax.metrics.rows import CaseScores, Row, of_scope


@dataclass(frozen=True)
class AgainstBaseline:
    """A model and a baseline on the same patients of one domain, by 3-D Dice."""

    run: str
    baseline: str
    domain: str
    roi: str
    prompt: str
    n: int
    """Number of patients that both were scored on."""
    better: int
    """Number of patients on which the model is better."""
    dice: float
    """Mean Dice of the model over these patients."""
    baseline_dice: float
    p: float
    """Two-sided p of Wilcoxon's signed-rank test over these patients, see `statistics.signed_rank`."""

    @property
    def beats(self) -> bool:
        """Whether the model beats the baseline."""
        return self.dice > self.baseline_dice and 2 * self.better > self.n

    def to_json(self) -> dict:
        """The entry of the list `against_baselines` in summary.json."""
        return {**asdict(self), "beats": self.beats}

    def __str__(self) -> str:
        """One sentence on the result."""
        how = "beats" if self.beats else "does not beat"
        on = "one patient"
        if self.n > 1:
            on = f"better on {self.better} of the same {self.n} patients (p = {self.p:.2g})"
        return (
            f"{self.run} {how} the {self.baseline} ({self.domain}, {self.roi}): mean 3-D Dice {self.dice:.3f} against "
            f"{self.baseline_dice:.3f}, {on}"
        )


def against_baselines(
    scores: Sequence[CaseScores], baselines: Mapping[str, Sequence[CaseScores]]
) -> list[AgainstBaseline]:
    """One model against each baseline, in each domain and region where they have patients in common.

    Args:
        scores: the model's scores.
        baselines: the scores of baselines with the same source of prompts, by name.
    """
    found = []
    for (domain, roi), ours in _grouped(of_scope(scores, "volume")).items():
        for name, theirs in baselines.items():
            rival = _grouped(of_scope(theirs, "volume")).get((domain, roi), [])
            shared = {row.case for row in ours} & {row.case for row in rival}
            if shared:
                sides = ([row for row in rows if row.case in shared] for rows in (ours, rival))
                found.append(_compared(name, *sides))
    return found


def _grouped(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each domain and region."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.domain, row.roi), []).append(row)
    return groups


def _compared(baseline: str, ours: Sequence[Row], theirs: Sequence[Row]) -> AgainstBaseline:
    """The rows of one model against those of a baseline on the same cases."""
    first, second = pairs(ours, theirs)
    row = ours[0]
    return AgainstBaseline(
        row.run, baseline, row.domain, row.roi, row.prompt, first.size, int(np.sum(first > second)),
        float(first.mean()), float(second.mean()), signed_rank(first, second).p,
    )  # fmt: skip
