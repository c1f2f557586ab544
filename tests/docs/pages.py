"""The pages of the documentation: their files, the links on them, and the sections that links lead to."""

import re
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SITE = ROOT / "build" / "docs"

_FENCED = re.compile(r"^(?P<fence>```+|~~~+)(?P<kind>[^\n]*)\n(?P<code>.*?)^(?P=fence)\s*?$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+\s+(?P<text>.+?)\s*$", re.MULTILINE)


def markdown_files() -> list[Path]:
    """The Markdown files that people read in the repository."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*top, *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "samjax").rglob("README.md"))]


def links(path: Path) -> list[str]:
    """The targets of the links and pictures on a page, but those to other hosts."""
    text = _CODE.sub("", _FENCED.sub("", path.read_text(encoding="utf-8")))
    return [match["target"] for match in _LINK.finditer(text) if "://" not in match["target"]]


def sections(path: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for match in _HEADING.finditer(text):
        words = _LINK.sub(lambda link: link[0][1 : link[0].index("]")], match["text"])
        words = unicodedata.normalize("NFC", words).lower().replace(" ", "-")
        anchor = first = re.sub(r"[^\w\-]", "", words)
        repeated = 0
        while anchor in found:
            repeated += 1
            anchor = f"{first}-{repeated}"
        found.add(anchor)
    return found


def code_blocks(path: Path, kind: str) -> list[str]:
    """The code of a page's blocks of one kind, such as python."""
    return [match["code"] for match in _FENCED.finditer(path.read_text(encoding="utf-8")) if match["kind"] == kind]


def names_of_samjax(path: Path) -> set[str]:
    """The dotted names that begin with samjax and stand as code in a page's text."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    return {match["name"] for match in re.finditer(r"`(?P<name>samjax(?:\.\w+)+)`", text)}
