"""Chooses the models to score and their prompts: runs, base weights, and saved predictions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from samjax.data.cohort import split_name
from samjax.data.formats.names import folder_name
from samjax.data.labels import ALL, ROIS
from samjax.data.needs import parse_modalities
from samjax.data.on_device.channels import PCA2D, parse_channels
from samjax.errors import UserError
from samjax.evaluation.collected import Model
from samjax.evaluation.ensembles import ensemble_of, require_one_round, require_turning
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.saved import SavedPredictions
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import ZEROSHOT, model_of_run, model_of_weights
from samjax.inference.postprocess import AUTO, RAW, Postprocess
from samjax.inference.postprocess_choice import rule_for
from samjax.options import EvalOptions, TrainOptions
from samjax.runs.config import RunConfig
from samjax.runs.folder import read_config

DEFAULT_ROI, DEFAULT_CHANNELS = "whole-tumor", "flair,t1gd,t2"


def choose_models(options: EvalOptions, runs: Sequence[Path], configs: Sequence[RunConfig]) -> list[Model]:
    """The models that the options name, runs first, then base weights, then saved predictions.

    Args:
        runs: folders of finished runs.
        configs: their configurations.

    Raises:
        UserError: a run, weights or predictions cannot be used, two models have one name, or one needs more than
            `--modalities`.
    """
    if options.postprocess != AUTO:
        Postprocess.parse(options.postprocess)
    require_one_round(options)
    found: list[Model] = [_of_run(run, options) for run in runs]
    if options.ensemble:
        found = [ensemble_of(found, runs, options)]
    if options.strategy is not None:
        found += _zeroshots(options, configs)
    for model in found:
        require_turning(model, options)
    if (shown := shown_modalities(options)) is not None:
        found = [_shown_only(model, shown) for model in found]
    found += [_saved(text, options.roi) for text in options.predictions]
    if options.nested and not any(isinstance(model, PromptedModel) and model.prompted_roi for model in found):
        raise UserError("--nested: no run of SAM here predicts several regions; leave it out")
    names = [model.name for model in found]
    if len(set(names)) < len(names):
        raise UserError(f"the name {max(names, key=names.count)} is used twice; rename a run's folder")
    return found


def shown_modalities(options: EvalOptions) -> tuple[str, ...] | None:
    """The modalities that models are shown; None: all that a case has."""
    return None if options.modalities is None else parse_modalities(options.modalities, "--modalities")


def _shown_only(model: PromptedModel, shown: tuple[str, ...]) -> PromptedModel:
    """The model that is shown these modalities only; a `UserError` if it needs more."""
    if reason := next((reason for needs in model.needs if (reason := needs.refusal(shown))), None):
        raise UserError(f"--modalities {','.join(shown)}: {reason}")
    return replace(model, shown=shown)


def _of_run(run: Path, options: EvalOptions) -> PromptedModel:
    """A run with the prompt and post-processing of the options, or else with its first kind and its own choice.

    The members of an ensemble have none of their own.

    Raises:
        UserError: the run cannot be used, or was not trained with such a prompt.
    """
    model = model_of_run(run, options.weights, options.average, options.nested, options.planes, options.rotations)
    # A U-Net takes no prompt, whatever the models beside it get.
    kind = model.prompts[0] if options.prompt is None or model.is_unet else options.prompt
    model.require(kind, "--prompt")
    if options.planes is not None and kind != "none":
        raise UserError(
            f"--planes {options.planes}: the masks of prompts are axial; give --prompt none, or leave it out"
        )
    prompts = GroundTruthPrompts(kind, options.clicks, options.seed)
    planes = None if model.planes == read_config(run).planes else model.planes
    rule = RAW if options.ensemble else _rule(model.name, options, kind, run)
    return PromptedModel(model, prompts, rule, planes=planes)


def _rule(name: str, options: EvalOptions, kind: str, run: Path | None = None) -> Postprocess:
    """The rule by which a model's masks are cleaned, which is said unless its prompts leave no choice.

    Raises:
        UserError: the option is no rule, or the run's choice cannot be read.
    """
    rule, why = rule_for(options.postprocess, kind, run, options.average)
    if kind == "none" or options.postprocess != AUTO:
        print(f"{name}: post-processing {rule} ({why})")
    return rule


def _zeroshots(options: EvalOptions, configs: Sequence[RunConfig]) -> list[PromptedModel]:
    """The base weights once for each region and channels of the runs, or for those that the options name.

    If a run's channels do not fit the base weights, the default channels are taken.
    """
    weights = options.weights or next((config.base_path for config in configs if config.base_path), "tiny")
    channels = options.channels or DEFAULT_CHANNELS
    asked = tuple(ROIS) if options.roi == ALL else (options.roi,) if options.roi else ()
    wanted = [
        (roi, config.options.channels if _fits_base(config.options) and not options.channels else channels)
        for config in configs
        if config.architecture
        for roi in asked or config.rois
    ] or [(roi, channels) for roi in asked or (DEFAULT_ROI,)]
    prompts = GroundTruthPrompts(options.prompt or "box", options.clicks, options.seed)
    found = []
    rois, sets = (set(values) for values in zip(*wanted, strict=True))
    for roi, text in dict.fromkeys(wanted):
        differs = [roi] * (len(rois) > 1) + [text.replace(",", "+")] * (len(sets) > 1)
        name = "-".join([ZEROSHOT, *differs])
        model = model_of_weights(weights, roi, text, options.image_size, name, options.rotations)
        found.append(PromptedModel(model, prompts, _rule(name, options, prompts.kind)))
    return found


def _fits_base(run: TrainOptions) -> bool:
    """Whether base weights accept the run's channels."""
    return run.channels != PCA2D and parse_channels(run.channels).count == 3


def _saved(text: str, roi: str | None) -> SavedPredictions:
    """The predictions of one `--predictions` value, DIR or NAME=DIR."""
    name, folder = split_name(text, "--predictions")
    path = folder.expanduser()
    if not path.is_dir():
        raise UserError(f"--predictions {text}: no such folder")
    rois = tuple(ROIS) if roi == ALL else (roi or DEFAULT_ROI,)
    return SavedPredictions(name or folder_name(path), path, rois)
