"""The cases that a server offers: which are open, what is known of each, and saving them."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
from filelock import FileLock, Timeout

from samjax.data.cases import Case
from samjax.data.imaging.volumes import write_labels
from samjax.data.labels import from_canonical
from samjax.errors import UserError
from samjax.inference.prediction_records import target
from samjax.serve.editor import Editor
from samjax.serve.engine import Engine
from samjax.serve.journal import Journal, state_of
from samjax.serve.opened import OpenedCase

AUTOSAVES = ".autosave"
"""Folder of the journals in the folder of segmentations."""
OPEN_BYTES = 4 * 2**30
"""Memory up to which cases stay open: images, masks and embeddings. One case is open whatever it takes."""


class UnknownCase(Exception):
    """There is no case of this name."""


@dataclass(frozen=True)
class CaseState:
    """What the list of cases says of one: `state` is new, edited, saved or unusable, with a message if unusable."""

    id: str
    state: str
    message: str | None = None


class Library:
    """The cases under --input, by id, with their editors while they are open.

    Attributes:
        engine: the model.
        output: the folder of saved segmentations and of the autosaves.
    """

    def __init__(self, engine: Engine, cases: Sequence[Case], schemes: Mapping[str, str | None], output: Path):
        """
        Args:
            schemes: the label scheme in which each case is saved, by id; None: its region is saved as 1.

        Raises:
            UserError: the folder cannot be written, or another server uses it.
        """
        self.engine, self.output = engine, output
        self._cases, self._schemes = {case.id: case for case in cases}, schemes
        self._open: OrderedDict[str, Editor] = OrderedDict()
        self._unusable: dict[str, str] = {}
        self._users: dict[str, int] = {}
        self._lock = threading.RLock()
        for case in cases:
            if target(output, case.id).resolve() in {file.resolve() for file in case.files}:
                raise UserError(f"--output {output}: {case.id} there is a scan of --input; name another folder")
        try:
            (output / AUTOSAVES).mkdir(parents=True, exist_ok=True)
            self._held = FileLock(output / AUTOSAVES / ".lock", timeout=0).acquire()
        except Timeout:
            raise UserError(f"--output {output}: another server saves there; name another folder") from None
        except OSError as error:
            raise UserError(f"--output {output}: cannot be written ({error.strerror or error})") from error

    def close(self) -> None:
        """Stops what is running, and gives the folder of segmentations free."""
        for editor in self._open.values():
            editor.stop()
        self._held.lock.release()

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, by id."""
        return tuple(self._cases.values())

    def states(self) -> list[CaseState]:
        """What is known of each case."""
        return [self._state(id_) for id_ in self._cases]

    def _state(self, id_: str) -> CaseState:
        if id_ in self._unusable:
            return CaseState(id_, "unusable", self._unusable[id_])
        return CaseState(id_, state_of(self._journal_path(id_)))

    @contextmanager
    def opened(self, id_: str) -> Iterator[Editor]:
        """The editor of a case, which is opened if it is not, and stays open within this context.

        Raises:
            UnknownCase: there is no such case.
            UserError: its files or its autosave cannot be used.
        """
        if id_ not in self._cases:
            raise UnknownCase(id_)
        with self._lock:
            self._users[id_] = self._users.get(id_, 0) + 1
        try:
            yield self._editor(id_)
        finally:
            with self._lock:
                self._users[id_] -= 1

    def opened_case(self, id_: str) -> OpenedCase:
        """The scan of a case, for a session that edits it by itself."""
        with self.opened(id_) as editor:
            return editor.case

    def _editor(self, id_: str) -> Editor:
        with self._lock:
            if id_ in self._open:
                self._open.move_to_end(id_)
                self._close_oldest()
                return self._open[id_]
            case = self._cases[id_]
            try:
                opened = OpenedCase.from_files(self.engine.model, case, self.engine.run)
                about = {"case": id_, "scan": opened.digest, "model": self.engine.model.name}
                editor = Editor(self.engine, opened, Journal(self._journal_path(id_), about))
            except UserError as error:
                self._unusable[id_] = str(error)
                raise
            self._unusable.pop(id_, None)
            self._open[id_] = editor
            self._close_oldest()
            return editor

    def _close_oldest(self) -> None:
        """Closes the cases that were used longest ago, and not now, while all take too much memory."""
        total = sum(editor.case.memory for editor in self._open.values())
        for id_ in list(self._open)[:-1]:
            if total <= OPEN_BYTES:
                return
            if not self._users.get(id_):
                editor = self._open.pop(id_)
                self.engine.forget(editor.case)
                total -= editor.case.memory

    def save(self, id_: str) -> Path:
        """Writes what is shown of a case in the space of its files, and returns where.

        Raises:
            UnknownCase: there is no such case.
            UserError: the file is there and is not of this server, or cannot be written.
        """
        path = target(self.output, id_)
        with self.opened(id_) as editor, editor.exclusive():
            if path.exists() and not self._mark_path(id_).exists():
                raise UserError(
                    f"{path}: is there already and was not saved by this page; move it away, or start with another "
                    "--output"
                )
            case, scheme = self._cases[id_], self._schemes[id_]
            shown = editor.shown
            values = (shown > 0).astype(np.uint8) if scheme is None else from_canonical(shown, scheme)
            try:
                self._mark_path(id_).touch()
                write_labels(path, values, replace(case, label=None), editor.case.geometry)
            except OSError as error:
                raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
            editor.mark_saved()
        return path

    def _mark_path(self, id_: str) -> Path:
        """The file that says that the saved file of a case is this page's."""
        return self.output / AUTOSAVES / f"{quote(id_, safe='')}.saved"

    def _journal_path(self, id_: str) -> Path:
        return self.output / AUTOSAVES / f"{quote(id_, safe='')}.jsonl"
