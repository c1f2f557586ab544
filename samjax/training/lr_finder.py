"""The learning-rate finder: a sweep of rising rates, one step at each, and the rate suggested by its losses.

Smith 2017, "Cyclical learning rates for training neural networks"; paper A runs it every 5 epochs.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samjax.errors import UserError
from samjax.figures.sweep import draw_sweep
from samjax.files import replacing

BETA = 0.8
"""Weight of earlier losses in the smoothing, which runs forwards and backwards: it averages about 11 steps, or 0.8 of a
decade in the default sweep."""
RISE = 4.0
"""Ratio of the smoothed loss to its lowest value so far at which a sweep ends."""
SETTLE = 10
"""Steps before the smoothed loss can end a sweep, so that one low first loss cannot."""
FLOOR = 0.1
"""Distance of the floor below the lowest smoothed loss, as a share of the whole fall."""
CAUTION = 2.0
"""Divisor of the rate midway between the steepest fall and the lowest loss, since too high a rate diverges."""
SIGNIFICANT = 0.9
"""Number of standard deviations of the batch losses below which a fall is taken for noise."""


@dataclass(frozen=True)
class Sweep:
    """The S steps of a sweep, up to where it ended."""

    rates: np.ndarray
    """The learning rates tried, (S,) float64, rising."""
    losses: np.ndarray
    """The loss of the batch before the step at each rate, (S,) float64, finite."""
    smoothed: np.ndarray
    """The losses smoothed without lag, (S,) float64, after those of the divergence were limited."""
    suggestion: float | None
    """The learning rate to train with; None if the loss did not fall."""


def sweep(lowest: float = 1e-7, highest: float = 1.0, steps: int = 100) -> np.ndarray:
    """Learning rates (steps,) float64 from lowest to highest, each the same multiple of the one before."""
    return np.geomspace(lowest, highest, steps)


def find_rate(measure: Callable[[float], float], rates: np.ndarray) -> Sweep:
    """Trains one step at each rate in turn and suggests one to train with.

    The sweep ends early if the loss is not finite (that step is left out) or its trailing average, after the first
    `SETTLE` steps, is `RISE` times its best.

    Args:
        measure: takes one training step at the given rate and returns the loss before it.
        rates: (S,), rising, as `sweep` makes them.
    """
    losses: list[float] = []
    for rate in rates:
        loss = float(measure(float(rate)))
        if not np.isfinite(loss):
            break
        losses.append(loss)
        settled = moving_average(np.array(losses))[SETTLE - 1 :]
        if settled.size and settled[-1] > RISE * settled.min():
            break
    tried, seen = np.array(rates[: len(losses)], np.float64), np.array(losses)
    smoothed = smooth(_capped(seen))
    return Sweep(tried, seen, smoothed, _suggest(tried, seen, smoothed))


def chosen_rate(found: Sweep, curve: Path) -> float:
    """The suggestion of a sweep that was saved as `curve`.

    Raises:
        UserError: the loss did not fall, so that there is no suggestion.
    """
    if found.suggestion is not None:
        return found.suggestion
    if len(found.losses) <= SETTLE:
        raise UserError(
            f"{curve}: the sweep ended after {len(found.losses)} finite losses; more than {SETTLE} are needed, so no "
            "learning rate can be suggested; check the data for broken scans, or give a rate with --lr"
        )
    raise UserError(
        f"{curve}: the loss did not fall between learning rates {found.rates[0]:.1e} and {found.rates[-1]:.1e} "
        f"(from {found.smoothed[0]:.4g} to {found.smoothed.min():.4g} at its lowest, which is within the noise), so "
        "none can be suggested; give one with --lr and leave out the learning-rate finder"
    )


def moving_average(values: np.ndarray, beta: float = BETA) -> np.ndarray:
    """The exponential moving average (S,) with bias correction (Kingma & Ba 2015, section 3); it lags behind."""
    averages, total, weight = np.empty(len(values)), 0.0, 0.0
    for index, value in enumerate(values):
        total = beta * total + value
        weight = beta * weight + 1
        averages[index] = total / weight
    return averages


def smooth(values: np.ndarray, beta: float = BETA) -> np.ndarray:
    """The moving average (S,) taken forwards and then backwards, which cancels the lag."""
    return moving_average(moving_average(values, beta)[::-1], beta)[::-1]


def _capped(losses: np.ndarray) -> np.ndarray:
    """The losses, limited to the highest one before the fall ended, since smoothing would spread a huge loss."""
    if len(losses) <= SETTLE:
        return losses
    lowest = SETTLE + int(moving_average(losses)[SETTLE:].argmin())
    return np.minimum(losses, losses[: lowest + 1].max())


def _suggest(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray) -> float | None:
    """The rate between the steepest fall and the lowest loss, on the logarithmic axis; None if no loss falls.

    The slope is divided by the rest of the fall above a floor. The plain slope would be steepest too early: each step
    of a sweep lowers the loss a little, so that much of the fall is over before the rate is high enough to train with.
    """
    if len(losses) <= SETTLE:
        return None
    lowest = SETTLE + int(smoothed[SETTLE:].argmin())
    start = losses[: max(SETTLE, len(losses) // 4)]
    fall = start.mean() - smoothed[lowest]
    rounding = 1e-6 * abs(start.mean())
    if fall <= max(SIGNIFICANT * _noise(losses[: max(lowest + 1, 2 * SETTLE)]), rounding):
        return None
    before = smoothed[: lowest + 1]
    steepness = -np.gradient(before, np.log(rates[: lowest + 1])) / (before - smoothed[lowest] + FLOOR * fall)
    begin = np.flatnonzero(before > smoothed[lowest] + 0.9 * fall).max(initial=0)
    steepest = begin + int(steepness[begin:].argmax())
    return float(np.sqrt(rates[steepest] * rates[lowest]) / CAUTION)


def _noise(losses: np.ndarray) -> float:
    """The standard deviation of the noise, from differences between neighbours, which a slow fall hardly affects."""
    return float(np.median(np.abs(np.diff(losses))) / 0.9539)


def save_sweep(folder: Path, name: str, found: Sweep) -> None:
    """Writes name.csv (step, rate, loss, smoothed; the suggestion in a comment above) and the drawing name.png."""
    with replacing(folder / f"{name}.csv") as temporary, open(temporary, "w", newline="") as file:
        file.write(f"# suggestion: {'none' if found.suggestion is None else repr(found.suggestion)}\n")
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("step", "rate", "loss", "smoothed"))
        columns = (values.tolist() for values in (found.rates, found.losses, found.smoothed))
        table.writerows((step, *row) for step, row in enumerate(zip(*columns, strict=True), start=1))
    draw_sweep(folder / f"{name}.png", found.rates, found.losses, found.smoothed, found.suggestion)
