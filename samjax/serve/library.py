"""The cases that a server offers: which are open, what is known of each, and saving them."""

import hashlib
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
from samjax.files import replacing
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
        ending: whether the server is about to end.
    """

    def __init__(self, engine: Engine, cases: Sequence[Case], schemes: Mapping[str, str | None], output: Path):
        """
        Args:
            schemes: the label scheme in which each case is saved, by id; None: its region is saved as 1.

        Raises:
            UserError: the folder cannot be written, or another server uses it.
        """
        self.engine, self.output, self.ending = engine, output, False
        self._cases, self._schemes = {case.id: case for case in cases}, schemes
        self._open: OrderedDict[str, Editor] = OrderedDict()
        self._unusable: dict[str, str] = {}
        self._users: dict[str, int] = {}
        self._lock = threading.RLock()
        self._reading = {case.id: threading.Lock() for case in cases}
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

    def end(self) -> None:
        """Stops what is running: requests are answered soon, so that the server can end."""
        self.ending = True
        for editor in tuple(self._open.values()):
            editor.stop(for_good=True)

    def close(self) -> None:
        """Stops what is running, and gives the folder of segmentations free."""
        self.end()
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
        """The scan of a case, for a session that edits it by itself.

        Raises:
            UnknownCase: there is no such case.
            UserError: its files cannot be used, or are others than when it was opened.
        """
        with self.opened(id_) as editor:
            editor.case.require_unchanged()
            return editor.case

    def seen(self, id_: str) -> Editor | None:
        """The editor of a case if it is open. It is no use of the case: one that is only looked at may be closed."""
        with self._lock:
            return self._open.get(id_)

    def _editor(self, id_: str) -> Editor:
        found = self._kept(id_)
        if found is not None:
            return found
        with self._reading[id_]:  # files are read by one thread, and nobody waits who wants another case
            return self._kept(id_) or self._keep(id_, self._read(id_))

    def _read(self, id_: str) -> Editor:
        try:
            opened = OpenedCase.from_files(self.engine.model, self._cases[id_], self.engine.run)
            about = {"case": id_, "scan": opened.digest, "model": self.engine.model.name}
            editor = Editor(self.engine, opened, Journal(self._journal_path(id_), about))
        except UserError as error:
            self._unusable[id_] = str(error)
            raise
        self._unusable.pop(id_, None)
        return editor

    def _kept(self, id_: str) -> Editor | None:
        """The editor of a case if it is open; other cases are closed before it."""
        with self._lock:
            return self._keep(id_, self._open[id_]) if id_ in self._open else None

    def _keep(self, id_: str, editor: Editor) -> Editor:
        with self._lock:
            self._open[id_] = editor
            self._open.move_to_end(id_)
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
            UserError: a file that this page did not save is there, the case's files are others than when it was
                opened, or the file cannot be written.
        """
        path = target(self.output, id_)
        with self.opened(id_) as editor, editor.exclusive():
            editor.case.require_unchanged()
            case, scheme = self._cases[id_], self._schemes[id_]
            shown = editor.shown
            values = (shown > 0).astype(np.uint8) if scheme is None else from_canonical(shown, scheme)
            try:
                self._require_own(path, id_)
                write_labels(path, values, replace(case, label=None), editor.case.geometry)
                with replacing(self._mark_path(id_)) as temporary:
                    temporary.write_text(_digest(path), "ascii")
            except OSError as error:
                raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
            editor.mark_saved()
        return path

    def _require_own(self, path: Path, id_: str) -> None:
        """Raises a `UserError` if a file is there and is not what was saved last."""
        mark = self._mark_path(id_)
        if path.exists() and not (mark.exists() and mark.read_text("ascii", "replace") == _digest(path)):
            raise UserError(
                f"{path}: is there already and was not saved by this page, or was changed since; move it away, or "
                "start with another --output"
            )

    def _mark_path(self, id_: str) -> Path:
        """The file with the digest of what was saved of a case, by which the page knows its own file."""
        return self.output / AUTOSAVES / f"{quote(id_, safe='')}.saved"

    def _journal_path(self, id_: str) -> Path:
        return self.output / AUTOSAVES / f"{quote(id_, safe='')}.jsonl"


def _digest(path: Path) -> str:
    """A digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
