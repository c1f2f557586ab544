"""nnInteractive's own client against a server that runs: it shows what the model answers for the same voxels."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.inference.loading import model_of_run
from samjax.inference.predictor import Predictor
from samjax.serve.editor import Editor
from samjax.serve.library import Library
from samjax.serve.nninteractive.leases import LeaseLimits
from samjax.serve.nninteractive.strokes import clicks_along
from tests.serve.nninteractive.served import (
    CASES,
    SHAPE,
    Clock,
    app_of,
    library_of,
    listening,
    scan_of,
    write_cases,
    write_model,
)

remote = pytest.importorskip("nnInteractive.inference.remote")
httpx = pytest.importorskip("httpx")

# A client that is refused in its constructor leaves its connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")

FIRST, SECOND = CASES
PLENTY = LeaseLimits(sessions=6, claims=10_000)
Client = remote.nnInteractiveRemoteInferenceSession


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the cases in `cases`."""
    folder = tmp_path_factory.mktemp("served")
    write_cases(folder / "cases")
    return folder


@pytest.fixture(scope="module")
def library(run: Path, place: Path) -> Iterator[Library]:
    with library_of(run, place / "cases", place / "output") as library:
        yield library


@pytest.fixture(scope="module")
def address(library: Library) -> Iterator[str]:
    with listening(app_of(library, limits=PLENTY)) as address:
        yield address


class Viewer:
    """A client that shows a case's FLAIR with its axes turned by `turn`, which also turns a mask of ours."""

    def __init__(self, address: str, number: int = 0, turn: Callable[[np.ndarray], np.ndarray] = lambda array: array):
        self.session, self.turn = Client(address), turn
        self.image = turn(scan_of(number).images["flair"]).astype(np.float32)
        self.numbers = turn(np.arange(np.prod(SHAPE)).reshape(SHAPE))  # each voxel's number in our axes
        self.session.set_image(self.image[None], {"spacing": np.array([1.0, 1.0, 3.0])})
        self.mask = np.zeros(self.image.shape, np.uint8)
        self.session.set_target_buffer(self.mask)

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def at(self, slice_: int, row: int, column: int) -> list[int]:
        """Where a voxel of ours is for the viewer."""
        number = np.ravel_multi_index((slice_, row, column), SHAPE)
        return np.argwhere(self.numbers == number)[0].tolist()

    def box(self, first: tuple, last: tuple) -> list[list[int]]:
        corners = np.array([self.at(*first), self.at(*last)])
        return np.stack([corners.min(axis=0), corners.max(axis=0) + 1], axis=1).tolist()

    def shows(self, mask: np.ndarray) -> None:
        np.testing.assert_array_equal(self.mask, self.turn(mask))


TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ours": lambda array: array,
    "as in the file": lambda array: array.transpose(2, 1, 0),
    "flipped": lambda array: array[::-1, :, ::-1],
    "turned": lambda array: array.transpose(1, 2, 0)[:, ::-1],
    "mirrored": lambda array: array.transpose(2, 0, 1)[::-1, ::-1, ::-1],
}


@pytest.fixture(params=TURNS)
def viewer(request: pytest.FixtureRequest, address: str) -> Iterator[Viewer]:
    with Viewer(address, turn=TURNS[request.param]) as viewer:
        yield viewer


def editor_of(library: Library, case: str) -> Editor:
    return Editor(library.engine, library.opened_case(case))


def whole(editor: Editor) -> np.ndarray:
    return editor.region("whole-tumor")


def test_capabilities_are_those_of_the_model(address: str):
    with Client(address) as session:
        assert session.supported_interactions == {
            "points": True, "bbox2d": True, "bbox3d": True, "scribble": True, "lasso": False
        }  # fmt: skip
        assert session.supports_undo
        assert session.supports_initial_label
        assert not session.supports_zero_shot_label_refinement
        assert len(session.preferred_scribble_thickness) == 3
        assert (session.idle_timeout_seconds, session.liveness_timeout_seconds) == (600, 60)
        assert session.ping()


def test_clicks_in_any_orientation_give_what_the_editor_gives(viewer: Viewer, library: Library):
    editor = editor_of(library, FIRST)
    changed = viewer.session.add_point_interaction(viewer.at(3, 12, 16), True)
    editor.click(3, 12, 16, True, propagate=True)
    viewer.shows(whole(editor))
    assert 0.01 < viewer.mask.mean() < 0.99
    index = tuple(slice(first, stop) for first, stop in changed)
    assert viewer.mask.sum() == viewer.mask[index].sum()
    viewer.session.add_point_interaction(np.array(viewer.at(3, 5, 10)), False)
    editor.click(3, 5, 10, False, propagate=True)
    viewer.shows(whole(editor))


def test_a_click_is_what_the_predictor_propagates(address: str, run: Path, place: Path):
    predictor = Predictor.from_run(run)
    predictor.set_volume(place / "cases" / SECOND)
    with Viewer(address, 1) as viewer:
        viewer.session.add_point_interaction([2, 9, 14], True)
        found = predictor.segment(points=[(2, 9, 14, 1)], propagate=True)
        viewer.shows(found.region("whole-tumor") if found.mask.dtype != bool else found.mask)


def test_auto_zoom_off_segments_the_slice_alone(address: str, run: Path, place: Path):
    predictor = Predictor.from_run(run)
    predictor.set_volume(place / "cases" / FIRST)
    with Viewer(address) as viewer:
        viewer.session.set_do_autozoom(False)
        viewer.session.add_point_interaction([3, 12, 16], True)
        viewer.session.add_bbox_interaction([[4, 5], [5, 15], [8, 20]], True)
        found = predictor.segment(points=[(3, 12, 16, 1)], boxes=[(4, 5, 8, 4, 14, 19)])
        viewer.shows(found.mask > 0)


def test_boxes_on_axial_slices_and_in_3d_are_box_prompts(viewer: Viewer, library: Library):
    editor = editor_of(library, FIRST)
    box = (3, 5, 8), (3, 16, 22)
    viewer.session.add_bbox_interaction(viewer.box(*box), True)
    editor.box(*box, propagate=True)
    viewer.shows(whole(editor))
    viewer.session.undo()
    assert not viewer.mask.any()
    editor.undo()
    box = (2, 5, 8), (4, 16, 22)
    viewer.session.add_bbox_interaction(viewer.box(*box), True)
    editor.box(*box)
    viewer.shows(whole(editor))
    assert not whole(editor)[[0, 1, 5, 6]].any()


@pytest.mark.parametrize("box", [((2, 5, 14), (4, 16, 14)), ((2, 9, 8), (4, 9, 22))], ids=["sagittal", "coronal"])
def test_boxes_in_other_planes_click_each_of_their_slices(viewer: Viewer, library: Library, box: tuple):
    (first, *_), (last, *_) = box
    row, column = ((box[0][axis] + box[1][axis]) // 2 for axis in (1, 2))
    viewer.session.add_bbox_interaction(viewer.box(*box), True)
    editor = editor_of(library, FIRST)
    editor.clicks([(z, row, column, 1) for z in range(first, last + 1)])
    viewer.shows(whole(editor))


def test_boxes_of_viewers_with_fractions_and_beyond_the_edge(address: str):
    with Viewer(address) as viewer:
        viewer.session.add_bbox_interaction([[3.0, 4.0], [4.7, 16.6], [8.2, 22.9]], True)
        first = viewer.mask.copy()
        viewer.session.reset_interactions()
        viewer.session.add_bbox_interaction([[3, 4], [5, 17], [8, 23]], True)
        np.testing.assert_array_equal(viewer.mask, first)
        viewer.session.reset_interactions()
        viewer.session.add_bbox_interaction([[3, 4], [5, 40], [-8, 23]], True)
        beyond = viewer.mask.copy()
        viewer.session.reset_interactions()
        viewer.session.add_bbox_interaction([[3, 4], [5, 28], [0, 23]], True)
        np.testing.assert_array_equal(viewer.mask, beyond)


def test_scribbles_are_clicks_along_them(viewer: Viewer, library: Library):
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3, 8:10, 9:20] = 1
    clicks = clicks_along(np.argwhere(viewer.turn(drawn)))
    assert len(clicks) == 8
    viewer.session.add_scribble_interaction(viewer.turn(drawn), True)
    editor = editor_of(library, FIRST)
    ours = [np.unravel_index(viewer.numbers[tuple(place)], SHAPE) for place in clicks]
    editor.clicks([(*map(int, place), 1) for place in ours], propagate=True)
    viewer.shows(whole(editor))
    before = viewer.mask.copy()
    viewer.session.reset_interactions()
    bounds = np.argwhere(viewer.turn(drawn))
    low, high = bounds.min(axis=0), bounds.max(axis=0) + 1
    part = viewer.turn(drawn)[tuple(map(slice, low, high))]
    box = np.stack([low, high], axis=1).tolist()
    viewer.session.add_scribble_interaction(part, True, interaction_bbox=box)
    np.testing.assert_array_equal(viewer.mask, before)


def test_an_initial_mask_is_corrected_on_the_slices_that_are_clicked(viewer: Viewer, library: Library):
    initial = scan_of(0).label > 0
    viewer.session.add_initial_seg_interaction(viewer.turn(initial).astype(np.uint8))
    viewer.shows(initial)
    editor = editor_of(library, FIRST)
    editor.set_mask(editor.case.codes(initial))
    viewer.session.add_point_interaction(viewer.at(3, 6, 6), False)
    editor.click(3, 6, 6, False)
    viewer.shows(whole(editor))
    np.testing.assert_array_equal(whole(editor)[[2, 4, 5, 6]], initial[[2, 4, 5, 6]])
    assert viewer.session.undo()
    viewer.shows(initial)
    assert viewer.session.undo()
    assert not viewer.mask.any()


def test_undo_takes_back_one_interaction_after_the_other(address: str):
    with Viewer(address) as viewer:
        session, states = viewer.session, [viewer.mask.copy()]
        assert session.undo() is False
        session.add_point_interaction([3, 12, 16], True)
        states.append(viewer.mask.copy())
        session.add_bbox_interaction([[5, 6], [5, 17], [8, 23]], True)
        states.append(viewer.mask.copy())
        session.add_point_interaction([3, 5, 10], False)
        for state in reversed(states):
            assert session.undo() is True
            np.testing.assert_array_equal(viewer.mask, state)
        assert session.undo() is False


def test_reset_clears_everything(address: str):
    with Viewer(address) as viewer:
        viewer.session.add_point_interaction([3, 12, 16], True)
        once = viewer.mask.copy()
        viewer.session.add_point_interaction([3, 5, 10], False)
        viewer.session.reset_interactions()
        assert not viewer.mask.any()
        assert viewer.session.undo() is False
        viewer.session.add_point_interaction([3, 12, 16], True)
        np.testing.assert_array_equal(viewer.mask, once)


def test_prompts_wait_without_prediction_and_are_made_together(address: str, library: Library):
    with Viewer(address) as viewer:
        session = viewer.session
        session.add_point_interaction([3, 5, 10], False, run_prediction=False)
        session.add_point_interaction([3, 12, 16], True, run_prediction=False)
        session.add_point_interaction([6, 0, 0], True, run_prediction=False)
        assert session.undo() is True  # the last one
        assert not viewer.mask.any()
        changed = session._predict()
        assert changed is not None
        editor = editor_of(library, FIRST)
        editor.clicks([(3, 5, 10, 0), (3, 12, 16, 1)], propagate=True)
        viewer.shows(whole(editor))
        assert session._predict() is None
        assert session.undo() is True
        assert not viewer.mask.any()


def test_a_negative_click_where_nothing_is_waits_for_a_mask(address: str, library: Library):
    with Viewer(address) as viewer:
        assert viewer.session.add_point_interaction([3, 5, 10], False) is None
        assert not viewer.mask.any()
        viewer.session.add_point_interaction([3, 12, 16], True)
        editor = editor_of(library, FIRST)
        editor.clicks([(3, 5, 10, 0), (3, 12, 16, 1)], propagate=True)
        viewer.shows(whole(editor))


def test_a_new_target_buffer_gets_the_whole_mask(address: str):
    with Viewer(address) as viewer:
        viewer.session.add_point_interaction([3, 12, 16], True)
        other = np.zeros(SHAPE, np.float32)
        viewer.session.set_target_buffer(other)
        viewer.session.add_point_interaction([3, 13, 16], True)
        assert other[[2, 3, 4]].any()
        first = other.copy()
        viewer.session.undo()
        viewer.session.add_point_interaction([3, 13, 16], True)
        np.testing.assert_array_equal(other, first)


def test_another_image_takes_the_place_of_the_first(address: str, library: Library):
    with Viewer(address) as viewer:
        viewer.session.add_point_interaction([3, 12, 16], True)
        image = scan_of(1).images["t1"].transpose(2, 1, 0)
        viewer.session.set_image(image[None])
        assert viewer.session.original_image_shape == (1, *image.shape)
        mask = np.zeros(image.shape, np.uint8)
        viewer.session.set_target_buffer(mask)
        assert viewer.session.undo() is False
        viewer.session.add_point_interaction([14, 9, 2], True)
        editor = editor_of(library, SECOND)
        editor.click(2, 9, 14, True, propagate=True)
        np.testing.assert_array_equal(mask.transpose(2, 1, 0), whole(editor))


def test_two_clients_on_two_cases_and_on_the_same_case(address: str, library: Library):
    asked = [(0, (3, 12, 16)), (1, (2, 9, 14)), (0, (4, 7, 9)), (0, (3, 12, 16))]
    expected = []
    for number, place in asked:
        editor = editor_of(library, list(CASES)[number])
        editor.click(*place, True, propagate=True)
        expected.append(whole(editor))
    found: list[np.ndarray | Exception | None] = [None] * len(asked)

    def work(index: int) -> None:
        try:
            with Viewer(address, asked[index][0]) as viewer:
                for _ in range(3):
                    viewer.session.add_point_interaction(list(asked[index][1]), True)
                    found[index] = viewer.mask.astype(bool)
                    np.testing.assert_array_equal(viewer.mask, expected[index])
                    viewer.session.undo()
                    assert not viewer.mask.any()
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sessions_leave_no_trace_in_the_cases_and_on_the_disk(address: str, library: Library, place: Path):
    with Viewer(address) as viewer:
        viewer.session.add_point_interaction([3, 12, 16], True)
    with library.opened(FIRST) as editor:
        assert not editor.shown.any()
    assert {state.state for state in library.states()} == {"new"}
    assert [path.name for path in (place / "output").rglob("*") if path.is_file()] == [".lock"]


def test_what_cannot_be_answered_is_said_in_the_client_and_changes_nothing(address: str):
    with Viewer(address) as viewer:
        session = viewer.session
        session.add_point_interaction([3, 12, 16], True)
        before = viewer.mask.copy()
        half = np.zeros(SHAPE, np.uint8)
        for ask, words in (
            (lambda: session.add_point_interaction([99, 0, 0], True), "outside of the image"),
            (lambda: session.add_point_interaction([0, 0, 0], True), "background alone"),
            (lambda: session.add_bbox_interaction([[3, 4], [5, 9], [5, 9]], False), "negative points"),
            (lambda: session.add_bbox_interaction([[30, 40], [5, 9], [5, 9]], True), "box"),
            (lambda: session.add_lasso_interaction(half + 1, True), "draw a box"),
            (lambda: session.add_scribble_interaction(half, True), "scribble of 0 voxels"),
            (lambda: session.add_scribble_interaction(np.ones((99, 99, 99), bool), True), "scribble of 970299 voxels"),
            (lambda: session.set_image(viewer.image[None, 1:]), "none of the scans that are served here"),
            (lambda: session.set_image(viewer.image[None] + 1), "folder that holds this scan"),
        ):
            with pytest.raises(remote.ServerAtCapacityError, match=words):
                ask()
        np.testing.assert_array_equal(viewer.mask, before)
        assert session.undo() is True
        assert not viewer.mask.any()
        assert session.undo() is False


def test_a_refused_initial_mask_does_not_leave_the_client_with_another_mask(address: str):
    with Viewer(address) as viewer:
        session = viewer.session
        session.add_point_interaction([3, 12, 16], True)
        before = viewer.mask.copy()
        with pytest.raises(remote.ServerAtCapacityError, match="expected 0 and 1"):
            session.add_initial_seg_interaction(np.full(SHAPE, 7, np.uint8))
        assert (viewer.mask == 7).all()
        session.add_point_interaction([3, 13, 16], True)
        session.undo()
        np.testing.assert_array_equal(viewer.mask, before)


def test_bodies_that_no_client_sends_are_bad_requests(address: str):
    with Viewer(address) as viewer:
        session = viewer.session
        for ask in (
            lambda: session.add_point_interaction([1, 2], True),
            lambda: session.add_point_interaction([1, 2, float("nan")], True),
            lambda: session.add_point_interaction([1, 2, 1e300], True),
            lambda: session.add_bbox_interaction([[1, 2], [4, 3], [1, 2]], True),
            lambda: session.set_image(np.zeros((1, 2, 2, 2), np.complex64)),
            lambda: session.add_scribble_interaction(np.ones((2, 2, 2)), True, interaction_bbox=[[0, 1]] * 3),
        ):
            with pytest.raises(httpx.HTTPStatusError, match="400") as error:
                ask()
            assert error.value.response.json()["detail"]


def test_prompts_before_an_image(address: str):
    with Client(address) as session:
        session.reset_interactions()
        session.set_do_autozoom(False)
        for ask in (
            lambda: session.add_point_interaction([1, 2, 3], True),
            lambda: session.add_bbox_interaction([[1, 2]] * 3, True),
            lambda: session.set_target_buffer(np.zeros((3, 4, 5))),
            session._predict,
            session.undo,
        ):
            with pytest.raises(remote.ServerAtCapacityError, match="no image is set"):
                ask()


def test_the_token_is_the_api_key(library: Library):
    with listening(app_of(library, token="a secret", limits=PLENTY)) as address:
        for key in (None, "another"):
            with pytest.raises(httpx.HTTPStatusError, match="401"):
                Client(address, api_key=key)
        with Client(address, api_key="a secret") as session:
            session.set_image(scan_of(0).images["t2"][None])


def test_a_wrong_or_released_lease_has_ended(address: str):
    with Viewer(address) as viewer:
        viewer.session._http.headers["X-Lease-Token"] = "another"
        for ask in (
            lambda: viewer.session.add_point_interaction([3, 12, 16], True),
            lambda: viewer.session.set_image(viewer.image[None]),
            viewer.session.heartbeat,
            viewer.session.lease_status,
        ):
            with pytest.raises(remote.SessionExpiredError, match="connect again"):
                ask()


def test_a_full_house_and_a_dead_client(library: Library):
    clock = Clock()
    with listening(app_of(library, limits=LeaseLimits(sessions=2), clock=clock)) as address, Client(address) as first:
        dead = Client(address)
        with pytest.raises(remote.ServerAtCapacityError, match="all 2 sessions are in use"):
            Client(address)
        for _ in range(4):
            clock.now += 20
            assert first.heartbeat() == 600 - (clock.now - 1000)
        with Client(address):
            pass
        with pytest.raises(remote.SessionExpiredError):
            dead.heartbeat()
        dead.close()


def test_a_client_that_does_nothing_expires_in_spite_of_its_heartbeats(library: Library):
    clock = Clock()
    limits = LeaseLimits(sessions=1)
    with listening(app_of(library, limits=limits, clock=clock)) as address, Viewer(address) as viewer:
        for _ in range(20):
            clock.now += 50
            viewer.session.add_point_interaction([3, 12, 16], True, run_prediction=False)
        assert viewer.session.lease_status() == {"remaining_seconds": 600, "idle_timeout_seconds": 600}
        for _ in range(12):
            clock.now += 50
            viewer.session.heartbeat()
        clock.now += 1
        with pytest.raises(remote.SessionExpiredError, match="connect again"):
            viewer.session.heartbeat()
        with pytest.raises(remote.SessionExpiredError):
            viewer.session.undo()
        with Client(address):
            pass


def test_a_model_without_prompts_says_so(tmp_path: Path, place: Path):
    run = write_model(tmp_path / "unet", strategy="unet", prompt="none", clicks=1)
    with (
        library_of(run, place / "cases", tmp_path / "output") as library,
        listening(app_of(library)) as address,
        Viewer(address) as viewer,
    ):
        assert not any(viewer.session.supported_interactions.values())
        assert not viewer.session.supports_initial_label
        with pytest.raises(remote.ServerAtCapacityError, match="trained with none only"):
            viewer.session.add_point_interaction([3, 12, 16], True)


def test_the_command_serves_the_protocol(run: Path, place: Path, tmp_path: Path):
    command = [sys.executable, "-m", "samjax", "serve", "--run", run, "--input", place / "cases", "--output", tmp_path]
    with subprocess.Popen(
        [*map(str, command), "--labels", "brats2023", "--port", "0", "--no-browser"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            address = next(word for word in line.split() if word.startswith("http"))
            with Viewer(address, 1, TURNS["mirrored"]) as viewer:
                viewer.session.add_point_interaction(viewer.at(2, 9, 14), True)
                assert viewer.mask.any()
                assert viewer.session.undo() is True
        finally:
            process.terminate()
        process.communicate(timeout=60)


def test_importing_the_protocol_warns_of_nothing():
    code = "import nnInteractive.inference.remote, samjax.serve.nninteractive.routes"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_the_models_own_refusals_reach_the_client(tmp_path: Path, place: Path):
    run = write_model(tmp_path / "boxes", prompt="box", clicks=1)
    assert model_of_run(run).prompts == ("box",)
    with (
        library_of(run, place / "cases", tmp_path / "output") as library,
        listening(app_of(library)) as address,
        Viewer(address) as viewer,
    ):
        with pytest.raises(remote.ServerAtCapacityError, match="trained with box only"):
            viewer.session.add_point_interaction([3, 12, 16], True)
        viewer.session.add_bbox_interaction([[3, 4], [5, 17], [8, 23]], True)
        editor = editor_of(library, FIRST)
        editor.box((3, 5, 8), (3, 16, 22), propagate=True)
        viewer.shows(whole(editor))
        with pytest.raises(UserError):
            editor.click(3, 12, 16)
