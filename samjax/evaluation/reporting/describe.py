"""Descriptions for tables and the report: of each model, of the cases shown, and of the machine."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version

from samjax.command_lines import command_typed
from samjax.data.cache.cases import CachedCase
from samjax.data.cases import MODALITIES
from samjax.data.labels import ROIS, roi_mask
from samjax.evaluation.collected import Collected
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.reporting.paper_tables import ScoredRun
from samjax.evaluation.reporting.report import ReportedRun
from samjax.evaluation.reporting.viewer import ViewerCase
from samjax.evaluation.slice_rule import SliceRule
from samjax.figures.modalities import TITLES
from samjax.inference.loading import ZEROSHOT
from samjax.inference.postprocess import RAW
from samjax.runs.config import RunConfig
from samjax.version import __version__


def config_of(found: Collected, configs: Mapping[str, RunConfig]) -> RunConfig | None:
    """The configuration of a model among those of the runs, by their names; None if it is not a run.

    Of an ensemble it is that of its first run.
    """
    return configs.get(found.model.model.name) if isinstance(found.model, PromptedModel) else None


def scored_run(found: Collected, config: RunConfig | None, rule: SliceRule) -> ScoredRun:
    """A model for the tables of the papers; `config` is None if it is not a run."""
    model = found.model
    # The papers' runs saw all of their modalities.
    whole = isinstance(model, PromptedModel) and model.shown is None
    channels = model.model.channels.text if whole else ""
    strategy = config.options.strategy if config else ZEROSHOT if isinstance(model, PromptedModel) else "predictions"
    trained_on = tuple(config.data) if config else ()
    raw = not isinstance(model, PromptedModel) or (model.postprocess == RAW and not model.is_mean)
    return ScoredRun(
        model.name, strategy, channels, trained_on, model.prompt_text, rule.decathlon, tuple(found.scores), raw
    )


def reported_run(found: Collected, config: RunConfig | None) -> ReportedRun:
    """A model for the report; `config` is None if it is not a run."""
    model = found.model
    options = {name: str(x) for name, x in asdict(config.options).items() if x is not None} if config else {}
    strategy = (
        config.options.strategy if config else ZEROSHOT if isinstance(model, PromptedModel) else str(model.folder)
    )
    if isinstance(model, PromptedModel):
        options |= {"postprocess": str(model.postprocess)}
        if model.is_mean:
            options |= {"members": ", ".join(one.name for one in model.members), "rotations": str(model.rotations)}
    return ReportedRun(
        model.name, strategy, model.prompt_text, model.prompt_source, config.base_sha256 if config else "", options
    )


def viewer_case(case: CachedCase, collected: Sequence[Collected]) -> ViewerCase:
    """A case for the report's slice viewer, with the regions that any model predicts."""
    images, labels = case.read(0, case.shape[0])
    predictions = {found.model.name: found.viewed[case.case.id] for found in collected}
    rois = [roi for roi in ROIS if any(roi in masks for masks in predictions.values())]
    return ViewerCase(
        id=case.case.id,
        images={TITLES[name]: images[..., MODALITIES.index(name)] for name in case.modalities},
        truth={roi: roi_mask(labels, roi) for roi in rois},
        predictions=predictions,
        spacing=case.geometry.spacing,
    )


def environment() -> dict[str, str]:
    """Date, command, device and versions."""
    import jax

    versions = {"samjax": __version__, **{name: version(name) for name in ("jax", "flax", "numpy", "scipy")}}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "command": command_typed(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "Python": platform.python_version(),
        **versions,
    }
