"""The built site (make docs): links, nothing from other hosts, the reference and the options of the commands."""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from pkgutil import resolve_name
from urllib.parse import unquote, urlsplit

import pytest

from samjax.cli.main import COMMANDS
from tests.docs.pages import DOCS, SITE

pytestmark = pytest.mark.docs

LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}
"""Elements that make a browser load something, and the attribute that says what."""


class Page(HTMLParser):
    """The text of a page, what links and loaded files it names, and what links to it may name."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if found.get(LOADED.get(tag, "")) and found.get("rel") not in ("canonical", "next", "prev", "index", "search"):
            self.loaded.append(found[LOADED[tag]])

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return squeezed("".join(self.words))


@cache
def page(path: Path) -> Page:
    return Page(path)


def pages() -> list[Path]:
    return sorted(SITE.rglob("*.html"))


def squeezed(text: str) -> str:
    """Without white space, and with plain quotes and dashes, which the builder makes typographic."""
    plain = {"“": '"', "”": '"', "‘": "'", "’": "'", "–": "--", "—": "---", "…": "..."}
    return re.sub(r"\s", "", re.sub("[“”‘’–—…]", lambda match: plain[match[0]], text))


def test_the_site_is_built():
    built = {path.relative_to(SITE).with_suffix("") for path in pages()}
    sources = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    assert len(sources) > 20
    assert sources <= built


def test_links_within_the_site_lead_somewhere():
    broken = []
    for path in pages():
        for link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchored = parts.fragment and target.suffix == ".html"
            if not target.is_file() or (anchored and parts.fragment not in page(target).anchors):
                broken.append((path.name, link))
    assert not broken


def test_nothing_is_loaded_from_other_hosts():
    for path in pages():
        assert [link for link in page(path).loaded if urlsplit(link).netloc] == [], path
    for style in SITE.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", style.read_text()), style


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_those_of_the_help(name, capsys, monkeypatch):
    """Every name and every word of the help is on the page of the command."""
    monkeypatch.setenv("COLUMNS", "4000")
    with pytest.raises(SystemExit):
        COMMANDS[name].run(["--help"], f"samjax {name}")
    printed = capsys.readouterr().out
    shown = page(SITE / "reference" / "commands" / f"{name}.html").text
    options = set(re.findall(r"(?<=[│ ] )--[a-z][a-z-]*", printed)) - {"--help"}
    assert options or "OPTIONS" not in printed
    for option in options:
        assert option in shown
    described = printed.split("show this help message and exit")[-1]
    for sentence in re.findall(r"(?<=\s)[A-Z](?=[a-z ])[^.│()]{20,}\.", described):
        assert squeezed(sentence) in shown, sentence


def documented() -> set[str]:
    """The names that the pages of the reference have entries for."""
    entries = re.compile(r"auto(?:class|function):: (\S+)")
    return {name for path in (DOCS / "reference" / "api").glob("*.md") for name in entries.findall(path.read_text())}


def members(name: str) -> Iterator[tuple[str, object]]:
    """A public name and, of a class, its own public methods and properties."""
    thing = _found(name)
    yield name, thing
    if inspect.isclass(thing):
        for key, value in vars(thing).items():
            if not key.startswith("_") and (
                inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
            ):
                yield f"{name}.{key}", value


def _found(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(resolve_name(module), attribute)


@pytest.mark.parametrize("name", sorted(documented()))
def test_public_names_are_documented(name):
    """Each has a docstring, and an entry on a page of the site."""
    from docutils.nodes import make_id  # comes with what builds the site

    anchors = {anchor for path in (SITE / "reference" / "api").glob("*.html") for anchor in page(path).anchors}
    for member, thing in members(name):
        assert inspect.getdoc(thing), f"{member} has no docstring"
        assert member in anchors or make_id(member) in anchors, f"{member} is on no page"
