"""What an editor shows is what `Predictor` answers to the same prompts; and it can be taken back, stopped and kept."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from samjax import Predictor
from samjax.data.imaging.grids import RunGrid
from samjax.errors import UserError
from samjax.serve.editor import Editor, Stale, beside
from samjax.serve.engine import Engine
from samjax.serve.journal import Journal
from samjax.serve.opened import OpenedCase
from samjax.serve.prompts import Prompts
from samjax.serve.strokes import near_stroke
from tests.serve.cases import INSIDE, SHAPE, cases_of, small_model, write_case

Z, ROW, COLUMN = INSIDE
GRIDS = {
    "own": None,
    "coarser pixels": RunGrid(2.0, 2.0, 3.0),
    "fewer slices": RunGrid(1.0, 1.0, 6.0),
    "more slices": RunGrid(1.0, 1.0, 1.5),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module", params=GRIDS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    found = Engine(small_model(grid=GRIDS[request.param]))
    yield found
    found.close()


@pytest.fixture(scope="module")
def case(engine: Engine, folder: Path) -> OpenedCase:
    return OpenedCase.from_files(engine.model, cases_of(folder)[0])


@pytest.fixture(scope="module")
def predictor(engine: Engine, folder: Path) -> Predictor:
    found = Predictor(engine.model)
    found.set_volume(folder)
    return found


@pytest.fixture
def editor(engine: Engine, case: OpenedCase) -> Editor:
    return Editor(engine, case)


@pytest.fixture(scope="module")
def plain() -> Iterator[Engine]:
    """An engine on the grid of the scan."""
    found = Engine(small_model())
    yield found
    found.close()


@pytest.fixture
def drawn(plain: Engine, folder: Path) -> Editor:
    """An editor on the grid of the scan whose mask is a block."""
    found = Editor(plain, OpenedCase.from_files(plain.model, cases_of(folder)[0]))
    block = np.zeros(SHAPE, np.uint8)
    block[2:6, 4:16, 3:13] = 1
    found.set_mask(block)
    return found


def test_clicks_and_boxes_are_answered_as_the_predictor_answers_them(editor: Editor, predictor: Predictor):
    points = [(Z, ROW, COLUMN, 1), (Z, ROW + 3, COLUMN + 2, 0), (Z + 1, ROW, COLUMN, 1)]
    box = (2, 4, 5, 3, 12, 12)
    for *place, label in points:
        assert place[0] in editor.click(*place, bool(label))
    assert {2, 3} <= set(editor.box(box[:3], box[3:]))
    expected = predictor.segment(points=points, boxes=[box]).mask
    np.testing.assert_array_equal(editor.region("whole-tumor"), expected)
    assert editor.prompts == Prompts(tuple(points), (box,))
    assert editor.volumes == {"whole-tumor": pytest.approx(expected.sum() * 3 / 1000)}


def test_propagation_is_the_predictors(editor: Editor, predictor: Predictor):
    points, box = [(Z, ROW, COLUMN, 1)], (Z + 2, 4, 5, Z + 2, 12, 12)
    editor.clicks(points)
    editor.box(box[:3], box[3:])
    editor.propagate()
    expected = predictor.segment(points=points, boxes=[box], propagate=True).mask
    np.testing.assert_array_equal(editor.region("whole-tumor"), expected)
    assert editor.prompts.points == tuple(points)


def test_a_proposal_is_the_predictors_and_is_corrected(editor: Editor, predictor: Predictor):
    editor.click(Z, ROW, COLUMN)
    editor.automatic("none")
    proposal = predictor.segment()
    np.testing.assert_array_equal(editor.region("whole-tumor"), proposal.mask)
    assert editor.prompts == Prompts()
    z = int(np.flatnonzero(proposal.mask[1:-1].any(axis=(1, 2)))[0]) + 1
    editor.click(z, ROW, COLUMN, positive=False)
    expected = predictor.segment(points=[(z, ROW, COLUMN, 0)], initial=proposal.mask).mask
    np.testing.assert_array_equal(editor.region("whole-tumor"), expected)
    assert (expected[z] != proposal.mask[z]).any()


def test_a_click_that_is_propagated_is_one_edit(editor: Editor, predictor: Predictor):
    editor.click(Z, ROW, COLUMN, propagate=True)
    expected = predictor.segment(points=[(Z, ROW, COLUMN, 1)], propagate=True).mask
    np.testing.assert_array_equal(editor.region("whole-tumor"), expected)
    editor.undo()
    assert not editor.shown.any()
    assert not editor.can_undo


def test_propagation_goes_one_way_and_ends_at_prompts(editor: Editor):
    editor.click(Z, ROW, COLUMN)
    editor.box((Z + 2, 4, 5), (Z + 2, 12, 12))
    before = editor.shown.copy()
    changed = set(editor.propagate(Z, [1]))
    assert changed <= {Z, Z + 1, Z + 2, *range(Z + 3, SHAPE[0])}
    np.testing.assert_array_equal(editor.shown[: Z + 1], before[: Z + 1])
    assert Z - 1 not in changed


def test_a_mask_without_prompts_is_propagated_and_stays(drawn: Editor):
    before = drawn.shown[Z].copy()
    changed = drawn.propagate(Z, [1, -1])
    assert Z not in changed
    assert changed
    np.testing.assert_array_equal(drawn.shown[Z], before)
    assert drawn.prompts == Prompts()


def test_a_new_mask_takes_the_place_of_what_it_touches_alone():
    before, new = np.zeros((6, 9), np.uint8), np.zeros((6, 9), np.uint8)
    before[1:3, 1:4], before[2, 2] = 1, 3
    before[3:5, 6:8] = 2
    new[1, 4], new[1, 3] = 1, 2  # touches the first one
    expected = new.copy()
    expected[3:5, 6:8] = 2
    np.testing.assert_array_equal(beside(before, new), expected)
    np.testing.assert_array_equal(beside(before, np.zeros_like(new)), before)


def test_propagating_one_lesion_leaves_another(drawn: Editor, plain: Engine):
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[1:-1, 3:5, 13:15] = 1
    lesions[Z] = 0
    drawn.set_mask(lesions)
    alone = Editor(plain, drawn.case)
    changed = alone.click(Z, ROW, COLUMN, propagate=True)
    assert set(changed) - {Z}
    assert drawn.click(Z, ROW, COLUMN, propagate=True) == changed
    for z in changed:
        np.testing.assert_array_equal(drawn.shown[z], beside(lesions[z], alone.shown[z]))


def test_an_erased_part_is_gone_and_the_slice_has_no_prompts(drawn: Editor):
    drawn.box((2, 4, 5), (5, 12, 12))
    before = drawn.shown.copy()
    assert drawn.erase(Z, [[ROW, COLUMN], [ROW, COLUMN + 3]], 1.5) == (Z,)
    touched = near_stroke(SHAPE[1:], (1, 1), [[ROW, COLUMN], [ROW, COLUMN + 3]], 1.5)
    np.testing.assert_array_equal(drawn.shown[Z], np.where(touched, 0, before[Z]))
    np.testing.assert_array_equal(np.delete(drawn.shown, Z, axis=0), np.delete(before, Z, axis=0))
    assert drawn.prompts.boxes == ((2, 4, 5, 3, 12, 12), (5, 4, 5, 5, 12, 12))
    drawn.undo()
    np.testing.assert_array_equal(drawn.shown, before)
    assert drawn.prompts.boxes == ((2, 4, 5, 5, 12, 12),)


def test_a_slice_or_everything_is_cleared(drawn: Editor):
    drawn.click(Z, ROW, COLUMN)
    assert drawn.clear(Z) == (Z,)
    assert not drawn.shown[Z].any()
    assert drawn.prompts == Prompts()
    assert drawn.shown.any()
    drawn.clear()
    assert not drawn.shown.any()
    drawn.click(Z, ROW, COLUMN)  # nothing is left below that would be corrected
    alone = drawn.shown[Z].copy()
    drawn.clear()
    drawn.undo()
    np.testing.assert_array_equal(drawn.shown[Z], alone)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda e: e.click(Z, ROW, SHAPE[2]), "expected \\(slice, row, column, label\\)"),
        (lambda e: e.click(-1, ROW, COLUMN), "expected \\(slice, row, column, label\\)"),
        (lambda e: e.click(0, ROW, COLUMN), "background alone"),
        (lambda e: e.click(Z, ROW, COLUMN, positive=False), "negative clicks only"),
        (lambda e: e.box((3, 0, 0), (2, 5, 5)), "box"),
        (lambda e: e.box((0, 0, 0), (0, 5, 5)), "background alone"),
        (lambda e: e.erase(SHAPE[0], [[1, 1]], 2), "the volume has 9 slices"),
        (lambda e: e.clear(-1), "the volume has 9 slices"),
        (lambda e: e.propagate(), "no prompts to propagate"),
        (lambda e: e.propagate(Z), "no mask to propagate"),
        (lambda e: e.undo(), "nothing to undo"),
        (lambda e: e.redo(), "nothing to redo"),
        (lambda e: e.set_mask(np.zeros((2, 2, 2), np.uint8)), "expected canonical codes"),
        (lambda e: e.set_mask(np.full(SHAPE, 9, np.uint8)), "expected canonical codes"),
        (lambda e: e.automatic("share=2"), "share"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(editor: Editor, act, message: str):
    with pytest.raises(UserError, match=message):
        act(editor)
    assert (editor.version, editor.prompts) == (0, Prompts())
    assert not editor.shown.any()


@pytest.mark.parametrize(
    ("prompts", "act"),
    [
        (("box",), lambda e: e.click(Z, ROW, COLUMN)),
        (("point",), lambda e: e.box((Z, 1, 1), (Z, 9, 9))),
        (("point", "box"), lambda e: e.automatic()),
    ],
)
def test_kinds_of_prompts_that_the_model_never_saw_are_refused(folder: Path, prompts: tuple[str, ...], act):
    engine = Engine(small_model(*prompts))
    try:
        editor = Editor(engine, OpenedCase.from_files(engine.model, cases_of(folder)[0]))
        with pytest.raises(UserError, match="was trained with"):
            act(editor)
    finally:
        engine.close()


def test_an_action_that_is_stopped_changes_nothing(drawn: Editor):
    before, version = drawn.shown.copy(), drawn.version
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        drawn.stop()

    for act in (lambda: drawn.propagate(Z, progress=stop), lambda: drawn.automatic(progress=stop)):
        seen.clear()
        with pytest.raises(UserError, match="stopped; nothing was changed"):
            act()
        assert seen
        assert all(0 < done <= total for done, total in seen)
    np.testing.assert_array_equal(drawn.shown, before)
    assert drawn.version == version
    drawn.propagate(Z)  # a stop is of one action
    assert drawn.version > version


def test_an_action_that_waits_is_stopped_for_good_with_the_one_that_runs(drawn: Editor):
    drawn.stop(for_good=True)
    for act in (lambda: drawn.propagate(Z), drawn.automatic):
        with pytest.raises(UserError, match="stopped; nothing was changed"):
            act()


def test_an_edit_of_another_version_is_refused(drawn: Editor):
    with drawn.exclusive(drawn.version):
        drawn.clear(Z)
    with pytest.raises(Stale), drawn.exclusive(drawn.version - 1):
        pass


def test_clicks_from_several_threads_are_all_there(drawn: Editor):
    drawn.clear()
    places = [(z, ROW + n, COLUMN) for z in (3, 4, 5) for n in range(4)]
    threads = [threading.Thread(target=drawn.click, args=place) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {point[:3] for point in drawn.prompts.points} == set(places)


def test_an_editor_goes_on_from_its_journal(plain: Engine, folder: Path, tmp_path: Path):
    case = OpenedCase.from_files(plain.model, cases_of(folder)[0])

    def again() -> Editor:
        return Editor(plain, case, Journal(tmp_path / "a.jsonl", {"scan": case.digest}))

    editor = again()
    editor.click(Z, ROW, COLUMN)
    editor.automatic("none")
    editor.click(Z, ROW, COLUMN, positive=False)
    editor.undo()
    found = again()
    np.testing.assert_array_equal(found.shown, editor.shown)
    assert (found.prompts, found.version, found.can_redo) == (editor.prompts, editor.version, True)
    editor.redo()
    found.redo()
    np.testing.assert_array_equal(found.shown, editor.shown)
    before = found.shown.copy()
    found.undo()
    found.undo()
    found.click(Z, ROW + 1, COLUMN)
    found.undo()
    assert (found.shown[Z] != before[Z]).any()


def test_an_autosave_of_another_model_is_a_doubt(plain: Engine, folder: Path, tmp_path: Path):
    case = OpenedCase.from_files(plain.model, cases_of(folder)[0])
    path, about = tmp_path / "a.jsonl", {"scan": case.digest, "model": "small"}
    editor = Editor(plain, case, Journal(path, about))
    editor.click(Z, ROW, COLUMN)
    assert Editor(plain, case, Journal(path, about)).doubts == case.doubts
    *_, doubt = Editor(plain, case, Journal(path, {**about, "model": "large"})).doubts
    assert doubt.startswith("the autosave was begun with the model small")
