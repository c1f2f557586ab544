"""SAM on scans: training windows, prompts from the labels, and Dice on the validation patients."""

from dataclasses import asdict
from functools import partial

import jax
from flax import nnx

from samjax.data.cache.embeddings import FOLDER, EmbeddingRecipe, EmbeddingStore
from samjax.data.cache.views import SlicedCase
from samjax.data.imaging.planes import AXIAL
from samjax.data.loading.pipeline import MapDataset
from samjax.data.on_device.augment import Augmentation
from samjax.data.on_device.prompts import PromptMix
from samjax.data.samples import TrainingWindows, training_set
from samjax.options import TrainOptions
from samjax.training.session import Session, windows_of
from samjax.training.tasks.objective import MASK_SHARE, Objective, slice_results
from samjax.training.tasks.task import HostBatch, Task
from samjax.training.tasks.validation import Validator, shows_roi
from samjax.weights.base import digest


def fine_tuning_task(session: Session, graphdef: nnx.GraphDef) -> Task:
    """Prompts, loss and scores of the SAM strategies."""
    options = session.options
    prompts = PromptMix.parse(options.prompt, options.box_jitter)
    objective = Objective(
        options.roi, session.channels, prompts, options.image_size, options.clicks, augmentation_of(session),
        options.seed, MASK_SHARE, options.modality_dropout, options.empty_share > 0,
    )  # fmt: skip
    validator = Validator(session, graphdef, prompts.kinds[0], validation_store(session))
    return Task(
        results=partial(slice_results, objective=objective),
        validate=validator.score if scores_exist(session) else None,
        describe=(
            f"{cases_text(session)}; {regions_text(session.config.rois)}, channels {options.channels}, "
            f"{options.depth} slices a sample, prompt {prompts}, "
            f"input {options.image_size} x {options.image_size}{_cached_text(options)}{dropout_text(options)}"
        ),
        names=partial(window_names, session.views),
        choose_postprocess=validator.choose_postprocess if "none" in prompts.kinds else None,
    )


def scores_exist(session: Session) -> bool:
    """Whether any validation case shows the ROI, so that there is something to score."""
    return shows_roi(session.val, session.config.prompted_roi)


def missing_scores(session: Session) -> list[str]:
    """Warnings, one line each, if the validation or the test part shows none of the ROI."""
    roi, lines = session.config.prompted_roi, []
    if session.train and not scores_exist(session):
        lines.append(
            f"none of the {len(session.val)} validation cases shows {roi}: training goes on without a validation score"
        )
    if session.train and session.test and not shows_roi(session.test, roi):
        lines.append(f"none of the {len(session.test)} test cases shows {roi}: eval will have nothing to score there")
    return lines


def window_data(session: Session) -> MapDataset:
    """Batches of the training cases' windows for this host."""
    host = jax.process_index(), jax.process_count()
    batch = session.config.samples // jax.process_count()
    return training_set(training_windows(session), session.config.native, batch, host, training_store(session))


def training_windows(session: Session) -> TrainingWindows:
    """The windows that the run trains on."""
    return windows_of(session.config, session.views)


def training_store(session: Session) -> EmbeddingStore | None:
    """The store of the embeddings of the training slices; None if the run has none."""
    variants = session.options.cache_embeddings
    return None if variants is None else _store(session, augmentation_of(session), variants)


def validation_store(session: Session) -> EmbeddingStore | None:
    """The same as `training_store`, for slices that are not augmented."""
    return None if session.options.cache_embeddings is None else _store(session, None, 1)


def _store(session: Session, augmentation: Augmentation | None, variants: int) -> EmbeddingStore:
    config, channels = session.config, session.channels
    pca, size = channels.pca, config.options.image_size
    recipe = EmbeddingRecipe(
        weights=digest({name: x for name, x in session.base.items() if name.startswith("image_encoder/")}),
        architecture=asdict(config.architecture),
        channels=channels.text,
        pca=digest(asdict(pca)) if pca is not None else "",
        image_size=size,
        native=config.native,
        dtype=config.options.dtype,
        augmentation=None if augmentation is None else {**asdict(augmentation), "seed": config.options.seed},
    )
    side = size // config.architecture.patch_size
    root = config.options.cache_dir.expanduser().absolute() / FOLDER
    return EmbeddingStore(root, recipe.to_json(), (side, side, config.architecture.out_dim), variants)


def augmentation_of(session: Session) -> Augmentation | None:
    """The augmentation of the options."""
    options = session.options
    return Augmentation(options.rotation, options.elastic_alpha, options.elastic_sigma) if options.augment else None


def _cached_text(options: TrainOptions) -> str:
    variants = options.cache_embeddings
    return "" if variants is None else f", each slice encoded once in {variants} variant{'s' * (variants > 1)}"


def dropout_text(options: TrainOptions) -> str:
    """The modality dropout, in words; empty without any."""
    return f", modalities hidden with probability {options.modality_dropout:g}" if options.modality_dropout else ""


def cases_text(session: Session) -> str:
    """The numbers of training and validation cases, and of those that were resampled, in words."""
    resampled = len({case.case.files for case in (*session.train, *session.val) if case.origin is not None})
    grid = f", {resampled} resampled to {session.config.grid.words} and scored there" if resampled else ""
    if session.options.overfit is not None:
        return f"overfitting {session.options.overfit}, scored on itself{grid}"
    planes = session.config.planes
    several = (
        f", in {len(planes)} planes ({', '.join(planes)}; validated in the {AXIAL} one)" if len(planes) > 1 else ""
    )
    return f"{len(session.train)} training and {len(session.val)} validation cases{grid}{several}"


def regions_text(rois: tuple[str, ...]) -> str:
    """The regions that a SAM learns, in words; of several with the one that is prompted."""
    if len(rois) == 1:
        return rois[0]
    return f"{', '.join(rois[:-1])} and {rois[-1]} together, prompted by {rois[0]}"


def window_names(views: tuple[SlicedCase, ...], batch: HostBatch) -> list[str]:
    """The case, the plane if it is not axial, and the first slice of each sample."""
    return [
        f"{views[number].title} from slice {start}"
        for number, start, valid in zip(batch["case"], batch["start"], batch["valid"], strict=True)
        if valid
    ]
