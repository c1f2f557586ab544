"""Training from start to end; read it from top to bottom."""

import signal
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from samjax.command_lines import command
from samjax.data.loading.pipeline import MapDataset
from samjax.errors import Stopped, UserError
from samjax.figures.curves import draw_curves
from samjax.models.flat import from_flat, to_flat
from samjax.models.rounding import in_compute_dtype
from samjax.options import TrainOptions
from samjax.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    CURVES,
    EXAMPLE,
    FINAL,
    METRICS,
    SWEEPS,
    find_run,
    locked,
    write_text,
)
from samjax.runs.model import build_model
from samjax.runs.trained import AVERAGE, LAST, Trained, ended_at, final_of, load_stage, save_final, save_stage
from samjax.strategies import trainable_filter
from samjax.training.checkpoints import Checkpoints
from samjax.training.distributed import Vote, barrier, broadcast, errors_shared, is_writer
from samjax.training.lr_finder import chosen_rate, find_rate, save_sweep, sweep
from samjax.training.meter import Dispatched, Meter
from samjax.training.metrics_log import MetricsLog, read_curves
from samjax.training.optimizers import make_averaging, make_schedule, make_transform
from samjax.training.profiling import FOLDER as PROFILE
from samjax.training.profiling import StepProfile
from samjax.training.progress import TrainingDisplay, memory_in_use, what_trains
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
from samjax.training.tasks.segmentation import missing_scores
from samjax.training.tasks.select import check, make_data, make_task, prepare
from samjax.training.tasks.task import Task
from samjax.training.tracking import Tracked, Tracking


def train(options: TrainOptions, given: Collection[str] | None = None) -> Path:
    """Trains a new run, or continues one, and returns its folder.

    Args:
        options: options of the run; with `resume` those of the run count, and the given ones must agree with them.
        given: names of the options that the user gave, also if they equal the default; None: those that differ from it.

    Raises:
        UserError: the options, weights or data cannot be used; a new run was not created, and a resumed run was not
            changed.
        Stopped: a signal asked for the end; a checkpoint was saved.
    """
    session = None if options.resume else new_session(options, given, check)
    with ExitStack() as stack:
        with errors_shared():
            folder = session.folder if session else find_run(options.run)
            if is_writer():
                stack.enter_context(locked(folder))
        session = session or resumed_session(options, given)
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


def plan_stages(data: MapDataset, options: TrainOptions, count: int, begun: "Progress | None" = None) -> list[Stage]:
    """The stages of a run: each takes --epochs, or --max-steps, and begins with an epoch of its own.

    If one has `begun`, the stages before it are done, and it keeps its first step.
    """
    first, step, epoch = (0, 0, 0) if begun is None else (begun.stage, begun.first_step, begun.first_epoch)
    stages = []
    for number in range(first, count):
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
    """The progress of a run besides its training state; stored in checkpoints as JSON."""

    stage: int
    first_step: int
    """The step with which the stage began."""
    first_epoch: int
    """The epoch with which the stage began."""
    epoch: int
    samples: int
    """The place in the epoch: the number of its samples that have been shown."""
    lr: float | None
    """The highest learning rate before the averaging; None until the finder has run."""
    averaging: tuple[int, int] | None = None
    """The first step and the cycle of the averaging to which the average belongs; None: no average."""
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

    def settle(self) -> None:
        """Opens the log and writes a resumed run's configuration; called once it is certain that the run can go on."""
        self.log.begin()
        if self.session.resumed and is_writer():
            write_text(self.session.folder / CONFIG, self.session.config.to_json())


def _train(session: Session, stop: StopRequest) -> None:
    options, folder = session.options, session.folder
    data = make_data(session)
    prepare(session, stop)
    with ExitStack() as stack:
        checkpoints = stack.enter_context(closing(Checkpoints(folder / CHECKPOINTS)))
        found = checkpoints.restore(partial(_state_of, session)) if session.resumed else None
        state, progress = (None, None) if found is None else (found[0], _progress(found[1]))
        stages = plan_stages(data, options, len(session.strategy.stages), progress)
        done = 0 if state is None else int(state.step)
        if session.resumed and _finished(session, stages, None if state is None else done):
            return
        log = stack.enter_context(closing(MetricsLog(folder / METRICS, done, _tracking(session))))
        display = stack.enter_context(TrainingDisplay(stages[-1].end_step, done))
        tools = _Tools(session, data, checkpoints, log, display, stop, Vote())
        if not session.resumed:
            tools.settle()
        for line in missing_scores(session):
            display.say(line)
        trained: Trained = load_stage(folder, stages[0].number)
        for stage in stages:
            resumed = None
            if state is not None:
                resumed = _with_this_plan(state, _with_given_rate(progress, options), stage, options)
            trained = _train_stage(tools, stage, trained, resumed)
            state = None
            tools.settle()
            if stage is not stages[-1]:
                _on_writer(partial(save_stage, folder, stage.number + 1, trained))
        display.say(f"most memory held: {memory_in_use() / 2**30:.2f} GiB")
    _on_writer(partial(save_final, folder, trained, session.config, stages[-1].end_step))


def _tracking(session: Session) -> Tracking | None:
    """What tells the run's tracker; None without --track."""
    if session.options.track is None:
        return None
    named = {field.name: str(getattr(session.options, field.name)) for field in fields(session.options)}
    return Tracking(session.options.track, Tracked(session.folder, named))


def _progress(host: dict) -> Progress:
    """The progress in a checkpoint's JSON."""
    averaging = host["averaging"]
    return Progress(**{**host, "averaging": None if averaging is None else tuple(averaging)})


def _finished(session: Session, stages: list[Stage], done: int | None) -> bool:
    """Whether a run to be resumed has ended already, in which case a message is printed.

    Args:
        done: the steps of its last checkpoint; None where it has none.

    Raises:
        UserError: it has taken more steps than the options allow, or it has ended and has no checkpoint, so that
            training anew would replace its weights.
    """
    folder, end = session.folder, stages[-1].end_step
    if done is None:
        if not (folder / FINAL).is_file():
            return False
        if not ended_at(folder, end):
            raise UserError(
                f"--resume --run {folder}: it has finished, and {folder / CHECKPOINTS} holds no checkpoint to go on "
                f"from; restore the checkpoints, or start a new run"
            )
        if is_writer():
            print(f"{folder} has finished, all of its {end} steps are taken: nothing to do")
        return True
    if done > stages[0].end_step:
        raise UserError(
            f"--resume --run {folder}: it has taken {done} steps, more than the {stages[0].end_step} that --epochs and "
            "--max-steps ask for; give more, or leave them out"
        )
    if done < end or not ended_at(folder, end):
        return False
    if is_writer():
        longer = "--max-steps" if session.options.max_steps is not None else "--epochs"
        print(
            f"{folder} has finished, all of its {end} steps are taken: nothing to do; it goes on for longer with "
            + command("train", "--resume", "--run", folder, "--allow-changes", longer, "N")
        )
    return True


def _with_this_plan(
    state: TrainState, progress: Progress, stage: Stage, options: TrainOptions
) -> tuple[TrainState, Progress]:
    """The state without an average that belongs to another plan, since a longer run averages only its own end."""
    plan = None if progress.lr is None else _averaging_of(stage, options, progress.lr)
    if plan == progress.averaging:
        return state, progress
    state = state._replace(average=state.trainable, averaged=np.zeros((), np.int32))
    return state, replace(progress, averaging=plan)


def _averaging_of(stage: Stage, options: TrainOptions, lr: float) -> tuple[int, int] | None:
    """The averaging of a stage as checkpoints record it: the first step in the run, and the cycle."""
    averaging = make_averaging(options, stage.steps, lr)
    return None if averaging.start is None else (stage.first_step + averaging.start, averaging.cycle)


def _with_given_rate(progress: Progress, options: TrainOptions) -> Progress:
    """The progress with the learning rate of the options, perhaps a changed one, unless a finder decides the rate."""
    fixed = options.lr != "auto" and options.lr_finder_every is None
    return replace(progress, lr=options.lr) if fixed else progress


def _on_writer(write: Callable[[], None]) -> None:
    """Lets one process write while the others wait."""
    if is_writer():
        write()
    barrier("written")


def _state_of(session: Session, host: dict) -> TrainState:
    """A state with the structure of the stage of a checkpoint."""
    model = build_model(session.config, session.base)
    _, trainable, _ = nnx.split(model, trainable_filter(session.strategy, host["stage"]), ...)
    return initial_state(trainable, make_transform(session.options))


def _train_stage(tools: _Tools, stage: Stage, earlier: Trained, resumed: tuple[TrainState, Progress] | None) -> Trained:
    """Trains one stage on top of the earlier ones; returns all parameters trained so far."""
    session, options, folder = tools.session, tools.session.options, tools.session.folder
    model = build_model(session.config, session.base)
    from_flat(model, final_of(earlier))
    graphdef, trainable, frozen = nnx.split(model, trainable_filter(session.strategy, stage.number), ...)
    task = make_task(session, graphdef)
    transform = make_transform(options)
    given = None if options.lr == "auto" else options.lr
    state, progress = resumed or (
        initial_state(trainable, transform, stage.first_step),
        Progress(stage.number, stage.first_step, stage.first_epoch, stage.first_epoch, 0, given),
    )
    index = progress.samples // session.config.samples
    tools.display.say(f"{stage_title(session, stage)}: {stage.steps} steps; {task.describe}")
    tools.display.say(what_trains(trainable, frozen))
    state, frozen = replicate(broadcast(state)), replicate(broadcast(in_compute_dtype(model, frozen)))
    example = shard(tools.data.get(progress.epoch, index))
    step_of = partial(make_train_step, micro_batches=session.division.micro_batches)
    run = compile_step(step_of(graphdef, task.results, transform, options.seed), state, frozen, example)
    tools.display.say(run.report)

    step, schedule = int(unreplicate(state.step)), None
    batches = tools.data.to_iter(workers=options.workers, start=(progress.epoch, index))
    meter = Meter(tools.log, tools.display, lambda: batches.wait_seconds)
    first_step, metrics = session.resumed, None
    profile = StepProfile(folder / PROFILE, options.profile)
    with batches, closing(profile):
        while step < stage.end_step:
            local = step - stage.first_step
            if _finder_due(options, stage, local, progress):
                progress = replace(progress, lr=_ask_finder(tools, run, state, frozen, progress, step))
                meter.restart()
                schedule = None
            if schedule is None:
                averaging = make_averaging(options, stage.steps, progress.lr)
                schedule = make_schedule(options, stage.steps, progress.lr)
                progress = replace(progress, averaging=_averaging_of(stage, options, progress.lr))
            rate = schedule(local)
            batch = next(batches)
            epoch, index = batches.position
            scalars = per_device(np.float32(rate), np.bool_(averaging.update_average(local)))
            if line := profile.before_step(metrics):
                tools.display.say(line)
            state, metrics = run(state, frozen, shard(batch), *scalars)
            step += 1
            meter.dispatched(_dispatched(step, epoch, rate, averaging.active(local), batch, task, metrics))
            progress = _shown(progress, batches.get_state(), session)
            if first_step:
                jax.block_until_ready(metrics)
                tools.settle()
                first_step = False
            epoch_ends = index + 1 == tools.data.length(epoch) or step == stage.end_step
            if epoch_ends:
                meter.flush()
                meter.end_epoch(epoch)
                score = _validate(tools, task, state, frozen, step, epoch)
                if score is not None and (progress.best is None or score > progress.best):
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
    if stage.number + 1 == len(session.strategy.stages):
        _choose_postprocess(tools, task, state, frozen, step)
    return _all_trained(earlier, unreplicate(state), session)


def _shown(progress: Progress, place: dict[str, int], session: Session) -> Progress:
    """The progress at a place in the data, which is counted in samples and so does not depend on the devices."""
    return replace(progress, epoch=place["epoch"], samples=place["index"] * session.config.samples)


def stage_title(session: Session, stage: Stage) -> str:
    """Result of a run, or of one of its stages."""
    count = len(session.strategy.stages)
    of = f", stage {stage.number + 1} of {count}" if count > 1 else ""
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    if session.division.micro_batches > 1:
        devices += f", {session.config.samples} samples a step in {session.division}"
    data = ", ".join(session.config.data) or (
        "generated patients" if session.strategy.generated else "generated pictures"
    )
    return f"{session.folder}: {session.options.strategy}{of} on {data}, {devices}"


def _dispatched(
    step: int, epoch: int, rate: float, averaging: bool, batch: dict[str, np.ndarray], task: Task, metrics: dict
) -> Dispatched:
    slices = int((batch["slices"] & batch["valid"][:, None]).sum()) * jax.process_count()
    # The batch's memory may be used again by the time a message wants the names; they are short.
    names = task.names(batch)
    return Dispatched(step, epoch, rate, averaging, slices, names, metrics)


def _finder_due(options: TrainOptions, stage: Stage, local: int, progress: Progress) -> bool:
    """Whether the finder runs at the start of an epoch: if no rate is known yet, and at intervals until averaging."""
    if progress.samples:
        return False
    if progress.lr is None:
        return True
    if options.lr_finder_every is None or make_averaging(options, stage.steps, progress.lr).active(local):
        return False
    return (progress.epoch - stage.first_epoch) % options.lr_finder_every == 0


def _ask_finder(
    tools: _Tools, run: TrainStep, state: TrainState, frozen: nnx.State, progress: Progress, step: int
) -> float:
    """The finder's learning rate, from a copy of the state and the coming batches; the run itself does not change."""
    trial = replicate(unreplicate(state))
    index = progress.samples // tools.session.config.samples
    with tools.data.to_iter(start=(progress.epoch, index)) as batches:

        def measure(rate: float) -> float:
            nonlocal trial
            counted = 0
            while not counted:  # a batch in which nothing counts has no loss
                scalars = per_device(np.float32(rate), np.bool_(False))
                trial, metrics = run(trial, frozen, shard(next(batches)), *scalars)
                counted = int(unreplicate(metrics["counted"]))
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


def _validate(tools: _Tools, task: Task, state: TrainState, frozen: nnx.State, step: int, epoch: int) -> float | None:
    """Scores the last weights and their average if there is one; returns the score of the weights that eval would take.

    The result is None if there is nothing to score.
    """
    folder = tools.session.folder
    if task.validate is None:
        if is_writer():
            draw_curves(read_curves(folder / METRICS), folder / CURVES)
        return None
    weights = {"last": state.trainable}
    if int(unreplicate(state.averaged)):
        weights["average"] = state.average
    for name, trainable in weights.items():
        scores = task.validate((trainable, frozen))
        tools.log.write("validation", step, epoch, weights=name, memory_bytes=memory_in_use(), **scores.values)
        tools.display.say(f"epoch {epoch + 1}, step {step}, {name} weights: {scores.text}")
    if is_writer():
        if not (folder / EXAMPLE).exists():
            scores.draw(folder / EXAMPLE)
        draw_curves(read_curves(folder / METRICS), folder / CURVES)
    return scores.best


def _choose_postprocess(tools: _Tools, task: Task, state: TrainState, frozen: nnx.State, step: int) -> None:
    """Chooses and stores the post-processing of prompt-free predictions by the weights that eval would take.

    It is stored before the weights are: it says of which step it is, and counts only beside the weights of that step.
    """
    if task.choose_postprocess is None:
        return
    cases = len(tools.session.val)
    tools.display.say(f"choosing post-processing on {cases} validation case{'s' * (cases > 1)}, without prompts")
    begin = time.monotonic()
    weights, trainable = (AVERAGE, state.average) if int(unreplicate(state.averaged)) else (LAST, state.trainable)
    choice = task.choose_postprocess((trainable, frozen), weights, step)
    _on_writer(partial(choice.save, tools.session.folder))
    tools.display.say(f"{choice} [{time.monotonic() - begin:.1f} s]")


def _all_trained(earlier: Trained, state: TrainState, session: Session) -> Trained:
    """The parameters trained by the stages so far: the last weights and, if averaged, the average."""
    spans = session.config.block_spans
    before = final_of(earlier)
    trained = {"last": before | to_flat(state.trainable.tree(), spans)}
    if int(state.averaged):
        trained["average"] = before | to_flat(state.average.tree(), spans)
    return trained
