"""Requests that do not come from the page or from a client with the token are refused before anything is done."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from samjax.errors import UserError
from samjax.serve.guards import COOKIE, Guard
from samjax.serve.server import allowed_hosts

HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def client(hosts: frozenset[str] | None = HOSTS, token: str | None = None) -> TestClient:
    routes = [Route(path, echo, methods=["GET", "POST"]) for path in ("/", "/api/x", "/healthz")]
    guard = Middleware(Guard, hosts=hosts, token=token, body_limit=lambda path: 100)
    return TestClient(
        Starlette(routes=routes, middleware=[guard]), base_url="http://127.0.0.1:1527", follow_redirects=False
    )


@pytest.mark.parametrize("host", ["127.0.0.1:1527", "localhost", "localhost:80", "[::1]:1527", "LOCALHOST"])
def test_its_own_names_are_answered(host: str):
    assert client().get("/api/x", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1:1527", "localhost@evil"]
)
def test_other_names_are_refused(host: str):
    answer = client().get("/api/x", headers={"Host": host})
    assert answer.status_code == 403
    assert "Host" in answer.json()["detail"]


ORIGINS = (
    "http://evil.example", "null", "http://127.0.0.1:8000", "http://localhost:1527", "http://[::1", "",
    "127.0.0.1:1527",
)  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_pages_are_refused(origin: str, method: str):
    assert client().request(method, "/api/x", headers={"Origin": origin}).status_code == 403


def test_the_page_itself_is_answered():
    assert client().post("/api/x", headers={"Origin": "http://127.0.0.1:1527"}).status_code == 200


def test_every_answer_has_a_policy():
    for answer in (client().get("/api/x"), client().get("/nothing"), client().get("/", headers={"Host": "evil"})):
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_token_is_asked_for():
    ask = client(token="se cret")
    for headers in (
        {},
        {"Authorization": "Bearer other"},
        {"Authorization": "Basic se cret"},
        {"Cookie": f"{COOKIE}=x"},
    ):
        assert ask.get("/api/x", headers=headers).status_code == 401
    assert ask.get("/", params={"token": "other"}).status_code == 401
    assert ask.get("/api/x", params={"token": "se cret"}).status_code == 401  # it opens the page alone
    assert ask.get("/healthz").status_code == 200
    assert ask.get("/api/x", headers={"Authorization": "Bearer se cret"}).status_code == 200


def test_the_token_of_the_address_becomes_a_cookie():
    ask = client(token="secret")
    answer = ask.get("/", params={"token": "secret"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=strict"} <= set(answer.headers["set-cookie"].split("; "))
    assert ask.get("/api/x").status_code == 200  # the client keeps cookies


@pytest.mark.parametrize("others", ['a={"x": "y"}', "a b", "x[1]=2", "n=a, b", "="])
def test_cookies_of_other_servers_do_not_hide_the_token(others: str):
    headers = {"Cookie": f"{others}; {COOKIE}=secret"}
    assert client(token="secret").get("/api/x", headers=headers).status_code == 200


def test_a_server_for_any_name_has_a_token():
    with pytest.raises(ValueError, match="needs a token"):
        client(hosts=None).get("/api/x")
    ask = client(hosts=None, token="secret")
    headers = {"Host": "scans.example", "Authorization": "Bearer secret"}
    assert ask.get("/api/x", headers=headers).status_code == 200


def test_large_bodies_are_refused_whatever_they_declare():
    ask = client()
    assert ask.post("/api/x", content=b"x" * 100).text == "100"
    answer = ask.post("/api/x", content=b"x" * 101)
    assert (answer.status_code, answer.json()["detail"]) == (413, "body: larger than 100 bytes")
    assert ask.post("/api/x", content=(b"x" * 30 for _ in range(5))).status_code == 413  # chunked, without a length
    assert ask.post("/api/x", content=b"", headers={"Content-Length": "-5"}).status_code == 413


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_no_token(host: str):
    assert "localhost" in allowed_hosts(host, None)


def test_any_other_address_needs_one():
    for host in ("0.0.0.0", "192.168.0.7", "scans.example", "::", ""):
        with pytest.raises(UserError, match="--token"):
            allowed_hosts(host, None)
    assert allowed_hosts("0.0.0.0", "secret") is None
    assert "192.168.0.7" in allowed_hosts("192.168.0.7", "secret")
    with pytest.raises(UserError, match="--token: expected ASCII"):
        allowed_hosts("0.0.0.0", "größe")
