"""Segmenting whole volumes with a trained run or with base weights."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from samjax.data.cache import CachedCase
from samjax.data.channels import PCA2D, Channels, parse_channels
from samjax.data.prompts import KINDS, PromptMix
from samjax.data.samples import covering_set, largest_square
from samjax.data.slices import enough_pixels
from samjax.errors import UserError
from samjax.models.adapted import adapt
from samjax.models.presets import Adaptation, Compute
from samjax.models.sam import Sam, from_flat
from samjax.runs import build_model, channels_of, load_trained
from samjax.training.objective import Objective, slice_results
from samjax.training.step import make_scoring_step, replicate, shard
from samjax.weights.base import load_base

ZEROSHOT = "zeroshot"


@dataclass(frozen=True)
class Segmenter:
    """A model and how it is to be asked."""

    name: str
    model: Sam
    roi: str
    channels: Channels
    depth: int
    image_size: int
    prompt: str
    """The kind of prompt: box, point or none."""
    clicks: int = 1
    """Clicks on a slice where the prompt is point."""

    @property
    def asked(self) -> str:
        """The prompt in words, for rows and tables."""
        return f"point, {self.clicks} clicks" if self.prompt == "point" and self.clicks > 1 else self.prompt

    @property
    def prompt_source(self) -> str:
        return "none" if self.prompt == "none" else "ground truth"


def segmenter_of_run(folder: Path, weights: str | None, prompt: str | None, clicks: int, average: bool) -> Segmenter:
    """A finished run, asked with `prompt` or with the first kind it was trained on; `clicks` where it is point.

    `average` takes the average of its weights, if it has one, instead of the last.

    Raises:
        UserError: the run is not finished, its base weights are missing, or it never saw such a prompt.
    """
    config, trained = load_trained(folder, weights, average)
    if prompt is not None and prompt not in trained.prompts:
        raise UserError(
            f"--prompt {prompt}: {folder} was trained with {', '.join(trained.prompts)} only; "
            "ask with one of these or train with it"
        )
    model = build_model(config, trained.base)
    from_flat(model, trained.trained)
    options = config.options
    return Segmenter(
        name=folder.resolve().name,
        model=model,
        roi=options.roi,
        channels=channels_of(folder, config),
        depth=options.depth,
        image_size=options.image_size,
        prompt=prompt or trained.prompts[0],
        clicks=clicks,
    )


def zeroshot_segmenter(
    weights: str, roi: str, channels: str, prompt: str | None, clicks: int, image_size: int | None
) -> Segmenter:
    """Base weights as they are, asked with `prompt` or a box."""
    base = load_base(weights)
    chosen = parse_channels(channels)
    if chosen.text == PCA2D:
        raise UserError(f"--channels {PCA2D}: zeroshot has no training slices to fit it to; name three modalities")
    if chosen.count != base.config.in_channels:
        raise UserError(f"--channels {channels}: {chosen.count} channels; zeroshot needs {base.config.in_channels}")
    return Segmenter(
        name=ZEROSHOT,
        model=adapt(base.config, base.flat, Adaptation(), Compute()),
        roi=roi,
        channels=chosen,
        depth=1,
        image_size=image_size or base.config.image_size,
        prompt=prompt or "box",
        clicks=clicks,
    )


@dataclass(frozen=True)
class Segmentation:
    """A case's prediction: `mask` (Z, rows, columns) bool in our axes, native size."""

    case: CachedCase
    mask: np.ndarray


def segment(
    segmenter: Segmenter, cases: Sequence[CachedCase], *, slices: int, workers: int, seed: int
) -> Iterator[Segmentation]:
    """Predicts every case, in order, with prompts from its labels unless the prompt is none.

    With prompts from labels, slices without ROI are not run and stay background.

    Args:
        slices: how many go through the encoder together on each device.
        seed: of the prompts; the same for models that are to be compared.
    """
    depth = segmenter.depth
    objective = Objective(
        segmenter.roi, segmenter.channels, PromptMix.parse(segmenter.prompt), segmenter.image_size, segmenter.clicks
    )
    graphdef, state = nnx.split(segmenter.model)
    step = make_scoring_step(graphdef, partial(slice_results, objective=objective), seed)
    states = (replicate(state),)
    prompted = segmenter.prompt != KINDS[-1]
    keep = [enough_pixels(case.counts, segmenter.roi, 1) for case in cases] if prompted else None
    batch = max(1, slices // depth) * jax.local_device_count()
    data = covering_set(cases, depth, largest_square(cases), batch, keep)

    masks: dict[int, np.ndarray] = {}

    def finished(first: int, stop: int) -> Iterator[Segmentation]:
        for number in range(first, stop):
            mask = masks.pop(number) if number in masks else _background(cases[number])
            yield Segmentation(cases[number], mask)

    done = 0
    with data.to_iter(workers=workers, epochs=1) if data.length(0) else nullcontext(()) as batches:
        for host in batches:
            predicted = jax.device_get(step(states, shard(host)).predicted)
            upto = int(host["case"][host["valid"]].min())
            yield from finished(done, upto)
            done = upto
            _place(masks, cases, host, predicted.reshape(-1, *predicted.shape[2:]))
    yield from finished(done, len(cases))


def _background(case: CachedCase) -> np.ndarray:
    return np.zeros(case.shape, bool)


def _place(
    masks: dict[int, np.ndarray],
    cases: Sequence[CachedCase],
    host: dict[str, np.ndarray],
    predicted: np.ndarray,
) -> None:
    """Puts the predicted windows of a batch into their volumes."""
    for number, start, valid, window in zip(host["case"], host["start"], host["valid"], predicted, strict=True):
        if valid:
            case = cases[number]
            if number not in masks:
                masks[int(number)] = _background(case)
            mask = masks[int(number)]
            rows, columns = case.shape[1:]
            stop = min(start + len(window), case.shape[0])
            mask[start:stop] = window[: stop - start, :rows, :columns]
