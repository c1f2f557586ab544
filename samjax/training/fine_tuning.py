"""SAM on scans: training windows, prompts from the labels, and Dice on the validation patients."""

from functools import partial

import jax
from flax import nnx

from samjax.data.augment import Augmentation
from samjax.data.cache import CachedCase
from samjax.data.pipeline import MapDataset
from samjax.data.prompts import PromptMix
from samjax.data.samples import TrainingWindows, training_set
from samjax.training.objective import Objective, slice_results
from samjax.training.session import Session
from samjax.training.step import make_scoring_step
from samjax.training.task import HostBatch, Task
from samjax.training.validation import Validator

VALIDATION_SEED = 1
"""Of the validation prompts: the same for every run, so that runs are compared on the same clicks."""


def fine_tuning_task(session: Session, graphdef: nnx.GraphDef) -> Task:
    """Prompts, loss and scores of the SAM strategies."""
    options = session.options
    prompts = PromptMix.parse(options.prompt, options.box_jitter)
    objective = partial(Objective, options.roi, session.channels)
    training = objective(prompts, options.image_size, options.clicks, augmentation_of(session))
    kind = PromptMix.parse(prompts.kinds[0])
    scoring = objective(kind, options.image_size, options.clicks)
    step = make_scoring_step(graphdef, partial(slice_results, objective=scoring), VALIDATION_SEED)
    return Task(
        results=partial(slice_results, objective=training),
        validate=Validator(step, session, str(kind)).score,
        describe=(
            f"{cases_text(session)}; {options.roi}, channels {options.channels}, {options.depth} slices a sample, "
            f"prompt {prompts}, input {options.image_size} x {options.image_size}"
        ),
        names=partial(window_names, session.train),
    )


def window_data(session: Session) -> MapDataset:
    """Batches of the training cases' windows for this host."""
    options = session.options
    windows = TrainingWindows(
        session.train, options.depth, options.roi, options.min_pixels, options.empty_share, options.seed
    )
    batch = options.batch_size * jax.local_device_count()
    return training_set(windows, session.config.native, batch, (jax.process_index(), jax.process_count()))


def augmentation_of(session: Session) -> Augmentation | None:
    """The augmentation that the options ask for."""
    options = session.options
    return Augmentation(options.rotation, options.elastic_alpha, options.elastic_sigma) if options.augment else None


def cases_text(session: Session) -> str:
    """How many cases train and validate."""
    if session.options.overfit is not None:
        return f"overfitting {session.options.overfit}, scored on itself"
    return f"{len(session.train)} training and {len(session.val)} validation cases"


def window_names(cases: tuple[CachedCase, ...], batch: HostBatch) -> list[str]:
    """The case and first slice of each sample."""
    return [
        f"{cases[number].case.id} from slice {start}"
        for number, start, valid in zip(batch["case"], batch["start"], batch["valid"], strict=True)
        if valid
    ]
