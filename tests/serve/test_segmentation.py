"""Edits are made, taken back and made again, and written as JSON."""

import json
import zlib

import numpy as np
import pytest

from samjax.serve.prompts import Prompts
from samjax.serve.segmentation import KEPT, Edit, Segmentation

SHAPE = (4, 3, 2)


def edit(slices: tuple[int, ...], value: int, *points: tuple[int, int, int, int]) -> Edit:
    planes = np.full((len(slices), *SHAPE[1:]), value, np.uint8)
    return Edit(Prompts(points), slices, planes, planes)


def test_an_edit_is_taken_back_and_made_again():
    found = Segmentation(SHAPE)
    found.apply(edit((1, 2), 1, (1, 0, 0, 1)))
    found.apply(edit((2,), 3))
    assert found.shown[:, 0, 0].tolist() == [0, 1, 3, 0]
    assert found.counts.tolist() == [12, 6, 0, 6]
    assert found.undo() == (2,)
    assert found.shown[:, 0, 0].tolist() == [0, 1, 1, 0]
    assert found.prompts.points == ((1, 0, 0, 1),)
    assert found.undo() == (1, 2)
    assert not found.shown.any()
    assert found.prompts == Prompts()
    assert not found.can_undo
    found.redo()
    assert found.redo() == (2,)
    assert found.shown[:, 0, 0].tolist() == [0, 1, 3, 0]
    assert found.counts.tolist() == [12, 6, 0, 6]
    assert not found.can_redo


def test_an_edit_ends_what_could_be_made_again():
    found = Segmentation(SHAPE)
    found.apply(edit((0,), 1))
    found.undo()
    found.apply(edit((1,), 2))
    assert not found.can_redo
    assert found.undo() == (1,)
    assert not found.can_undo


def test_the_oldest_edits_are_let_go():
    found = Segmentation(SHAPE)
    for number in range(KEPT + 5):
        found.apply(edit((0,), 1 + number % 2))
    for _ in range(KEPT):
        found.undo()
    assert not found.can_undo
    assert found.shown[0, 0, 0] == 1  # of the fifth edit


def test_every_change_has_a_version_of_its_own():
    found, seen = Segmentation(SHAPE), set()
    for change in (lambda: found.apply(edit((0,), 1)), found.undo, found.redo):
        seen.add(found.version)
        change()
    assert len(seen | {found.version}) == 4


def test_an_edit_survives_json():
    before = edit((1, 3), 2, (1, 2, 1, 0))
    after = Edit.from_json(json.loads(json.dumps(before.to_json())), SHAPE)
    assert (after.prompts, after.slices) == (before.prompts, before.slices)
    np.testing.assert_array_equal(after.base, before.base)
    np.testing.assert_array_equal(after.shown, before.shown)


@pytest.mark.parametrize(
    "change",
    [
        {"slices": [1, 4]},
        {"slices": [1]},
        {"slices": [True, 3]},
        {"base": ""},
        {"shown": "####"},
        {"points": 3},
        {"points": [[1, 0, 2, 1]]},
        {"points": [[1, 0, 0, 2]]},
        {"points": [[1, 0, 0]]},
        {"points": [[1.0, 0, 0, 1]]},
        {"boxes": [[0, 0, 0, 4, 0, 0]]},
    ],
)
def test_values_that_are_no_edit_are_refused(change: dict):
    with pytest.raises((KeyError, TypeError, ValueError, zlib.error)):
        Edit.from_json({**edit((1, 3), 2).to_json(), **change}, SHAPE)


def test_codes_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="canonical codes"):
        Edit.from_json(edit((1, 3), 4).to_json(), SHAPE)


def test_a_box_loses_a_slice_in_its_middle():
    prompts = Prompts(((2, 0, 0, 1), (3, 0, 0, 1)), ((1, 0, 0, 5, 2, 1), (7, 0, 0, 8, 1, 1)))
    assert prompts.slices == {1, 2, 3, 4, 5, 7, 8}
    found = prompts.without(3)
    assert found == Prompts(((2, 0, 0, 1),), ((1, 0, 0, 2, 2, 1), (4, 0, 0, 5, 2, 1), (7, 0, 0, 8, 1, 1)))
    assert prompts.on(2) == Prompts(((2, 0, 0, 1),), ((2, 0, 0, 2, 2, 1),))
