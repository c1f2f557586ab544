"""Draws images/pretraining.png, what the shipped weights answer on held-out pictures.

Run: python docs/make_pretraining_figure.py
"""

from pathlib import Path

import jax
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from samjax.data.on_device.prompts import PromptMix
from samjax.data.synthetic.pictures import held_out_pictures
from samjax.files import replacing
from samjax.models.adapt import adapt
from samjax.models.config import Adaptation, ComputeConfig
from samjax.models.prompt_encoder import Prompts
from samjax.models.resizing import to_native
from samjax.models.sam import Sam
from samjax.training.tasks.pretrain import intersection_over_union, opening_prompts, shape_keys, targets_of
from samjax.weights.base import load_base

IMAGES = Path(__file__).parent / "images"
PICTURES, SHAPES = 6, 2
TRUE, ANSWER, PROMPT = "white", "#f2b134", "#56b4e9"


def asked(model: Sam, batch: dict[str, np.ndarray], kind: str) -> tuple[Prompts, jax.Array, jax.Array]:
    """The prompts of one kind, the masks (b, P, S, S) bool that they give, and the masks' IoU (b, P)."""
    target, size = targets_of(batch), batch["ids"].shape[-1]
    keys = shape_keys(jax.random.key(1), batch)
    prompts = opening_prompts(keys, target.masks, PromptMix.parse(kind), size, 1)
    logits, _ = model.decode(model.encode(batch["images"])[:, 0], prompts)
    masks = to_native(logits[:, :, 0], size, size) > 0
    return prompts, masks, intersection_over_union(masks, target.masks)


def draw(path: Path) -> None:
    """Two rows, a click and a box; the same shapes in both."""
    base = load_base("tiny")
    model = adapt(base.config, base.flat, Adaptation(), ComputeConfig())
    batch = held_out_pictures(PICTURES, base.config.image_size, SHAPES, PICTURES).get(0, 0)
    targets = np.asarray(targets_of(batch).masks)
    figure, axes = plt.subplots(2, PICTURES, figsize=(2.2 * PICTURES, 4.9), layout="constrained")
    for row, (kind, name) in enumerate((("point", "one click"), ("box", "a box"))):
        prompts, masks, ious = jax.device_get(asked(model, batch, kind))
        for column, axis in enumerate(axes[row]):
            axis.imshow(batch["images"][column, 0])
            for shape in range(SHAPES):
                axis.contour(targets[column, shape], [0.5], colors=TRUE, linewidths=0.9)
                axis.contour(masks[column, shape], [0.5], colors=ANSWER, linewidths=1.5)
                mark(axis, kind, prompts.coords[column, shape])
            axis.set(xticks=[], yticks=[])
            axis.set_title("IoU " + ", ".join(f"{iou:.2f}" for iou in ious[column]), fontsize=9)
        axes[row, 0].set_ylabel(name)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)


def mark(axis: plt.Axes, kind: str, coords: np.ndarray) -> None:
    """Draws a prompt (slots, 2) as (x, y)."""
    if kind == "point":
        axis.plot(*coords[0], "o", color=PROMPT, markeredgecolor="black", markersize=6)
    else:
        (left, top), (right, bottom) = coords[-2:]
        axis.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=PROMPT))


if __name__ == "__main__":
    draw(IMAGES / "pretraining.png")
