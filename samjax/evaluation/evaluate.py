"""Scoring from start to end: which models, which cases, rows, summaries, tables and files."""

import json
import sys
from pathlib import Path

from samjax.config import EvalOptions
from samjax.data.cache import CachedCase
from samjax.data.cases import Case
from samjax.data.cohort import list_cases, named_folders, phantom_cohort, prepare, require_labels
from samjax.data.labels import roi_codes
from samjax.data.layouts import shared_patients
from samjax.data.splits import PARTS, Splits, split_cases
from samjax.data.volumes import write_labels
from samjax.errors import UserError
from samjax.evaluation.inference import Segmenter, segment, segmenter_of_run, zeroshot_segmenter
from samjax.evaluation.overlays import Shown, draw_overlays, largest_slice
from samjax.evaluation.scoring import (
    SCOPES,
    CaseScores,
    SliceRule,
    of_scope,
    score_case,
    summarise_rows,
    write_rows,
)
from samjax.evaluation.summary import Summary
from samjax.evaluation.tables import Table, number
from samjax.files import replacing
from samjax.runs import find_run, read_config, read_splits

SCOPE_NAMES = {"slice": "by slice", "slice_all": "by slice, empty ones included", "volume": "by volume (3-D)"}


def evaluate(options: EvalOptions) -> Path:
    """Scores what the options name and writes the results; returns their folder.

    Raises:
        UserError: runs, weights or data cannot be used.
    """
    roi_codes(options.roi)
    runs = [find_run(folder) for folder in options.run or ((None,) if options.strategy is None else ())]
    output = options.output or (runs[0] / "eval" if runs else Path("runs") / "zeroshot")
    cases = select_cases(options, runs)
    rule = SliceRule(options.min_pixels, options.protocol == "decathlon")
    scores: dict[str, list[CaseScores]] = {}
    shown: list[Shown] = []
    segmenters = _segmenters(options, runs)
    for segmenter in segmenters:
        scores[segmenter.name] = _score(segmenter, cases, options, rule, output, shown)
    _write(output, segmenters, scores, rule)
    (output / "figures").mkdir(exist_ok=True)
    draw_overlays(output / "figures" / "overlays.png", shown)
    return output


def _segmenters(options: EvalOptions, runs: list[Path]) -> list[Segmenter]:
    found = [segmenter_of_run(run, options.weights, options.prompt, options.clicks, options.average) for run in runs]
    if options.strategy is not None:
        weights = options.weights or (read_config(runs[0]).base_path if runs else "tiny")
        found.append(
            zeroshot_segmenter(
                weights, options.roi, options.channels, options.prompt, options.clicks, options.image_size
            )
        )
    names = [segmenter.name for segmenter in found]
    if len(set(names)) < len(names):
        raise UserError(f"--run: the name {max(names, key=names.count)} is used twice; rename a run's folder")
    return found


def select_cases(options: EvalOptions, runs: list[Path]) -> list[CachedCase]:
    """The prepared, labelled cases to score."""
    layout, labels = options.layout, options.labels
    if options.data:
        folders, default = named_folders(options.data), "all"
    elif runs:
        config = read_config(runs[0])
        folders, default = {name: Path(path) for name, path in config.data.items()}, "test"
        layout, labels = layout or config.options.layout, labels or config.options.labels
    else:
        folders, default = phantom_cohort(options.cache_dir), "test"
    parts = parse_parts(options.split, tuple(folders), default)
    cases = list_cases(folders, layout, labels, None)
    if set(parts.values()) != {"all"}:
        splits = _splits(options, runs, cases)
        cases = [case for name, part in parts.items() for case in splits.select(cases, part) if case.domain == name]
    if not cases:
        raise UserError(f"--split {' '.join(options.split) or default}: holds no case of {', '.join(folders)}")
    if options.data:
        _warn_of_shared_patients(runs, cases)
    return require_labels(prepare(cases[: options.limit], options.cache_dir if options.cache else None))


def parse_parts(texts: tuple[str, ...], domains: tuple[str, ...], default: str) -> dict[str, str]:
    """The part of each domain that `--split` names: PART for all, NAME=PART for one."""
    parts = dict.fromkeys(domains, default)
    for text in texts:
        name, found, part = text.rpartition("=")
        if part not in (*PARTS, "all") or (found and name not in parts):
            raise UserError(
                f"--split {text}: expected {', '.join(PARTS)} or all, or one of these for a domain "
                f"({', '.join(f'{domain}=test' for domain in domains)})"
            )
        parts |= {name: part} if found else dict.fromkeys(parts, part)
    return parts


def _warn_of_shared_patients(runs: list[Path], cases: list[Case]) -> None:
    """Says so where a run was trained on a collection that holds the same patients as what it is scored on."""
    for run in runs:
        config = read_config(run)
        folders = {name: Path(path) for name, path in config.data.items() if Path(path).exists()}
        trained = list_cases(folders, config.options.layout, config.options.labels, None)
        if warning := shared_patients(trained, cases):
            print(f"warning: {run}: {warning}", file=sys.stderr)


def _splits(options: EvalOptions, runs: list[Path], cases: list[Case]) -> Splits:
    """The split of the runs, which must agree; one by the seed where no run has one for these domains."""
    domains = {case.domain for case in cases}
    found = [splits for splits in map(read_splits, runs) if domains <= set(splits.domains)]
    if not found:
        return split_cases(cases, options.seed)
    for splits, run in zip(found[1:], runs[1:], strict=False):
        if any(splits.domains[name] != found[0].domains[name] for name in domains):
            raise UserError(
                f"--run {run}: another split than {runs[0]}, so one would be scored on its training patients; "
                "compare runs of one --seed and --fold, or score other data"
            )
    return found[0]


def _score(
    segmenter: Segmenter,
    cases: list[CachedCase],
    options: EvalOptions,
    rule: SliceRule,
    output: Path,
    shown: list[Shown],
) -> list[CaseScores]:
    """Scores one model on all cases; adds to `shown` what its pictures need."""
    from rich.progress import track

    predictions = segment(segmenter, cases, slices=options.batch_size, workers=options.workers, seed=options.seed)
    scores = []
    for prediction in track(predictions, total=len(cases), description=f"scoring {segmenter.name}"):
        case = prediction.case
        for roi in segmenter.rois:
            mask = segmenter.mask(prediction.predicted, roi)
            scores.append(score_case(case, mask, run=segmenter.name, roi=roi, prompt=segmenter.asked, rule=rule))
        roi = options.roi if options.roi in segmenter.rois else segmenter.rois[0]
        shown.append(largest_slice(case, segmenter.mask(prediction.predicted, roi), segmenter.name, roi))
        if options.save_predictions:
            folder = output / "predictions"
            if options.strategy is not None or len(options.run) > 1:
                folder = folder / segmenter.name
            folder.mkdir(parents=True, exist_ok=True)
            write_labels(
                folder / f"{case.case.id}.nii.gz",
                segmenter.label_map(prediction.predicted, case.case.scheme),
                case.case,
                case.geometry,
            )
    return scores


def _write(output: Path, segmenters: list[Segmenter], scores: dict[str, list[CaseScores]], rule: SliceRule) -> None:
    output.mkdir(parents=True, exist_ok=True)
    everything = [case for name in scores for case in scores[name]]
    write_rows(output / "slices.csv", of_scope(everything, "slice_all"))
    write_rows(output / "volumes.csv", of_scope(everything, "volume"))
    summary = {"runs": {s.name: _summary(s, scores[s.name], rule) for s in segmenters}, "tests": []}
    with replacing(output / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    tables = [_table(scope, prompted, summary["runs"], rule) for scope in SCOPES for prompted in (True, False)]
    tables = [table for table in tables if table.rows]
    with replacing(output / "tables.md") as temporary:
        temporary.write_text("\n".join(table.to_markdown() for table in tables))
    for table in tables:
        table.show()


def _summary(segmenter: Segmenter, scores: list[CaseScores], rule: SliceRule) -> dict:
    """A run's part of summary.json."""
    domains = sorted({case.volume.domain for case in scores})
    slices = "all" if segmenter.prompt == "none" else "oracle"
    data = {}
    for domain in domains:
        regions = {}
        for roi in segmenter.rois:
            chosen = [case for case in scores if (case.volume.domain, case.volume.roi) == (domain, roi)]
            regions[roi] = {}
            for scope in SCOPES:
                found = summarise_rows(of_scope(chosen, scope))
                regions[roi][scope] = _cell(found["dice"], found["hd95"]) | {"slices": slices}
            regions[roi]["slice"]["rule"] = str(rule)
        data[domain] = {"roi": regions}
    return {"prompt": segmenter.asked, "prompt_source": segmenter.prompt_source, "data": data}


def _cell(dice: Summary, hd95: Summary) -> dict:
    return {
        "dice": dice.mean,
        "dice_sd": dice.sd,
        "dice_ci95": dice.ci95,
        "dice_nonempty": dice.mean_nonempty,
        "n_nonempty": dice.n_nonempty,
        "hd95": hd95.mean,
        "hd95_sd": hd95.sd,
        "n": dice.n,
    }


def _with_spread(mean: float | None, sd: float | None) -> str:
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


def _table(scope: str, prompted: bool, runs: dict, rule: SliceRule) -> Table:
    """One scope of all runs whose prompts do, or do not, come from the labels: never both in one table."""
    source = "prompts from ground truth, slices without ROI not run" if prompted else "no prompts, every slice run"
    what = f" ({rule})" if scope == "slice" else ""
    rows = []
    for name, run in runs.items():
        if (run["prompt"] != "none") != prompted:
            continue
        for domain, of_domain in run["data"].items():
            for roi, scopes in of_domain["roi"].items():
                cell = scopes[scope]
                interval = "-" if cell["dice_ci95"] is None else " to ".join(map(number, cell["dice_ci95"]))
                rows.append(
                    (
                        name, domain, roi, run["prompt"], _with_spread(cell["dice"], cell["dice_sd"]),
                        interval, f"{number(cell['dice_nonempty'])} ({cell['n_nonempty']})",
                        number(cell["hd95"], 1), str(cell["n"]),
                    )
                )  # fmt: skip
    header = (
        "run", "domain", "ROI", "prompt", "Dice ± SD", "95 % CI", "Dice, not empty (n)", "HD95 mm", "n",
    )  # fmt: skip
    return Table(f"Dice and HD95 {SCOPE_NAMES[scope]}{what}; {source}", header, tuple(rows))
