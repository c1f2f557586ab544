"""Training on generated patients: what a sample shows and how windows are scored, whatever batch they are in."""

import jax
import numpy as np
import pytest
from flax import nnx

from samjax.data.synthetic.head_bank import build_heads
from samjax.data.synthetic.windows import DrawWindow, held_out_windows
from samjax.training.step import make_scoring_step, replicate
from samjax.training.tasks.generated import HEADS, WindowScorer, generated_results, head_numbers, with_images
from tests.data.synthetic.heads import ball_head
from tests.training.small import DEPTH, lora4ch, objective

SIZE = 96


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    build_heads(folder, 1, 1, progress=False, make=ball_head)
    draw = DrawWindow(folder, (0, 0), DEPTH, SIZE, seed=5, empty_share=0.3)
    return held_out_windows(draw, 8, 4)


def test_a_sample_looks_the_same_in_any_batch(windows):
    batch, key = windows.get(0, 0), jax.random.key(2)
    images = np.asarray(jax.jit(with_images)(batch, key)["images"])
    turned = {name: x[::-1] for name, x in batch.items()}
    np.testing.assert_array_equal(jax.jit(with_images)(turned, key)["images"], images[::-1])
    assert images.shape == (4, DEPTH, SIZE, SIZE, 4)
    assert (images.std(axis=(1, 2, 3, 4)) > 1).all()


def test_validation_scores_windows_with_a_tumour_and_counts_quiet_ones_apart(windows):
    model = lora4ch()
    graphdef, state = nnx.split(model)

    def results(model, batch, key):
        return generated_results(model, batch, key, objective("none"))

    scorer = WindowScorer(make_scoring_step(graphdef, results, 1), windows, "none")
    scores = scorer.score((replicate(state),))
    labels = np.concatenate([windows.get(0, index)["labels"] for index in range(2)])
    assert scores.values["windows"] == labels.any((1, 2, 3)).sum()
    assert scores.values["windows"] + scores.values["empty_windows"] == 8
    assert 0 <= scores.best <= 1
    assert np.isfinite(scores.best)


def test_heads_are_trained_on_or_held_out():
    for limit in (None, 2, 12):
        train, held_out = head_numbers(limit)
        assert not set(train) & set(held_out)
        assert len(train) + len(held_out) == (limit or HEADS)
    assert head_numbers(1) == (range(1), range(1))
