"""Optimisers, learning rates and the average of the weights, as optax transformations."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import optax

from samjax.options import TrainOptions
from samjax.training.parameter_vector import ParameterVector, to_vector

Schedule = Callable[[int], float]


def make_transform(options: TrainOptions) -> optax.GradientTransformation:
    """The chain from gradients to updates, without the learning rate, which the step applies.

    Clipping by the global norm, Adam or Muon, and decoupled weight decay (AdamW). It takes parameter vectors.
    """
    parts = []
    if options.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(options.clip_norm))
    parts.append(muon() if options.optimizer == "muon" else optax.scale_by_adam())
    if options.optimizer == "adamw":
        parts.append(decay_reached(options.weight_decay))
    return optax.chain(*parts)


def muon() -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for kernels, their updates as large as Adam's; Adam at half the rate for all else."""
    halves = optax.contrib.muon(
        1.0, consistent_rms=0.2, adam_learning_rate=0.5, muon_weight_dimension_numbers=_matrices
    )
    return array_by_array(optax.chain(halves, optax.scale(-1.0)))


def array_by_array(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transformation of trees, for parameter vectors."""

    def update(updates: ParameterVector, state: optax.OptState, params: ParameterVector):
        changed, state = transform.update(updates.traced_tree(), state, params.traced_tree())
        return to_vector(changed), state

    return optax.GradientTransformation(lambda params: transform.init(params.tree()), update)


def _matrices(params: optax.Params) -> optax.Params:
    """The matrix axes of each parameter for Muon: (..., in, out) of a kernel, block by block; None for others."""

    def axes(path: tuple, x: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        stacked = 2 if "/blocks/" in name else 0
        if "kernel" not in name.split("/") or "/output_upscaling/" in name or x.ndim - stacked < 2:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(stacked, x.ndim - 1)), x.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)


def decay_reached(weight_decay: float) -> optax.GradientTransformation:
    """Weight decay of the parameters that a loss has reached, which are those whose update by Adam is not exactly 0.

    Without this, the heads of masks that the single-mask loss never uses would shrink to zero.
    """

    def update(updates: optax.Updates, state: optax.EmptyState, params: optax.Params):
        decayed = jax.tree.map(lambda u, p: u + weight_decay * p * (u != 0), updates, params)
        return decayed, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@dataclass(frozen=True)
class Averaging:
    """Steps and learning rate of stochastic weight averaging (Izmailov et al. 2018; paper A, section 3.2).

    Attributes:
        start: the first step (from 0) after which the weights enter the average; None: never.
        rate: learning rate from there on, the highest of each cycle.
        cycle: steps in which the rate falls from `rate` to a tenth of it on a half cosine; 0: constant.
    """

    start: int | None
    rate: float
    cycle: int = 0

    def active(self, step: int) -> bool:
        return self.start is not None and step >= self.start

    def update_average(self, step: int) -> bool:
        """Whether the weights after this step enter the average: with cycles, those at the end of one."""
        if not self.active(step):
            return False
        return not self.cycle or (step - self.start + 1) % self.cycle == 0


def make_averaging(options: TrainOptions, steps: int, lr: float) -> Averaging:
    """The averaging of a run of `steps` steps at learning rate `lr`."""
    start = int(options.swa_start * steps)
    if not options.swa or start >= steps:
        return Averaging(None, 0.0)
    default = lr / 10 if options.schedule == "cosine" else lr
    return Averaging(start, default if options.swa_lr is None else options.swa_lr, options.swa_cycle)


def make_schedule(options: TrainOptions, steps: int, lr: float) -> Schedule:
    """The learning rate of each step (from 0) of a run of `steps` steps, with `lr` the highest before the averaging."""
    averaging = make_averaging(options, steps, lr)
    before = steps if averaging.start is None else averaging.start
    warmup = min(options.warmup_steps, max(before - 1, 0))

    def rate(step: int) -> float:
        if averaging.active(step):
            if not averaging.cycle:
                return averaging.rate
            place = (step - averaging.start) % averaging.cycle / max(averaging.cycle - 1, 1)
            return _half_cosine(averaging.rate, averaging.rate / 10, place)
        if options.schedule != "cosine":
            return lr
        # The first step of a warm-up from 0 would change nothing.
        done = step + 1 if warmup else step
        if done < warmup:
            return lr * done / warmup
        return _half_cosine(lr, averaging.rate, (done - warmup) / max(before - warmup, 1))

    return rate


def _half_cosine(high: float, low: float, place: float) -> float:
    """The value at a place from 0 (`high`) to 1 (`low`) of a half cosine, in Python: a step waits for no device."""
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * min(place, 1.0)))
