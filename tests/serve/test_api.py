"""The routes of the page: what they answer, and that nothing that is sent to them does harm."""

import json
import struct
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from samjax.serve import api
from samjax.serve import library as library_module
from samjax.serve.api import ACTIONS, BODY_LIMIT, Page
from samjax.serve.app import make_app
from samjax.serve.engine import Engine
from samjax.serve.guards import LOOPBACK
from samjax.serve.library import Library
from tests.serve.cases import INSIDE, SHAPE, SPACING, library_of, small_model, write_case

NAMES = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000")
Z, ROW, COLUMN = INSIDE


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("cases")
    return [write_case(root, NAMES[0], 0), write_case(root, NAMES[1], 1, "RAS")]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    found = Engine(small_model())
    yield found
    found.close()


@pytest.fixture
def library(engine: Engine, folders: list[Path], tmp_path: Path) -> Iterator[Library]:
    found = library_of(engine, tmp_path / "out", *folders)
    yield found
    found.close()


def ask_of(library: Library) -> TestClient:
    return TestClient(make_app(Page(library, "careful"), frozenset(LOOPBACK)), base_url="http://127.0.0.1:1527")


@pytest.fixture
def ask(library: Library) -> TestClient:
    return ask_of(library)


def post(ask: TestClient, name: str, case: str = NAMES[0], **body: object):
    return ask.post(f"/api/cases/{quote(case, safe='')}/{name}", json=body)


def unpacked(content: bytes) -> tuple[dict, np.ndarray]:
    """The fields and planes of the answer to an edit."""
    (length,) = struct.unpack_from("<I", content)
    fields = json.loads(content[4 : 4 + length])
    planes = np.frombuffer(content[4 + length :], np.uint8).reshape(-1, *SHAPE[1:])
    return fields, planes


def test_the_state_names_model_and_cases(ask: TestClient, tmp_path: Path):
    found = ask.get("/api/state").json()
    (region,) = found["model"]["regions"]
    assert (region["name"], region["code"], region["codes"]) == ("whole-tumor", 1, [1, 2, 3])
    assert found["model"]["prompts"] == ["none", "box", "point", "mask"]
    assert found["model"]["warning"] == "careful"
    assert [(case["id"], case["state"]) for case in found["cases"]] == [(name, "new") for name in NAMES]
    assert found["output"] == str(tmp_path / "out")


def test_a_case_is_described(ask: TestClient):
    found = post(ask, "open").json()
    assert (found["shape"], found["spacing"]) == (list(SHAPE), list(SPACING))
    assert found["modalities"] == ["t1", "t1gd", "t2", "flair"]
    assert found["missing"] == []
    assert all(low < high for low, high in found["window"].values())
    assert (found["version"], found["state"], found["undo"]) == (0, "new", False)


@pytest.mark.parametrize("name", NAMES)
def test_scans_and_masks_lie_where_the_source_lies(ask: TestClient, folders: list[Path], name: str):
    """In RAS millimetres and by voxel, whatever the orientation of the file."""
    source = nib.load(folders[NAMES.index(name)] / f"{name}-t2f.nii.gz")
    scan = nib.Nifti1Image.from_bytes(ask.get(f"/api/cases/{name}/images/flair.nii").content)
    assert scan.shape == SHAPE[::-1]
    voxel = (COLUMN, ROW, Z)
    place = nib.affines.apply_affine(scan.affine, voxel)
    there = np.rint(nib.affines.apply_affine(np.linalg.inv(source.affine), place)).astype(int)
    assert scan.dataobj[voxel] == source.dataobj[tuple(there)] > 0
    fields, planes = unpacked(
        post(ask, "click", name, version=0, slice=Z, row=ROW, column=COLUMN, positive=True).content
    )
    answer = ask.get(f"/api/cases/{name}/mask.nii")
    mask = nib.Nifti1Image.from_bytes(answer.content)
    assert answer.headers["x-version"] == "1"
    np.testing.assert_array_equal(mask.affine, scan.affine)
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj)[..., Z].T, planes[0])
    assert (fields["slices"], fields["version"], fields["state"]) == ([Z], 1, "edited")


def test_the_data_of_a_mask_are_ordered_by_slice(ask: TestClient):
    """The page puts the planes of an answer into them as they come."""
    _, planes = unpacked(post(ask, "click", version=0, slice=Z, row=ROW, column=COLUMN, positive=True).content)
    raw = ask.get(f"/api/cases/{NAMES[0]}/mask.nii").content
    data = np.frombuffer(raw, np.uint8)[int(nib.Nifti1Header.from_fileobj(BytesIO(raw))["vox_offset"]) :]
    size = SHAPE[1] * SHAPE[2]
    assert data.size == SHAPE[0] * size
    np.testing.assert_array_equal(data[Z * size : (Z + 1) * size], planes[0].ravel())


def test_every_action_gives_the_slices_that_it_changed(ask: TestClient, library: Library):
    version = 0
    with library.opened(NAMES[0]) as editor:
        for name, body in (
            ("click", {"slice": Z, "row": ROW, "column": COLUMN, "positive": True}),
            ("box", {"first": [3, 4, 5], "last": [3, 12, 12]}),
            ("propagate", {"slice": None, "direction": "both"}),
            ("propagate", {"slice": Z, "direction": "up"}),
            ("erase", {"slice": Z, "stroke": [[9, 7], [9.5, 8]], "radius": 2}),
            ("automatic", {"postprocess": "none"}),
            ("undo", {}),
            ("redo", {}),
            ("clear", {"slice": Z}),
            ("clear", {"slice": None}),
        ):
            before = editor.shown.copy()
            answer = post(ask, name, version=version, **body)
            assert answer.status_code == 200, answer.text
            fields, planes = unpacked(answer.content)
            version = fields["version"]
            changed = np.flatnonzero((editor.shown != before).any(axis=(1, 2)))
            assert set(changed) <= set(fields["slices"])
            np.testing.assert_array_equal(planes, editor.shown[fields["slices"]])
            assert fields["volumes"]["whole-tumor"] == pytest.approx((editor.shown > 0).sum() * np.prod(SPACING) / 1000)
        assert version == 10


def test_a_stale_edit_is_told_so(ask: TestClient):
    body = {"slice": Z, "row": ROW, "column": COLUMN, "positive": True}
    assert post(ask, "click", version=0, **body).status_code == 200
    assert post(ask, "click", version=0, **body).status_code == 409
    assert post(ask, "click", version=1, **body).status_code == 200


def test_a_propagation_that_floods_is_remarked_on(ask: TestClient, monkeypatch: pytest.MonkeyPatch):
    click = {"slice": Z, "row": ROW, "column": COLUMN, "positive": True}
    fields, _ = unpacked(post(ask, "click", version=0, **click).content)
    assert fields["message"] is None
    before = fields["volumes"]["whole-tumor"]
    monkeypatch.setattr(api, "LARGE_ML", before)
    fields, _ = unpacked(post(ask, "propagate", version=1, slice=None, direction="both").content)
    assert fields["volumes"]["whole-tumor"] > 1.5 * before
    assert "the whole tumor went from" in fields["message"]
    fields, _ = unpacked(post(ask, "propagate", version=2, slice=None, direction="both").content)
    assert fields["message"] is None


def test_saving_says_where(ask: TestClient, tmp_path: Path):
    post(ask, "click", version=0, slice=Z, row=ROW, column=COLUMN, positive=True)
    path = tmp_path / "out" / f"{NAMES[0]}.nii.gz"
    assert post(ask, "save").json() == {"path": str(path), "state": "saved"}
    assert path.exists()
    assert ask.get("/api/state").json()["cases"][0]["state"] == "saved"


def test_the_shown_slice_is_encoded_first_and_then_all(ask: TestClient, library: Library):
    with library.opened(NAMES[0]) as editor:
        post(ask, "show", slice=7)
        deadline = threading.Event()
        for _ in range(200):
            if editor.case.encoded_slices == SHAPE[0]:
                break
            deadline.wait(0.05)
        assert editor.case.encoded_slices == SHAPE[0]


def test_a_running_action_is_told_and_stopped(ask: TestClient, library: Library, monkeypatch: pytest.MonkeyPatch):
    started, answers = threading.Event(), []
    post(ask, "open")

    def slow(editor, body, progress):
        with editor._stoppable(progress) as told:
            for _ in range(1000):
                told(2, 5)
                started.set()
                threading.Event().wait(0.01)
        return ()

    monkeypatch.setitem(ACTIONS, "propagate", slow)
    fresh = ask_of(library)
    thread = threading.Thread(target=lambda: answers.append(post(fresh, "propagate", version=0)))
    thread.start()
    assert started.wait(10)
    with fresh.stream("GET", f"/api/cases/{NAMES[0]}/events") as events:
        line = next(events.iter_lines())
    assert json.loads(line.removeprefix("data: "))["job"] == {"name": "propagate", "done": 2, "total": 5}
    assert post(fresh, "cancel").status_code == 204
    thread.join(10)
    assert (answers[0].status_code, answers[0].json()["detail"]) == (400, "stopped; nothing was changed")


def test_a_case_is_shown_while_something_is_computed_for_it(ask: TestClient, library: Library):
    post(ask, "click", version=0, slice=Z, row=ROW, column=COLUMN, positive=True)
    with library.opened(NAMES[0]) as editor:
        held, done = threading.Event(), threading.Event()

        def compute() -> None:
            with editor.exclusive():
                held.set()
                done.wait(30)

        thread = threading.Thread(target=compute)
        thread.start()
        assert held.wait(10)
        try:
            assert post(ask, "open").json()["version"] == 1
            assert ask.get(f"/api/cases/{NAMES[0]}/mask.nii").headers["x-version"] == "1"
            assert not done.is_set()
        finally:
            done.set()
            thread.join()


def test_a_failure_is_told_in_the_form_of_all_refusals(library: Library, monkeypatch: pytest.MonkeyPatch):
    def fail(editor, body, progress):
        raise MemoryError

    monkeypatch.setitem(ACTIONS, "undo", fail)
    app = make_app(Page(library), frozenset(LOOPBACK))
    ask = TestClient(app, base_url="http://127.0.0.1:1527", raise_server_exceptions=False)
    answer = post(ask, "undo", version=0)
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("the server failed (MemoryError)")


def test_a_page_that_listens_does_not_keep_its_case_open(
    ask: TestClient, library: Library, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(api, "_BEAT", 0.0)
    monkeypatch.setattr(library_module, "OPEN_BYTES", 0)
    beats = []
    with ask.stream("GET", f"/api/cases/{NAMES[0]}/events") as events:
        for line in filter(None, events.iter_lines()):
            beats.append(line)
            if len(beats) == 2:
                post(ask_of(library), "open", NAMES[1])
            if len(beats) == 5:
                break
    assert len(beats) == 5, beats
    assert library.seen(NAMES[0]) is None
    assert library.seen(NAMES[1]) is not None


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("click", {"version": 0, "slice": 0, "row": 9, "column": 7, "positive": True}, "background alone"),
        ("click", {"version": 0, "slice": 4, "row": 8, "column": 10, "positive": True}, "a positive click on the back"),
        ("click", {"version": 0, "slice": 99, "row": 9, "column": 7, "positive": True}, "expected"),
        ("click", {"version": 0, "slice": 4.5, "row": 9, "column": 7, "positive": True}, "slice 4.5: expected a whole"),
        ("click", {"version": 0, "slice": True, "row": 9, "column": 7, "positive": True}, "expected a whole number"),
        ("click", {"version": 0, "slice": 4, "row": 9, "column": 7, "positive": 1}, "true or false"),
        ("click", {"slice": 4, "row": 9, "column": 7, "positive": True}, "version None"),
        ("box", {"version": 0, "first": [1, 2], "last": [1, 2, 3]}, "first: expected 3"),
        ("erase", {"version": 0, "slice": 4, "stroke": [], "radius": 1}, "stroke"),
        ("erase", {"version": 0, "slice": 4, "stroke": [[1, 2]], "radius": "x"}, "radius"),
        ("propagate", {"version": 0, "direction": "left"}, "direction 'left'"),
        ("automatic", {"version": 0, "postprocess": "fit,share=9"}, "expected auto or none"),
        ("undo", {"version": 0}, "nothing to undo"),
        ("show", {"slice": 9}, "the volume has 9 slices"),
    ],
)
def test_bad_bodies_are_told_in_a_line(ask: TestClient, name: str, body: dict, message: str):
    answer = post(ask, name, **body)
    assert answer.status_code == 400
    detail = answer.json()["detail"]
    assert message in detail
    assert "\n" not in detail


def test_bodies_that_are_no_json_objects(ask: TestClient):
    url, kind = f"/api/cases/{NAMES[0]}/undo", {"Content-Type": "application/json"}
    for content in (b"", b"[1]", b"{", b"\xff", b'{"a": 1, "a": 2}', b"[" * 10000):
        assert ask.post(url, content=content, headers=kind).status_code == 400
    assert ask.post(url, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 400
    assert ask.post(url, content=b" " * (BODY_LIMIT + 1), headers=kind).status_code == 413


@pytest.mark.parametrize("case", ["other", "..", "../../etc/passwd", "%2e%2e", "a/b", "\x00"])
def test_unknown_cases_are_not_looked_for_on_the_disk(ask: TestClient, case: str):
    for answer in (post(ask, "open", case), ask.get(f"/api/cases/{quote(case, safe='')}/mask.nii")):
        assert answer.status_code == 404
    assert ask.get(f"/api/cases/{NAMES[0]}/images/{quote('../../x', safe='')}.nii").status_code == 404
    assert ask.get("/page/%2e%2e/api.py").status_code == 404


def test_a_case_that_cannot_be_read_is_told(engine: Engine, tmp_path: Path):
    folder = write_case(tmp_path, NAMES[0])
    library = library_of(engine, tmp_path / "out", folder)
    (folder / f"{NAMES[0]}-t1c.nii.gz").write_bytes(b"no scan")
    ask = ask_of(library)
    answer = post(ask, "open")
    assert answer.status_code == 400
    assert "t1c" in answer.json()["detail"]
    assert ask.get("/api/state").json()["cases"][0]["state"] == "unusable"
    library.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
small = st.integers(-2, 20)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "version": st.integers(0, 5) | json_values,
        "slice": small | json_values,
        "row": small | json_values,
        "column": small | json_values,
        "positive": st.booleans() | json_values,
        "first": st.lists(small, min_size=3, max_size=3) | json_values,
        "last": st.lists(small, min_size=3, max_size=3) | json_values,
        "stroke": st.lists(st.lists(small, min_size=2, max_size=2), max_size=4) | json_values,
        "radius": small | json_values,
        "direction": st.sampled_from(["up", "down", "both"]) | json_values,
        "postprocess": st.sampled_from(["auto", "none"]) | json_values,
    },
)
ROUTES = (*ACTIONS, "open", "show", "cancel", "save")


@pytest.mark.parametrize("requests", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_request_fails_or_writes_elsewhere(engine: Engine, folders: list[Path], tmp_path: Path, requests: int):
    library = library_of(engine, tmp_path / "out", *folders)
    ask = ask_of(library)
    sent = 0

    @settings(max_examples=requests, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.sampled_from(ROUTES),
        st.sampled_from([*NAMES, "..", "other"]),
        bodies,
        st.booleans(),
        st.binary(max_size=40) | st.none(),
    )
    def send(name: str, case: str, body: dict, current: bool, raw: bytes | None) -> None:
        nonlocal sent
        if current and case in NAMES:  # else most edits are of an older version
            with library.opened(case) as editor:
                body = {**body, "version": editor.version}
        content = json.dumps(body).encode() if raw is None or current else raw
        url = f"/api/cases/{quote(case, safe='')}/{name}"
        answer = ask.post(url, content=content, headers={"Content-Type": "application/json"})
        sent += 1
        assert answer.status_code in (200, 204, 400, 404, 409), (url, content, answer.text)
        if answer.status_code >= 400:
            assert set(answer.json()) == {"detail"}

    before = sorted(path.name for path in tmp_path.iterdir())
    send()
    assert sent >= requests
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {".autosave", *(f"{name}.nii.gz" for name in NAMES)}
    library.close()
    again = library_of(engine, tmp_path / "out", *folders)  # what was kept of it all can be read
    for name in NAMES:
        with library.opened(name) as editor, again.opened(name) as same:
            np.testing.assert_array_equal(same.shown, editor.shown)
            assert same.prompts == editor.prompts
    again.close()
