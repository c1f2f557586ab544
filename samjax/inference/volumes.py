"""Segmenting whole volumes with a trained run or with base weights."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import ROIS, from_canonical, roi_mask, roi_value
from samjax.data.on_device.channels import PCA2D, Channels, parse_channels
from samjax.data.on_device.prompts import KINDS, PromptMix
from samjax.data.samples import covering_set, largest_square
from samjax.data.slices import enough_pixels
from samjax.errors import UserError
from samjax.models.adapt import adapt
from samjax.models.config import Adaptation, ComputeConfig
from samjax.models.flat import from_flat
from samjax.models.sam import Sam
from samjax.models.unet import UNet
from samjax.runs.folder import channels_of
from samjax.runs.model import build_model
from samjax.runs.trained import load_trained
from samjax.training.step import SliceFunction, make_scoring_step, precision_of, replicate, shard
from samjax.training.tasks.objective import Objective, Rounds, slice_results
from samjax.training.tasks.unet import ClassObjective, class_results
from samjax.weights.base import load_base

ZEROSHOT = "zeroshot"
WHOLE = "whole-tumor"


@dataclass(frozen=True)
class Segmenter:
    """A model and how it is to be asked."""

    name: str
    model: Sam | UNet
    rois: tuple[str, ...]
    """What it predicts: one region, or all at once."""
    channels: Channels
    depth: int
    image_size: int | None
    """Side of the model's input; None: slices go in as they are."""
    prompt: str
    """The kind of prompt: box, point or none."""
    clicks: int = 1
    """Clicks on a slice where the prompt is point."""
    dtype: str = "float32"
    """That the run was trained to compute in."""

    @property
    def asked(self) -> str:
        """The prompt in words, for rows and tables."""
        return f"point, {self.clicks} clicks" if self.prompt == "point" and self.clicks > 1 else self.prompt

    @property
    def prompt_source(self) -> str:
        return "none" if self.prompt == "none" else "ground truth"

    def label_map(self, predicted: np.ndarray, scheme: str) -> np.ndarray:
        """A prediction in a scheme's values: of a single region, the value that stands for it."""
        if predicted.dtype == bool:
            return predicted.astype(np.uint8) * roi_value(scheme, self.rois[0])
        return from_canonical(predicted, scheme)

    def results(self) -> SliceFunction:
        """What the compiled step computes of a batch."""
        if isinstance(self.model, UNet):
            return partial(class_results, objective=ClassObjective(WHOLE, self.channels))
        mix = PromptMix.parse(self.prompt)
        objective = Objective(self.rois[0], self.channels, mix, self.image_size, self.clicks)
        return partial(slice_results, objective=objective)


def segmenter_of_run(folder: Path, weights: str | None, prompt: str | None, clicks: int, average: bool) -> Segmenter:
    """A finished run, asked with `prompt` or with the first kind it was trained on; `clicks` where it is point.

    `average` takes the average of its weights, if it has one, instead of the last.

    Raises:
        UserError: the run is not finished, its base weights are missing, or it never saw such a prompt.
    """
    config, trained = load_trained(folder, weights, average)
    if config.architecture is None:
        prompt = None  # a U-Net takes none, whatever the models beside it are asked with
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
        rois=tuple(ROIS) if isinstance(model, UNet) else (options.roi,),
        channels=channels_of(folder, config),
        depth=options.depth,
        image_size=options.image_size,
        prompt=prompt or trained.prompts[0],
        clicks=clicks if (prompt or trained.prompts[0]) == "point" else 1,
        dtype=options.dtype,
    )


def zeroshot_segmenter(
    weights: str, roi: str, channels: str, prompt: str | None, clicks: int, image_size: int | None, name: str = ZEROSHOT
) -> Segmenter:
    """Base weights as they are, called `name` and asked with `prompt` or a box."""
    base = load_base(weights)
    chosen = parse_channels(channels)
    if chosen.text == PCA2D:
        raise UserError(f"--channels {PCA2D}: zeroshot has no training slices to fit it to; name three modalities")
    if chosen.count != base.config.in_channels:
        raise UserError(f"--channels {channels}: {chosen.count} channels; zeroshot needs {base.config.in_channels}")
    return Segmenter(
        name=name,
        model=adapt(base.config, base.flat, Adaptation(), ComputeConfig()),
        rois=(roi,),
        channels=chosen,
        depth=1,
        image_size=image_size or base.config.image_size,
        prompt=prompt or "box",
        clicks=clicks if prompt == "point" else 1,
    )


def region(predicted: np.ndarray, roi: str) -> np.ndarray:
    """One region of a prediction, as bool."""
    return predicted if predicted.dtype == bool else roi_mask(predicted, roi)


@dataclass(frozen=True)
class CasePrediction:
    """A case's prediction (Z, rows, columns) in our axes, native size: a region as bool, or canonical codes, uint8."""

    case: CachedCase
    predicted: np.ndarray
    answers: "Answers | None" = None
    """Of a model that was asked with prompts, or without any."""


@dataclass(frozen=True)
class Answers:
    """What a promptable model said of each of Z slices, in K rounds of prompts."""

    asked: np.ndarray
    """(Z,) bool: the others were not run."""
    iou: np.ndarray
    """(K, Z) float32, as predicted."""
    counts: np.ndarray
    """(K, Z, 3) int32: pixels of prediction and label together, of the prediction, of the label."""
    click: np.ndarray
    """(Z, 2) float32 the first click's pixel (x, y); meaningless without clicks."""

    @classmethod
    def of(cls, slices: int, rounds: int) -> "Answers":
        """Of a volume of which nothing has been asked yet."""
        return cls(
            np.zeros(slices, bool),
            np.zeros((rounds, slices), np.float32),
            np.zeros((rounds, slices, 3), np.int32),
            np.zeros((slices, 2), np.float32),
        )


def segment(
    segmenter: Segmenter, cases: Sequence[CachedCase], *, slices: int, workers: int, seed: int
) -> Iterator[CasePrediction]:
    """Predicts every case, in order, with prompts from its labels unless the prompt is none.

    With prompts from labels, slices without ROI are not run and stay background.

    Args:
        slices: how many go through the encoder together on each device.
        seed: of the prompts; the same for models that are to be compared.
    """
    depth = segmenter.depth
    graphdef, state = nnx.split(segmenter.model)
    step = make_scoring_step(graphdef, segmenter.results(), seed)
    states = (replicate(state),)
    prompted = segmenter.prompt != KINDS[-1]
    keep = [enough_pixels(case.counts, segmenter.rois[0], 1) for case in cases] if prompted else None
    batch = max(1, slices // depth) * jax.local_device_count()
    data = covering_set(cases, depth, largest_square(cases), batch, keep)

    open_cases: dict[int, CasePrediction] = {}

    def finished(first: int, stop: int) -> Iterator[CasePrediction]:
        for number in range(first, stop):
            yield open_cases.pop(number) if number in open_cases else _nothing(segmenter, cases[number])

    done = 0
    with data.to_iter(workers=workers, epochs=1) if data.length(0) else nullcontext(()) as batches:
        for host in batches:
            with jax.default_matmul_precision(precision_of(segmenter.dtype)):
                results = step(states, shard(host))
                found = jax.device_get((results.predicted, results.counted, results.rounds))
            upto = int(host["case"][host["valid"]].min())
            yield from finished(done, upto)
            done = upto
            for sample in np.flatnonzero(host["valid"]):
                number = int(host["case"][sample])
                if number not in open_cases:
                    open_cases[number] = _nothing(segmenter, cases[number])
                _place(open_cases[number], int(host["start"][sample]), _of_sample(found, int(sample)))
    yield from finished(done, len(cases))


def _nothing(segmenter: Segmenter, case: CachedCase) -> CasePrediction:
    """A prediction of background, to be filled in."""
    if isinstance(segmenter.model, UNet):
        return CasePrediction(case, np.zeros(case.shape, np.uint8))
    return CasePrediction(case, np.zeros(case.shape, bool), Answers.of(case.shape[0], segmenter.clicks))


Found = tuple[np.ndarray, np.ndarray, Rounds | None]


def _of_sample(found: Found, sample: int) -> Found:
    """One sample's (Z, N, N) prediction, (Z,) counted and (K, Z) rounds, of all devices' (devices, samples, ...)."""
    predicted, counted, rounds = found
    device, place = divmod(sample, predicted.shape[1])
    if rounds is not None:
        iou, overlap = jax.tree.map(lambda x: x[device][:, place], (rounds.iou, rounds.overlap))
        rounds = Rounds(iou, overlap, rounds.click[device, place])
    return predicted[device, place], counted[device, place], rounds


def _place(into: CasePrediction, start: int, found: Found) -> None:
    """Puts a window into its volume; slices beyond the end are padding."""
    predicted, counted, rounds = found
    stop = min(start + len(predicted), into.case.shape[0])
    rows, columns = into.case.shape[1:]
    into.predicted[start:stop] = predicted[: stop - start, :rows, :columns]
    if rounds is not None:
        answers, inside = into.answers, slice(0, stop - start)
        answers.asked[start:stop] = counted[inside]
        answers.iou[:, start:stop] = rounds.iou[:, inside]
        counts = np.stack([rounds.overlap[name] for name in ("both", "pred", "true")], axis=-1)
        answers.counts[:, start:stop] = counts[:, inside]
        answers.click[start:stop] = rounds.click[inside]
