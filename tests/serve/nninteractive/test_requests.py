"""Requests that no client sends, many of them: each has an answer, nothing stays behind, and nothing is written."""

import gc
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from samjax.serve.library import Library
from samjax.serve.nninteractive.leases import LeaseLimits
from samjax.serve.nninteractive.packing import pack_array
from samjax.serve.nninteractive.routes import ACTIONS, ARRAYS, CHANGED, IMAGE_BYTES, READ, body_limit
from tests.serve.nninteractive.served import SHAPE, app_of, library_of, listening, scan_of, write_cases, write_model

SOME, MANY = 400, 2000
"""Requests of `make test` and, in addition, of `make test-slow`."""
LIMITS = LeaseLimits(sessions=3, claims=10**9)
ALLOWED = {200, 400, 404, 405, 410, 413, 503}
GROWTH = 8 * 2**20
"""Bytes that hundreds of requests may take more than the first ones."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture(scope="module")
def library(place: Path) -> Iterator[Library]:
    with library_of(write_model(place / "model"), write_cases(place / "cases"), place / "output") as library:
        yield library


@pytest.fixture
def client(library: Library) -> TestClient:
    return TestClient(app_of(library, limits=LIMITS), base_url="http://127.0.0.1")


def resident() -> int:
    """The bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def claimed(client: TestClient) -> str:
    return client.post("/claim").json()["lease_token"]


FLAIR = scan_of(0).images["flair"]
PLACE = st.lists(st.one_of(st.integers(-3, 40), st.floats(), st.none(), st.booleans()), min_size=2, max_size=4)
COORDINATES = st.one_of(st.tuples(*(st.integers(0, side - 1) for side in SHAPE)).map(list), PLACE)
BOX = st.one_of(
    st.tuples(*(st.tuples(st.integers(0, side - 1), st.integers(0, side)).map(sorted) for side in SHAPE)).map(list),
    st.lists(PLACE, min_size=2, max_size=4),
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
FIELDS = {
    "coordinates": COORDINATES,
    "bbox_coords": BOX,
    "interaction_bbox": BOX,
    "include_interaction": st.booleans(),
    "run_prediction": st.booleans(),
    "do_autozoom": st.booleans(),
    "shape": st.one_of(st.just(list(SHAPE)), PLACE),
    "dtype": st.sampled_from(["uint8", "float32", "object"]),
    "image_properties": st.fixed_dictionaries({}, optional={"spacing": PLACE}),
}
META = st.one_of(
    st.fixed_dictionaries({}, optional={name: st.one_of(some, some, some, ANYTHING) for name, some in FIELDS.items()}),
    st.fixed_dictionaries(FIELDS),
    ANYTHING,
)
ARRAY = st.one_of(
    st.just(pack_array(FLAIR[None])),
    st.sampled_from(["uint8", "float32", "bool", "int64"]).map(lambda name: pack_array(np.ones(SHAPE, name))),
    st.just(pack_array((FLAIR > 400).astype(np.uint8))),
    st.just(pack_array(np.full((1, *SHAPE), np.nan, np.float32))),
    st.tuples(st.integers(0, 200), st.binary(max_size=20)).map(
        lambda change: pack_array(FLAIR[None])[: change[0]] + change[1] + pack_array(FLAIR[None])[change[0] :]
    ),
    st.binary(max_size=100),
)


def test_the_fuzz_reaches_every_route():
    assert len({*READ, *CHANGED, *ACTIONS}) == 16  # 17 with /healthz, which is the server's


@pytest.mark.parametrize("requests", [SOME, pytest.param(MANY, marks=pytest.mark.slow)])
def test_any_request_is_answered_and_leaves_nothing_behind(
    client: TestClient, library: Library, place: Path, requests: int
):
    before = sorted(path for path in place.rglob("*"))
    statuses: dict[int, int] = {}
    token = [claimed(client)]

    @given(st.data())
    @settings(
        max_examples=requests, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    def ask(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from([*READ, *CHANGED, *ACTIONS, *ACTIONS, "/healthz"]))
        given_token = data.draw(st.sampled_from([token[0]] * 6 + ["another", ""]))
        meta = json.dumps(data.draw(META))
        headers = {"X-Lease-Token": given_token}
        if path in ARRAYS:
            headers["X-Meta"] = meta
            body = data.draw(ARRAY)
        else:
            body = data.draw(st.one_of(st.just(meta.encode()), st.just(meta.encode()), st.binary(max_size=30)))
        method = "GET" if path in READ or path == "/healthz" else "POST"
        method = data.draw(st.sampled_from([method] * 9 + ["PUT"]))
        response = client.request(method, path, content=body, headers=headers)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        assert response.status_code in ALLOWED, (path, meta, response.text)
        if response.status_code in (400, 410, 503):
            assert set(response.json()) == {"detail"}
            assert "\n" not in response.json()["detail"]
        if path == "/claim" and response.status_code == 200:
            client.post("/release", headers={"X-Lease-Token": response.json()["lease_token"]})
        if client.get("/lease_status", headers={"X-Lease-Token": token[0]}).status_code == 410:
            token[0] = claimed(client)

    ask()
    assert sum(statuses.values()) >= requests
    assert min(statuses.get(status, 0) for status in (200, 400, 410, 503)) > requests // 200, statuses
    client.post("/release", headers={"X-Lease-Token": token[0]})
    assert [client.post("/claim").status_code for _ in range(4)] == [200, 200, 200, 503]
    assert sorted(path for path in place.rglob("*")) == before
    assert {state.state for state in library.states()} == {"new"}


def test_requests_take_no_memory(client: TestClient):
    headers = {"X-Lease-Token": claimed(client), "X-Meta": "{}"}
    how = {"include_interaction": True}
    asked = [
        ("/set_image", pack_array(FLAIR[None])),
        ("/add_point_interaction", json.dumps({"coordinates": [3, 12, 16], **how}).encode()),
        ("/add_bbox_interaction", json.dumps({"bbox_coords": [[3, 4], [5, 17], [8, 23]], **how}).encode()),
        ("/add_initial_seg_interaction", pack_array(np.ones(SHAPE, np.uint8))),
        ("/undo", b""),
        ("/add_point_interaction", b"["),
        ("/set_image", b"NNIA"),
        ("/capabilities", b""),
    ]
    sizes = []
    for number in range(480):
        path, body = asked[number % len(asked)]
        client.request("GET" if path in READ else "POST", path, content=body, headers=headers)
        if number % 80 == 79:
            gc.collect()
            sizes.append(resident())
    client.post("/release", headers=headers)
    assert sizes[-1] - sizes[0] < GROWTH, sizes


def test_bodies_are_bounded_before_they_are_read(client: TestClient):
    for path in ("/claim", "/add_point_interaction", "/set_image", "/capabilities"):
        length = str(body_limit(path) + 1)
        assert client.request("POST", path, content=b"{}", headers={"Content-Length": length}).status_code == 413
    assert body_limit("/set_image") > IMAGE_BYTES
    assert body_limit("/api/state") is None


def test_bodies_that_do_not_come_are_counted_and_given_up(library: Library):
    limits = LeaseLimits(waiting=1, upload=1.0)
    with listening(app_of(library, limits=limits)) as address:
        token = httpx.post(f"{address}/claim").json()["lease_token"]
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            head = f"POST /set_image HTTP/1.1\r\nHost: {host}\r\nX-Lease-Token: {token}\r\nContent-Length: 1000\r\n\r\n"
            slow.sendall(head.encode() + b"NNIA")
            deadline = time.monotonic() + 20
            statuses = set()
            while 503 not in statuses and time.monotonic() < deadline:
                statuses.add(httpx.post(f"{address}/undo", headers={"X-Lease-Token": token}).status_code)
            assert 503 in statuses
            slow.settimeout(20)
            answer = slow.recv(10_000).decode()
        assert answer.startswith("HTTP/1.1 400")
        assert httpx.post(f"{address}/reset_interactions", headers={"X-Lease-Token": token}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"), [({"Host": "evil.example"}, 403), ({"Origin": "http://evil.example"}, 403)]
)
def test_other_hosts_and_pages_are_refused(client: TestClient, headers: dict[str, str], status: int):
    for path in ("/claim", "/set_image", "/add_point_interaction"):
        assert client.post(path, headers=headers).status_code == status


def test_a_session_ends_by_itself_when_nobody_uses_it(library: Library):
    client = TestClient(app_of(library, limits=LeaseLimits(sessions=1, liveness=0)), base_url="http://127.0.0.1")
    first = claimed(client)
    second = claimed(client)
    assert first != second
