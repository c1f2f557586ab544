"""Links from a page to a file outside docs/ lead to the page of the site that shows this file.

In the repository the pages link to files such as the README, so that the links work where the files are read as they
are. Links to other files outside docs/ become downloads.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

SHOWN = {
    "README.md": "index.md",
    "README.md#how-it-is-built": "code_map.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "samjax/weights/glioma/README.md": "models/glioma.md",
}
"""The page, below docs/, that shows a file or a section of it, by its path in the repository."""

_LINK = re.compile(r"(?<=\]\()(?P<target>(?:\.\./)+[^)\s]+)(?=\))")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _turn_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _turn_links(app: Sphinx, page: str, source: list[str]) -> None:
    folder = (Path(app.srcdir) / page).parent
    source[0] = _LINK.sub(lambda match: turned(match["target"], folder, Path(app.srcdir)), source[0])


def turned(target: str, folder: Path, pages: Path) -> str:
    """The target of a link on a page in `folder`: that of the page that shows it, or as it is."""
    path, _, section = target.partition("#")
    outside = Path(os.path.normpath(folder / path))
    if outside.is_relative_to(pages):
        return target
    name = os.path.relpath(outside, pages.parent)
    if section and f"{name}#{section}" in SHOWN:
        name, section = f"{name}#{section}", ""
    if name not in SHOWN:
        return target
    page = os.path.relpath(pages / SHOWN[name], folder)
    return f"{page}#{section}" if section and name != "README.md" else page
