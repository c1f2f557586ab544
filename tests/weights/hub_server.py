"""A small server that answers what huggingface_hub asks of the Hub: one repository list in memory, one token."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_secretsecretsecret"
COMMIT = "c" * 40


class FakeHub:
    """The repositories, {ORG/NAME: {file: content}}, and what was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.created: list[dict] = []
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A server on a free port of this machine."""
    hub = FakeHub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FakeHub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.state.asked.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repo = "/".join(parts[2:4])
            if repo not in self.state.repos:
                return self._refuse(404, "RepoNotFound")
            if parts[4:5] in (["revision"], ["tree"]) and parts[5] not in ("main", COMMIT):
                return self._refuse(404, "RevisionNotFound")
            if parts[4:5] == ["tree"]:
                listed = self.state.repos[repo].items()
                return self._json([{"type": "file", "path": x, "size": len(y), "oid": "0"} for x, y in listed])
            files = [{"rfilename": name} for name in self.state.repos[repo]]
            return self._json({"id": repo, "sha": COMMIT, "siblings": files, "private": False, "tags": []})
        repo, _, name = "/".join(parts[:2]), parts[2:4], "/".join(parts[4:])
        files = self.state.repos.get(repo)
        if files is None:
            return self._refuse(404, "RepoNotFound")
        if parts[3] not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if name not in files:
            return self._refuse(404, "EntryNotFound")
        etag = hashlib.sha256(files[name]).hexdigest()
        return self._send(200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def do_POST(self) -> None:
        body = self._body()
        self.state.asked.append(f"{self.command} {self.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, b'{"error": "Invalid credentials"}', {})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.state.created.append(asked)
            self.state.repos.setdefault(name, {})
            return self._json({"url": f"{self.state.url}/{name}"})
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        repo = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                self.state.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        address = f"{self.state.url}/{repo}/commit/{COMMIT}"
        return self._json({"success": True, "commitUrl": address, "commitOid": COMMIT, "hookOutput": ""})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while length := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _json(self, content: dict | list) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, code: int, what: str) -> None:
        self._send(code, b"", {"X-Error-Code": what, "X-Error-Message": what})

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
