"""summary.json: every statistic of every run, domain, region and scope."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from samjax.evaluation.baselines import FLAIR
from samjax.evaluation.collected import Collected
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.rivals import against_baselines
from samjax.evaluation.slice_rule import SliceRule
from samjax.evaluation.statistics import PairedTest
from samjax.files import replacing
from samjax.metrics.rows import SCOPES, VOLUME_METRICS, CaseScores, Row, of_scope, summarise_rows


def write_summary(path: Path, summary: dict) -> None:
    """Writes the content of `summary_of` as JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")


def summary_of(collected: Sequence[Collected], rule: SliceRule, tests: Sequence[PairedTest]) -> dict:
    """The content of summary.json."""
    baselines = _baselines(collected)
    compared = [result for found in collected for result in against_baselines(found.scores, _beside(found, baselines))]
    return {
        "runs": {found.model.name: _of_run(found, rule) for found in collected},
        "baselines": {
            name: _of_scores(scores, "all" if name == FLAIR else "oracle", rule) for name, scores in baselines.items()
        },
        "against_baselines": [result.to_json() for result in compared],
        "tests": [test.to_json() for test in tests],
    }


def _beside(found: Collected, baselines: Mapping[str, Sequence[CaseScores]]) -> Mapping[str, Sequence[CaseScores]]:
    """The baselines of a model: those of its own prompts or, if it takes none, the FLAIR threshold, which all share."""
    if found.model.prompt_source != "none":
        return found.baselines
    return {name: scores for name, scores in baselines.items() if name == FLAIR}


def _baselines(collected: Sequence[Collected]) -> dict[str, list[CaseScores]]:
    """Each baseline once for every region, since models with the same prompts share it."""
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
        "prompt": model.prompt_text,
        "prompt_source": model.prompt_source,
        **({"postprocess": str(model.postprocess)} if isinstance(model, PromptedModel) else {}),
        "data": _of_scores(found.scores, slices, rule),
    }
    if isinstance(model, PromptedModel) and model.shown is not None:
        content["modalities"] = list(model.shown)
    if isinstance(model, PromptedModel) and model.prompted_roi and model.prompt_source != "none":
        content["prompted_roi"] = model.prompted_roi
    if model.clicks > 1 and found.slice_dice:
        content["clicks"] = {"dice": [asdict(x) for x in found.dice_by_clicks()], "needed": found.clicks_needed()}
    return content


def _of_scores(scores: Iterable[CaseScores], slices: str, rule: SliceRule) -> dict:
    """The statistics as {domain: {"roi": {roi: {scope: {...}}}}}; `slices` names the slices that were run."""
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
