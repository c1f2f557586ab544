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
from samjax.models.prompt_encoder import Buffer
from samjax.models.sam import to_flat
from samjax.runs import CHECKPOINTS, EXAMPLE, METRICS, build_model, locked, save_final
from samjax.strategies import trains
from samjax.training.checkpoints import Checkpoints
from samjax.training.objective import Objective, slice_results
from samjax.training.optimizers import make_averaging, make_schedule, make_transform
from samjax.training.reporting import MetricsLog, TrainingDisplay
from samjax.training.session import Session, new_session, resumed_session
from samjax.training.step import (
    TrainState,
    TrainStep,
    first,
    initial_state,
    make_scoring_step,
    make_train_step,
    per_device,
    replicate,
    shard,
)
from samjax.training.validation import Example, Validator, save_example

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
    options, folder, plan = session.options, session.folder, _plan(session)
    prompts = PromptMix.parse(options.prompt, options.box_jitter)
    graphdef, trainable, frozen = nnx.split(build_model(session.config, session.base), trains(session.strategy), ...)
    _print_plan(session, plan, trainable, frozen, prompts)
    transform = make_transform(options)
    train_step = _train_step(session, graphdef, transform, prompts)
    validator = _validator(session, graphdef, PromptMix.parse(prompts.kinds[0]))
    averaging = make_averaging(options, plan.steps)
    learning_rate = make_schedule(options, plan.steps, averaging)

    checkpoints = Checkpoints(folder / CHECKPOINTS)
    state, host = initial_state(trainable, transform), {"data": {"epoch": 0, "index": 0}}
    if session.resumed:
        state, host = checkpoints.restore(state) or (state, host)
    step, start = int(state.step), (host["data"]["epoch"], host["data"]["index"])
    state, frozen = replicate(state), replicate(frozen)
    log = MetricsLog(folder / METRICS, step)
    batches = plan.data.to_iter(workers=options.workers, start=start)

    with TrainingDisplay(plan.steps, step) as display, batches:
        meter = _Meter(log, display, lambda: batches.wait_seconds)
        while step < plan.steps:
            batch = next(batches)
            epoch, index = batches.position
            rate, enters = learning_rate(step), averaging.enters(step)
            state, metrics = train_step(state, frozen, shard(batch), *per_device(np.float32(rate), np.bool_(enters)))
            step += 1
            slices = int((batch["slices"] & batch["valid"][:, None]).sum()) * jax.process_count()
            meter.dispatched(step, epoch, rate, slices, metrics)
            epoch_ends = index + 1 == plan.data.length(epoch) or step == plan.steps
            if epoch_ends:
                meter.flush()
                example = _report_validation(validator, state, frozen, log, display, step, epoch)
                if not (folder / EXAMPLE).exists():
                    save_example(folder / EXAMPLE, example, session.channels)
                meter.restart()
            if epoch_ends or step % options.checkpoint_every == 0:
                checkpoints.save(first(state), {"data": batches.get_state()})
    checkpoints.close()
    log.close()
    _save(session, first(state), prompts)


def _train_step(
    session: Session, graphdef: nnx.GraphDef, transform: optax.GradientTransformation, prompts: PromptMix
) -> TrainStep:
    options = session.options
    augmentation = (
        Augmentation(options.rotation, options.elastic_alpha, options.elastic_sigma) if options.augment else None
    )
    objective = _objective(session, prompts, augmentation)
    return make_train_step(graphdef, partial(slice_results, objective=objective), transform, options.seed)


def _validator(session: Session, graphdef: nnx.GraphDef, kind: PromptMix) -> Validator:
    objective = _objective(session, kind, None)
    step = make_scoring_step(graphdef, partial(slice_results, objective=objective), VALIDATION_SEED)
    options = session.options
    return Validator(step, session.val, options.roi, options.depth, session.config.native, options.batch_size, kind)


def _report_validation(
    validator: Validator,
    state: TrainState,
    frozen: nnx.State,
    log: MetricsLog,
    display: TrainingDisplay,
    step: int,
    epoch: int,
) -> Example:
    """Scores the last weights and, where there is one, their average."""
    weights = {"last": state.trainable}
    if int(first(state.averaged)):
        weights["average"] = state.average
    for name, trainable in weights.items():
        scores, example = validator.score((trainable, frozen))
        log.write(
            "validation", step, epoch, dice=scores.dice, dice_slice=scores.dice_slice, cases=scores.cases,
            weights=name, prompt=str(validator.kind), prompt_source=validator.prompt_source,
        )  # fmt: skip
        display.say(
            f"epoch {epoch + 1}, step {step}, {name} weights: validation Dice {scores.dice:.3f} by volume, "
            f"{scores.dice_slice:.3f} by slice (n = {scores.cases}, prompt {validator.kind} from "
            f"{validator.prompt_source})"
        )
    return example


def _save(session: Session, state: TrainState, prompts: PromptMix) -> None:
    period = session.config.architecture.block_period
    trained = {"last": to_flat(state.trainable, period)}
    if int(state.averaged):
        trained["average"] = to_flat(state.average, period)
    save_final(session.folder, trained, session.config, prompts.kinds)


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
    """Parameters of each part of the model, buffers left out; LoRA, cross-slice and patch embedding stand apart."""
    counts: dict[str, int] = {}
    for path, leaf in nnx.to_flat_state(state):
        if isinstance(leaf, Buffer):
            continue
        part = next(name for name in PARTS if name in path)
        counts[part] = counts.get(part, 0) + int(np.prod(leaf.shape))
    return dict(sorted(counts.items(), key=lambda item: PARTS.index(item[0])))
