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
    """In place of a model: keeps the prompts and masks of each round, and always predicts nothing."""

    def __init__(self, fall: float = 0.0) -> None:
        self.fall = fall
        self.rounds: list[Prompts] = []
        self.masks: list[tuple[jax.Array, jax.Array] | None] = []
        self.present: jax.Array | None = None

    def encode(self, images: jax.Array, slices: jax.Array, present: jax.Array | None) -> jax.Array:
        self.present = present
        return jnp.zeros((*images.shape[:2], 4, 4, 16))

    def decode(
        self,
        embeddings: jax.Array,
        prompts: Prompts,
        masks: jax.Array | None = None,
        has_mask: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        self.rounds.append(prompts)
        self.masks.append(None if masks is None else (masks, has_mask))
        level = -9.0 - self.fall * (len(self.rounds) - 1)
        return jnp.full((len(embeddings), 1, 1, 16, 16), level), jnp.zeros((len(embeddings), 1, 1))


def played(
    prompt: str, clicks: int, samples: int = 2, fall: float = 0.0, **options: object
) -> tuple[Played, SliceResults, dict[str, np.ndarray]]:
    model, batch = Played(fall), small.batch(samples)
    objective = small.objective(prompt, clicks=clicks, **options)
    return model, slice_results(model, batch, jax.random.key(0), objective), batch


def test_each_sample_hides_modalities_for_all_its_slices_and_never_shows_missing_ones():
    model, batch = Played(), small.batch(16)
    batch["present"][:, 1] = False
    objective = small.objective("box", modality_dropout=0.5)
    slice_results(model, batch, jax.random.key(0), objective)
    shown = np.asarray(model.present)
    assert shown.shape == (16, 4)
    assert not shown[:, 1].any()
    assert shown.any(axis=1).all()
    assert 0.3 < shown[:, [0, 2, 3]].mean() < 0.75
    slice_results(model, batch, jax.random.key(1), objective)
    assert (np.asarray(model.present) != shown).any(), "every step draws anew"


def test_without_modality_dropout_the_model_is_told_nothing():
    model, _, batch = played("box", clicks=1)
    assert model.present is None
    del batch["present"]
    slice_results(model, batch, jax.random.key(0), small.objective("box"))


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
    falling = [played("point", clicks=clicks, fall=1.0)[1].loss for clicks in (1, 2, 3)]
    second, third = 2 * falling[1] - falling[0], 3 * falling[2] - 2 * falling[1]
    assert (second > falling[0]).all(), "what is missed with more certainty costs more"
    assert (third > second).all()
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


def test_further_clicks_come_with_the_logits_of_the_round_before():
    model, _, _ = played("point", clicks=3, fall=1.0, mask_share=1.0)
    assert model.masks[0] is None
    for number, (masks, has_mask) in enumerate(model.masks[1:], start=1):
        assert masks.shape == (2 * small.DEPTH, 1, 16, 16)
        assert (np.asarray(masks) == -8.0 - number).all()
        assert has_mask.shape == (2 * small.DEPTH, 1)
        assert has_mask.all()


def test_a_share_of_the_slices_goes_without_a_mask_in_each_round():
    model, _, _ = played("point", clicks=4, samples=32, mask_share=0.5)
    drawn = np.stack([np.asarray(has_mask)[:, 0] for _, has_mask in model.masks[1:]])
    np.testing.assert_allclose(drawn.mean(axis=1), 0.5, atol=0.2)
    assert 0.3 < (drawn[0] != drawn[1]).mean() < 0.7, "drawn anew in every round"
    again, _, _ = played("point", clicks=4, samples=32, mask_share=0.5)
    np.testing.assert_array_equal(again.masks[1][1], model.masks[1][1])


def test_only_clicks_come_with_a_mask():
    """Not the samples that are prompt-free or have a box."""
    model, _, _ = played("box,point,none", clicks=2, samples=16, mask_share=1.0)
    prompts, has_mask = model.rounds[0], model.masks[1][1][:, 0]
    clicked = np.asarray(prompts.labels[:, 0, 0]) == 1
    assert 0 < clicked.sum() < clicked.size
    np.testing.assert_array_equal(has_mask, clicked)


def test_without_a_share_or_a_further_click_no_mask_is_given():
    for clicks, share in ((3, 0.0), (1, 1.0)):
        assert played("point", clicks=clicks, mask_share=share)[0].masks == [None] * clicks
    assert played("box", clicks=3, mask_share=1.0)[0].masks == [None]
