"""The learning-rate finder, against quadratics whose best rate is known."""

import csv

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.training.lr_finder import chosen_rate, find_rate, moving_average, save_sweep, smooth, sweep

WIDE = sweep(1e-6, 1e4, 143)
"""As many rates a decade as the default sweep."""


def spectrum(curvature: float, condition: float) -> np.ndarray:
    """Curvatures of the 64 dimensions of a quadratic, from curvature / condition to curvature."""
    return np.geomspace(curvature / condition, curvature, 64)


class Descent:
    """Gradient descent on sum(h x^2) / 2 from x ~ N(0, 1), where each batch moves the minimum by N(0, noise)."""

    def __init__(self, curvatures: np.ndarray, noise: float, seed: int, runs: int = 1):
        self.curvatures, self.noise = curvatures, noise
        self.random = np.random.default_rng(seed)
        self.x = np.repeat(self.random.normal(size=(1, curvatures.size)), runs, axis=0)

    def step(self, rate: float | np.ndarray) -> np.ndarray:
        error = self.x + self.noise * self.random.normal(size=self.curvatures.size)
        self.x = self.x - rate * self.curvatures * error
        return 0.5 * (self.curvatures * error**2).sum(axis=1)

    def measure(self, rate: float) -> float:
        return self.step(rate)[0]


def best_rate(curvatures: np.ndarray, noise: float, seeds: int = 8, steps: int = 100) -> float:
    """The constant rate, of 20 a decade, with the lowest mean noise-free loss after 100 steps."""
    rates = np.geomspace(1e-3, 1e1, 81) / curvatures.max()
    losses = np.zeros(rates.size)
    for seed in range(1000, 1000 + seeds):
        runs = Descent(curvatures, noise, seed, rates.size)
        for _ in range(steps):
            runs.step(rates[:, None])
        losses += (curvatures * runs.x**2).sum(axis=1)
    return rates[losses.argmin()]


def played(losses: np.ndarray):
    """A measure that plays the losses back, whatever the rate."""
    remaining = iter(losses)
    return lambda _: next(remaining)


def test_the_best_rate_of_a_quadratic_is_what_theory_says():
    best = best_rate(spectrum(10.0, 100), 0.0)
    assert 1 / 10 < best < 2 / 10


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("condition", [10, 100])
@pytest.mark.parametrize("curvature", [1e-2, 1.0, 30.0, 1e3])
def test_the_suggestion_is_within_a_factor_of_3_of_the_best_rate(curvature, condition, noise):
    curvatures = spectrum(curvature, condition)
    best = best_rate(curvatures, noise)
    ranges = [WIDE] if curvature < 10 else [WIDE, sweep()]
    ratios = [
        find_rate(Descent(curvatures, noise, seed).measure, rates).suggestion / best
        for rates in ranges
        for seed in range(5)
    ]
    assert min(ratios) > 1 / 3, ratios
    assert max(ratios) < 3, ratios


def test_a_loss_that_cannot_reach_0_changes_the_suggestion_little():
    curvatures = spectrum(30.0, 100)
    for seed in range(3):
        plain = find_rate(Descent(curvatures, 0.1, seed).measure, sweep()).suggestion
        above = Descent(curvatures, 0.1, seed)
        lifted = find_rate(lambda rate, above=above: above.measure(rate) + curvatures.sum(), sweep()).suggestion
        assert 0.5 < lifted / plain < 2


def test_noise_without_a_fall_gives_no_suggestion():
    found = [
        find_rate(played(1 + 0.2 * np.random.default_rng(seed).normal(size=100)), sweep()).suggestion
        for seed in range(40)
    ]
    assert sum(rate is not None for rate in found) <= 2
    for loss in (0.0, 0.1, 0.7, 1.0, 1e3):
        assert find_rate(played(np.full(100, loss)), sweep()).suggestion is None


def test_a_fall_in_noise_is_found():
    """From 0.9 to 0.6 around 1e-4 and up again around 1e-2, in noise of 0.15."""
    place = np.log10(sweep())
    loss = 0.9 - 0.3 / (1 + np.exp(-4 * (place + 4))) + 0.9 / (1 + np.exp(-4 * (place + 2)))
    found = [
        find_rate(played(loss + 0.15 * np.random.default_rng(seed).normal(size=100)), sweep()).suggestion
        for seed in range(20)
    ]
    rates = np.array([rate for rate in found if rate is not None])
    assert len(rates) >= 18
    assert np.all((rates > 2e-5) & (rates < 5e-3))


def test_it_stops_when_the_loss_explodes_and_leaves_out_what_is_not_finite():
    found = find_rate(played(np.r_[np.linspace(1, 0.5, 50), np.full(50, 1e3)]), sweep())
    assert len(found.losses) == len(found.rates) == len(found.smoothed) == 51
    assert found.suggestion < found.rates[49]

    found = find_rate(played(np.r_[np.linspace(1, 0.5, 50), np.nan]), sweep())
    np.testing.assert_array_equal(found.rates, sweep()[:50])
    assert np.isfinite(found.losses).all()
    assert np.isfinite(found.smoothed).all()


def test_one_low_loss_at_the_start_does_not_end_the_sweep():
    assert len(find_rate(played(np.r_[0.01, np.ones(99)]), sweep()).losses) == 100


def test_one_huge_loss_at_the_end_does_not_move_the_suggestion():
    losses = np.r_[np.ones(40), np.linspace(1, 0.5, 30)]
    before = find_rate(played(losses), sweep(1e-7, sweep()[69], 70))
    after = find_rate(played(np.r_[losses, 1e12]), sweep())
    assert 0.5 < after.suggestion / before.suggestion < 1.5


def test_smoothing_keeps_a_constant_and_does_not_lag():
    np.testing.assert_allclose(smooth(np.full(30, 2.5)), 2.5)
    np.testing.assert_allclose(moving_average(np.array([1.0, 2.0]), 0.5), [1.0, (0.5 + 2.0) / 1.5])
    step = np.r_[np.ones(50), np.zeros(50)]
    assert abs(int((smooth(step) < 0.5).argmax()) - 50) <= 1
    assert (moving_average(step) < 0.5).argmax() > 51


def test_sweep_is_exponential():
    rates = sweep(1e-5, 1e-1, 9)
    np.testing.assert_allclose(rates[1:] / rates[:-1], 10**0.5)
    assert (rates[0], rates[-1]) == (pytest.approx(1e-5), pytest.approx(1e-1))
    assert sweep().shape == (100,)


def test_without_a_suggestion_the_user_is_told_what_to_do(tmp_path):
    flat = find_rate(played(np.ones(100)), sweep())
    with pytest.raises(UserError, match=r"sweep\.png: the loss did not fall.*--lr"):
        chosen_rate(flat, tmp_path / "sweep.png")
    broken = find_rate(played(np.array([np.nan])), sweep())
    with pytest.raises(UserError, match="after 0 finite losses"):
        chosen_rate(broken, tmp_path / "sweep.png")


def test_the_saved_table_is_the_sweep(tmp_path):
    found = find_rate(Descent(spectrum(30.0, 100), 0.1, 0).measure, sweep())
    assert chosen_rate(found, tmp_path / "first.png") == found.suggestion
    save_sweep(tmp_path, "first", found)
    head, *lines = (tmp_path / "first.csv").read_text().splitlines()
    assert float(head.removeprefix("# suggestion: ")) == found.suggestion
    rows = list(csv.DictReader(lines))
    assert [int(row["step"]) for row in rows] == list(range(1, len(found.rates) + 1))
    for name in ("rate", "loss", "smoothed"):
        values = {"rate": found.rates, "loss": found.losses, "smoothed": found.smoothed}[name]
        np.testing.assert_array_equal([float(row[name]) for row in rows], values)
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.csv", "first.png"]


@pytest.mark.parametrize("losses", [[np.nan], [1.0, np.nan], [1.0] * 100])
def test_a_sweep_without_suggestion_is_saved_too(tmp_path, losses):
    save_sweep(tmp_path, "flat", find_rate(played(np.array(losses)), sweep()))
    assert (tmp_path / "flat.csv").read_text().startswith("# suggestion: none\nstep,rate,loss,smoothed\n")
    assert (tmp_path / "flat.png").is_file()
