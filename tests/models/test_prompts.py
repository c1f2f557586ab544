"""Prompts in static slots: where SAM's "not a point" token goes, and that an empty slot is like none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.models.prompt_encoder import (
    BOX_FIRST,
    BOX_SECOND,
    EMPTY,
    NEGATIVE,
    NOT_A_POINT,
    POSITIVE,
    Prompts,
    make_prompts,
)
from tests.models.cases import (
    MINI,
    decode,
    into_slots,
    our_sam,
    prompts_of_every_type,
    relative_error,
    without_masks,
)

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model():
    return our_sam(MINI)


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    return np.random.RandomState(0).standard_normal((2, 4, 4, 16)).astype(np.float32)


KINDS = prompts_of_every_type(16, 16, patch=4)


@pytest.mark.parametrize(
    ("labels", "has_box", "expected"),
    [
        ([POSITIVE, EMPTY], False, [POSITIVE, EMPTY, NOT_A_POINT, EMPTY, EMPTY]),
        ([POSITIVE, NEGATIVE], False, [POSITIVE, NEGATIVE, NOT_A_POINT, EMPTY, EMPTY]),
        ([EMPTY, EMPTY], True, [EMPTY, EMPTY, EMPTY, BOX_FIRST, BOX_SECOND]),
        ([POSITIVE, EMPTY], True, [POSITIVE, EMPTY, EMPTY, BOX_FIRST, BOX_SECOND]),
        ([EMPTY, EMPTY], False, [EMPTY] * 5),
    ],
    ids=["point", "two points", "box", "point and box", "none"],
)
def test_not_a_point_stands_where_there_are_points_and_no_box(labels, has_box, expected):
    points = jnp.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    box = jnp.array([[[5.0, 6.0, 7.0, 8.0]]])
    prompts = make_prompts(points, jnp.array([[labels]]), box, jnp.array([[has_box]]))
    assert prompts.labels[0, 0].tolist() == expected
    assert prompts.coords[0, 0, :2].tolist() == points[0, 0].tolist()
    assert prompts.coords[0, 0, 3:].tolist() == [[5.0, 6.0], [7.0, 8.0]]


def test_without_boxes_there_is_one_more_slot_than_clicks():
    prompts = make_prompts(jnp.zeros((2, 3, 4, 2)), jnp.full((2, 3, 4), POSITIVE))
    assert prompts.labels.shape == (2, 3, 5)
    assert (prompts.labels[..., 4] == NOT_A_POINT).all()
    none = make_prompts(jnp.zeros((2, 3, 0, 2)), jnp.zeros((2, 3, 0), jnp.int32))
    assert none.labels.tolist() == [[[EMPTY]] * 3] * 2


def test_all_prompts_have_a_box_if_boxes_are_given():
    prompts = make_prompts(jnp.zeros((1, 2, 0, 2)), jnp.zeros((1, 2, 0), jnp.int32), jnp.zeros((1, 2, 4)))
    assert prompts.labels.tolist() == [[[EMPTY, BOX_FIRST, BOX_SECOND]] * 2]


@pytest.fixture(scope="module")
def alone(model, embeddings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Masks (2, 1, 16, 16) and IoU (2, 1) of each prompt on both pictures, each by itself in two slots."""
    results = {}
    for name, prompt in KINDS.items():
        arguments = into_slots([prompt], 2, (16, 16))
        outputs = [decode(model, picture[None], **arguments) for picture in embeddings]
        results[name] = tuple(np.concatenate([output[i][0] for output in outputs]) for i in range(2))
    return results


@pytest.mark.parametrize("kinds", [KINDS, without_masks(KINDS)], ids=["some with masks", "none with a mask"])
def test_empty_slots_and_neighbours_change_nothing(model, embeddings, alone, kinds):
    """All prompts on two pictures in one batch with eight slots each, against each alone with two."""
    one = into_slots(list(kinds.values()), 8, (16, 16))
    masks, iou = decode(model, embeddings, **jax.tree.map(twice, one))
    assert relative_error(masks, np.stack([alone[name][0] for name in kinds], axis=1)) < TOLERANCE
    assert relative_error(iou, np.stack([alone[name][1] for name in kinds], axis=1)) < TOLERANCE


def twice(value: np.ndarray) -> jnp.ndarray:
    return jnp.concatenate([value, value])


def test_every_prompt_gives_another_mask(alone):
    """Otherwise the comparison above would show little."""
    masks = [mask for masks, _ in alone.values() for mask in masks]
    for index, first in enumerate(masks):
        assert all(relative_error(first, second) > 1e-3 for second in masks[index + 1 :])


def test_surplus_not_a_point_tokens_are_not_harmless(model, embeddings, alone):
    """The reason for empty slots: padding with SAM's own token gives other masks."""
    coords, labels = into_slots([KINDS["point"]], 2, (16, 16))["prompts"]
    masks, _ = decode(model, embeddings[:1], Prompts(coords, jnp.where(labels == EMPTY, NOT_A_POINT, labels)))
    assert relative_error(masks[0, 0, 0], alone["point"][0][0, 0]) > 1e-2


def test_no_masks_is_no_prompt_with_a_mask(model):
    dense = jax.jit(lambda encoder, masks, has_mask: (encoder.dense(masks, has_mask), encoder.dense()))
    masks, has_mask = np.ones((1, 2, 16, 16), np.float32), np.array([[True, False]])
    of_two, without = dense(model.prompt_encoder, masks, has_mask)
    assert np.array_equal(of_two[0, 1], np.broadcast_to(without[0, 0], (4, 4, 16)))
    assert relative_error(of_two[0, 0], np.asarray(of_two[0, 1])) > 0.1


def test_x_goes_with_the_width(model):
    """On a picture that is not square: (x, y) by (width, height), with half a pixel added."""
    prompts = Prompts(jnp.array([[[[7.5, 3.5]]]]), jnp.array([[[POSITIVE]]]))
    tokens, valid = model.prompt_encoder.sparse(prompts, (8, 32))
    matrix = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix[...]
    phases = 2 * np.pi * np.array([2 * 8 / 32 - 1, 2 * 4 / 8 - 1]) @ np.asarray(matrix)
    expected = np.concatenate([np.sin(phases), np.cos(phases)])
    expected += np.asarray(model.prompt_encoder.point_embeddings[1].embedding[0])
    np.testing.assert_allclose(tokens[0, 0, 0], expected, atol=1e-5)
    assert valid.tolist() == [[[True]]]
