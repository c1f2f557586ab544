"""Learning rates, averaging and weight decay."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from samjax.options import TrainOptions
from samjax.training.optimizers import Averaging, make_averaging, make_schedule, make_transform
from samjax.training.parameter_vector import to_vector
from tests.training import small

OPTIONS = TrainOptions(lr=1e-3)


def test_averaging_takes_the_last_quarter_by_default():
    averaging = make_averaging(OPTIONS, 100, 1e-3)
    assert [step for step in range(100) if averaging.update_average(step)] == list(range(75, 100))
    assert not any(make_averaging(replace(OPTIONS, swa=False), 100, 1e-3).update_average(step) for step in range(100))


def test_with_cycles_the_end_of_each_enters_and_its_rate_is_a_tenth():
    averaging = Averaging(start=10, rate=1.0, cycle=5)
    assert [step for step in range(30) if averaging.update_average(step)] == [14, 19, 24, 29]
    options = replace(OPTIONS, swa_start=10 / 30, swa_lr=1.0, swa_cycle=5)
    assert make_averaging(options, 30, 1e-3) == averaging
    rate = make_schedule(options, 30, 1e-3)
    assert rate(9) == pytest.approx(1e-3)
    np.testing.assert_allclose([rate(10), rate(14), rate(15)], [1.0, 0.1, 1.0], rtol=1e-5)
    assert all(rate(step) > rate(step + 1) for step in range(10, 14))


def test_cosine_warms_up_and_falls_to_the_rate_of_the_averaging():
    options = replace(OPTIONS, schedule="cosine", warmup_steps=10)
    rate = make_schedule(options, 100, 1e-3)
    rates = [rate(step) for step in range(75)]
    assert rates[0] == pytest.approx(1e-4)
    assert np.argmax(rates) == 9
    assert rates[9] == pytest.approx(1e-3)
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(1e-4, rel=0.05)
    assert rate(80) == pytest.approx(1e-4)
    assert make_schedule(replace(options, swa=False), 100, 1e-3)(99) < 1e-6


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (100, 0), (3, 10), (1, 5)])
def test_the_cosine_is_optaxs(steps, warmup):
    options = replace(OPTIONS, schedule="cosine", warmup_steps=warmup, swa=False)
    rate = make_schedule(options, steps, 1e-3)
    warmup = min(warmup, steps - 1)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1e-3, warmup, steps, 0.0)
    expected = [float(theirs(step + (warmup > 0))) for step in range(steps)]
    np.testing.assert_allclose([rate(step) for step in range(steps)], expected, rtol=1e-5, atol=1e-9)


def test_a_rate_asks_no_device():
    for schedule, cycle in (("cosine", 0), ("constant", 3)):
        rate = make_schedule(replace(OPTIONS, schedule=schedule, swa_cycle=cycle), 40, 1e-3)
        with jax.transfer_guard("disallow"):
            assert all(isinstance(rate(step), float) for step in range(40))


def test_adamw_decays_what_a_loss_reaches_and_nothing_else():
    transform = make_transform(replace(OPTIONS, optimizer="adamw", weight_decay=0.1))
    params = {"reached": jnp.array([2.0]), "unreached": jnp.array([2.0])}
    gradients = {"reached": jnp.array([1e-3]), "unreached": jnp.array([0.0])}
    updates, _ = transform.update(gradients, transform.init(params), params)
    assert float(updates["unreached"][0]) == 0
    assert float(updates["reached"][0]) == pytest.approx(1.0 + 0.2, rel=1e-3)


def test_muon_orthogonalises_each_kernel_and_each_block_of_a_stack():
    rng = np.random.default_rng(0)
    shapes = {
        "neck": {"kernel": (3, 3, 4, 8)},
        "image_encoder": {"blocks": {"0": {"kernel": (2, 3, 8, 8), "bias": (2, 3, 8)}}},
    }
    gradients = jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(0, 1e-3, shape), jnp.float32), shapes, is_leaf=_is_shape
    )
    transform = make_transform(replace(OPTIONS, optimizer="muon"))
    vector = to_vector(gradients)
    updates = transform.update(vector, transform.init(vector), vector)[0].tree()
    stack = updates["image_encoder"]["blocks"]["0"]
    for matrix in (updates["neck"]["kernel"].reshape(-1, 8), *stack["kernel"].reshape(-1, 8, 8)):
        values = np.linalg.svd(matrix, compute_uv=False)
        assert values.max() / values.min() < 2, "Newton-Schulz brings every singular value near the same"
        assert np.sqrt(np.mean(np.square(matrix))) == pytest.approx(0.2, rel=0.2), "as large as Adam's updates"
    bias, gradient = stack["bias"], gradients["image_encoder"]["blocks"]["0"]["bias"]
    np.testing.assert_array_equal(np.sign(bias), np.sign(gradient))
    np.testing.assert_allclose(np.abs(bias), np.abs(bias).max(), rtol=1e-2, err_msg="Adam's are of one size")


def test_muon_takes_the_kernels_of_a_model():
    """By their NNX paths: those of the MLPs become orthogonal block by block, the biases get Adam's update."""
    model = nnx.state(small.lora4ch())
    rng = np.random.default_rng(0)
    gradients = to_vector(jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 1e-3, x.shape), jnp.float32), model))
    transform = make_transform(replace(OPTIONS, optimizer="muon"))
    updates, _ = transform.update(gradients, transform.init(gradients), gradients)
    mlp = updates.tree()["image_encoder"]["blocks"][0]["mlp"]["lin1"]
    kernel, bias = mlp["kernel"][...], mlp["bias"][...]
    assert kernel.ndim == 4
    values = np.linalg.svd(kernel.reshape(-1, *kernel.shape[2:]), compute_uv=False)
    assert values.max() / values.min() < 2
    np.testing.assert_allclose(np.abs(bias), np.abs(bias).max(), rtol=1e-2)


def _is_shape(x: object) -> bool:
    return isinstance(x, tuple)


def test_clipping_bounds_what_adam_sees():
    clipped = make_transform(replace(OPTIONS, clip_norm=1.0))
    params = jnp.zeros(2)
    state = clipped.init(params)
    _, state = clipped.update(jnp.array([30.0, 40.0]), state, params)
    adam = next(part for part in state if isinstance(part, optax.ScaleByAdamState))
    np.testing.assert_allclose(adam.mu, 0.1 * np.array([0.6, 0.8]), rtol=1e-5)
