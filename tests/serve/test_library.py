"""Cases are opened when asked for, closed when there are too many, and saved where the scan lies."""

import threading
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax import Predictor
from samjax.errors import UserError
from samjax.serve import library as module
from samjax.serve.engine import Engine
from samjax.serve.library import AUTOSAVES, Library, UnknownCase
from samjax.serve.opened import OpenedCase
from tests.serve.cases import INSIDE, cases_of, library_of, small_model, write_case

NAMES = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    found = Engine(small_model())
    yield found
    found.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("cases")
    return [write_case(root, NAMES[0], 0), write_case(root, NAMES[1], 1, "RAS")]


@pytest.fixture
def library(engine: Engine, folders: list[Path], tmp_path: Path) -> Iterator[Library]:
    found = library_of(engine, tmp_path / "out", *folders)
    yield found
    found.close()


def states(library: Library) -> list[str]:
    return [state.state for state in library.states()]


def test_states_follow_edits_and_saving(library: Library):
    assert states(library) == ["new", "new"]
    with library.opened(NAMES[0]) as editor:
        editor.click(*INSIDE)
        assert states(library) == ["edited", "new"]
        library.save(NAMES[0])
        assert states(library) == ["saved", "new"]
        editor.undo()
        assert states(library) == ["edited", "new"]


@pytest.mark.parametrize("name", NAMES)
def test_the_saved_file_is_the_predictors(library: Library, engine: Engine, folders: list[Path], tmp_path, name: str):
    with library.opened(name) as editor:
        editor.click(*INSIDE)
    path = library.save(name)
    assert path == tmp_path / "out" / f"{name}.nii.gz"
    predictor = Predictor(engine.model)
    predictor.set_volume(folders[NAMES.index(name)])
    predictor.segment(points=[(*INSIDE, 1)])
    predictor.save(tmp_path / "expected.nii.gz", "brats2023")
    found, expected = nib.load(path), nib.load(tmp_path / "expected.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), np.asanyarray(expected.dataobj))
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert np.asanyarray(found.dataobj).any()
    assert found.get_data_dtype() == np.uint8


def test_base_weights_save_their_region_as_one(engine: Engine, folders: list[Path], tmp_path: Path):
    library = Library(engine, cases_of(folders[0]), {NAMES[0]: None}, tmp_path)
    with library.opened(NAMES[0]) as editor:
        editor.click(*INSIDE)
    values = np.asanyarray(nib.load(library.save(NAMES[0])).dataobj)
    assert set(np.unique(values)) == {0, 1}
    library.close()


def test_a_file_of_somebody_else_is_not_replaced(library: Library, tmp_path: Path):
    path = tmp_path / "out" / f"{NAMES[0]}.nii.gz"
    path.write_bytes(b"mine")
    with pytest.raises(UserError, match="is there already and was not saved by this page"):
        library.save(NAMES[0])
    assert path.read_bytes() == b"mine"
    path.unlink()
    library.save(NAMES[0])
    library.save(NAMES[0])  # its own is


def test_a_saved_file_that_another_program_corrected_is_not_replaced(library: Library):
    path = library.save(NAMES[0])
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), path)
    corrected = path.read_bytes()
    with library.opened(NAMES[0]) as editor:
        editor.click(*INSIDE)
    with pytest.raises(UserError, match="or was changed since; move it away"):
        library.save(NAMES[0])
    assert path.read_bytes() == corrected
    assert states(library)[0] == "edited"


def test_masks_of_a_scan_that_was_replaced_are_not_saved(engine: Engine, tmp_path: Path):
    folder = write_case(tmp_path, NAMES[0], 0)
    library = library_of(engine, tmp_path / "out", folder)
    with library.opened(NAMES[0]) as editor:
        editor.click(*INSIDE)
    write_case(tmp_path, NAMES[0], 1, "RAS")
    with pytest.raises(UserError, match="was changed since it was opened"):
        library.save(NAMES[0])
    with pytest.raises(UserError, match="was changed since it was opened"):
        library.opened_case(NAMES[0])
    assert not (tmp_path / "out" / f"{NAMES[0]}.nii.gz").exists()
    library.close()


def test_a_case_that_is_being_read_keeps_nobody_from_another(library: Library, monkeypatch: pytest.MonkeyPatch):
    reading, go_on = threading.Event(), threading.Event()
    read = OpenedCase.from_files

    def slow(model, case, run):
        if case.id == NAMES[1]:
            reading.set()
            assert go_on.wait(30)
        return read(model, case, run)

    monkeypatch.setattr(OpenedCase, "from_files", slow)
    editors = []

    def open_it() -> None:
        with library.opened(NAMES[1]) as editor:
            editors.append(editor)

    threads = [threading.Thread(target=open_it) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert reading.wait(30)
    with library.opened(NAMES[0]) as editor:
        assert editor.click(*INSIDE)
    go_on.set()
    for thread in threads:
        thread.join()
    assert editors[0] is editors[1]  # it was read once


def test_a_case_saved_without_an_edit_is_saved(library: Library):
    library.save(NAMES[0])
    with library.opened(NAMES[0]) as editor:
        assert editor.state == "saved"
    assert states(library) == ["saved", "new"]


def test_a_scan_is_never_replaced(engine: Engine, tmp_path: Path):
    write_case(tmp_path, NAMES[0])
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "other.nii.gz")
    folder = tmp_path / NAMES[0]
    scan = folder / f"{NAMES[0]}-t1n.nii.gz"
    case = cases_of(folder)[0]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{NAMES[0]}.nii.gz").symlink_to(scan)
    with pytest.raises(UserError, match="is a scan of --input"):
        Library(engine, [case], {NAMES[0]: "brats2023"}, tmp_path / "out")


def test_two_servers_do_not_save_in_one_folder(library: Library, engine: Engine, folders: list[Path], tmp_path: Path):
    with pytest.raises(UserError, match="another server saves there"):
        library_of(engine, tmp_path / "out", folders[0])
    library.close()
    library_of(engine, tmp_path / "out", folders[0]).close()


def test_an_unknown_case(library: Library):
    for name in ("other", "../" + NAMES[0], ""):
        with pytest.raises(UnknownCase), library.opened(name):
            pass


def test_a_case_that_cannot_be_read_says_why_and_is_tried_again(engine: Engine, tmp_path: Path):
    folder = write_case(tmp_path, NAMES[0])
    scan = folder / f"{NAMES[0]}-t2w.nii.gz"
    whole = scan.read_bytes()
    library = library_of(engine, tmp_path / "out", folder)
    scan.write_bytes(whole[:200])
    with pytest.raises(UserError, match="t2w"), library.opened(NAMES[0]):
        pass
    (state,) = library.states()
    assert state.state == "unusable"
    assert "t2w" in state.message
    scan.write_bytes(whole)
    with library.opened(NAMES[0]):
        assert states(library) == ["new"]
    library.close()


def test_closed_cases_come_back_as_they_were(library: Library, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "OPEN_BYTES", 0)
    with library.opened(NAMES[0]) as editor:
        editor.click(*INSIDE)
        with library.opened(NAMES[1]):
            pass
        with library.opened(NAMES[0]) as same:
            assert same is editor  # in use, so that nobody edits it apart
    with library.opened(NAMES[1]):
        pass
    with library.opened(NAMES[0]) as again:
        assert again is not editor
        np.testing.assert_array_equal(again.shown, editor.shown)
        assert again.prompts == editor.prompts


def test_names_stay_inside_the_folder_of_autosaves(library: Library, tmp_path: Path):
    paths = [library._journal_path(name) for name in ("../../x", "a/b", "..", "ä b%")]
    assert all(path.parent == tmp_path / "out" / AUTOSAVES for path in paths)
    assert len(set(paths)) == 4
