"""What an evaluation comes to: summary.json, the tables, the paired tests."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from samjax.evaluation.collected import Collected
from samjax.evaluation.reporting.tables import Table, number
from samjax.evaluation.scoring import (
    SCOPE_NAMES,
    SCOPES,
    VOLUME_METRICS,
    CaseScores,
    Row,
    SliceRule,
    of_scope,
    summarise_rows,
)
from samjax.evaluation.statistics import PairedTest, paired_tests, tables_of
from samjax.evaluation.summary import Summary


def summary_of(collected: Sequence[Collected], rule: SliceRule, tests: Sequence[PairedTest]) -> dict:
    """The content of summary.json."""
    return {
        "runs": {found.model.name: _of_run(found, rule) for found in collected},
        "baselines": {name: _of_scores(scores, "oracle", rule) for name, scores in _baselines(collected).items()},
        "tests": [test.to_json() for test in tests],
    }


def _baselines(collected: Sequence[Collected]) -> dict[str, list[CaseScores]]:
    """Each baseline once for every region: models that were asked alike share it."""
    found: dict[str, dict[tuple, CaseScores]] = {}
    for model in collected:
        for name, scores in model.baselines.items():
            for case in scores:
                row = case.volume
                found.setdefault(name, {}).setdefault((row.domain, row.case, row.roi), case)
    return {name: list(cases.values()) for name, cases in found.items()}


def _of_run(found: Collected, rule: SliceRule) -> dict:
    model = found.model
    slices = "all" if model.prompt_source == "none" else "oracle"
    content = {
        "prompt": model.asked,
        "prompt_source": model.prompt_source,
        "data": _of_scores(found.scores, slices, rule),
    }
    if model.clicks > 1 and found.slice_dice:
        content["clicks"] = {"dice": [asdict(x) for x in found.dice_by_clicks()], "needed": found.clicks_needed()}
    return content


def _of_scores(scores: Iterable[CaseScores], slices: str, rule: SliceRule) -> dict:
    """{domain: {"roi": {roi: {scope: statistics}}}}."""
    groups: dict[str, dict[str, list[CaseScores]]] = {}
    for case in scores:
        groups.setdefault(case.volume.domain, {}).setdefault(case.volume.roi, []).append(case)
    data: dict = {}
    for domain in sorted(groups):
        regions = {}
        for roi, chosen in groups[domain].items():
            regions[roi] = {scope: _cell(of_scope(chosen, scope)) | {"slices": slices} for scope in SCOPES}
            regions[roi]["slice"]["rule"] = str(rule)
        data[domain] = {"roi": regions}
    return data


def _cell(rows: Sequence[Row]) -> dict:
    volumes = bool(rows) and rows[0].slice is None
    found = summarise_rows(rows, ("dice", "hd95", *(VOLUME_METRICS if volumes else ())))
    dice, hd95 = found.pop("dice"), found.pop("hd95")
    return {
        "dice": dice.mean,
        "dice_sd": dice.sd,
        "dice_ci95": dice.ci95,
        "dice_nonempty": dice.mean_nonempty,
        "n_nonempty": dice.n_nonempty,
        "hd95": hd95.mean,
        "hd95_sd": hd95.sd,
        "n": dice.n,
        **{name: summary.mean for name, summary in found.items()},
    }


def tests_of(collected: Sequence[Collected]) -> list[PairedTest]:
    """Every pair of models with one source of prompts: by patient on volumes, and by slice as paper A did."""
    if len(collected) < 2:
        return []
    everything = [case for found in collected for case in found.scores]
    tests = []
    for scope, unit in (("volume", "patient"), ("slice", "slice")):
        rows = of_scope(everything, scope)
        for metric in ("dice", "hd95") if rows else ():
            tests += paired_tests(rows, scope=scope, unit=unit, metric=metric)
    return tests


def main_tables(summary: dict, rule: SliceRule) -> list[Table]:
    """A table for each scope and source of prompts; with prompts, the baselines stand below the models."""
    tables = [_table(scope, prompted, summary, rule) for scope in SCOPES for prompted in (True, False)]
    tables += [_volume_table(prompted, summary) for prompted in (True, False)]
    return [table for table in tables if table.rows]


def brief_tables(summary: dict, rule: SliceRule) -> list[Table]:
    """What the terminal shows: slices that show the ROI, volumes, and clicks."""
    tables = [_table(scope, prompted, summary, rule) for scope in ("slice", "volume") for prompted in (True, False)]
    return [*(table for table in tables if table.rows), *_click_tables(summary)]


def all_tables(summary: dict, tests: Sequence[PairedTest], rule: SliceRule) -> list[Table]:
    """The tables of results, of clicks, and of tests."""
    return [*main_tables(summary, rule), *_click_tables(summary), *tables_of(tests)]


def _entries(summary: dict, prompted: bool) -> Iterable[tuple[str, str, str, str, dict]]:
    """(name, domain, ROI, prompt, scopes) of every model, then of the baselines."""
    for name, run in summary["runs"].items():
        if (run["prompt_source"] != "none") == prompted:
            for domain, of_domain in run["data"].items():
                for roi, scopes in of_domain["roi"].items():
                    yield name, domain, roi, run["prompt"], scopes
    if prompted:
        for name, data in summary["baselines"].items():
            for domain, of_domain in data.items():
                for roi, scopes in of_domain["roi"].items():
                    yield f"({name})", domain, roi, "-", scopes


def _source(prompted: bool) -> str:
    if prompted:
        return "prompts from ground truth, slices without ROI not run; in brackets what the prompt alone is worth"
    return "no prompts, every slice run"


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
    caption = f"Dice and HD95 {SCOPE_NAMES[scope]}{what}; {_source(prompted)}"
    return Table(caption, header, tuple(rows), frozenset(bold))


def _best(entries: Sequence[tuple], best: Callable) -> set[int]:
    """The rows with the best value of several models that were asked alike of one domain and region.

    Of (name, domain, ROI, prompt, value); baselines, which have no prompt, do not compete.
    """
    groups: dict[tuple, dict[int, float]] = {}
    for row, (_, *asked, value) in enumerate(entries):
        if asked[-1] != "-" and value is not None:
            groups.setdefault(tuple(asked), {})[row] = value
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
    return Table(f"Further scores by volume (3-D), means; {_source(prompted)}", header, rows)


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
