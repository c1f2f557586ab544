"""The tables of both papers from scored runs, next to the published figures.

A cell is filled only by scores that were made as in the paper, of masks as predicted; otherwise the two figures cannot
be compared:

- Paper A: regions by model for each way of making channels; one domain, which the run was trained on too; slices in
  which every region has 250 pixels (`--protocol decathlon`); a box around the whole ground truth as prompt, of the
  U-Net none.
- Paper B: models by domain, Dice x 100; one domain in each column; all slices, empty ones included, as its code does; a
  single click as prompt; trained on adult glioma alone unless the row states otherwise.

Cells that no run fills show a dash; generated scans fill none, and neither do runs of several regions: the papers train
SAM on one.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from samjax.data.cohort import PHANTOM
from samjax.evaluation.reporting import published
from samjax.evaluation.reporting.published import DOMAINS_B, PAPER_A, REGIONS_A, Published
from samjax.evaluation.reporting.tables import Table, number
from samjax.metrics.rows import CaseScores, of_scope, summarise_rows
from samjax.metrics.summary import Summary

# Adult glioma last: the other names may hold "brats" or "glioma" too.
_DOMAIN_NAMES = {
    "meningioma": r"men|meningioma",
    "paediatric": r"ped|peds|p(a)?ediatric",
    "sub-Saharan": r"ssa|afr|africa|sub.?saharan",
    "adult glioma": r"adult|gli|glioma|hgg|lgg|brats(18|20|21|23)?",
}
_WORDS = re.compile(r"sub.?saharan|[a-z]+\d*")

ZEROSHOT = "zeroshot"
MODELS_A = {ZEROSHOT: "pretrained", "decoder": "fine-tuned", "unet": "unet"}
HEADS_A = {"pretrained": "pretrained SAM", "fine-tuned": "decoder fine-tuned", "unet": "U-Net, no prompt"}
NAMES_A = {
    "t1gd": "A, table 1: T1-Gd repeated",
    "flair,t1gd,t2": "A, table 2: FLAIR, T1-Gd, T2 combined",
    "pca2d": "A, table 3: 2D-PCA",
}


@dataclass(frozen=True)
class ScoredRun:
    """A run, or the base weights, and all its scores."""

    name: str
    strategy: str
    channels: str
    trained_on: tuple[str, ...]
    """The names of the domains it was trained on; empty for base weights."""
    prompt: str
    """The prompt as in its rows: box, point, "point, 3 clicks", none."""
    decathlon: bool
    """Whether the scope `slice` holds the slices of paper A's rule."""
    scores: tuple[CaseScores, ...]
    raw: bool = True
    """Whether its masks are as predicted, without post-processing."""

    @property
    def domains(self) -> list[str]:
        """The domains it was scored on, sorted, without the generated one."""
        return sorted({case.volume.domain for case in self.scores} - {PHANTOM})


def domain_of(name: str) -> str | None:
    """The domain of paper B to which a domain called `name` belongs; None if the name gives none."""
    words = set(_WORDS.findall(name.lower()))
    for domain, pattern in _DOMAIN_NAMES.items():
        if any(re.fullmatch(pattern, word) for word in words):
            return domain
    return None


def paper_tables(runs: Sequence[ScoredRun]) -> list[Table]:
    """The papers' tables in which the runs fill at least one cell; those of paper A for each domain."""
    runs = [run for run in runs if run.raw]
    domains = sorted({domain for run in runs for domain in run.domains})
    tables = [_table_a(runs, channels, domain) for channels in PAPER_A for domain in domains]
    tables += [_table_b(runs, caption, rows) for caption, rows in _tables_b()]
    return [table for table in tables if table is not None]


def _dice(
    runs: Iterable[ScoredRun], scope: str, roi: str, domain_in: Callable[[ScoredRun], str | None]
) -> Summary | None:
    """The Dice of the first run with scores of a region in the single domain that `domain_in` returns."""
    for run in runs:
        domain = domain_in(run)
        rows = [row for row in of_scope(run.scores, scope) if row.roi == roi and row.domain == domain]
        if rows:
            return summarise_rows(rows)["dice"]
    return None


def _fits_a(run: ScoredRun, model: str, channels: str, domain: str) -> bool:
    prompt = "none" if model == "unet" else "box"
    same = (MODELS_A.get(run.strategy), run.channels, run.prompt) == (model, channels, prompt)
    return same and run.decathlon and run.trained_on in ((), (domain,))


def _table_a(runs: Sequence[ScoredRun], channels: str, domain: str) -> Table | None:
    models = PAPER_A[channels]
    header, rows, bold, filled = ["ROI"], [], set(), False
    for model in models:
        header += [HEADS_A[model], "published"]
    for index, roi in enumerate(REGIONS_A):
        cells, means = [roi], {}
        for model, dice in models.items():
            fitting = [run for run in runs if _fits_a(run, model, channels, domain)]
            found = _dice(fitting, "slice", roi, lambda _: domain)
            filled |= found is not None
            if found is not None:
                means[len(cells)] = found.mean
            cells += [_cell(found, 1.0, 2), number(dice[index], 2)]
        bold |= _best(index, means)
        rows.append(tuple(cells))
    if not filled:
        return None
    caption = (
        f"{NAMES_A[channels]}; Dice of {domain} by slice, mean ± SD [95 % CI] (n), under the paper's protocol: slices "
        "where every region has 250 pixels, boxes from ground truth (U-Net: no prompt), trained on this domain; beside "
        "it what the paper prints"
    )
    return Table(caption, tuple(header), tuple(rows), frozenset(bold))


_RowB = tuple[str, Callable[[ScoredRun], bool], Published]
"""A row of paper B: its label, the test for runs that fill it, and the published Dice."""


def _of(strategy: str, channels: str | None = None, trained: str = DOMAINS_B[0]) -> Callable[[ScoredRun], bool]:
    """Runs of a strategy, trained on one domain, or base weights, which were trained on none."""

    def fits(run: ScoredRun) -> bool:
        same = run.strategy == strategy and channels in (None, run.channels)
        return same and [domain_of(name) for name in run.trained_on] == ([trained] if strategy != ZEROSHOT else [])

    return fits


def _only_domain(run: ScoredRun, wanted: str) -> str | None:
    """The only domain of a run's scores that is `wanted` of paper B; None if there are several."""
    found = [name for name in run.domains if domain_of(name) == wanted]
    return found[0] if len(found) == 1 else None


def _tables_b() -> list[tuple[str, list[_RowB]]]:
    ours = [
        ("lora4ch, trained on adult glioma", _of("lora4ch"), published.LORA4CH_ADULT_B),
        ("lora4ch, trained on meningioma", _of("lora4ch", trained=DOMAINS_B[1]), published.LORA4CH_MENINGIOMA_B),
    ]
    lora = [(f"lora, {name}", _of("lora", name), dice) for name, dice in published.LORA_B.items()]
    zero = [(f"zero-shot, {name}", _of("zeroshot", name), dice) for name, dice in published.ZERO_SHOT_B.items()]
    return [
        ("B, table 1: zero-shot against LoRA", [row for pair in zip(zero, lora, strict=True) for row in pair]),
        ("B, table 2: one modality, three, or all four", [*lora, *ours]),
        (
            "B, table 3: two steps against one",
            [("lora4ch-2step", _of("lora4ch-2step"), published.TWO_STEP_B), ours[0]],
        ),
        ("B, table 4: full fine-tuning against LoRA", [("full", _of("full"), published.FULL_B), ours[0]]),
        (
            "B, table 5: methods on SAM",
            [
                ("SAM-Med (published only)", lambda run: False, published.SAM_MED_B),
                ("Ranem et al. (published only)", lambda run: False, published.RANEM_B),
                ("adapter (samjax's own, not in the paper)", _of("adapter"), (None,) * len(DOMAINS_B)),
                *ours,
            ],
        ),
    ]


def _table_b(runs: Sequence[ScoredRun], caption: str, specs: list[_RowB]) -> Table | None:
    header = ["model"]
    for domain in DOMAINS_B:
        header += [domain, "published"]
    rows: list[tuple[str, ...]] = []
    means: dict[int, dict[int, float]] = {}
    for index, (label, fits, dice) in enumerate(specs):
        fitting = [run for run in runs if run.prompt == "point" and fits(run)]
        cells = []
        for place, domain in enumerate(DOMAINS_B):
            found = _dice(fitting, "slice_all", "whole-tumor", partial(_only_domain, wanted=domain))
            if found is not None:
                means.setdefault(1 + 2 * place, {})[index] = found.mean
            cells += [_cell(found, 100.0, 1), number(dice[place], 1)]
        rows.append((label, *cells))
    if not means:
        return None
    bold = {(max(column, key=column.get), place) for place, column in means.items() if len(column) > 1}
    caption += (
        "; Dice x 100 of whole-tumor, mean ± SD [95 % CI] (n), under the paper's protocol: all slices, empty ones "
        "included, one click from ground truth, one domain a column, trained on adult glioma alone where the row does "
        "not say otherwise; beside it what the paper prints"
    )
    return Table(caption, tuple(header), tuple(rows), frozenset(bold))


def _cell(summary: Summary | None, scale: float, digits: int) -> str:
    if summary is None:
        return "-"
    text = number(summary.mean * scale, digits)
    if summary.sd is not None:
        text += f" ± {number(summary.sd * scale, digits)}"
    if summary.ci95 is not None:
        text += f" [{number(summary.ci95[0] * scale, digits)}, {number(summary.ci95[1] * scale, digits)}]"
    return f"{text} ({summary.n})"


def _best(row: int, means: dict[int, float]) -> set[tuple[int, int]]:
    return {(row, max(means, key=means.get))} if len(means) > 1 else set()
