"""Pretraining on shapes of pictures: prompts, the best of three masks, the measure, and that devices do not matter."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from samjax.data.on_device.prompts import PromptMix
from samjax.data.synthetic.pictures import held_out_pictures, training_pictures
from samjax.models.adapt import random_sam
from samjax.models.prompt_encoder import BOX_FIRST, BOX_SECOND, EMPTY, NEGATIVE, NOT_A_POINT, POSITIVE, Prompts
from samjax.models.resizing import to_native
from samjax.training.step import initial_state, make_train_step, replicate, unreplicate
from samjax.training.tasks.losses import overlap, slice_loss
from samjax.training.tasks.objective import SliceResults
from samjax.training.tasks.pretrain import (
    Pretraining,
    answer,
    filled_boxes,
    intersection_over_union,
    opening_prompts,
    picture_results,
    scored_rounds,
    shape_keys,
    targets_of,
)
from samjax.training.tasks.pretrain_scores import TARGETS as SCORED
from samjax.training.tasks.pretrain_scores import PictureScorer, picture_names
from tests.training import small

SIZE, TARGETS, PICTURES, ROUNDS = 64, 3, 8, 2
MIX = PromptMix.parse("point,box", jitter=0.1)
CONFIG = replace(small.CONFIG, depth=1, global_attn_indexes=(0,), decoder_depth=1, iou_head_depth=2)
SEED = 7
KEY = jax.random.fold_in(jax.random.key(SEED), 0)
"""Of the first step of a run with this seed."""


@cache
def _pictures() -> dict[str, np.ndarray]:
    return training_pictures(PICTURES, SIZE, TARGETS, seed=0, batch=PICTURES).get(0, 0)


def pictures(order: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """A batch in which the second picture asks for one shape, the third for two, and the sixth is padding."""
    batch = {name: x.copy() for name, x in _pictures().items()}
    batch["targets"][1, 1:] = 0
    batch["targets"][2, 2:] = 0
    batch["valid"][5] = False
    return batch if order is None else {name: x[order] for name, x in batch.items()}


def present(batch: dict[str, np.ndarray]) -> np.ndarray:
    return (batch["targets"] > 0) & batch["valid"][:, None]


def masks_of(batch: dict[str, np.ndarray]) -> np.ndarray:
    """(b, P, S, S) bool."""
    return (batch["ids"][:, None] == batch["targets"][..., None, None]) & present(batch)[..., None, None]


def split_model() -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    return nnx.split(random_sam(CONFIG, seed=3), nnx.Param, ...)


@cache
def compiled():
    """(state, batch) -> (summed loss, results), gradient."""
    graphdef, _, buffers = split_model()
    objective = Pretraining(MIX, SIZE, ROUNDS)

    def summed(state: nnx.State, batch: dict[str, jax.Array]) -> tuple[jax.Array, SliceResults]:
        results = picture_results(nnx.merge(graphdef, state, buffers), batch, KEY, objective)
        return jnp.where(results.counted, results.loss, 0.0).sum(), results

    return jax.jit(jax.value_and_grad(summed, has_aux=True))


def results(batch: dict[str, np.ndarray]) -> SliceResults:
    return compiled()(split_model()[1], batch)[0][1]


class TestTargets:
    def test_masks_and_the_share_of_each_logit_that_they_fill(self):
        batch = pictures()
        target, masks = targets_of(batch), masks_of(batch)
        np.testing.assert_array_equal(target.present, present(batch))
        np.testing.assert_array_equal(target.masks, masks)
        for row, column in [(0, 0), (3, 9), (15, 15), (7, 8), (8, 2)]:
            block = masks[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_allclose(target.coverage[:, :, row, column], block.mean((2, 3)), atol=1e-6)
        assert target.coverage.shape == (PICTURES, TARGETS, 16, 16)
        assert float(target.coverage.sum()) == pytest.approx(masks.sum() / 16)

    def test_keys_go_with_the_picture_and_differ_between_shapes(self):
        order = np.roll(np.arange(PICTURES), 3)
        there, back = (np.asarray(jax.random.key_data(shape_keys(KEY, b))) for b in (pictures(), pictures(order)))
        np.testing.assert_array_equal(there[order], back)
        assert len({key.tobytes() for key in there.reshape(PICTURES * TARGETS, -1)}) == PICTURES * TARGETS


NATIVE = 16
KEYS = jax.random.split(jax.random.key(0), (4, 4))


def shapes() -> np.ndarray:
    """(4, 4, 16, 16) bool: of each picture a block, an L, a single pixel and everything."""
    masks = np.zeros((4, 4, NATIVE, NATIVE), bool)
    masks[:, 0, 3:8, 5:15] = True
    masks[:, 1, 2:12, 2:4] = masks[:, 1, 10:12, 2:9] = True
    masks[:, 2, 15, 0] = True
    masks[:, 3] = True
    return masks


@partial(jax.jit, static_argnums=(2,))
def opened(keys: jax.Array, masks: jax.Array, mix: PromptMix) -> Prompts:
    return opening_prompts(keys, masks, mix, SIZE, 3)


answered = jax.jit(partial(answer, size=SIZE), static_argnums=(1,))


def pixel_of(coords: np.ndarray, native: int) -> np.ndarray:
    """Input coordinates (x, y) as the native pixel (row, column) whose centre they are."""
    index = (np.asarray(coords, np.float64) + 0.5) * native / SIZE - 0.5
    np.testing.assert_allclose(index, index.round(), atol=1e-4)
    return index.round().astype(int)[..., ::-1]


class TestPrompts:
    def test_the_first_is_a_tight_box_or_a_click_in_the_shape(self):
        masks = shapes()
        prompts = opened(KEYS, masks, PromptMix.parse("point,box"))
        assert prompts.coords.shape == (4, 4, 6, 2)
        kinds = np.zeros((4, 4), int)
        for index in np.ndindex(4, 4):
            slots, coords = prompts.labels[index].tolist(), prompts.coords[index]
            if slots == [EMPTY] * 4 + [BOX_FIRST, BOX_SECOND]:
                kinds[index] = 1
                inside = np.argwhere(masks[index])
                np.testing.assert_array_equal(pixel_of(coords[4:], NATIVE), [inside.min(0), inside.max(0)])
            else:
                assert slots == [POSITIVE, EMPTY, EMPTY, NOT_A_POINT, EMPTY, EMPTY]
                assert masks[index][tuple(pixel_of(coords[0], NATIVE))]
        # Each shape draws its own kind: some pictures have both.
        assert (np.ptp(kinds, axis=1) > 0).any()

    def test_clicks_are_drawn_from_the_whole_shape(self):
        clicks = pixel_of(opened(KEYS, np.ones_like(shapes()), PromptMix.parse("point")).coords[:, :, 0], NATIVE)
        assert np.ptp(clicks, axis=(0, 1)).min() > NATIVE // 2

    def test_further_clicks_answer_the_largest_error(self):
        masks = shapes()
        predicted = masks.copy()
        predicted[:, 0, 3:6] = False  # missed
        predicted[:, 1, 12:, 8:] = True  # surplus
        predicted[3, 2, 4:] = True  # surplus, but nobody asked for this shape
        asked = np.ones((4, 4), bool)
        asked[3, 2] = False
        before = opened(KEYS, masks, PromptMix.parse("point"))
        after = answered(before, 1, KEYS, predicted, masks, asked)

        assert after.labels[:, :, 1].tolist() == [[POSITIVE, NEGATIVE, EMPTY, EMPTY]] * 4
        clicks = pixel_of(after.coords[:, :2, 1], NATIVE)
        for picture in range(4):
            assert (masks & ~predicted)[picture, 0][tuple(clicks[picture, 0])]
            assert (predicted & ~masks)[picture, 1][tuple(clicks[picture, 1])]
        others = np.array([0, 2, 3])
        np.testing.assert_array_equal(after.coords[:, :, others], before.coords[:, :, others])
        np.testing.assert_array_equal(after.labels[:, :, others], before.labels[:, :, others])

    def test_each_round_draws_anew(self):
        masks = np.ones_like(shapes())
        prompts = opened(KEYS, masks, PromptMix.parse("point"))
        for slot in (1, 2):
            prompts = answered(prompts, slot, KEYS, ~masks, masks, np.ones((4, 4), bool))
        clicks = np.asarray(prompts.coords)[:, :, :3]
        for one, other in ((0, 1), (1, 2)):
            assert (clicks[:, :, one] != clicks[:, :, other]).any(-1).mean() > 0.8


class TestLoss:
    def test_it_goes_with_the_picture_and_not_with_its_place(self):
        order = np.array([3, 6, 0, 2, 7, 1, 5, 4])
        there, back = results(pictures()), results(pictures(order))
        np.testing.assert_array_equal(there.counted[order], back.counted)
        np.testing.assert_allclose(there.loss[order], back.loss, rtol=1e-5)
        for name, counts in there.overlap.items():
            np.testing.assert_array_equal(counts[order], back.overlap[name])

    def test_another_picture_number_draws_other_prompts(self):
        renamed = pictures()
        renamed["identity"] += 100
        there, other = results(pictures()).loss, results(renamed).loss
        assert (np.abs(there - other) > 1e-4).mean() > 0.5

    def test_shapes_that_are_not_there_cost_nothing(self):
        """Nor do they teach: what else the picture holds has no influence."""
        batch, fewer = pictures(), pictures()
        fewer["valid"] = np.arange(PICTURES) == 1
        found = results(batch)
        np.testing.assert_array_equal(found.counted, present(batch))
        (total, _), gradient = compiled()(split_model()[1], fewer)
        assert float(total) == pytest.approx(float(found.loss[1, 0]), rel=1e-5)
        fewer["images"][np.arange(PICTURES) != 1] = 0
        (_, _), again = compiled()(split_model()[1], fewer)
        for one, other in zip(small.leaves(gradient), small.leaves(again), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    def test_counts_are_of_the_single_mask_at_the_resolution_of_the_logits(self, monkeypatch: pytest.MonkeyPatch):
        def with_mask(logits: jax.Array, target: jax.Array, pixels: jax.Array) -> dict[str, jax.Array]:
            return {**overlap(logits, target, pixels), "mask": logits > 0}

        monkeypatch.setattr("samjax.training.tasks.pretrain.overlap", with_mask)
        batch, (graphdef, state, buffers) = pictures(), split_model()
        objective = Pretraining(MIX, SIZE, ROUNDS)
        found = jax.jit(lambda batch: picture_results(nnx.merge(graphdef, state, buffers), batch, KEY, objective))(
            batch
        )
        true = np.asarray(targets_of(batch).coverage) > 0.5
        predicted = np.asarray(found.overlap["mask"])
        assert predicted.shape == true.shape == (PICTURES, TARGETS, SIZE // 4, SIZE // 4)
        expected = {"both": predicted & true, "pred": predicted, "true": true, "pixels": np.ones_like(true)}
        for name, mask in expected.items():
            np.testing.assert_array_equal(found.overlap[name], mask.sum((-2, -1)))

    def test_it_and_its_gradient_are_finite(self):
        (total, found), gradient = compiled()(split_model()[1], pictures())
        assert np.isfinite(total)
        assert np.isfinite(found.loss).all()
        assert all(np.isfinite(x).all() for x in small.leaves(gradient))

    def test_a_few_steps_on_one_batch_lower_it(self):
        optimizer, state, losses = optax.adam(1e-2), split_model()[1], []

        @jax.jit
        def moved(state: nnx.State, moments: optax.OptState, gradient: nnx.State) -> tuple[nnx.State, optax.OptState]:
            updates, moments = optimizer.update(gradient, moments)
            return optax.apply_updates(state, updates), moments

        moments = optimizer.init(state)
        for _ in range(12):
            (total, _), gradient = compiled()(state, pictures())
            state, moments = moved(state, moments, gradient)
            losses.append(float(total) / present(pictures()).sum())
        assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


HEADS = "mask_decoder/output_hypernetworks_mlps"
"""One for each mask token; number 0 is the single mask's."""


def one_shape() -> dict[str, np.ndarray]:
    """A batch that counts the second picture's only shape."""
    return {**pictures(), "valid": np.arange(PICTURES) == 1}


def by_head(gradient: nnx.State) -> list[dict[str, np.ndarray]]:
    flat = {"/".join(map(str, path)): np.asarray(x[...]) for path, x in nnx.to_flat_state(gradient)}
    return [{path: x for path, x in flat.items() if path.startswith(f"{HEADS}/{number}/")} for number in range(4)]


def first_round() -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """The loss (4,) of each mask after the opening prompt, and the heads' gradients of the four losses' sum."""
    target, keys = targets_of(one_shape()), shape_keys(KEY, one_shape())
    own = lambda path, _: "output_hypernetworks_mlps" in path  # noqa: E731
    graphdef, heads, rest = nnx.split(random_sam(CONFIG, seed=3), own, ...)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradients(heads: nnx.State, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        sam = nnx.merge(graphdef, heads, rest)
        prompts = opening_prompts(keys, target.masks, MIX, SIZE, 1)
        logits, iou = sam.decode(sam.encode(images)[:, 0], prompts, multimask=None)
        found = slice_loss(logits, iou, target.coverage[:, :, None], np.ones(logits.shape[-2:], bool))[1, 0]
        return found.sum(), found

    gradient, found = gradients(heads, one_shape()["images"])
    return np.asarray(found), by_head(gradient)


def test_the_best_of_three_alternatives_is_taught_in_round_one_alone_and_the_single_mask_always():
    losses, alone = first_round()
    best = 1 + int(losses[1:].argmin())
    _, gradient = compiled()(split_model()[1], one_shape())
    heads = by_head(gradient)
    assert [number for number in range(4) if any(x.any() for x in heads[number].values())] == [0, best]
    # A shape's loss is the mean of these: the single mask's in each round, the best alternative's in the first.
    for path, x in heads[best].items():
        np.testing.assert_allclose((ROUNDS + 1) * x, alone[best][path], rtol=1e-3, atol=1e-6)
    more = [np.abs((ROUNDS + 1) * x - alone[0][path]).max() for path, x in heads[0].items()]
    assert max(more) > 0.1 * max(np.abs(x).max() for x in alone[0].values())


def test_four_devices_make_the_update_of_one():
    """One step of gradient descent, against the gradient of the mean over all shapes that count."""
    batch, number = pictures(), present(pictures()).sum()
    graphdef, trainable, buffers = split_model()
    (total, _), gradient = compiled()(trainable, batch)
    sgd = optax.identity()
    step = make_train_step(graphdef, partial(picture_results, objective=Pretraining(MIX, SIZE, ROUNDS)), sgd, SEED)
    state = replicate(initial_state(trainable, sgd), 4)
    rate, update_average = np.full(4, 1, np.float32), np.full(4, False)
    state, metrics = step(state, replicate(buffers, 4), small.on_devices(batch, 4), rate, update_average)

    assert int(metrics["counted"][0]) == number
    assert float(metrics["loss"][0]) == pytest.approx(float(total) / number, rel=1e-5)
    moves = [x / number for x in small.leaves(gradient)]
    assert max(np.abs(x).max() for x in moves) > 1e-2
    after = small.leaves(unreplicate(state).trainable.tree())
    for start, move, new in zip(small.leaves(trainable), moves, after, strict=True):
        np.testing.assert_allclose(new, start - move, rtol=1e-5, atol=1e-5)


class Played:
    """Stands in for a model: its n-th decoding gives the n-th logits, whatever the prompts, which it keeps."""

    def __init__(self, logits: jax.Array):
        self.logits = iter(logits)
        self.prompts: list[Prompts] = []

    def encode(self, images: jax.Array) -> jax.Array:
        return jnp.zeros((len(images), 1, 4, 4, 8))

    def decode(self, embeddings: jax.Array, prompts: Prompts, *, multimask: None) -> tuple[jax.Array, None]:
        assert embeddings.shape == (len(prompts.coords), 4, 4, 8)
        self.prompts.append(prompts)
        return next(self.logits), None


@jax.jit
def measured(batch: dict[str, jax.Array], logits: jax.Array) -> tuple[dict[str, jax.Array], list[Prompts], jax.Array]:
    """Three clicks on a played model: the measure, the prompts it saw and its masks at full resolution."""
    model = Played(logits)
    found = scored_rounds(model, batch, KEY, "point", len(logits))
    return found, model.prompts, to_native(logits, SIZE, SIZE) > 0


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@pytest.fixture(scope="module")
def found() -> tuple[dict[str, np.ndarray], list[Prompts], np.ndarray]:
    logits = np.random.default_rng(0).standard_normal((3, PICTURES, TARGETS, 4, 16, 16)).astype(np.float32)
    return jax.device_get(measured(pictures(), logits))


class TestMeasure:
    def test_ious_are_those_of_the_masks_at_full_resolution(self, found):
        scores, _, predicted = found
        np.testing.assert_array_equal(scores["present"], present(pictures()))
        assert scores["single"].shape == (3, PICTURES, TARGETS)
        for picture, shape in np.argwhere(scores["present"]):
            true = masks_of(pictures())[picture, shape]
            each = np.array([[iou(predicted[r, picture, shape, m], true) for m in range(4)] for r in range(3)])
            np.testing.assert_allclose(scores["single"][:, picture, shape], each[:, 0], rtol=1e-5)
            np.testing.assert_allclose(scores["best"][picture, shape], each[0, 1:].max(), rtol=1e-5)

    def test_every_click_lies_on_an_error_of_the_round_before(self, found):
        scores, prompts, predicted = found
        assert len(prompts) == 3
        for slot in (1, 2):
            assert (prompts[slot].labels[:, :, slot + 1 : 3] == EMPTY).all()
            clicks = pixel_of(prompts[slot].coords[:, :, slot], SIZE)
            for picture, shape in np.argwhere(scores["present"]):
                place = tuple(clicks[picture, shape])
                true = masks_of(pictures())[picture, shape][place]
                assert predicted[slot - 1, picture, shape, 0][place] != true
                assert prompts[slot].labels[picture, shape, slot] == (POSITIVE if true else NEGATIVE)

    def test_the_filled_box_is_the_tight_box_itself(self, found):
        scores, masks = found[0], masks_of(pictures())
        boxes = np.asarray(filled_boxes(masks))
        for index in map(tuple, np.argwhere(scores["present"])):
            rows, columns = np.nonzero(masks[index])
            filled = np.zeros_like(masks[index])
            filled[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
            np.testing.assert_array_equal(boxes[index], filled)
            assert scores["filled_box"][index] == pytest.approx(iou(filled, masks[index]), rel=1e-6)

    def test_the_filled_box_of_an_empty_mask_is_empty(self):
        assert not np.asarray(filled_boxes(np.zeros((2, 5, 6), bool))).any()

    def test_intersection_over_union(self):
        one, other = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
        one[0, :2], other[0, 1:3] = True, True
        np.testing.assert_allclose(intersection_over_union(one, other), [1 / 3, 1])

    def test_scores_are_means_over_the_shapes_that_are_there(self):
        """On six held-out pictures in batches of four, of which two are padding."""
        seen = {"point": [], "box": []}

        def step(kind: str, states: tuple, host: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            there = (host["targets"] > 0) & host["valid"][..., None]
            rounds = np.arange(1, 6)[:, None, None] / 10
            seen[kind].append(host["identity"][host["valid"]])
            one = np.where(there, 1.0, 99.0)
            return {
                "single": rounds * one[:, None] + (kind == "box"),
                "best": 0.6 * one,
                "filled_box": 0.7 * one,
                "present": there,
            }

        scorer = PictureScorer(partial(step, "point"), partial(step, "box"), SIZE, batch=4, pictures=6)
        scores = scorer.score(())
        assert [sorted(np.concatenate(numbers)) for numbers in seen.values()] == [list(range(6))] * 2
        expected = {"iou_1": 0.1, "iou_3": 0.3, "iou_5": 0.5, "iou_best_of_3": 0.6, "iou_box": 1.1, "filled_box": 0.7}
        for name, value in expected.items():
            assert scores.values[name] == pytest.approx(value)
        held_out = held_out_pictures(6, SIZE, SCORED, 6).get(0, 0)
        assert scores.values["shapes"] == (held_out["targets"] > 0).sum()
        assert scores.best == pytest.approx(1.2)


def test_pictures_are_called_by_their_numbers():
    batch = {name: x[np.array([4, 5])] for name, x in pictures().items()}
    assert picture_names(batch) == ["picture 4"]
