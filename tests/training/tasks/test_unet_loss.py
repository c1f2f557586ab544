"""The U-Net's loss against NumPy, its limits, and that it can be learned from."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from samjax.models.unet import UNetConfig, random_unet
from samjax.training.tasks.unet_loss import class_loss, unet_loss

HEIGHT, WIDTH = 21, 26


def labels() -> np.ndarray:
    """Two pictures with squares of two or three classes; the second lacks class 2."""
    found = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    found[0, 3:12, 4:15], found[0, 5:9, 6:9], found[0, 6:8, 11:14] = 1, 2, 3
    found[1, 10:18, 8:20], found[1, 12:15, 9:14] = 1, 3
    return found


def pixels() -> np.ndarray:
    inside = np.ones((2, HEIGHT, WIDTH), bool)
    inside[0, 18:], inside[0, :, 20:] = False, False
    return inside


def logits(levels: int) -> list[np.ndarray]:
    random = np.random.RandomState(0)
    sizes = [labels()[:, 2**level // 2 :: 2**level, 2**level // 2 :: 2**level].shape for level in range(levels)]
    return [2 * random.standard_normal((*size, 4)).astype(np.float32) for size in sizes]


def test_dice_and_cross_entropy_of_one_resolution():
    (predicted,) = logits(1)
    found = class_loss(predicted, labels(), pixels())
    assert found.shape == (2,)
    for picture in range(2):
        counted = pixels()[picture]
        scores = np.exp(predicted[picture].astype(np.float64))[counted]
        probability = scores / scores.sum(-1, keepdims=True)
        truth = np.eye(4)[labels()[picture][counted]]
        entropy = -np.log((probability * truth).sum(-1)).mean()
        both, size = (probability * truth).sum(0), (probability + truth).sum(0)
        dice = ((2 * both + 1) / (size + 1))[1:]
        assert float(found[picture]) == pytest.approx(entropy + 1 - dice.mean(), rel=1e-5)


def test_resolutions_weigh_half_of_the_one_above():
    predicted = logits(3)
    one, two, three = (
        class_loss(predicted[level], labels()[:, start::step, start::step], pixels()[:, start::step, start::step])
        for level, (start, step) in enumerate([(0, 1), (1, 2), (2, 4)])
    )
    np.testing.assert_allclose(unet_loss(predicted, labels(), pixels()), (4 * one + 2 * two + three) / 7, rtol=1e-6)


def test_confident_truth_costs_nothing_and_confident_error_much():
    truth = labels()[:, :18, :20]
    counted = np.ones(truth.shape, bool)
    predicted = 40 * np.eye(4, dtype=np.float32)[truth]
    assert np.abs(class_loss(predicted, truth, counted)).max() < 1e-6
    assert np.asarray(class_loss(-predicted, truth, counted)).min() > 1


def test_padding_has_no_influence():
    counted, predicted, truth = pixels(), logits(3), labels()
    before = unet_loss(predicted, truth, counted)
    truth = np.where(counted, truth, 2).astype(np.uint8)
    for level, values in enumerate(predicted):
        values[~counted[:, 2**level // 2 :: 2**level, 2**level // 2 :: 2**level]] = (9, -50, 3, 80)
    np.testing.assert_array_equal(unet_loss(predicted, truth, counted), before)
    # The other picture's pixels all count.
    assert not np.array_equal(unet_loss(predicted, truth, np.ones_like(counted))[0], before[0])


def test_a_picture_of_padding_or_background_alone_has_a_finite_loss_and_gradient():
    truth, counted = np.zeros((2, 8, 8), np.uint8), np.ones((2, 8, 8), bool)
    counted[0] = False
    predicted = np.zeros((2, 8, 8, 4), np.float32)
    losses, back = jax.vjp(jax.jit(lambda x: unet_loss([x], truth, counted)), predicted)
    gradient = np.asarray(back(np.ones(2, np.float32))[0])
    assert losses[0] == 0
    assert 1 < losses[1] < np.inf
    assert not gradient[0].any()
    # A class that the picture lacks is pushed down.
    assert (gradient[1, ..., 1:] > 0).all()


def test_thirty_steps_of_adam_learn_a_picture():
    truth, counted = labels()[:1], np.ones((1, HEIGHT, WIDTH), bool)
    images = (60 * truth[..., None] + np.random.RandomState(0).randint(20, 60, (1, HEIGHT, WIDTH, 2))).astype(np.uint8)
    graphdef, state = nnx.split(random_unet(UNetConfig(in_channels=2, features=(6, 8, 8)), seed=0))
    optimizer = optax.adam(3e-2)

    @jax.jit
    def step(state, moments):
        def loss_of(state):
            return unet_loss(nnx.merge(graphdef, state)(images, supervised=True), truth, counted)[0]

        loss, gradient = jax.value_and_grad(loss_of)(state)
        updates, moments = optimizer.update(gradient, moments, state)
        return optax.apply_updates(state, updates), moments, loss

    moments, losses = optimizer.init(state), []
    for _ in range(30):
        state, moments, loss = step(state, moments)
        losses.append(float(loss))
    assert losses[-1] < 0.25 * losses[0]
    predicted = nnx.merge(graphdef, state)(images)[0].argmax(-1)
    assert (predicted == truth[0]).mean() > 0.95
