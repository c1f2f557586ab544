"""Rounds of prompts in the objective of fine-tuning: boxes stand alone, clicks are answered."""

import jax
import jax.numpy as jnp
import numpy as np

from samjax.data.labels import IGNORED
from samjax.models.prompt_encoder import Prompts
from samjax.training.tasks.losses import slice_loss
from samjax.training.tasks.objective import SliceResults, slice_results
from tests.training import small


class Played:
    """In place of a model: keeps the prompts of each round, and always predicts nothing."""

    def __init__(self) -> None:
        self.rounds: list[Prompts] = []

    def encode(self, images: jax.Array, slices: jax.Array) -> jax.Array:
        return jnp.zeros((*images.shape[:2], 4, 4, 16))

    def decode(self, embeddings: jax.Array, prompts: Prompts) -> tuple[jax.Array, jax.Array]:
        self.rounds.append(prompts)
        return jnp.full((len(embeddings), 1, 1, 16, 16), -9.0), jnp.zeros((len(embeddings), 1, 1))


def played(prompt: str, clicks: int) -> tuple[Played, SliceResults, dict[str, np.ndarray]]:
    model, batch = Played(), small.batch(2)
    return model, slice_results(model, batch, jax.random.key(0), small.objective(prompt, clicks=clicks)), batch


def test_a_box_is_given_once_and_stays_the_tight_box_of_the_label():
    model, _, batch = played("box", clicks=3)
    assert len(model.rounds) == 1
    masks = batch["labels"].reshape(-1, *batch["labels"].shape[2:]) > 0
    for mask, corners in zip(masks, model.rounds[0].coords[:, 0, -2:], strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        scale = small.CONFIG.image_size / small.NATIVE
        np.testing.assert_allclose(np.asarray(corners).reshape(-1), tight * scale, atol=scale)


def test_further_clicks_lie_on_what_was_missed():
    model, _, batch = played("point", clicks=3)
    assert len(model.rounds) == 3
    last = model.rounds[-1]
    assert (np.asarray(last.labels[:, 0, :3]) == 1).all(), "nothing was predicted, so every click says there is more"
    pixels = np.floor(np.asarray(last.coords[:, 0, :3]) * small.NATIVE / small.CONFIG.image_size).astype(int)
    masks = batch["labels"].reshape(-1, *batch["labels"].shape[2:]) > 0
    for mask, clicks in zip(masks, pixels, strict=True):
        assert all(mask[y, x] for x, y in clicks)


def test_the_loss_is_the_mean_over_the_rounds():
    _, results, _ = played("point", clicks=3)
    once = played("point", clicks=1)[1]
    np.testing.assert_allclose(results.loss, once.loss, rtol=1e-6, err_msg="every round predicts the same here")
    assert results.loss.shape == (2, small.DEPTH)


def test_ignored_pixels_are_in_no_loss_no_count_and_no_click():
    batch = small.batch(2)
    batch["labels"][:, :, :, 12:] = IGNORED
    model = Played()
    results = slice_results(model, batch, jax.random.key(0), small.objective("point", clicks=3))
    masks = jnp.asarray(batch["labels"][:, :, :, :12] > 0)
    assert masks.any((2, 3)).all()
    alone = slice_loss(jnp.full(masks.shape, -9.0), jnp.zeros(masks.shape[:2]), masks, jnp.ones(masks.shape, bool))
    np.testing.assert_allclose(results.loss, alone, rtol=1e-5)
    assert (results.overlap["pixels"] == small.NATIVE * 12).all()
    assert (results.overlap["true"] == masks.sum((2, 3))).all()
    x = np.asarray(model.rounds[-1].coords[:, 0, :3, 0]) * small.NATIVE / small.CONFIG.image_size
    assert (x < 12.5).all()


def test_a_slice_of_which_nothing_is_labelled_does_not_count():
    batch = small.batch(2)
    batch["labels"][1, 0] = IGNORED
    results = slice_results(Played(), batch, jax.random.key(0), small.objective("none"))
    assert results.counted.tolist() == [[True, True], [False, True]]
