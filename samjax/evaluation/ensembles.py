"""The runs of an evaluation as one model, and what models whose predictions are means can be asked for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from samjax.errors import UserError
from samjax.evaluation.prompted import PromptedModel
from samjax.inference.ensembles import common_rule
from samjax.inference.rotations import refuse_boxes
from samjax.options import EvalOptions


def require_one_round(options: EvalOptions) -> None:
    """Refuses options that do not go with an ensemble or with rotations.

    Raises:
        UserError: further clicks, or an analysis of single models, are asked for.
    """
    asked = "--ensemble" if options.ensemble else f"--rotations {options.rotations}" if options.rotations > 1 else ""
    if asked and options.clicks > 1:
        raise UserError(f"--clicks {options.clicks}: {asked} takes one click a slice; leave --clicks out")
    for name in ("embeddings", "lora_distance"):
        if options.ensemble and getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')}: looks at single runs; leave --ensemble out")


def require_turning(model: PromptedModel, options: EvalOptions) -> None:
    """Raises a `UserError` for a model that is prompted with boxes in several rotations."""
    if model.prompt == "box":
        chosen = "--prompt box" if options.prompt else f"--prompt: {model.model.name} is scored with box by itself"
        refuse_boxes(options.rotations, chosen)


def ensemble_of(members: Sequence[PromptedModel], runs: Sequence[Path], options: EvalOptions) -> PromptedModel:
    """The members as one model, with the prompts of the first and the rule that all have, which is said.

    Whether one of them was trained on patients that are scored is found with the cases, see `find_known`.

    Args:
        members: the models of the runs.
        runs: their folders.

    Raises:
        UserError: there is one run alone or one twice, they predict different regions, or one was not trained with the
            prompts.
    """
    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise UserError("--ensemble: expected several different runs; repeat --run")
    first, *others = members
    for member in others:
        if member.rois != first.rois or member.model.is_unet != first.model.is_unet:
            raise UserError(
                f"--ensemble: {first.model.name} predicts {_regions(first)} and {member.model.name} "
                f"{_regions(member)}; expected runs of the same region"
            )
        member.model.require(first.prompt, "--prompt")
    rule, why = common_rule(options.postprocess, first.prompt, runs, options.average)
    found = replace(first, postprocess=rule, others=tuple(member.model for member in others))
    print(f"{found.members_text}: mean probability; post-processing {rule} ({why})")
    return found


def _regions(member: PromptedModel) -> str:
    return "all regions" if len(member.rois) > 1 else member.rois[0]
