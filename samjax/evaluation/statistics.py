"""Paired tests between runs that were scored on the same cases (paper A, notes to fig. 3).

Wilcoxon's signed-rank test, two-sided, with these choices:
  - a pair is a patient, with the mean of all that was scored of that patient, since follow-up scans and neighbouring
    slices are not independent. Pairs of slices, as in paper A, are tested too, in a table with that title;
  - zero differences are ranked, then left out (Pratt 1959, "Remarks on zeros and ties in the Wilcoxon signed rank
    procedures"): where they are dropped first, a case that moves in a run's favour can weaken the evidence for it;
  - p is exact up to 50 pairs without ties or zeros, and up to 13 with them, by going over all signs; beyond that it
    comes from the normal approximation, corrected for ties and zeros, without a continuity correction;
  - the p-values of a family, which is all tests of one table, are also adjusted by Holm's step-down procedure (Holm
    1979, "A simple sequentially rejective multiple test procedure").
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samjax.errors import UserError
from samjax.metrics.rows import CaseScores, Metric, Row, of_scope, prompt_source

Unit = Literal["patient", "slice"]

DECIMALS = 9
"""Number of decimals to which differences are rounded, so that rounding errors break no ties."""
MOST_EXACT = 50
"""Largest number of pairs for an exact p without ties and zeros."""
MOST_PERMUTED = 13
"""Largest number of pairs for an exact p with ties or zeros."""


@dataclass(frozen=True)
class SignedRank:
    """The test of n pairs (first, second) of two runs; differences are first - second.

    `p` is two-sided. Where all differences are zero it is 1, and `rank_biserial` 0.
    """

    n: int
    n_zero: int
    """Number of pairs without a difference."""
    median_difference: float
    rank_biserial: float
    """Matched-pairs rank-biserial correlation in [-1, 1], the share of the rank sum in favour of a larger first value
    less the share against it (Kerby 2014, "The simple difference formula")."""
    statistic: float
    """The smaller of the two rank sums."""
    p: float
    method: str
    """Computation of p: exact, exact by permutation, or normal approximation."""


@dataclass(frozen=True)
class PairedTest:
    """Two runs compared on one domain and region."""

    metric: str
    scope: str
    unit: str
    prompt_source: str
    domain: str
    roi: str
    first: str
    second: str
    result: SignedRank
    p_holm: float
    family: int
    """The number of tests that `p_holm` accounts for."""

    def to_json(self) -> dict:
        """The entry of the list `tests` in summary.json, with all values on one level."""
        about = asdict(self)
        return about | about.pop("result")


def compare_runs(scores: Sequence[CaseScores]) -> list[PairedTest]:
    """Tests every pair of runs with one source of prompts: by patient on volumes, and by slice as paper A did."""
    tests = []
    for scope, unit in (("volume", "patient"), ("slice", "slice")):
        rows = of_scope(scores, scope)
        for metric in ("dice", "hd95"):
            tests += paired_tests(rows, scope=scope, unit=unit, metric=metric)
    return tests


def paired_tests(
    rows: Iterable[Row], *, scope: str, unit: Unit = "patient", metric: Metric = "dice"
) -> list[PairedTest]:
    """Tests every pair of runs with one source of prompts, in each domain and region that both were scored on.

    Runs with prompts from the labels are never paired with prompt-free ones; each of the two kinds is a family of its
    own for Holm's procedure, over all its pairs of runs, domains and regions.

    Args:
        rows: the rows of all runs in one scope.
        scope: the name of that scope.
        unit: the unit of a pair, patient or slice.

    Raises:
        UserError: runs were not scored on the same cases.
    """
    rows = list(rows)
    if any((row.slice is None) != (scope == "volume") for row in rows) or (scope, unit) == ("volume", "slice"):
        raise ValueError(f"rows of slices and volumes, scope {scope}, paired by {unit}: these do not go together")
    sources = dict.fromkeys(prompt_source(row.prompt) for row in rows)
    return [
        test
        for source in sources
        for test in _family([row for row in rows if prompt_source(row.prompt) == source], scope, unit, metric)
    ]


def _family(rows: list[Row], scope: str, unit: Unit, metric: Metric) -> list[PairedTest]:
    groups: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault((row.domain, row.roi), {}).setdefault(row.run, []).append(row)
    compared = [
        (domain, roi, *names, signed_rank(*pairs(runs[names[0]], runs[names[1]], unit, metric)))
        for (domain, roi), runs in groups.items()
        for names in combinations(runs, 2)
    ]
    adjusted = holm([result.p for *_, result in compared])
    source = prompt_source(rows[0].prompt)
    return [
        PairedTest(metric, scope, unit, source, *test, p_holm=p, family=len(compared))
        for test, p in zip(compared, adjusted, strict=True)
    ]


def pairs(
    first: Sequence[Row], second: Sequence[Row], unit: Unit = "patient", metric: Metric = "dice"
) -> tuple[NDArray, NDArray]:
    """The values of two runs on the same patients or slices, side by side: (n,) and (n,) float64.

    Args:
        first, second: the rows of one run each, not empty.

    Raises:
        UserError: their prompts come from different sources, or they hold different cases.
    """
    if len({prompt_source(row.prompt) for row in (*first, *second)}) > 1:
        raise UserError(
            f"{first[0].run} and {second[0].run}: prompts '{first[0].prompt}' and '{second[0].prompt}'; a run that is "
            "prompted from the labels cannot be tested against one that is not; score both with one --prompt"
        )
    values = [_by_unit(rows, unit, metric) for rows in (first, second)]
    if missing := sorted(values[0].keys() ^ values[1].keys()):
        name, other = (first[0].run, second[0].run)[:: 1 if missing[0] in values[0] else -1]
        what = "/".join(map(str, missing[0]))
        raise UserError(
            f"{other}: no score of {unit} {what}, which {name} has ({len(missing)} such); "
            "a paired test needs the same cases, so score both on them"
        )
    order = sorted(values[0])
    return tuple(np.array([side[key] for key in order]) for side in values)


def _by_unit(rows: Sequence[Row], unit: Unit, metric: Metric) -> dict[tuple, float]:
    """The mean of each patient by (domain, patient), or each slice by (domain, case, slice)."""
    collected: dict[tuple, list[float]] = {}
    for row in rows:
        key = (row.domain, row.patient) if unit == "patient" else (row.domain, row.case, row.slice)
        collected.setdefault(key, []).append(getattr(row, metric))
    return {key: float(np.mean(found)) for key, found in collected.items()}


def signed_rank(first: ArrayLike, second: ArrayLike) -> SignedRank:
    """Wilcoxon's signed-rank test of paired values (n,) and (n,), finite, n >= 1; see the module for the choices."""
    from scipy.stats import PermutationMethod, rankdata, wilcoxon

    differences = np.round(np.asarray(first, float) - np.asarray(second, float), DECIMALS)
    if not differences.size or not np.isfinite(differences).all():
        raise UserError(f"a paired test of {differences.size} differences: expected at least one, all of them finite")
    zeros = int((differences == 0).sum())
    about = {"n": differences.size, "n_zero": zeros, "median_difference": float(np.median(differences))}
    if zeros == differences.size:
        return SignedRank(**about, rank_biserial=0.0, statistic=0.0, p=1.0, method="exact")

    untied = not zeros and np.unique(np.abs(differences)).size == differences.size
    if untied and differences.size <= MOST_EXACT:
        name, method = "exact", "exact"
    elif differences.size <= MOST_PERMUTED:
        name, method = "exact by permutation", PermutationMethod(n_resamples=2**MOST_PERMUTED)
    else:
        name, method = "normal approximation", "asymptotic"
    found = wilcoxon(differences, zero_method="pratt", correction=False, method=method)
    ranks = rankdata(np.abs(differences))
    favour, against = ranks[differences > 0].sum(), ranks[differences < 0].sum()
    return SignedRank(
        **about,
        rank_biserial=float((favour - against) / (favour + against)),
        statistic=float(min(favour, against)),
        p=float(found.pvalue),
        method=name,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of a family adjusted by Holm's step-down procedure, in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()
