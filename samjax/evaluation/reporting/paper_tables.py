"""The tables of both papers from scored runs, with what the papers print beside them.

Paper A: regions by model for each way of making channels, on slices (its protocol leaves small ones out). Paper B:
models by domain, Dice x 100 over all slices, empty ones included, as its code does. A run fills a cell by its
strategy, channels and the domains it was trained on; cells that no run fills show a dash.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from samjax.data.cohort import PHANTOM
from samjax.evaluation.reporting import published
from samjax.evaluation.reporting.published import DOMAINS_B, PAPER_A, REGIONS_A, Published
from samjax.evaluation.reporting.tables import Table, number
from samjax.evaluation.scoring import CaseScores, of_scope, summarise_rows
from samjax.evaluation.summary import Summary

# Adult glioma last: the other names may hold "brats" or "glioma" too.
_DOMAIN_NAMES = {
    "meningioma": r"men|meningioma",
    "paediatric": r"ped|peds|p(a)?ediatric",
    "sub-Saharan": r"ssa|afr|africa|sub.?saharan",
    "adult glioma": r"adult|gli|glioma|hgg|lgg|brats(18|20|21|23)?",
}
_WORDS = re.compile(r"sub.?saharan|[a-z]+\d*")

MODELS_A = {"zeroshot": "pretrained", "decoder": "fine-tuned", "unet": "unet"}
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
    """Names of the domains; empty for base weights."""
    prompt: str
    scores: tuple[CaseScores, ...]


def domain_of(name: str) -> str | None:
    """Which of paper B's domains a domain called `name` is."""
    words = set(_WORDS.findall(name.lower()))
    for domain, pattern in _DOMAIN_NAMES.items():
        if any(re.fullmatch(pattern, word) for word in words):
            return domain
    return None


def paper_tables(runs: Sequence[ScoredRun]) -> list[Table]:
    """Those of the papers' tables that the runs fill at least in one cell; generated scans fill none."""
    prompted, free = ([run for run in runs if (run.prompt != "none") == asked] for asked in (True, False))
    tables = [_table_a([*prompted, *(run for run in free if run.strategy == "unet")], channels) for channels in PAPER_A]
    for chosen, source in ((prompted, "prompts from ground truth"), (free, "no prompts, every slice run")):
        tables += [_table_b(chosen, f"{caption}; {source}", rows) for caption, rows in _tables_b()]
    return [table for table in tables if table is not None]


def _scores(
    runs: Iterable[ScoredRun], scope: str, roi: str, domain: str | None, fits: Callable[[ScoredRun], bool]
) -> tuple[Summary, str] | None:
    """The Dice of the first run that fits and has scores there, and how it was asked."""
    for run in runs:
        if not fits(run):
            continue
        rows = [
            row
            for row in of_scope(run.scores, scope)
            if row.roi == roi and row.domain != PHANTOM and (domain is None or domain_of(row.domain) == domain)
        ]
        if rows:
            return summarise_rows(rows)["dice"], run.prompt
    return None


def _table_a(runs: Sequence[ScoredRun], channels: str) -> Table | None:
    models = PAPER_A[channels]
    header, rows, bold, filled = ["ROI"], [], set(), False
    for model in models:
        header += [HEADS_A[model], "published"]
    for index, roi in enumerate(REGIONS_A):
        cells, means = [roi], {}
        for model, dice in models.items():
            found = _scores(
                runs,
                "slice",
                roi,
                None,
                lambda run, m=model: (MODELS_A.get(run.strategy), run.channels) == (m, channels),
            )
            filled |= found is not None
            if found is not None:
                means[len(cells)] = found[0].mean
            cells += [_cell(found, 1.0, 2), number(dice[index], 2)]
        bold |= _best(index, means)
        rows.append(tuple(cells))
    if not filled:
        return None
    caption = f"{NAMES_A[channels]}; Dice by slice, mean ± SD [95 % CI] (n); beside it what the paper prints"
    return Table(caption, tuple(header), tuple(rows), frozenset(bold))


_RowB = tuple[str, Callable[[ScoredRun], bool], Published]


def _of(strategy: str, channels: str | None = None, trained: str | None = None) -> Callable[[ScoredRun], bool]:
    def fits(run: ScoredRun) -> bool:
        same = run.strategy == strategy and channels in (None, run.channels)
        return same and (trained is None or {domain_of(name) for name in run.trained_on} == {trained})

    return fits


def _tables_b() -> list[tuple[str, list[_RowB]]]:
    ours = [
        ("lora4ch, trained on adult glioma", _of("lora4ch", trained=DOMAINS_B[0]), published.LORA4CH_ADULT_B),
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
                *ours,
            ],
        ),
    ]


def _table_b(runs: Sequence[ScoredRun], caption: str, specs: list[_RowB]) -> Table | None:
    header = ["model", "asked with"]
    for domain in DOMAINS_B:
        header += [domain, "published"]
    rows: list[tuple[str, ...]] = []
    means: dict[int, dict[int, float]] = {}
    for index, (label, fits, dice) in enumerate(specs):
        cells, asked = [], []
        for place, domain in enumerate(DOMAINS_B):
            found = _scores(runs, "slice_all", "whole-tumor", domain, fits)
            if found is not None:
                asked.append(found[1])
                means.setdefault(2 + 2 * place, {})[index] = found[0].mean
            cells += [_cell(found, 100.0, 1), number(dice[place], 1)]
        rows.append((label, " / ".join(dict.fromkeys(asked)) or "-", *cells))
    if not means:
        return None
    bold = {(max(column, key=column.get), place) for place, column in means.items() if len(column) > 1}
    caption += (
        "; Dice x 100 over all slices, empty ones included, mean ± SD [95 % CI] (n); beside it what the paper prints"
    )
    return Table(caption, tuple(header), tuple(rows), frozenset(bold))


def _cell(found: tuple[Summary, str] | None, scale: float, digits: int) -> str:
    if found is None:
        return "-"
    summary = found[0]
    text = number(summary.mean * scale, digits)
    if summary.sd is not None:
        text += f" ± {number(summary.sd * scale, digits)}"
    if summary.ci95 is not None:
        text += f" [{number(summary.ci95[0] * scale, digits)}, {number(summary.ci95[1] * scale, digits)}]"
    return f"{text} ({summary.n})"


def _best(row: int, means: dict[int, float]) -> set[tuple[int, int]]:
    return {(row, max(means, key=means.get))} if len(means) > 1 else set()
