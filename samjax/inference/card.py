"""The card of a run, the README.md of its repository: what it is, how it was trained, and how it scored."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samjax.errors import UserError
from samjax.runs.config import RunConfig
from samjax.runs.folder import CARD, read_config
from samjax.version import __version__
from samjax.weights.hub import HubName, is_hub_name

SUMMARY = "eval/summary.json"
"""Where `samjax eval --run RUN` leaves a run's figures."""


@dataclass(frozen=True)
class Figure:
    """The mean 3-D scores of a run on the cases of a domain."""

    domain: str
    roi: str
    prompt: str
    source: str
    """Where prompts came from: the ground truth, or none."""
    dice: float
    hd95: float
    n: int


def card_of(run: Path, name: str, licence: str | None) -> str:
    """The text of the card of the run in a folder.

    The run's own README.md is taken where it has one; metadata are put in front unless it has some.

    Args:
        name: the model's name on the Hub, ORG/NAME.
        licence: the licence of the weights; None: the owner names none.

    Raises:
        UserError: the run's evaluation cannot be read.
    """
    config, figures = read_config(run).portable(None), list(figures_of(run))
    own = (run / CARD).read_text(encoding="utf-8") if (run / CARD).is_file() else None
    if own is not None and own.startswith("---\n"):
        return own
    return _metadata(name, config, figures, licence) + (own or _text(name, config, figures, licence))


def figures_of(run: Path) -> Iterator[Figure]:
    """The figures of a run's evaluation, if it has one, of all its own rows there.

    Raises:
        UserError: the file of its figures cannot be read.
    """
    path = run / SUMMARY
    if not path.is_file():
        return
    try:
        for found, content in json.loads(path.read_text(encoding="utf-8"))["runs"].items():
            if found.split("+")[0] != run.resolve().name:
                continue
            for domain, rois in content["data"].items():
                for roi, scopes in rois["roi"].items():
                    cell = scopes["volume"]
                    if cell["n"]:
                        prompts = content["prompt"], content["prompt_source"]
                        yield Figure(domain, roi, *prompts, cell["dice"], cell["hd95"], cell["n"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the figures of an evaluation ({error}); score the run anew") from error


def _metadata(name: str, config: RunConfig, figures: list[Figure], licence: str | None) -> str:
    """The YAML block that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=figure.domain,
            dataset_name=f"{figure.domain}, {figure.roi}, prompts: {figure.prompt}, n = {figure.n}",
            metric_type=metric,
            metric_name=f"3-D {label}",
            metric_value=round(float(value), 4),
        )
        for figure in figures
        for metric, label, value in (("dice", "Dice", figure.dice), ("hd95", "HD95 (mm)", figure.hd95))
    ]
    data = ModelCardData(
        license=licence,
        base_model=HubName.parse(config.base_path).repo if is_hub_name(config.base_path) else None,
        library_name="samjax",
        pipeline_tag="image-segmentation",
        tags=["segment-anything", "brain-tumour", "mri", "medical"],
        model_name=name.split("/")[1],
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _text(name: str, config: RunConfig, figures: list[Figure], licence: str | None) -> str:
    options = config.options
    facts: Mapping[str, Any] = {
        "strategy": options.strategy,
        "base weights": f"{config.base_path}, sha256 {config.base_sha256[:16]}..." if config.base_sha256 else "none",
        "regions": ", ".join(config.rois),
        "channels": options.channels,
        "slices seen together": options.depth,
        "input": f"{options.image_size} x {options.image_size}" if options.image_size else "slices as they are",
        "prompts trained with": ", ".join(config.prompts_seen),
        "voxel grid": config.grid.words if config.grid else "that of each scan",
        "licence": licence or "the owner of this repository has named none",
        "written by": f"samjax {__version__}",
    }
    lines = [
        f"# {name.split('/')[1]}",
        "",
        "A model of samjax (SAM in JAX/Flax) that segments brain tumours in skull-stripped MRI. **Research use only.",
        "Not a medical device, not for clinical use.**",
        "",
        "```sh",
        "pip install 'samjax[hub]'",
        f"samjax predict --run hf:{name} --input CASE --output OUT",
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| {what} | {value} |" for what, value in facts.items()),
        "",
        "## Figures",
        "",
    ]
    if not figures:
        return "\n".join([*lines, "This run has no evaluation.", ""])
    rows = [
        f"| {x.domain} | {x.roi} | {x.prompt} ({x.source}) | {x.dice:.3f} | {x.hd95:.1f} | {x.n} |" for x in figures
    ]
    header = ["| data | region | prompts (their source) | 3-D Dice | HD95 (mm) | n |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, "Means over cases, by the owner's evaluation of the run.", "", *header, *rows, ""])
