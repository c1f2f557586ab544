"""Pretraining as a task, with ever new dead-leaves pictures, and IoU on held-out ones."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from samjax.data.loading.pipeline import MapDataset
from samjax.data.on_device.prompts import PromptMix
from samjax.data.synthetic.pictures import held_out_pictures, training_pictures
from samjax.figures.shapes import draw_shapes
from samjax.training.session import Session
from samjax.training.step import ScoringStep, States, make_scoring_step, shard
from samjax.training.tasks.pretrain import Pretraining, picture_results, scored_rounds
from samjax.training.tasks.task import HostBatch, Scores, Task

PICTURES_PER_EPOCH = 4000
TARGETS = 8
"""Number of target shapes of a picture."""
HELD_OUT = 64
CLICKS = 5
SCORING_SEED = 1


def pretraining_task(session: Session, graphdef: nnx.GraphDef) -> Task:
    """Prompts, loss and scores of the pretraining."""
    options = session.options
    prompts = PromptMix.parse(options.prompt, options.box_jitter)
    objective = Pretraining(prompts, options.image_size, options.clicks)
    batch = options.batch_size * jax.local_device_count()
    return Task(
        results=partial(picture_results, objective=objective),
        validate=picture_scorer(graphdef, options.image_size, batch).score,
        describe=(
            f"{PICTURES_PER_EPOCH} new pictures an epoch, {TARGETS} shapes of each asked for by {prompts} and "
            f"{options.clicks - 1} further clicks, input {options.image_size} x {options.image_size}; scored on "
            f"{HELD_OUT} held-out pictures"
        ),
        names=picture_names,
    )


def picture_data(session: Session) -> MapDataset:
    """Batches of new pictures for this host."""
    options = session.options
    host = jax.process_index(), jax.process_count()
    batch = session.config.samples // jax.process_count()
    return training_pictures(PICTURES_PER_EPOCH, options.image_size, TARGETS, options.seed, batch, host)


def picture_names(batch: HostBatch) -> list[str]:
    """The number of each picture."""
    return [f"picture {number}" for number in batch["identity"][batch["valid"]]]


@dataclass(frozen=True)
class PictureScorer:
    """IoU on held-out pictures after 1, 3 and 5 clicks, of the best of three masks, and with a box."""

    point: ScoringStep
    box: ScoringStep
    image_size: int
    batch: int
    pictures: int = HELD_OUT

    def score(self, states: States) -> Scores:
        """Scores a model given as replicated states."""
        ious = {f"iou_{clicks}": [] for clicks in (1, 3, 5)} | {"iou_best_of_3": [], "iou_box": [], "filled_box": []}
        for host in held_out_pictures(self.pictures, self.image_size, TARGETS, self.batch).to_iter(epochs=1):
            point, box = (jax.device_get(step(states, shard(host))) for step in (self.point, self.box))
            present = point["present"]
            for clicks in (1, 3, 5):
                ious[f"iou_{clicks}"].append(point["single"][:, clicks - 1][present])
            ious["iou_best_of_3"].append(point["best"][present])
            ious["iou_box"].append(box["single"][:, 0][present])
            ious["filled_box"].append(box["filled_box"][present])
        means = {name: float(np.concatenate(values).mean()) for name, values in ious.items()}
        shapes = sum(values.size for values in ious["iou_box"])
        text = (
            f"mIoU of {shapes} shapes: box {means['iou_box']:.3f} (filled box {means['filled_box']:.3f}); clicks "
            f"1 / 3 / 5 {means['iou_1']:.3f} / {means['iou_3']:.3f} / {means['iou_5']:.3f}; "
            f"one click, best of three {means['iou_best_of_3']:.3f}"
        )
        return Scores(
            {**means, "shapes": shapes, "prompt_source": "ground truth"},
            text,
            means["iou_box"] + means["iou_1"],
            partial(save_pictures, image_size=self.image_size),
        )


def picture_scorer(graphdef: nnx.GraphDef, image_size: int, batch: int, pictures: int = HELD_OUT) -> PictureScorer:
    """The scorer of a model on the first `pictures` held-out ones."""
    point, box = (
        make_scoring_step(graphdef, partial(scored_rounds, kind=kind, clicks=clicks), SCORING_SEED)
        for kind, clicks in (("point", CLICKS), ("box", 1))
    )
    return PictureScorer(point, box, image_size, batch, pictures)


def save_pictures(path: Path, image_size: int) -> None:
    """Draws six of the held-out pictures with the outlines of their target shapes."""
    host = held_out_pictures(6, image_size, TARGETS, 6).get(0, 0)
    draw_shapes(path, host["images"][:, 0], host["ids"], host["targets"])
