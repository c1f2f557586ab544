"""Names of domains, what is said of label schemes, and of files that are ignored."""

from pathlib import Path

import numpy as np
import pytest

from samjax.data.cohort import list_cases, named_folders, prepare, require_labels, scheme_lines
from samjax.data.formats.layouts import find_cases
from samjax.errors import UserError
from tests.data.formats.test_layouts import NEW, touch_case
from tests.data.trees import example, save, save_brats, save_nnunet


class TestNamedFolders:
    def test_a_path_may_hold_an_equals_sign(self, tmp_path, monkeypatch):
        folder = tmp_path / "a=b"
        (tmp_path / "plain").mkdir()
        folder.mkdir()
        assert named_folders((str(folder),)) == {"a_b": folder}
        assert named_folders((f"x={folder}", f"y={tmp_path / 'plain'}")) == {"x": folder, "y": tmp_path / "plain"}
        monkeypatch.chdir(tmp_path)
        assert named_folders(("a=b",)) == {"a_b": folder}
        assert named_folders(("./a=b",)) == {"a_b": folder}
        with pytest.raises(UserError, match=r"--data a=nowhere: .*nowhere does not exist"):
            named_folders(("a=nowhere",))

    def test_what_can_be_read_both_ways_is_refused(self, tmp_path, monkeypatch):
        for name in ("a=b", "b"):
            (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=r"both a=b and b exist; write \./a=b or NAME=\./b"):
            named_folders(("a=b",))
        assert named_folders(("a=./b",)) == {"a": tmp_path / "b"}

    def test_a_link_lends_its_own_name(self, tmp_path):
        (tmp_path / "target").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "target")
        assert named_folders((str(tmp_path / "link"),)) == {"link": tmp_path / "link"}

    def test_names_are_checked(self, tmp_path):
        with pytest.raises(UserError, match="the name before '=' is empty"):
            named_folders((f"={tmp_path}",))
        with pytest.raises(UserError, match="used twice"):
            named_folders((f"a={tmp_path}", f"a={tmp_path}"))


def test_each_scheme_is_said_with_its_reason(tmp_path):
    root = tmp_path / "BraTS2024-PED-Challenge"
    for name in ("BraTS-PED-00001-000", "BraTS-PED-00002-000", "BraTS-MET-00001-000"):
        touch_case(root / name, name, NEW)
    touch_case(root / "BraTS-PED-00003-000", "BraTS-PED-00003-000", NEW[:-1])
    assert scheme_lines(find_cases(root, "demo")) == [
        "demo: labels: brats2023, from the names of the cases (BraTS-MET) (1 case)",
        "demo: labels: ped2024, from the folder's name BraTS2024-PED-Challenge (2 cases)",
    ]
    assert scheme_lines(find_cases(root, labels="edema=4,non-enhancing=2/3,enhancing=1,ignore=9")) == [
        "labels: edema=4,non-enhancing=2/3,enhancing=1,ignore=9, from --labels (3 cases; value 9 is ignored)"
    ]


def test_training_and_scoring_say_what_they_found(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = save_brats(tmp_path / "BraTS2021_00001", "BraTS2021_00001", example())
    for name in ("BraTS2021_00001_brain_seg", "BraTS2021_00001_t1_seg"):
        (folder / f"{name}.nii.gz").touch()
    require_labels(prepare(list_cases({"demo": tmp_path}, None, None, None), None, workers=1))
    note, scheme = capsys.readouterr().err.splitlines()
    assert "BraTS2021_00001_brain_seg.nii.gz: ignored as a label: " in note
    assert note.endswith("and 1 more files like it")
    assert scheme == "demo: labels: brats2021, from the names of the cases, as of BraTS 2015-2021 (1 case)"


def test_a_label_that_ignores_every_voxel_is_none(tmp_path: Path, capsys: pytest.CaptureFixture):
    root, scan = tmp_path / "Dataset001_X", example()
    labels = {"background": 0, "edema": 1, "non-enhancing": 2, "enhancing": 3, "ignore": 4}
    save_nnunet(root, {"some": scan, "none": scan}, labels)
    save(root / "labelsTr" / "none.nii.gz", np.full_like(scan.label, 4))
    prepared = prepare(find_cases(root, "demo"), None, workers=1)
    left_out: list[str] = []
    assert [case.case.id for case in require_labels(prepared, left_out)] == ["some"]
    assert left_out == [f"{root / 'labelsTr' / 'none.nii.gz'}: all of its voxels are of values that are ignored"]
    assert f"left out: {left_out[0]}" in capsys.readouterr().err
    with pytest.raises(UserError, match="all of its voxels"):
        require_labels([case for case in prepared if case.case.id == "none"])
