"""The autosave of a case: a file to which every edit is appended before it is shown, so that a kill loses nothing."""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samjax.errors import UserError
from samjax.files import parse_json, replacing
from samjax.serve.segmentation import Edit, Segmentation

FORMAT_VERSION = "1"
UNDO, REDO, SAVED = "undo", "redo", "saved"
LONGEST = 32 * 2**20
"""Bytes from which on a file is written anew when it is read: what it leads to, without the edits before."""


class Journal:
    """The file of a case's edits: a first line that says what they are of, and a line for each of them."""

    def __init__(self, path: Path, about: dict[str, str]):
        """
        Args:
            path: the file, which need not be there yet.
            about: what the edits are of; `scan`, the digest of the scan, must be the same when they are read again.
        """
        self.path, self._about = path, about
        self._begun_by: str | None = None

    @property
    def other_model(self) -> str | None:
        """The model with which the file was begun, as `replay` found it, if it is another one than now."""
        return None if self._begun_by in (None, self._about.get("model")) else self._begun_by

    def replay(self, shape: tuple[int, int, int]) -> tuple[Segmentation, bool]:
        """The segmentation that the edits lead to, and whether it was saved since the last one.

        A last line that a kill cut short is dropped.

        Raises:
            UserError: the file is not a journal of this scan, is damaged, or cannot be read.
        """
        if self.path.exists() and self.path.stat().st_size > LONGEST:
            self._shorten(*self._replayed(shape))
        return self._replayed(shape)

    def _shorten(self, found: Segmentation, saved: bool) -> None:
        """Writes the file anew with one edit that leads to the same masks and prompts."""
        head = {"format_version": FORMAT_VERSION, **self._about, "model": self._begun_by}
        lines = [head, {"edit": found.as_edit().to_json()}, *([{"event": SAVED}] if saved else [])]
        try:
            with replacing(self.path) as temporary:
                temporary.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        except OSError as error:
            raise UserError(f"{self.path}: the autosave cannot be written ({error.strerror or error})") from error

    def _replayed(self, shape: tuple[int, int, int]) -> tuple[Segmentation, bool]:
        found, saved = Segmentation(shape), False
        for number, entry in self._entries():
            try:
                saved = _replay(found, entry, shape)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError, zlib.error) as error:
                raise UserError(
                    f"{self.path}: line {number} is no edit of this case ({error}); move the file away to begin anew"
                ) from None
        return found, saved

    def _entries(self) -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(self._lines(), start=1):
            try:
                entry = parse_json(line.decode("utf-8"))
            except ValueError as error:
                raise UserError(
                    f"{self.path}: line {number} is damaged ({error}); move the file away to begin anew"
                ) from None
            if number == 1:
                self._check(entry)
            else:
                yield number, entry

    def _lines(self) -> list[bytes]:
        """The whole lines of the file, which is cut off behind them."""
        try:
            if not self.path.exists():
                return []
            *lines, rest = self.path.read_bytes().split(b"\n")
            if rest:  # cut short by a kill: never shown to anybody
                os.truncate(self.path, self.path.stat().st_size - len(rest))
        except OSError as error:
            raise UserError(f"{self.path}: the autosave cannot be read ({error.strerror or error})") from None
        return lines

    def _check(self, head: Any) -> None:
        if not isinstance(head, dict) or head.get("format_version") != FORMAT_VERSION:
            raise UserError(f"{self.path}: no autosave of format {FORMAT_VERSION}; move the file away to begin anew")
        if head.get("scan") != self._about["scan"]:
            raise UserError(
                f"{self.path}: the autosave of a case of this name whose scan is another one; move it away, or give "
                "another --output"
            )
        self._begun_by = head.get("model")

    def add(self, edit: Edit) -> None:
        """Appends an edit."""
        self._append({"edit": edit.to_json()}, "the edit was not made")

    def note(self, event: str) -> None:
        """Appends `UNDO`, `REDO` or `SAVED`."""
        self._append({"event": event}, "the file was saved" if event == SAVED else "the edit was not made")

    def _append(self, entry: dict[str, Any], outcome: str) -> None:
        """Appends a line, or leaves the file as it was; `outcome` tells what that means for the person."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Without a buffer: what is left in one after an error would be written when the file is closed.
            with self.path.open("ab", buffering=0) as file:
                start = file.tell()
                lines = [entry] if start else [{"format_version": FORMAT_VERSION, **self._about}, entry]
                rest = memoryview(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), start)
                    raise
        except OSError as error:
            raise UserError(
                f"{self.path}: the autosave cannot be written ({error.strerror or error}); {outcome}"
            ) from error


def _replay(found: Segmentation, entry: Any, shape: tuple[int, int, int]) -> bool:
    """Makes one entry's edit; returns whether the entry says that the segmentation was saved."""
    if "edit" in entry:
        found.apply(Edit.from_json(entry["edit"], shape))
        return False
    event = entry["event"]
    if event == UNDO:
        found.undo()
    elif event == REDO:
        found.redo()
    elif event != SAVED:
        raise ValueError(f"event {event!r}")
    return event == SAVED


def state_of(path: Path) -> str:
    """What the journal of a case says of it by its last line: new, edited or saved."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 100))
            last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    except OSError:
        return "new"
    return "saved" if last == json.dumps({"event": SAVED}).encode() else "edited"
