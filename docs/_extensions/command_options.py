"""The directive `command-options`: the options of a command, read from what its --help prints.

Since the page is made of the help itself, the two cannot differ.
"""

import contextlib
import io
import os
import re
from dataclasses import dataclass

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from samjax.cli.main import COMMANDS

_WIDE = "4000"
"""Columns of the terminal for which help is printed, so that no line is broken that the docstrings do not break."""
_ENTRY = re.compile(r"│ (?P<name>\S.*?)(?:\s{2,}(?P<text>\S.*?))?\s*│")
_MORE = re.compile(r"│\s{2,}(?P<text>\S.*?)\s*│")
_LAST = re.compile(r"\s*\((?:default: (?P<value>.*)|(?P<word>required|repeatable))\)$")


@dataclass(frozen=True)
class Option:
    """An option or an argument of a command, as --help shows it."""

    name: str
    """Its name, with what it takes: `--labels {None}|STR`."""
    text: str
    """Its description, with the default in brackets at the end."""


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def help_of(command: str) -> str:
    """What `samjax COMMAND --help` prints on a very wide terminal."""
    # Borders are drawn, and entries found by them, only where the stream can take them.
    printed, before = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDE
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            COMMANDS[command].run(["--help"], f"samjax {command}")
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    printed.flush()
    return printed.buffer.getvalue().decode()


def usage_of(text: str) -> str:
    """The line of a help text that says how the command is called."""
    return next(line.removeprefix("usage: ").strip() for line in text.splitlines() if line.startswith("usage: "))


def options_of(text: str) -> list[Option]:
    """The options in a help text, but --help itself."""
    entries: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if entry := _ENTRY.fullmatch(line.strip()):
            entries.append((entry["name"], [entry["text"]] if entry["text"] else []))
        elif entries and (more := _MORE.fullmatch(line.strip())):
            entries[-1][1].append(more["text"])
    found = [Option(name, " ".join(lines)) for name, lines in entries]
    return [option for option in found if not option.name.startswith("-h,")]


def markdown_of(option: Option) -> str:
    """An option as Markdown, with its default in italics."""
    text, end = option.text, ""
    while found := _LAST.search(text):
        word = f"Default: {found['value']}." if found["value"] else f"{found['word'].capitalize()}."
        text, end = text[: found.start()], f" *{_escaped(word)}*{end}"
    body = _escaped(text) + end
    name = option.name.replace("{None}|", "").replace("{None,", "{")
    return f"::::{{option}} {name}\n{body}\n::::\n"


class CommandOptions(SphinxDirective):
    """Shows how a command is called, and its options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        text = help_of(name)
        options = options_of(text)
        parts = [f"```text\n{usage_of(text)}\n```", f":::{{program}} samjax {name}\n:::"]
        return self.parse_text_to_nodes("\n\n".join([*parts, *map(markdown_of, options)]))


def _escaped(text: str) -> str:
    """The text as Markdown that reads the same, with the names of options as code."""
    safe = re.sub(r"([\\`*_\[\]<>{}$#|~])", r"\\\1", text)
    return re.sub(r"(?<![\w`-])--[a-z][a-z-]*[a-z]", lambda match: f"`{match[0]}`", safe)
