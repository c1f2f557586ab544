"""Training of the U-Net: all classes at once, whole slices, no prompts."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from samjax.data.labels import roi_mask
from samjax.data.on_device.augment import Augmentation
from samjax.data.on_device.channels import Channels
from samjax.data.on_device.modalities import shown_channels
from samjax.models.unet import UNet
from samjax.training.session import Session
from samjax.training.tasks.losses import overlap
from samjax.training.tasks.objective import Batch, SliceResults, augmented
from samjax.training.tasks.segmentation import augmentation_of, cases_text, dropout_text, scores_exist, window_names
from samjax.training.tasks.task import Task
from samjax.training.tasks.unet_loss import unet_loss
from samjax.training.tasks.validation import Validator


@dataclass(frozen=True)
class ClassObjective:
    """The choices that turn a batch into a loss of all classes; static in the compiled step."""

    roi: str
    """Region of the pixel counts; the loss covers all classes."""
    channels: Channels
    augmentation: Augmentation | None = None
    modality_dropout: float = 0.0
    """Probability with which each modality of a sample is hidden."""


def class_results(model: UNet, batch: Batch, key: jax.Array, objective: ClassObjective) -> SliceResults:
    """Augments and scores a batch of slices (b, 1); `overlap` counts the objective's ROI."""
    with jax.named_scope("augment"):
        images, labels, pixels = augmented(batch, key, objective.channels, objective.augmentation)
        images, labels, valid = images[:, 0], labels[:, 0], pixels[:, 0]
        shown = shown_channels(key, batch, objective.channels, objective.modality_dropout)
    with jax.named_scope("segment"):
        logits = model(images, shown, supervised=True)
    classes = logits[0].argmax(axis=-1)
    counted = batch["slices"] & batch["valid"][:, None] & valid.any((-2, -1))[:, None]
    sign = jnp.where(roi_mask(classes, objective.roi), 1.0, -1.0)
    counts = overlap(sign, roi_mask(labels, objective.roi), valid)
    loss = unet_loss(logits, labels, valid)[:, None]
    return SliceResults(loss, counted, {name: x[:, None] for name, x in counts.items()})


def unet_task(session: Session, graphdef: nnx.GraphDef) -> Task:
    """Loss and scores of the U-Net."""
    options = session.options
    objective = ClassObjective(options.roi, session.channels, augmentation_of(session), options.modality_dropout)
    validator = Validator(session, graphdef, "none")
    return Task(
        results=partial(class_results, objective=objective),
        validate=validator.score if scores_exist(session) else None,
        describe=(
            f"{cases_text(session)}; all regions at once, channels {options.channels}, no prompt, "
            f"slices of {session.config.native} x {session.config.native}{dropout_text(options)}"
        ),
        names=partial(window_names, session.views),
        choose_postprocess=validator.choose_postprocess,
    )
