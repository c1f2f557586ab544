"""What a session keeps and takes back where something goes wrong, or where there is very much of it."""

from collections.abc import Iterator

import numpy as np
import pytest

from samjax.data.cases import Case
from samjax.errors import UserError
from samjax.serve.editor import Editor
from samjax.serve.engine import Engine
from samjax.serve.nninteractive.placing import Placed, assumed_geometry
from samjax.serve.nninteractive.session import MOST_WAITING, PATIENCE, Session
from samjax.serve.nninteractive.strokes import clicks_along
from samjax.serve.opened import OpenedCase
from samjax.serve.segmentation import KEPT
from tests.serve.cases import INSIDE, SHAPE, SPACING, cases_of, small_model, write_case
from tests.serve.nninteractive.served import Clock


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(small_model())
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return cases_of(write_case(tmp_path_factory.mktemp("case")))[0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(engine: Engine, case: Case, clock: Clock) -> Session:
    session = Session(engine, clock)
    opened = OpenedCase.from_files(engine.model, case)
    session.set_image(Placed(opened, assumed_geometry(SHAPE, SPACING)))
    return session


def test_a_prediction_that_takes_too_long_changes_nothing(session: Session, clock: Clock, monkeypatch):
    first = session.add_points([INSIDE], True, True)
    before = session.mask
    assert first.ran
    assert before.any()
    box = Editor.box

    def slow(self: Editor, first, last, propagate, progress) -> None:
        box(self, first, last, propagate, progress)
        clock.now += PATIENCE + 1

    monkeypatch.setattr(Editor, "box", slow)
    session.add_box([[5, 6], [5, 12], [5, 12]], False)
    with pytest.raises(UserError, match="within 45 s; switch auto-zoom off"):
        session.add_points([(3, 9, 7)], True, True)
    np.testing.assert_array_equal(session.mask, before)
    monkeypatch.undo()
    assert session.predict().ran  # the box still waits
    session.undo()
    np.testing.assert_array_equal(session.mask, before)


def test_where_one_prompt_fails_none_is_made(session: Session):
    session.add_box([[5, 6], [5, 12], [5, 12]], False)
    with pytest.raises(UserError, match="background alone"):
        session.add_points([(0, 9, 7)], True, True)
    assert not session.mask.any()
    session.predict()
    assert session.mask.any()


def test_a_failure_of_the_model_leaves_nothing_half_made(session: Session, monkeypatch: pytest.MonkeyPatch):
    def fail(self: Editor, points, propagate=False, progress=None) -> None:
        raise RuntimeError("out of memory")

    session.add_box([[5, 6], [5, 12], [5, 12]], False)
    with monkeypatch.context() as failing:
        failing.setattr(Editor, "clicks", fail)
        with pytest.raises(RuntimeError):
            session.add_points([(3, 9, 7)], True, True)
    assert not session.mask.any()
    assert session.predict().ran  # the box still waits
    session.undo()
    assert not session.mask.any()


def test_the_newest_edits_can_be_taken_back_and_no_more(session: Session):
    session.autozoom = False
    masks = []
    for number in range(KEPT + 5):
        session.add_points([(4, 5 + number % 9, 6 + number % 7)], True, True)
        masks.append(session.mask)
    for mask in reversed(masks[4:-1]):
        assert session.undo().ran
        np.testing.assert_array_equal(session.mask, mask)
    assert not session.undo().ran
    np.testing.assert_array_equal(session.mask, masks[4])


def test_few_prompts_may_wait(session: Session):
    for _ in range(MOST_WAITING):
        session.add_points([INSIDE], True, False)
    with pytest.raises(UserError, match="run the prediction"):
        session.add_points([INSIDE], True, False)


def test_an_initial_mask_can_be_taken_back_with_what_it_means_for_clicks(session: Session):
    session.add_points([INSIDE], True, True)
    propagated = session.mask
    initial = np.zeros(SHAPE, np.uint8)
    initial[INSIDE[0], 5:12, 5:12] = 1
    session.set_initial(initial)
    np.testing.assert_array_equal(session.mask, initial)
    session.add_points([INSIDE], True, True)
    assert not session.mask[INSIDE[0] + 1].any()
    session.undo()
    session.undo()
    np.testing.assert_array_equal(session.mask, propagated)
    session.undo()
    session.add_points([INSIDE], True, True)
    np.testing.assert_array_equal(session.mask, propagated)


def test_clicks_along_a_line_lie_far_apart():
    line = np.stack([np.full(21, 3), np.arange(21), np.full(21, 7)], axis=1)
    np.testing.assert_array_equal(sorted(clicks_along(line, 5)[:, 1]), [0, 5, 10, 15, 20])
    np.testing.assert_array_equal(clicks_along(line[:1]), line[:1])
    assert len(clicks_along(line[:3])) == 3
