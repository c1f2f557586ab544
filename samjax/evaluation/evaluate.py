"""Scoring from start to end: which models, which cases, rows, summaries, tables and files."""

import json
from dataclasses import asdict
from pathlib import Path

from samjax.config import EvalOptions
from samjax.data.cache import CachedCase
from samjax.data.cohort import list_cases, named_folders, phantom_cohort, prepare, require_labels
from samjax.data.labels import roi_codes, roi_value
from samjax.data.splits import Splits, split_cases
from samjax.data.volumes import write_labels
from samjax.errors import UserError
from samjax.evaluation.inference import Segmenter, segment, segmenter_of_run, zeroshot_segmenter
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
    segmenters = _segmenters(options, runs)
    for segmenter in segmenters:
        scores[segmenter.name] = _score(segmenter, cases, options, rule, output)
    _write(output, segmenters, scores, rule)
    return output


def _segmenters(options: EvalOptions, runs: list[Path]) -> list[Segmenter]:
    found = [segmenter_of_run(run, options.weights, options.prompt) for run in runs]
    if options.strategy is not None:
        weights = options.weights or (read_config(runs[0]).base_path if runs else "tiny")
        found.append(zeroshot_segmenter(weights, options.roi, options.channels, options.prompt, options.image_size))
    names = [segmenter.name for segmenter in found]
    if len(set(names)) < len(names):
        raise UserError(f"--run: the name {max(names, key=names.count)} is used twice; rename a run's folder")
    return found


def select_cases(options: EvalOptions, runs: list[Path]) -> list[CachedCase]:
    """The prepared, labelled cases to score."""
    if options.data:
        folders, part = named_folders(options.data), options.split or "all"
    elif runs:
        folders = {name: Path(path) for name, path in read_config(runs[0]).data.items()}
        part = options.split or "test"
    else:
        folders, part = phantom_cohort(options.cache_dir), options.split or "test"
    layout, labels = options.layout, options.labels
    if runs and not options.data:
        of_run = read_config(runs[0]).options
        layout, labels = layout or of_run.layout, labels or of_run.labels
    cases = list_cases(folders, layout, labels, None)
    if part != "all":
        cases = _splits(options, runs, cases).select(cases, part)
    if not cases:
        raise UserError(f"--split {part}: holds no case of {', '.join(folders)}")
    cases = cases[: options.limit]
    return require_labels(prepare(cases, options.cache_dir if options.cache else None))


def _splits(options: EvalOptions, runs: list[Path], cases: list) -> Splits:
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
    segmenter: Segmenter, cases: list[CachedCase], options: EvalOptions, rule: SliceRule, output: Path
) -> list[CaseScores]:
    from rich.progress import track

    predictions = segment(segmenter, cases, slices=options.batch_size, workers=options.workers, seed=options.seed)
    scores = []
    for prediction in track(predictions, total=len(cases), description=f"scoring {segmenter.name}"):
        case = prediction.case
        scores.append(
            score_case(
                case,
                prediction.mask,
                run=segmenter.name,
                roi=segmenter.roi,
                prompt=segmenter.prompt,
                rule=rule,
            )
        )
        if options.save_predictions:
            value = roi_value(case.case.scheme, segmenter.roi)
            folder = output / "predictions"
            if options.strategy is not None or len(options.run) > 1:
                folder = folder / segmenter.name
            folder.mkdir(parents=True, exist_ok=True)
            write_labels(
                folder / f"{case.case.id}.nii.gz",
                prediction.mask.astype("uint8") * value,
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
        chosen = [case for case in scores if case.volume.domain == domain]
        scopes = {}
        for scope in SCOPES:
            found = summarise_rows(of_scope(chosen, scope))
            scopes[scope] = _cell(found["dice"], found["hd95"]) | {"slices": slices}
        scopes["slice"]["rule"] = str(rule)
        data[domain] = {"roi": {segmenter.roi: scopes}}
    return {"prompt": segmenter.prompt, "prompt_source": segmenter.prompt_source, "data": data}


def _cell(dice: Summary, hd95: Summary) -> dict:
    names = asdict(dice)
    return {
        "dice": dice.mean,
        "dice_sd": dice.sd,
        "dice_ci95": dice.ci95,
        "dice_nonempty": dice.mean_nonempty,
        "n_nonempty": dice.n_nonempty,
        "hd95": hd95.mean,
        "hd95_sd": hd95.sd,
        "n": names["n"],
    }


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
                        name, domain, roi, run["prompt"], f"{number(cell['dice'])} ± {number(cell['dice_sd'])}",
                        interval, f"{number(cell['dice_nonempty'])} ({cell['n_nonempty']})",
                        number(cell["hd95"], 1), str(cell["n"]),
                    )
                )  # fmt: skip
    header = (
        "run", "domain", "ROI", "prompt", "Dice ± SD", "95 % CI", "Dice, not empty (n)", "HD95 mm", "n",
    )  # fmt: skip
    return Table(f"Dice and HD95 {SCOPE_NAMES[scope]}{what}; {source}", header, tuple(rows))
