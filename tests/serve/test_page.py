"""The built page of samjax serve."""

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "samjax" / "serve" / "page"
WEB = ROOT / "web"
SOURCES = ("build.mjs", "no-codec.mjs", "package-lock.json", "tsconfig.json")


def test_the_page_was_built_from_its_sources():
    inside = [path for folder in ("licences", "src", "static") for path in (WEB / folder).iterdir()]
    paths = sorted(path.relative_to(WEB).as_posix() for path in [*inside, *(WEB / name for name in SOURCES)])
    expected = "".join(f"{hashlib.sha256((WEB / path).read_bytes()).hexdigest()}  {path}\n" for path in paths)
    assert (PAGE / "sources.sha256").read_text() == expected, "run `make web` and commit samjax/serve/page"


def test_the_page_needs_nothing_from_elsewhere():
    html = (PAGE / "index.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]+)"', html) == [
        "/page/icon.svg", "/page/style.css", "/page/app.js", "/page/licences.txt",
    ]  # fmt: skip
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    assert "url(" not in (PAGE / "style.css").read_text()


@pytest.mark.parametrize("needs", ["new Function(", "WebAssembly", "eval("])
def test_the_bundle_keeps_the_policy(needs):
    assert not re.search(rf"(?<![\w.]){re.escape(needs)}", (PAGE / "app.js").read_text())


def test_every_bundled_package_has_its_licence():
    text = (PAGE / "licences.txt").read_text()
    for package in (
        "@niivue/niivue 0.69.0 (BSD-2-Clause)",
        "gl-matrix",
        "nifti-reader-js",
        "fflate",
        "zarrita",
        "Glyphs of Roboto",
    ):
        assert f"\n{package}" in text


def test_the_lock_file_names_no_host():
    assert "resolved" not in (WEB / "package-lock.json").read_text()
