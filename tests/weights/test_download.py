"""Downloads from a server on this machine: whole, resumed, cut off, damaged."""

import hashlib
import http.server
import threading
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.weights import download as module
from samjax.weights.download import FILES, download

CONTENT = np.random.default_rng(0).bytes(3_000_000)


@dataclass
class Server:
    """What the server does, and the Range headers it was asked for."""

    url: str = ""
    content: bytes = CONTENT
    cut: int | None = None  # close the connection after so many bytes
    ranges: bool = True
    shift: int = 0  # answer a Range from another byte than asked for
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch):
    name = f"sam_vit_b_{hashlib.md5(CONTENT).hexdigest()[:6]}.pth"
    monkeypatch.setitem(module.FILES, "vit_b", name)
    behaviour = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers["Range"]
            behaviour.asked.append(asked)
            if self.path != f"/sam/{name}":
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and behaviour.ranges else 0
            if start >= len(behaviour.content):
                self.send_error(416)
                return
            body = behaviour.content[start:]
            self.send_response(206 if asked and behaviour.ranges else 200)
            if asked and behaviour.ranges:
                first, size = start + behaviour.shift, len(behaviour.content)
                self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # the client may hang up first
                self.wfile.write(body[: behaviour.cut])

        def log_message(self, *_):
            pass

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http_server.serve_forever, args=(0.02,))
    thread.start()
    behaviour.url = f"http://127.0.0.1:{http_server.server_port}/sam"
    yield behaviour
    http_server.shutdown()
    thread.join()
    http_server.server_close()


def test_published_names():
    assert set(FILES) == {"vit_b", "vit_l", "vit_h"}
    assert [module.md5_prefix(name) for name in FILES.values()] == ["01ec64", "0b3195", "4b8939"]


def test_fetches_into_a_file_or_a_folder(server, tmp_path):
    seen = []
    target = download(
        "vit_b", tmp_path / "new" / "a.pth", base_url=server.url, progress=lambda *step: seen.append(step)
    )
    assert target.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert download("vit_b", tmp_path, base_url=server.url + "/") == tmp_path / FILES["vit_b"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.pth"]


def test_a_complete_file_is_not_fetched_again(server, tmp_path):
    download("vit_b", tmp_path / "a.pth", base_url=server.url)
    download("vit_b", tmp_path / "a.pth", base_url=server.url)
    assert server.asked == [None]


def test_goes_on_where_it_was_cut_off(server, tmp_path):
    server.cut = 1_000_000
    with pytest.raises(UserError, match=r"broke off after 1000000 of 3000000 bytes.*run the same command again"):
        download("vit_b", tmp_path / "a.pth", base_url=server.url)
    assert not (tmp_path / "a.pth").exists()
    assert (tmp_path / "a.pth.part").read_bytes() == CONTENT[:1_000_000]
    server.cut = None
    seen = []
    download("vit_b", tmp_path / "a.pth", base_url=server.url, progress=lambda *step: seen.append(step))
    assert server.asked == [None, "bytes=1000000-"]
    assert seen[0] == (1_000_000, 3_000_000)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert not (tmp_path / "a.pth.part").exists()


def test_a_server_without_ranges_starts_over(server, tmp_path):
    (tmp_path / "a.pth.part").write_bytes(CONTENT[:1000])
    server.ranges = False
    download("vit_b", tmp_path / "a.pth", base_url=server.url)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_a_complete_part_is_only_renamed(server, tmp_path):
    (tmp_path / "a.pth.part").write_bytes(CONTENT)
    download("vit_b", tmp_path / "a.pth", base_url=server.url)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_an_answer_from_another_byte_is_refused(server, tmp_path):
    (tmp_path / "a.pth.part").write_bytes(CONTENT[:1000])
    server.shift = 5
    with pytest.raises(UserError, match="when asked for bytes 1000-"):
        download("vit_b", tmp_path / "a.pth", base_url=server.url)
    assert (tmp_path / "a.pth.part").read_bytes() == CONTENT[:1000]


def test_damaged_content_is_removed(server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(UserError, match=r"its md5 begins with [0-9a-f]{6}, expected [0-9a-f]{6}; it was removed"):
        download("vit_b", tmp_path / "a.pth", base_url=server.url)
    assert not list(tmp_path.iterdir())


def test_another_file_in_the_place_is_kept(server, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"mine")
    with pytest.raises(UserError, match="move it away or name another path"):
        download("vit_b", tmp_path / "a.pth", base_url=server.url)
    assert (tmp_path / "a.pth").read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/sam", "{server}/elsewhere", "no address"])
def test_an_address_that_does_not_answer(server, tmp_path, url):
    with pytest.raises(UserError, match="could not be fetched") as caught:
        download("vit_b", tmp_path / "a.pth", base_url=url.replace("{server}", server.url))
    assert "\n" not in str(caught.value)
