"""Scoring from start to end; read it from top to bottom."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import MODALITIES
from samjax.data.imaging.planes import parse_planes
from samjax.data.imaging.volumes import write_labels
from samjax.data.labels import ALL, roi_codes
from samjax.data.loading.pools import Pool
from samjax.evaluation.analysis import embedding_map, lora_distance
from samjax.evaluation.case_scores import scoring_pool
from samjax.evaluation.collected import Collected, Model, Predicted, beside_flair, collect
from samjax.evaluation.models import choose_models, shown_modalities
from samjax.evaluation.prompted import PromptedModel, shown_suffix
from samjax.evaluation.reporting.results import write_results, write_scores
from samjax.evaluation.saved import SavedPredictions
from samjax.evaluation.selection import select_cases
from samjax.evaluation.slice_rule import SliceRule
from samjax.inference.loading import ZEROSHOT
from samjax.inference.predictions import VolumePrediction
from samjax.limits import check_numbers
from samjax.options import EvalOptions
from samjax.runs.folder import RUNS, find_model, lies_elsewhere, read_config

Analysis = Callable[[Path], None]
"""An additional analysis, which writes its figures and numbers into a folder."""


@dataclass(frozen=True)
class Evaluation:
    """The folder of the results, and the number of cases left out."""

    folder: Path
    left_out: int


def evaluate(options: EvalOptions) -> Evaluation:
    """Scores what the options name and writes the results; each model's rows as soon as all its cases are scored.

    Raises:
        UserError: runs, weights, predictions or data cannot be used.
    """
    check_numbers(options)
    if options.roi not in (None, ALL):
        roi_codes(options.roi)
    others = options.strategy is not None or bool(options.predictions)
    runs = [find_model(folder) for folder in options.run or (() if others else (None,))]
    models = choose_models(options, runs, [read_config(run) for run in runs])
    needs = [needs for model in models if isinstance(model, PromptedModel) for needs in model.needs]
    selection = select_cases(options, runs, needs)
    cases = selection.cases
    # What cannot be read or analysed is refused before the scoring, which takes long.
    for model in models:
        if isinstance(model, SavedPredictions):
            model.paths_of(cases)
    analyses = _choose_analyses(options, runs, models, cases)
    rule = SliceRule(options.min_pixels, options.protocol == "decathlon")
    suffix = result_suffix(options)
    configs = {run.resolve().name: read_config(run) for run in runs}
    output = options.output or _default_output(runs, suffix)
    collected: list[Collected] = []
    with closing(scoring_pool(options.workers)) as pool:
        for model in models:
            collected.append(_score(model, cases, rule, pool, options, output, models))
            write_scores(output, collected)
    write_results(output, collected, cases, rule, configs)
    for analyse in analyses:
        analyse(output / "figures")
    return Evaluation(output, selection.left_out)


def _default_output(runs: Sequence[Path], suffix: str) -> Path:
    """The folder of results where none is named: in the first run's folder, unless that is not its place."""
    if not runs:
        return RUNS / f"{ZEROSHOT}{suffix}"
    return RUNS / f"{runs[0].name}{suffix}" if lies_elsewhere(runs[0]) else runs[0] / f"eval{suffix}"


def result_suffix(options: EvalOptions) -> str:
    """The end of the default folder of results that are not of whole scans and single models as they are."""
    parts = ["-ensemble"] * options.ensemble + [f"-rotations{options.rotations}"] * (options.rotations > 1)
    planes = parse_planes(options.planes) if options.planes else None
    return "".join(parts) + shown_suffix(shown_modalities(options)) + shown_suffix(planes)


def _choose_analyses(
    options: EvalOptions, runs: list[Path], models: list[Model], cases: list[CachedCase]
) -> list[Analysis]:
    """The analyses of the options; a `UserError` if the models or cases do not fit one."""
    chosen: list[Analysis] = []
    if options.lora_distance:
        pair = lora_distance.comparable_pair(runs)
        chosen.append(lambda folder: lora_distance.compare(*pair, folder, options.weights, options.average))
    if options.embeddings:
        model, slices = embedding_map.choose(models, cases, options.seed)
        chosen.append(
            lambda folder: print(
                embedding_map.analyse(
                    model, cases, slices, folder, roi=model.rois[0], slices=options.batch_size,
                    workers=options.workers, seed=options.seed,
                )
            )
        )  # fmt: skip
    return chosen


def _score(
    model: Model,
    cases: list[CachedCase],
    rule: SliceRule,
    pool: Pool,
    options: EvalOptions,
    output: Path,
    models: list[Model],
) -> Collected:
    """Scores one model on all cases, and saves its predictions if the options ask for it."""
    from rich.progress import track

    if isinstance(model, PromptedModel):
        _tell_of_grid(model, cases)
    folder = output / "predictions" if len(models) == 1 else output / "predictions" / model.name
    found = Collected(model)
    # A model that is kept from seeing FLAIR is not compared with a threshold on it.
    flair = model is beside_flair(models) and "flair" in (shown_modalities(options) or MODALITIES)
    predictions = collect(model, _predict(model, cases, options), cases, rule, pool, flair)
    for (case, prediction), found in track(predictions, total=len(cases), description=f"scoring {model.name}"):  # noqa: B007
        if options.save_predictions and isinstance(model, PromptedModel):
            _save(model, case, prediction, folder)
    return found


def _tell_of_grid(model: PromptedModel, cases: list[CachedCase]) -> None:
    """Prints the number of cases that are resampled to the grid of the model, or to those of an ensemble's members."""
    for member in model.members:
        if (grid := member.grid) is None:
            continue
        count = sum(grid.resamples(case.shape, case.geometry.spacing) for case in cases)
        if count:
            print(
                f"note: {member.name}: {count} of {len(cases)} cases are resampled to its {grid.words}; its masks are "
                "scored on their own grids",
                file=sys.stderr,
            )


def _predict(model: Model, cases: list[CachedCase], options: EvalOptions) -> Iterator[Predicted]:
    if isinstance(model, SavedPredictions):
        return model.predict(cases)
    return model.predict(cases, options.batch_size, options.workers)


def _save(model: PromptedModel, case: CachedCase, prediction: VolumePrediction, folder: Path) -> None:
    """Writes a prediction in the space and with the label values of its scan."""
    folder.mkdir(parents=True, exist_ok=True)
    values = model.model.label_map(prediction.mask, case.case.scheme)
    write_labels(folder / f"{case.case.id}.nii.gz", values, case.case, case.geometry)
