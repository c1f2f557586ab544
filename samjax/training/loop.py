"""Training from start to end, top to bottom."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx

from samjax.config import TrainOptions
from samjax.data.augment import Augmentation
from samjax.data.pipeline import MapDataset
from samjax.data.prompts import PromptMix
from samjax.data.samples import TrainingWindows, training_set
from samjax.models.sam import to_flat
from samjax.runs import CHECKPOINTS, METRICS, build_model, locked, save_final
from samjax.strategies import trains
from samjax.training.checkpoints import Checkpoints
from samjax.training.objective import Objective, slice_results
from samjax.training.reporting import MetricsLog, TrainingDisplay
from samjax.training.session import Session, new_session, resumed_session
from samjax.training.step import (
    TrainState,
    first,
    make_scoring_step,
    make_train_step,
    replicate,
    shard,
)
from samjax.training.validation import save_example, validate

VALIDATION_SEED = 1
"""Of the validation prompts: the same for every run, so that runs are compared on the same clicks."""


def train(options: TrainOptions) -> Path:
    """Trains a new run, or continues one, and returns its folder.

    Raises:
        UserError: the options, weights or data cannot be used.
    """
    session = resumed_session(options) if options.resume else new_session(options)
    with locked(session.folder), jax.default_matmul_precision(_precision(session.options)):
        _fit(session)
    return session.folder


def _precision(options: TrainOptions) -> str:
    """float32 means float32: without this a GPU would multiply in TF32."""
    return "highest" if options.dtype == "float32" else "default"


@dataclass(frozen=True)
class _Plan:
    """How long a run is: its data, and the step at which it ends."""

    data: MapDataset
    epochs: int
    steps: int


def _plan(session: Session) -> _Plan:
    options = session.options
    windows = TrainingWindows(
        session.train, options.depth, options.roi, options.min_pixels, options.empty_share, options.seed
    )
    host_batch = options.batch_size * jax.local_device_count()
    data = training_set(windows, session.config.native, host_batch, (jax.process_index(), jax.process_count()))
    if options.max_steps is not None:
        epochs, steps = 0, 0
        while steps < options.max_steps:
            steps += data.length(epochs)
            epochs += 1
        return _Plan(data, epochs, options.max_steps)
    return _Plan(data, options.epochs, sum(data.length(epoch) for epoch in range(options.epochs)))


def _objective(session: Session, prompts: PromptMix, augmentation: Augmentation | None) -> Objective:
    options = session.options
    return Objective(options.roi, session.channels, prompts, options.image_size, options.clicks, augmentation)


def _fit(session: Session) -> None:
    options, folder = session.options, session.folder
    model = build_model(session.config, session.base)
    graphdef, trainable, frozen = nnx.split(model, trains(session.strategy), ...)
    prompts = PromptMix.parse(options.prompt, options.box_jitter)
    augmentation = (
        Augmentation(options.rotation, options.elastic_alpha, options.elastic_sigma) if options.augment else None
    )
    scored_kind = PromptMix.parse(prompts.kinds[0])
    transform = optax.scale_by_adam()
    train_step = make_train_step(
        graphdef,
        partial(slice_results, objective=_objective(session, prompts, augmentation)),
        transform,
        options.seed,
    )
    validation_step = make_scoring_step(
        graphdef, partial(slice_results, objective=_objective(session, scored_kind, None)), VALIDATION_SEED
    )
    plan = _plan(session)
    _print_plan(session, plan, trainable, frozen, prompts)

    state = TrainState(np.zeros((), np.int32), trainable, transform.init(trainable))
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    host = {"data": {"epoch": 0, "index": 0}}
    if session.resumed:
        state, host = checkpoints.restore(state) or (state, host)
    step = int(state.step)
    state, frozen = replicate(state), replicate(frozen)
    log = MetricsLog(folder / METRICS, step)
    position = (host["data"]["epoch"], host["data"]["index"])
    batches = plan.data.to_iter(workers=options.workers, start=position)

    def run_validation(epoch: int) -> None:
        scores, example = validate(
            validation_step,
            (state.trainable, frozen),
            session.val,
            roi=options.roi,
            depth=options.depth,
            native=session.config.native,
            batch=options.batch_size,
            prompt_free=scored_kind.kinds == ("none",),
        )
        source = "none" if scored_kind.kinds == ("none",) else "ground truth"
        log.write(
            "validation", step, epoch, dice=scores.dice, dice_slice=scores.dice_slice, cases=scores.cases,
            prompt=str(scored_kind), prompt_source=source,
        )  # fmt: skip
        display.say(
            f"epoch {epoch + 1}/{plan.epochs}, step {step}: validation Dice {scores.dice:.3f} by volume, "
            f"{scores.dice_slice:.3f} by slice (n = {scores.cases}, prompt {scored_kind} from {source})"
        )
        if not (folder / "first_validation.png").exists():
            save_example(folder / "first_validation.png", example, session.channels)

    with TrainingDisplay(plan.steps, step) as display, batches:
        meter = _Meter(log, display, lambda: batches.wait_seconds)
        while step < plan.steps:
            batch = next(batches)
            epoch, index = batches.position
            slices = int((batch["slices"] & batch["valid"][:, None]).sum()) * jax.process_count()
            rates = np.full(jax.local_device_count(), options.lr, np.float32)
            state, metrics = train_step(state, frozen, shard(batch), rates)
            step += 1
            meter.dispatched(step, epoch, options.lr, slices, metrics)
            epoch_ends = index + 1 == plan.data.length(epoch) or step == plan.steps
            if epoch_ends:
                meter.flush()
                run_validation(epoch)
                meter.restart()
            if epoch_ends or step % options.checkpoint_every == 0:
                checkpoints.save(first(state), {"data": batches.get_state()})
    checkpoints.close()
    log.close()
    save_final(
        folder,
        to_flat(first(state).trainable, session.config.architecture.block_period),
        session.config,
        prompts.kinds,
    )


class _Meter:
    """Logs each step when the next one has been dispatched, so that fetching its loss holds up nothing."""

    def __init__(self, log: MetricsLog, display: TrainingDisplay, wait_seconds: Callable[[], float]):
        self._log, self._display, self._wait_seconds = log, display, wait_seconds
        self._pending: tuple | None = None
        self._compiled = False
        self.restart()

    def restart(self) -> None:
        """Starts the clock anew, after work that is not training."""
        self._wait_seconds()
        self._begin = time.perf_counter()

    def dispatched(self, step: int, epoch: int, lr: float, slices: int, metrics: dict[str, jax.Array]) -> None:
        """Notes a step that was just dispatched and logs the one before."""
        self.flush()
        self._pending = step, epoch, lr, slices, metrics
        if not self._compiled:
            self.flush()

    def flush(self) -> None:
        """Waits for the last dispatched step and logs it."""
        if self._pending is None:
            return
        step, epoch, lr, slices, metrics = self._pending
        self._pending = None
        values = first(metrics)
        now = time.perf_counter()
        seconds, self._begin = now - self._begin, now
        extra = {}
        if not self._compiled:
            self._compiled = True
            extra["compiled"] = True
            self._display.say(f"first step, compilation included: {seconds:.1f} s")
        self._log.write(
            "train", step, epoch, loss=float(values["loss"]), lr=lr, seconds=seconds,
            data_wait_seconds=self._wait_seconds(), slices=slices, counted=int(values["counted"]),
            grad_norm=float(values["grad_norm"]), finite=bool(values["finite"]), **extra,
        )  # fmt: skip
        self._display.step(step, float(values["loss"]), lr, slices / seconds)


def _print_plan(session: Session, plan: _Plan, trainable: nnx.State, frozen: nnx.State, prompts: PromptMix) -> None:
    options = session.options
    counts = parameter_counts(trainable)
    total = sum(counts.values())
    whole = total + sum(parameter_counts(frozen).values())
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(f"{session.folder}: {options.strategy} on {', '.join(session.config.data)}")
    print(f"trains {total:,} of {whole:,} parameters ({parts})")
    print(
        f"{len(session.train)} training and {len(session.val)} validation cases, {plan.steps} steps in "
        f"{plan.epochs} epochs; {options.roi}, channels {options.channels}, {options.depth} slices a sample, "
        f"prompt {prompts}, input {options.image_size} x {options.image_size}, "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    )


PARTS = ("lora", "cross_slice", "patch_embed", "image_encoder", "prompt_encoder", "mask_decoder")


def parameter_counts(state: nnx.State) -> dict[str, int]:
    """Parameters of each part of the model; LoRA, cross-slice and patch embedding apart from the encoder's rest."""
    counts: dict[str, int] = {}
    for path, leaf in nnx.to_flat_state(state):
        part = next(name for name in PARTS if name in path)
        counts[part] = counts.get(part, 0) + int(np.prod(leaf.shape))
    return dict(sorted(counts.items(), key=lambda item: PARTS.index(item[0])))
