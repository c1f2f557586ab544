"""The tables of results: Dice and HD95 of each scope, further scores by volume, and Dice after each click."""

from collections.abc import Callable, Iterable, Sequence

from samjax.evaluation.baselines import FLAIR
from samjax.evaluation.reporting.tables import Table, number
from samjax.evaluation.rivals import AgainstBaseline
from samjax.evaluation.slice_rule import SliceRule
from samjax.metrics.rows import SCOPE_NAMES, SCOPES, VOLUME_METRICS, prompt_of_region
from samjax.metrics.summary import Summary


def main_tables(summary: dict, rule: SliceRule) -> list[Table]:
    """One table for each scope and source of prompts, with the baselines of that source below the models."""
    tables = [_table(scope, prompted, summary, rule) for scope in SCOPES for prompted in (True, False)]
    tables += [_volume_table(prompted, summary) for prompted in (True, False)]
    return [table for table in tables if table.rows]


def brief_tables(summary: dict, rule: SliceRule) -> list[Table]:
    """The tables for the terminal: slices that show the ROI, volumes, and clicks."""
    tables = [_table(scope, prompted, summary, rule) for scope in ("slice", "volume") for prompted in (True, False)]
    return [*(table for table in tables if table.rows), *_click_tables(summary)]


def result_tables(summary: dict, rule: SliceRule) -> list[Table]:
    """All tables of results: the main ones and those of clicks."""
    return [*main_tables(summary, rule), *_click_tables(summary)]


def _entries(summary: dict, prompted: bool) -> Iterable[tuple[str, str, str, str, dict]]:
    """The (name, domain, ROI, prompt, scopes) of every model, then of the baselines, of one source of prompts."""
    for name, run in summary["runs"].items():
        if (run["prompt_source"] != "none") == prompted:
            for domain, of_domain in run["data"].items():
                for roi, scopes in of_domain["roi"].items():
                    yield name, domain, roi, prompt_of_region(run["prompt"], roi, run.get("prompted_roi")), scopes
    for name, data in summary["baselines"].items():
        if (name != FLAIR) == prompted:
            for domain, of_domain in data.items():
                for roi, scopes in of_domain["roi"].items():
                    yield f"({name})", domain, roi, "-", scopes


def _source(prompted: bool, summary: dict) -> str:
    if prompted:
        return "prompts from ground truth, slices without ROI not run; in brackets what the prompt alone is worth"
    rule = "; in brackets a rule without learning" if FLAIR in summary["baselines"] else ""
    return f"no prompts, every slice run{rule}"


def _notes(prompted: bool, summary: dict) -> tuple[str, ...]:
    """A sentence for each model that does not beat a baseline, named with the best one that it does not beat."""
    found: dict[tuple, AgainstBaseline] = {}
    for entry in summary["against_baselines"]:
        result = AgainstBaseline(**{name: value for name, value in entry.items() if name != "beats"})
        key = result.run, result.domain, result.roi
        if not result.beats and (result.baseline != FLAIR) == prompted:
            found[key] = max(found.get(key, result), result, key=lambda each: each.baseline_dice)
    return tuple(map(str, found.values()))


def _with_spread(mean: float | None, sd: float | None) -> str:
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


def _table(scope: str, prompted: bool, summary: dict, rule: SliceRule) -> Table:
    what = f" ({rule})" if scope == "slice" else ""
    rows, bold = [], set()
    entries = list(_entries(summary, prompted))
    for metric, column, best in (("dice", 4, max), ("hd95", 7, min)):
        bold |= {(row, column) for row in _best([(*entry[:4], entry[4][scope][metric]) for entry in entries], best)}
    for name, domain, roi, prompt, scopes in entries:
        cell = scopes[scope]
        interval = "-" if cell["dice_ci95"] is None else " to ".join(map(number, cell["dice_ci95"]))
        rows.append(
            (
                name, domain, roi, prompt, _with_spread(cell["dice"], cell["dice_sd"]), interval,
                f"{number(cell['dice_nonempty'])} ({cell['n_nonempty']})", number(cell["hd95"], 1), str(cell["n"]),
            )
        )  # fmt: skip
    header = (
        "run", "domain", "ROI", "prompt", "Dice ± SD", "95 % CI", "Dice, not empty (n)", "HD95 mm", "n",
    )  # fmt: skip
    caption = f"Dice and HD95 {SCOPE_NAMES[scope]}{what}; {_source(prompted, summary)}"
    notes = _notes(prompted, summary) if scope == "volume" else ()
    return Table(caption, header, tuple(rows), frozenset(bold), notes)


def _best(entries: Sequence[tuple], best: Callable) -> set[int]:
    """The rows with the best value among several models of one domain, region and prompt.

    Args:
        entries: (name, domain, ROI, prompt, value) of each row; baselines, which have no prompt, do not compete.
        best: max or min.
    """
    groups: dict[tuple, dict[int, float]] = {}
    for row, (_, domain, roi, prompt, value) in enumerate(entries):
        if prompt != "-" and value is not None:
            groups.setdefault((domain, roi, prompt), {})[row] = value
    return {best(values, key=values.get) for values in groups.values() if len(values) > 1}


_NAMES = {
    "surface_dice": "surface Dice 1 mm", "volume_similarity": "volume similarity", "sensitivity": "sensitivity",
    "precision": "precision", "lesion_dice": "lesion Dice", "lesion_hd95": "lesion HD95 mm",
}  # fmt: skip


def _volume_table(prompted: bool, summary: dict) -> Table:
    rows = tuple(
        (
            name,
            domain,
            roi,
            prompt,
            *(number(scopes["volume"].get(metric), 1 if metric == "lesion_hd95" else 3) for metric in VOLUME_METRICS),
        )
        for name, domain, roi, prompt, scopes in _entries(summary, prompted)
    )
    header = ("run", "domain", "ROI", "prompt", *(_NAMES[metric] for metric in VOLUME_METRICS))
    return Table(f"Further scores by volume (3-D), means; {_source(prompted, summary)}", header, rows)


def _click_tables(summary: dict) -> list[Table]:
    runs = {name: run["clicks"] for name, run in summary["runs"].items() if "clicks" in run}
    if not runs:
        return []
    most = max(len(clicks["dice"]) for clicks in runs.values())
    rows = []
    for name, clicks in runs.items():
        dice = [Summary(**entry) for entry in clicks["dice"]]
        cells = [number(x.mean) for x in dice] + ["-"] * (most - len(dice))
        goals = [f"{x['clicks']:.1f} ({100 * x['reached']:.0f} %)" for x in clicks["needed"].values()]
        rows.append((name, *cells, *goals, str(dice[0].n)))
    goals = [f"clicks to {goal} (reached)" for goal in next(iter(runs.values()))["needed"]]
    header = ("run", *(f"{k} click{'s'[: k > 1]}" for k in range(1, most + 1)), *goals, "n")
    caption = "Dice by slice after each click; clicks from ground truth, each on the largest error; slices with ROI"
    return [Table(caption, header, tuple(rows))]
