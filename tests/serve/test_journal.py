"""The autosave: what was appended is there again, whatever ended the server."""

import errno
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.serve import journal as module
from samjax.serve.journal import REDO, SAVED, UNDO, Journal, state_of
from tests.serve.test_segmentation import SHAPE, edit

ABOUT = {"case": "a", "scan": "digest", "model": "small"}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    found = Journal(tmp_path / "saves" / "a.jsonl", ABOUT)
    found.add(edit((1, 2), 1, (1, 0, 0, 1)))
    found.add(edit((2,), 3))
    found.note(UNDO)
    return found


def test_edits_are_made_again(journal: Journal):
    found, saved = journal.replay(SHAPE)
    assert not saved
    assert found.shown[:, 0, 0].tolist() == [0, 1, 1, 0]
    assert found.prompts.points == ((1, 0, 0, 1),)
    assert (found.can_undo, found.can_redo, found.version) == (True, True, 3)
    found.redo()
    assert found.shown[:, 0, 0].tolist() == [0, 1, 3, 0]


def test_a_case_without_edits_is_new(tmp_path: Path):
    found, saved = Journal(tmp_path / "none.jsonl", ABOUT).replay(SHAPE)
    assert not saved
    assert found.version == 0
    assert not (tmp_path / "none.jsonl").exists()
    assert state_of(tmp_path / "none.jsonl") == "new"


def test_it_says_whether_the_case_was_saved(journal: Journal):
    assert state_of(journal.path) == "edited"
    journal.note(SAVED)
    assert state_of(journal.path) == "saved"
    assert journal.replay(SHAPE)[1]
    journal.note(REDO)
    assert state_of(journal.path) == "edited"
    assert not journal.replay(SHAPE)[1]


def test_a_long_file_is_written_anew(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    before, _ = journal.replay(SHAPE)
    for _ in range(40):
        journal.note(REDO)
        journal.note(UNDO)
    journal.note(SAVED)
    long = journal.path.stat().st_size
    monkeypatch.setattr(module, "LONGEST", long - 1)
    found, saved = journal.replay(SHAPE)
    assert saved
    assert journal.path.stat().st_size < long / 2
    np.testing.assert_array_equal(found.shown, before.shown)
    np.testing.assert_array_equal(found.base, before.base)
    assert found.prompts == before.prompts
    journal.add(edit((0,), 2))
    assert journal.replay(SHAPE)[0].shown[:, 0, 0].tolist() == [2, 1, 1, 0]


def test_every_kill_leaves_the_edits_before_it(journal: Journal):
    whole = journal.path.read_bytes()
    lines = whole.split(b"\n")
    third = sum(len(line) + 1 for line in lines[:2])  # the head and the first edit
    for end in range(third, len(whole) - len(lines[3]) - 1, 7):
        journal.path.write_bytes(whole[:end])
        found, _ = journal.replay(SHAPE)
        assert found.shown[:, 0, 0].tolist() == [0, 1, 1, 0]
    journal.add(edit((0,), 2))  # goes on after the line that was cut short
    assert journal.replay(SHAPE)[0].shown[:, 0, 0].tolist() == [2, 1, 1, 0]


def test_the_autosave_of_another_scan_is_refused(journal: Journal):
    with pytest.raises(UserError, match="another one; move it away"):
        Journal(journal.path, {**ABOUT, "scan": "other"}).replay(SHAPE)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (0, b'{"format_version": "9"}', "no autosave of format 1"),
        (0, b"[]", "no autosave of format 1"),
        (1, b"{", "line 2 is damaged"),
        (1, b"\xff", "line 2 is damaged"),
        (1, b"[]", "line 2 is no edit"),
        (1, b'{"event": "dance"}', "line 2 is no edit"),
        (1, b'{"event": "undo"}', "line 2 is no edit"),
        (2, b'{"edit": {}}', "line 3 is no edit"),
    ],
)
def test_a_damaged_file_is_refused_by_its_line_and_stays(journal: Journal, line: int, text: bytes, message: str):
    lines = journal.path.read_bytes().split(b"\n")
    lines[line] = text
    damaged = b"\n".join(lines)
    journal.path.write_bytes(damaged)
    with pytest.raises(UserError, match=message):
        journal.replay(SHAPE)
    assert journal.path.read_bytes() == damaged


def test_a_disk_that_fills_up_within_a_line_costs_that_edit_alone(journal: Journal):
    """The system writes as much of a line as there is room for, and refuses the rest."""
    before = journal.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
    try:
        with pytest.raises(UserError, match="the edit was not made"):
            journal.add(edit((0,), 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert journal.path.read_bytes() == before
    journal.add(edit((3,), 1))
    assert journal.replay(SHAPE)[0].shown[:, 0, 0].tolist() == [0, 1, 1, 1]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(UserError, match="the autosave cannot be read"):
        Journal(tmp_path / "a.jsonl", ABOUT).replay(SHAPE)


def test_it_knows_the_model_that_it_was_begun_with(journal: Journal):
    journal.replay(SHAPE)
    assert journal.other_model is None
    later = Journal(journal.path, {**ABOUT, "model": "large"})
    later.replay(SHAPE)
    assert later.other_model == "small"


def test_an_edit_that_cannot_be_kept_is_not_half_kept(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    before = journal.path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device\\); the edit was not made"):
        journal.add(edit((0,), 2))
    assert journal.path.read_bytes() == before
    np.testing.assert_array_equal(journal.replay(SHAPE)[0].shown[0], 0)
