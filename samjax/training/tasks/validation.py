"""Dice on the validation patients after each epoch, and a picture of what goes in and comes out."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cache.embeddings import EmbeddingStore
from samjax.data.labels import roi_mask
from samjax.data.on_device.channels import Channels
from samjax.data.samples import covering_set, scored_slices
from samjax.files import replacing
from samjax.training.session import Session
from samjax.training.step import ScoringStep, States, shard
from samjax.training.tasks.task import Scores


@dataclass(frozen=True)
class Example:
    """The scored slice with the largest ROI: channels (N, N, 3) uint8, label and prediction (N, N) bool."""

    title: str
    picture: np.ndarray
    label: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class Validator:
    """The pmapped scoring step on a run's validation cases, each slice once.

    With prompts from the labels, windows without ROI are not run and slices without ROI are background;
    prompt-free, every slice is run.
    """

    step: ScoringStep
    session: Session
    kind: str
    """Of prompt."""
    embeddings: EmbeddingStore | None = None
    """Where those of the scored slices lie."""

    @property
    def prompt_source(self) -> str:
        return "none" if self.kind == "none" else "ground truth"

    def score(self, states: States) -> Scores:
        """Scores a model given as replicated states: mean Dice over the cases, in 3-D and over the scored slices."""
        cases, roi, depth = self.session.val, self.session.options.roi, self.session.options.depth
        keep = scored_slices(cases, roi, self.kind)
        batch = self.session.options.batch_size * jax.local_device_count()
        totals = np.zeros((len(cases), 3), np.int64)
        slice_dice: list[np.ndarray] = []
        best: tuple[int, Example] | None = None
        data = covering_set(cases, depth, self.session.config.native, batch, keep, self.embeddings)
        for host in data.to_iter(epochs=1):
            results = jax.device_get(self.step(states, shard(host)))
            counted = results.counted.reshape(-1, depth)
            both, pred, true = (
                np.where(counted, results.overlap[name].reshape(-1, depth), 0) for name in ("both", "pred", "true")
            )
            np.add.at(totals, host["case"], np.stack([x.sum(axis=1) for x in (both, pred, true)], axis=1))
            slice_dice.append(_dice(both[counted], pred[counted], true[counted]))
            if best is None or true.max() > best[0]:
                sample, z = np.unravel_index(true.argmax(), true.shape)
                predicted = results.predicted.reshape(-1, *results.predicted.shape[2:])[sample, z]
                best = int(true.max()), _example(cases, host, sample, z, predicted, roi)
        return self._scores(float(_dice(*totals.T).mean()), float(np.concatenate(slice_dice).mean()), best[1])

    def _scores(self, dice: float, dice_slice: float, example: Example) -> Scores:
        number = len(self.session.val)
        return Scores(
            values={
                "dice": dice, "dice_slice": dice_slice, "cases": number, "prompt": self.kind,
                "prompt_source": self.prompt_source,
            },
            text=(
                f"validation Dice {dice:.3f} by volume, {dice_slice:.3f} by slice (n = {number}, "
                f"prompt {self.kind} from {self.prompt_source})"
            ),
            best=dice,
            draw=partial(save_example, example=example, channels=self.session.channels),
        )  # fmt: skip


def _dice(both: np.ndarray, pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Dice from pixel counts; 1 where both are empty."""
    total = pred + true
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def _example(
    cases: tuple[CachedCase, ...],
    host: dict[str, np.ndarray],
    sample: int,
    z: int,
    predicted: np.ndarray,
    roi: str,
) -> Example:
    case = cases[host["case"][sample]]
    rows, columns = case.shape[1:]
    return Example(
        f"{case.case.id}, slice {host['start'][sample] + z}",
        host["images"][sample, z, :rows, :columns],
        roi_mask(host["labels"][sample, z, :rows, :columns], roi),
        predicted[:rows, :columns],
    )


def save_example(path: Path, example: Example, channels: Channels) -> None:
    """Draws input channels, label and prediction of one slice side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = channels(example.picture.astype(np.float32))
    names = channels.modalities if channels.pca is None else ("component 1", "component 2", "component 3")
    figure = Figure(figsize=(2.4 * (len(names) + 1), 2.9), dpi=120, layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(names) + 1)
    for index, name in enumerate(names):
        axes[index].imshow(shown[..., index], cmap="gray", vmin=0, vmax=255)
        axes[index].set_title(name, color="white", fontsize=9)
    axes[-1].imshow(shown[..., -1], cmap="gray", vmin=0, vmax=255)
    axes[-1].contour(example.predicted, levels=[0.5], colors="#ffb000", linewidths=1.2)
    axes[-1].contour(example.label, levels=[0.5], colors="#40e0ff", linewidths=1.2)
    axes[-1].set_title("label blue, prediction orange", color="white", fontsize=9)
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(example.title, color="white", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary)
