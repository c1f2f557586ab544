"""Scoring from start to end: which models, which cases, and everything that is written."""

import json
import platform
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from samjax import __version__
from samjax.commands import command_typed
from samjax.data.cache.cases import CachedCase
from samjax.data.cohort import split_name
from samjax.data.formats.names import folder_name
from samjax.data.imaging.volumes import write_labels
from samjax.data.labels import ROIS, roi_codes, roi_mask
from samjax.data.loading.pools import Pool
from samjax.data.on_device.channels import PCA2D, parse_channels
from samjax.errors import UserError
from samjax.evaluation.analysis.lora_distance import comparable_pair
from samjax.evaluation.analysis.lora_distance import compare as compare_lora
from samjax.evaluation.case_scores import scoring_pool
from samjax.evaluation.collected import VIEWED, Collected, Model, Predicted, collect
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.reporting.gallery import draw_gallery
from samjax.evaluation.reporting.paper_tables import ScoredRun, paper_tables
from samjax.evaluation.reporting.report import EvaluationReport, ReportedRun, write_report
from samjax.evaluation.reporting.summary_json import all_tables, brief_tables, summary_of, tests_of
from samjax.evaluation.reporting.tables import write_tables
from samjax.evaluation.reporting.viewer import ViewerCase
from samjax.evaluation.saved import SavedPredictions
from samjax.evaluation.scoring import SliceRule, of_scope, write_rows, write_slices
from samjax.evaluation.selection import select_cases
from samjax.files import replacing
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import ZEROSHOT, model_of_run, model_of_weights
from samjax.inference.model import SegmentationModel
from samjax.options import EvalOptions, TrainOptions
from samjax.runs.config import RunConfig
from samjax.runs.folder import find_run, read_config

DEFAULT_ROI, DEFAULT_CHANNELS = "whole-tumor", "flair,t1gd,t2"


@dataclass(frozen=True)
class Evaluation:
    """Where the results are, and how many cases were left out."""

    folder: Path
    left_out: int


def evaluate(options: EvalOptions) -> Evaluation:
    """Scores what the options name and writes the results; each model's rows as soon as all its cases are scored.

    Raises:
        UserError: runs, weights, predictions or data cannot be used.
    """
    if options.roi not in (None, "all"):
        roi_codes(options.roi)
    others = options.strategy is not None or bool(options.predictions)
    runs = [find_run(folder) for folder in options.run or (() if others else (None,))]
    configs = {run.resolve().name: read_config(run) for run in runs}
    selection = select_cases(options, runs)
    cases = selection.cases
    models = _models(options, runs, list(configs.values()))
    # Found before the scoring, which takes long.
    for model in models:
        if isinstance(model, SavedPredictions):
            model.paths_of(cases)
    pair = comparable_pair(runs) if options.lora_distance else None
    mapped = _mapped(models, cases, options.seed) if options.embeddings else None
    rule = SliceRule(options.min_pixels, options.protocol == "decathlon")
    output = options.output or (runs[0] / "eval" if runs else Path("runs") / ZEROSHOT)
    with closing(scoring_pool(options.workers)) as pool:
        collected: list[Collected] = []
        for model in models:
            collected.append(_scored(model, cases, options, rule, output, len(models), pool))
            _write_rows(output, collected)
    _write(output, collected, cases, rule, configs)
    if pair:
        compare_lora(*pair, output / "figures", options.weights, options.average)
    if mapped:
        _map_embeddings(*mapped, cases, options, output)
    return Evaluation(output, selection.left_out)


def _models(options: EvalOptions, runs: list[Path], configs: list[RunConfig]) -> list[Model]:
    found: list[Model] = [_of_run(run, options) for run in runs]
    if options.strategy is not None:
        found += _zeroshots(options, configs)
    for text in options.predictions:
        name, folder = split_name(text, "--predictions")
        path = folder.expanduser()
        if not path.is_dir():
            raise UserError(f"--predictions {text}: no such folder")
        rois = tuple(ROIS) if options.roi == "all" else (options.roi or DEFAULT_ROI,)
        found.append(SavedPredictions(name or folder_name(path), path, rois))
    names = [model.name for model in found]
    if len(set(names)) < len(names):
        raise UserError(f"the name {max(names, key=names.count)} is used twice; rename a run's folder")
    return found


def _of_run(run: Path, options: EvalOptions) -> PromptedModel:
    """A run with the prompt of the options, or else with the first kind that it was trained with.

    Raises:
        UserError: the run cannot be used, or it never saw such a prompt.
    """
    model = model_of_run(run, options.weights, options.average)
    # A U-Net takes no prompt, whatever the models beside it get.
    kind = model.prompts[0] if options.prompt is None or model.is_unet else options.prompt
    model.require(kind, "--prompt")
    return PromptedModel(model, GroundTruthPrompts(kind, options.clicks, options.seed))


def _zeroshots(options: EvalOptions, configs: list[RunConfig]) -> list[PromptedModel]:
    """The base weights, for each region and channels of the runs that they can take, or as the options say."""
    weights = options.weights or next((config.base_path for config in configs if config.base_path), "tiny")
    channels = options.channels or DEFAULT_CHANNELS
    wanted = [
        (options.roi or run.roi, run.channels if _fits_base(run) and not options.channels else channels)
        for run in (config.options for config in configs if config.architecture)
    ] or [(options.roi or DEFAULT_ROI, channels)]
    prompts = GroundTruthPrompts(options.prompt or "box", options.clicks, options.seed)
    found = []
    rois, sets = (set(values) for values in zip(*wanted, strict=True))
    for roi, text in dict.fromkeys(wanted):
        differs = [roi] * (len(rois) > 1) + [text.replace(",", "+")] * (len(sets) > 1)
        name = "-".join([ZEROSHOT, *differs])
        found.append(PromptedModel(model_of_weights(weights, roi, text, options.image_size, name), prompts))
    return found


def _fits_base(run: TrainOptions) -> bool:
    """Whether base weights take the run's channels."""
    return run.channels != PCA2D and parse_channels(run.channels).count == 3


def _predictions(model: Model, cases: list[CachedCase], options: EvalOptions) -> Iterator[Predicted]:
    if isinstance(model, SavedPredictions):
        return model.predict(cases)
    return model.predict(cases, options.batch_size, options.workers)


def _scored(
    model: Model,
    cases: list[CachedCase],
    options: EvalOptions,
    rule: SliceRule,
    output: Path,
    models: int,
    pool: Pool,
) -> Collected:
    """Scores one model on all cases, and saves its predictions where that is asked for."""
    from rich.progress import track

    folder = output / "predictions"
    if models > 1:
        folder = folder / model.name
    found = Collected(model)
    predictions = collect(model, _predictions(model, cases, options), cases, rule, pool)
    for (case, prediction), found in track(predictions, total=len(cases), description=f"scoring {model.name}"):  # noqa: B007
        if options.save_predictions and isinstance(model, PromptedModel):
            folder.mkdir(parents=True, exist_ok=True)
            values = model.model.label_map(prediction.mask, case.case.scheme)
            write_labels(folder / f"{case.case.id}.nii.gz", values, case.case, case.geometry)
    return found


def _write_rows(output: Path, collected: list[Collected]) -> None:
    """Writes slices.csv and volumes.csv with all that is scored so far."""
    output.mkdir(parents=True, exist_ok=True)
    everything = [case for found in collected for case in found.scores]
    write_slices(output / "slices.csv", everything)
    write_rows(output / "volumes.csv", of_scope(everything, "volume"))


def _write(
    output: Path,
    collected: list[Collected],
    cases: list[CachedCase],
    rule: SliceRule,
    configs: dict[str, RunConfig],
) -> None:
    tests = tests_of(collected)
    summary = summary_of(collected, rule, tests)
    with replacing(output / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    tables = all_tables(summary, tests, rule)
    papers = paper_tables([_scored_run(found, configs.get(found.model.name), rule) for found in collected])
    write_tables(output / "tables", [*tables, *papers])
    for table in [*brief_tables(summary, rule), *papers]:
        table.show()
    figures = draw_gallery(output / "figures", collected, cases)
    runs = tuple(_reported(found, configs.get(found.model.name)) for found in collected)
    plain, tested = [t for t in tables if "Wilcoxon" not in t.caption], [t for t in tables if "Wilcoxon" in t.caption]
    report = EvaluationReport(
        title="samjax: " + ", ".join(run.name for run in runs),
        runs=runs,
        tables=(*plain, *papers),
        tests=tuple(tested),
        figures=tuple(figures),
        cases=tuple(_viewer_case(case, collected) for case in cases[:VIEWED]),
        environment=_environment(),
    )
    write_report(output / "report.html", report)


def _scored_run(found: Collected, config: RunConfig | None, rule: SliceRule) -> ScoredRun:
    model = found.model
    channels = model.model.channels.text if isinstance(model, PromptedModel) else ""
    strategy = config.options.strategy if config else ZEROSHOT if isinstance(model, PromptedModel) else "predictions"
    trained_on = tuple(config.data) if config else ()
    return ScoredRun(model.name, strategy, channels, trained_on, model.asked, rule.decathlon, tuple(found.scores))


def _reported(found: Collected, config: RunConfig | None) -> ReportedRun:
    model = found.model
    about = {name: str(x) for name, x in asdict(config.options).items() if x is not None} if config else {}
    strategy = (
        config.options.strategy if config else ZEROSHOT if isinstance(model, PromptedModel) else str(model.folder)
    )
    return ReportedRun(
        model.name, strategy, model.asked, model.prompt_source, config.base_sha256 if config else "", about
    )


def _viewer_case(case: CachedCase, collected: list[Collected]) -> ViewerCase:
    from samjax.data.cases import MODALITIES
    from samjax.figures.pictures import TITLES

    images, labels = case.read(0, case.shape[0])
    predictions = {found.model.name: found.viewed[case.case.id] for found in collected}
    rois = [roi for roi in ROIS if any(roi in masks for masks in predictions.values())]
    return ViewerCase(
        id=case.case.id,
        images={TITLES[name]: images[..., index] for index, name in enumerate(MODALITIES)},
        truth={roi: roi_mask(labels, roi) for roi in rois},
        predictions=predictions,
        spacing=case.geometry.spacing,
    )


def _environment() -> dict[str, str]:
    import jax

    versions = {"samjax": __version__, **{name: version(name) for name in ("jax", "flax", "numpy", "scipy")}}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "command": command_typed(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "Python": platform.python_version(),
        **versions,
    }


def _mapped(models: list[Model], cases: list[CachedCase], seed: int) -> tuple[SegmentationModel, list[np.ndarray]]:
    """The first model that makes image embeddings, and the slices of each case that it is to embed."""
    from samjax.evaluation.analysis.embeddings import choose_slices

    for model in models:
        if isinstance(model, PromptedModel) and not model.model.is_unet:
            return model.model, choose_slices(cases, model.rois[0], seed)
    raise UserError("--embeddings: needs a SAM run or --strategy zeroshot")


def _map_embeddings(
    model: SegmentationModel, chosen: list[np.ndarray], cases: list[CachedCase], options: EvalOptions, output: Path
) -> None:
    from samjax.evaluation.analysis.embeddings import analyse

    found = analyse(
        model, cases, chosen, output / "figures", roi=model.rois[0], slices=options.batch_size,
        workers=options.workers, seed=options.seed,
    )  # fmt: skip
    print(found)
