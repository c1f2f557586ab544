"""Training from start to end, top to bottom."""

import signal
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from samjax.commands import command
from samjax.data.loading.pipeline import MapDataset
from samjax.errors import Stopped
from samjax.figures.curves import draw_curves
from samjax.models.flat import from_flat, to_flat
from samjax.options import TrainOptions
from samjax.runs.folder import CHECKPOINTS, CURVES, EXAMPLE, METRICS, SWEEPS, find_run, locked
from samjax.runs.model import build_model
from samjax.runs.trained import Trained, final_of, load_stage, save_final, save_stage
from samjax.strategies import trainable_filter
from samjax.training.checkpoints import Checkpoints
from samjax.training.distributed import Vote, barrier, broadcast, errors_shared, is_writer
from samjax.training.lr_finder import chosen_rate, find_rate, save_sweep, sweep
from samjax.training.meter import Dispatched, Meter
from samjax.training.optimizers import make_averaging, make_schedule, make_transform
from samjax.training.progress import MetricsLog, TrainingDisplay, memory_in_use, what_trains
from samjax.training.session import Session, new_session, resumed_session
from samjax.training.step import (
    TrainState,
    TrainStep,
    compile_step,
    initial_state,
    make_train_step,
    per_device,
    replicate,
    shard,
    unreplicate,
)
from samjax.training.stop import StopRequest
from samjax.training.tasks.select import make_data, make_task, prepare
from samjax.training.tasks.task import Task


def train(options: TrainOptions) -> Path:
    """Trains a new run, or continues one, and returns its folder.

    Raises:
        UserError: the options, weights or data cannot be used.
        Stopped: a signal asked for the end; a checkpoint was saved.
    """
    session = None if options.resume else new_session(options)
    with ExitStack() as stack:
        with errors_shared():
            folder = session.folder if session else find_run(options.run)
            if is_writer():
                stack.enter_context(locked(folder))
        session = session or resumed_session(options)
        stack.enter_context(jax.default_matmul_precision(session.config.compute.precision))
        _train(session, stack.enter_context(StopRequest()))
    return folder


@dataclass(frozen=True)
class Stage:
    """The steps and epochs in which one set of parameters trains."""

    number: int
    first_step: int
    end_step: int
    first_epoch: int

    @property
    def steps(self) -> int:
        return self.end_step - self.first_step


def plan_stages(data: MapDataset, options: TrainOptions, count: int) -> list[Stage]:
    """The stages of a run: each takes --epochs, or --max-steps, and begins with an epoch of its own."""
    stages, step, epoch = [], 0, 0
    for number in range(count):
        begin, first_epoch = step, epoch
        while epoch - first_epoch < options.epochs if options.max_steps is None else step - begin < options.max_steps:
            step += data.length(epoch)
            epoch += 1
        if options.max_steps is not None:
            step = begin + options.max_steps
        stages.append(Stage(number, begin, step, first_epoch))
    return stages


@dataclass(frozen=True)
class Progress:
    """Where a run stands besides its training state; goes into checkpoints as JSON."""

    stage: int
    epoch: int
    index: int
    """Of the next batch in its epoch."""
    lr: float | None
    """The highest learning rate before the averaging; None until the finder has been asked."""
    best: float | None = None
    """The best validation score so far."""
    best_step: int | None = None


@dataclass(frozen=True)
class _Tools:
    session: Session
    data: MapDataset
    checkpoints: Checkpoints
    log: MetricsLog
    display: TrainingDisplay
    stop: StopRequest
    vote: Vote


def _train(session: Session, stop: StopRequest) -> None:
    options, folder = session.options, session.folder
    data = make_data(session)
    prepare(session, stop)
    stages = plan_stages(data, options, len(session.strategy.stages))
    with ExitStack() as stack:
        checkpoints = stack.enter_context(closing(Checkpoints(folder / CHECKPOINTS)))
        state, host = None, {"stage": 0}
        if session.resumed:
            state, host = checkpoints.restore(lambda host: _state_of(session, stages[host["stage"]])) or (state, host)
        done = 0 if state is None else int(state.step)
        log = stack.enter_context(closing(MetricsLog(folder / METRICS, done)))
        display = stack.enter_context(TrainingDisplay(stages[-1].end_step, done))
        tools = _Tools(session, data, checkpoints, log, display, stop, Vote())
        trained: Trained = load_stage(folder, host["stage"])
        for stage in stages[host["stage"] :]:
            resumed = (state, _with_given_rate(Progress(**host), options)) if state is not None else None
            trained = _train_stage(tools, stage, trained, resumed)
            state = None
            if stage is not stages[-1]:
                _on_writer(partial(save_stage, folder, stage.number + 1, trained))
        display.say(f"most memory held: {memory_in_use() / 2**30:.2f} GiB")
    _on_writer(partial(save_final, folder, trained, session.config))


def _with_given_rate(progress: Progress, options: TrainOptions) -> Progress:
    """The learning rate of the options, which --allow-changes may have changed, where no finder decides."""
    fixed = options.lr != "auto" and options.lr_finder_every is None
    return replace(progress, lr=options.lr) if fixed else progress


def _on_writer(write: Callable[[], None]) -> None:
    """Lets one process write, and all go on when it is done."""
    if is_writer():
        write()
    barrier("written")


def _state_of(session: Session, stage: Stage) -> TrainState:
    """A state of the structure that a stage trains."""
    model = build_model(session.config, session.base)
    _, trainable, _ = nnx.split(model, trainable_filter(session.strategy, stage.number), ...)
    return initial_state(trainable, make_transform(session.options), stage.first_step)


def _train_stage(tools: _Tools, stage: Stage, earlier: Trained, resumed: tuple[TrainState, Progress] | None) -> Trained:
    """Trains one stage on top of what earlier ones trained; returns all that is trained by then."""
    session, options, folder = tools.session, tools.session.options, tools.session.folder
    model = build_model(session.config, session.base)
    from_flat(model, final_of(earlier))
    graphdef, trainable, frozen = nnx.split(model, trainable_filter(session.strategy, stage.number), ...)
    task = make_task(session, graphdef)
    transform = make_transform(options)
    given = None if options.lr == "auto" else options.lr
    state, progress = resumed or (
        initial_state(trainable, transform, stage.first_step),
        Progress(stage.number, stage.first_epoch, 0, given),
    )
    tools.display.say(f"{stage_title(session, stage)}: {stage.steps} steps; {task.describe}")
    tools.display.say(what_trains(trainable, frozen))
    state, frozen = replicate(broadcast(state)), replicate(broadcast(frozen))
    example = shard(tools.data.get(progress.epoch, progress.index))
    run = compile_step(make_train_step(graphdef, task.results, transform, options.seed), state, frozen, example)
    tools.display.say(run.report)

    step, schedule = int(unreplicate(state.step)), None
    batches = tools.data.to_iter(workers=options.workers, start=(progress.epoch, progress.index))
    meter = Meter(tools.log, tools.display, lambda: batches.wait_seconds)
    with batches:
        while step < stage.end_step:
            local = step - stage.first_step
            if _finder_due(options, stage, local, progress):
                progress = replace(progress, lr=_ask_finder(tools, run, state, frozen, progress, step))
                meter.restart()
                schedule = None
            if schedule is None:
                averaging = make_averaging(options, stage.steps, progress.lr)
                schedule = make_schedule(options, stage.steps, progress.lr)
            rate = schedule(local)
            batch = next(batches)
            epoch, index = batches.position
            scalars = per_device(np.float32(rate), np.bool_(averaging.update_average(local)))
            state, metrics = run(state, frozen, shard(batch), *scalars)
            step += 1
            meter.dispatched(_dispatched(step, epoch, rate, averaging.active(local), batch, task, metrics))
            progress = replace(progress, **batches.get_state())
            score = None
            epoch_ends = index + 1 == tools.data.length(epoch) or step == stage.end_step
            if epoch_ends:
                meter.flush()
                meter.end_epoch(epoch)
                score = _validate(tools, task, state, frozen, step, epoch)
                if progress.best is None or score > progress.best:
                    progress = replace(progress, best=score, best_step=step)
                meter.restart()
            stopping = tools.vote(tools.stop.signal is not None)
            if epoch_ends or stopping or step % options.checkpoint_every == 0:
                meter.flush()
                tools.checkpoints.save(unreplicate(state), asdict(progress))
            if stopping:
                tools.checkpoints.wait()
                barrier("stopped")
                raise Stopped(
                    f"{folder} after step {step} of {stage.end_step}, saved; go on with "
                    + command("train", "--resume", "--run", folder),
                    tools.stop.signal or signal.SIGTERM,
                )
    return _all_trained(earlier, unreplicate(state), session)


def stage_title(session: Session, stage: Stage) -> str:
    """What a run, or one of its stages, is."""
    count = len(session.strategy.stages)
    of = f", stage {stage.number + 1} of {count}" if count > 1 else ""
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    data = ", ".join(session.config.data) or "generated pictures"
    return f"{session.folder}: {session.options.strategy}{of} on {data}, {devices}"


def _dispatched(
    step: int, epoch: int, rate: float, averaging: bool, batch: dict[str, np.ndarray], task: Task, metrics: dict
) -> Dispatched:
    slices = int((batch["slices"] & batch["valid"][:, None]).sum()) * jax.process_count()
    # The batch's memory may be used again by the time a message wants the names; they are short.
    names = task.names(batch)
    return Dispatched(step, epoch, rate, averaging, slices, names, metrics)


def _finder_due(options: TrainOptions, stage: Stage, local: int, progress: Progress) -> bool:
    """At the start of an epoch: where no rate is known yet, and every so many epochs until the averaging begins."""
    if progress.index:
        return False
    if progress.lr is None:
        return True
    if options.lr_finder_every is None or make_averaging(options, stage.steps, progress.lr).active(local):
        return False
    return (progress.epoch - stage.first_epoch) % options.lr_finder_every == 0


def _ask_finder(
    tools: _Tools, run: TrainStep, state: TrainState, frozen: nnx.State, progress: Progress, step: int
) -> float:
    """The finder's learning rate, from a copy of the state and the batches to come; nothing of the run changes."""
    trial = replicate(unreplicate(state))
    with tools.data.to_iter(start=(progress.epoch, progress.index)) as batches:

        def measure(rate: float) -> float:
            nonlocal trial
            trial, metrics = run(trial, frozen, shard(next(batches)), *per_device(np.float32(rate), np.bool_(False)))
            return float(unreplicate(metrics["loss"]))

        found = find_rate(measure, sweep())
    folder = tools.session.folder / SWEEPS
    if is_writer():
        folder.mkdir(exist_ok=True)
        save_sweep(folder, f"step-{step}", found)
    # A model that has learnt may show no clear fall; that is no reason to end a run that has a rate.
    rate = found.suggestion or progress.lr or chosen_rate(found, folder / f"step-{step}.png")
    tools.log.write("finder", step, progress.epoch, lr=rate, suggestion=found.suggestion, steps=len(found.losses))
    tools.display.say(f"step {step}: learning rate {rate:.1e} by the finder ({folder})")
    return rate


def _validate(tools: _Tools, task: Task, state: TrainState, frozen: nnx.State, step: int, epoch: int) -> float:
    """Scores the last weights and, where there is one, their average; returns the score of what eval would take."""
    weights = {"last": state.trainable}
    if int(unreplicate(state.averaged)):
        weights["average"] = state.average
    for name, trainable in weights.items():
        scores = task.validate((trainable, frozen))
        tools.log.write("validation", step, epoch, weights=name, memory_bytes=memory_in_use(), **scores.values)
        tools.display.say(f"epoch {epoch + 1}, step {step}, {name} weights: {scores.text}")
    folder = tools.session.folder
    if is_writer():
        if not (folder / EXAMPLE).exists():
            scores.draw(folder / EXAMPLE)
        draw_curves(folder / METRICS, folder / CURVES)
    return scores.best


def _all_trained(earlier: Trained, state: TrainState, session: Session) -> Trained:
    """What stages so far have trained: the last weights and, if averaged, the average."""
    spans = session.config.block_spans
    before = final_of(earlier)
    trained = {"last": before | to_flat(state.trainable.tree(), spans)}
    if int(state.averaged):
        trained["average"] = before | to_flat(state.average.tree(), spans)
    return trained
