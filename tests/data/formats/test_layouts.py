import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from samjax.data.formats.layouts import MODALITIES, find_cases, survey
from samjax.data.formats.nifti import read_nifti
from samjax.data.imaging.volumes import read_case
from samjax.errors import UserError
from tests.data.trees import example, save, save_brats, save_msd, save_nnunet, source_label


@pytest.fixture(scope="module")
def scan():
    return example()


def touch_case(folder: Path, case_id: str, names=("_t1", "_t1ce", "_t2", "_flair", "_seg"), suffix=".nii.gz"):
    """Empty files: finding cases goes by names alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{case_id}{name}{suffix}").touch()
    return folder


NEW = ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")


@pytest.mark.parametrize(
    ("root", "case_id", "names", "scheme", "patient"),
    [
        ("train", "Brats17_TCIA_604_1", None, "brats2021", "Brats17_TCIA_604"),
        ("train", "Brats18_2013_20_1", None, "brats2021", "Brats18_2013_20"),
        ("train", "BraTS19_CBICA_AAB_1", None, "brats2021", "BraTS19_CBICA_AAB"),
        ("train", "BraTS20_Training_001", None, "brats2021", "BraTS20_Training_001"),
        ("train", "BraTS2021_00002", None, "brats2021", "BraTS2021_00002"),
        ("ASNR-MICCAI-BraTS2023-GLI", "BraTS-GLI-00005-001", NEW, "brats2023", "BraTS-GLI-00005"),
        ("BraTS2024-GLI-train", "BraTS-GLI-00005-101", NEW, "gli2024", "BraTS-GLI-00005"),
        ("brats_2023", "BraTS-PED-00005-000", NEW, "brats2023", "BraTS-PED-00005"),
        ("PEDs-2024", "BraTS-PED-00005-000", NEW, "ped2024", "BraTS-PED-00005"),
        ("x", "BraTS-MEN-00004-000", NEW, "brats2023", "BraTS-MEN-00004"),
        ("x", "BraTS-SSA-00004-000", NEW, "brats2023", "BraTS-SSA-00004"),
        ("x", "BraTS-MET-00110-002", NEW, "brats2023", "BraTS-MET-00110"),
        ("x", "BraTS-GoAT-00001", NEW, "brats2023", "BraTS-GoAT-00001"),
    ],
)
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_brats_of_every_year(tmp_path, root, case_id, names, scheme, patient, nested, suffix):
    folder = tmp_path / root
    touch_case(folder / "HGG" / case_id if nested else folder, case_id, *([names] if names else []), suffix=suffix)
    (case,) = find_cases(folder, "adult")
    assert (case.id, case.patient, case.scheme, case.domain, case.layout) == (
        case_id, patient, scheme, "adult", "brats",
    )  # fmt: skip
    assert set(case.images) == set(MODALITIES)
    old = {"t1": "_t1.", "t1gd": "_t1ce.", "t2": "_t2.", "flair": "_flair."}
    new = {"t1": "-t1n.", "t1gd": "-t1c.", "t2": "-t2w.", "flair": "-t2f."}
    for modality, source in case.images.items():
        assert (new if names else old)[modality] in source.path.name
        assert source.channel is None
    assert "seg" in case.label.name


def test_a_folder_that_holds_many_cases_flat_and_follow_ups(tmp_path):
    root = tmp_path / "BraTS2023"
    for number in ("00001-000", "00005-001", "00005-000"):
        touch_case(root, f"BraTS-GLI-{number}", NEW)
    cases = find_cases(root)
    assert [case.id[-9:] for case in cases] == ["00001-000", "00005-000", "00005-001"]
    assert len({case.patient for case in cases}) == 2


@pytest.mark.parametrize("prefix", ["BraTS-GLI", "BraTS-PED"])
def test_a_year_that_names_leave_open_is_asked_for(tmp_path, prefix):
    touch_case(tmp_path / "train" / f"{prefix}-00001-000", f"{prefix}-00001-000", NEW)
    with pytest.raises(UserError, match=r"--labels brats2023 or (gli|ped)2024"):
        find_cases(tmp_path / "train")
    assert find_cases(tmp_path / "train", labels="gli2024")[0].scheme == "gli2024"
    (case,) = find_cases(tmp_path / "train", read_labels=False)
    assert case.label is None


def test_the_nearest_year_counts_and_a_lone_case_goes_by_the_folder_above(tmp_path):
    new = touch_case(tmp_path / "brats2023" / "BraTS2024-GLI" / "BraTS-GLI-02060-100", "BraTS-GLI-02060-100", NEW)
    old = touch_case(tmp_path / "brats2023" / "BraTS-GLI-00001-000", "BraTS-GLI-00001-000", NEW)
    assert [case.scheme for case in find_cases(tmp_path / "brats2023")] == ["brats2023", "gli2024"]
    assert find_cases(new)[0].scheme == "gli2024"
    assert find_cases(old)[0].scheme == "brats2023"


def test_two_years_in_one_name_decide_nothing(tmp_path):
    touch_case(tmp_path / "brats-2023-2024" / "a", "BraTS-GLI-00001-000", NEW)
    with pytest.raises(UserError, match="--labels"):
        find_cases(tmp_path / "brats-2023-2024")


def test_men_rt_is_refused_by_name(tmp_path):
    touch_case(tmp_path / "BraTS-MEN-RT-0001-1", "BraTS-MEN-RT-0001-1", ("_t1c", "_gtv"))
    with pytest.raises(UserError, match="MEN-RT has T1Gd alone"):
        find_cases(tmp_path)


def test_unlabelled_cases(tmp_path):
    touch_case(tmp_path / "a", "BraTS-GLI-00001-000", NEW[:-1])
    (case,) = find_cases(tmp_path)
    assert case.label is None
    assert case.scheme is None


def test_own_names(tmp_path):
    touch_case(tmp_path / "sub-01" / "ses-1", "sub-01_ses-1", ("_T1w", "_T1Gd", "_T2w", "_FLAIR", "_seg"))
    touch_case(tmp_path / "sub-01" / "ses-2", "sub-01_ses-2", ("_T1w", "_T1Gd", "_T2w", "_FLAIR", "_seg"))
    touch_case(tmp_path / "someone", "", ("t1", "t1c", "t2", "flair", "seg"))
    with pytest.raises(UserError, match="--labels"):
        find_cases(tmp_path)
    cases = find_cases(tmp_path, labels="msd")
    assert [(case.id, case.patient) for case in cases] == [
        ("someone", "someone"), ("sub-01_ses-1", "sub-01"), ("sub-01_ses-2", "sub-01"),
    ]  # fmt: skip


def test_the_label_with_a_hospitals_name(tmp_path):
    folder = touch_case(tmp_path / "BraTS20_Training_355", "BraTS20_Training_355", ("_t1", "_t1ce", "_t2", "_flair"))
    (folder / "W39_1998.09.19_Segm.nii").touch()
    (case,) = find_cases(tmp_path)
    assert case.label.name == "W39_1998.09.19_Segm.nii"


def test_hidden_files_and_links(tmp_path):
    touch_case(tmp_path / "real", "BraTS2021_00001")
    (tmp_path / "real" / "._BraTS2021_00001_t1.nii.gz").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data", target_is_directory=True)
    assert len(find_cases(tmp_path / "data")) == 1


def test_a_missing_modality_is_reported_and_the_case_is_found(tmp_path):
    touch_case(tmp_path / "a", "BraTS2021_00001", ("_t1", "_t2", "_flair", "_seg"))
    touch_case(tmp_path / "b", "BraTS2021_00002")
    found = survey(tmp_path)
    assert [case.modalities for case in found.cases] == [("t1", "t2", "flair"), MODALITIES]
    assert [(problem.message, problem.unusable) for problem in found.problems] == [
        ("case BraTS2021_00001: no t1gd (has t1, t2, flair)", False)
    ]
    assert found.cases[0].reference.path.name == "BraTS2021_00001_t1.nii.gz"
    (tmp_path / "a" / "BraTS2021_00001_t1.nii.gz").unlink()
    first = find_cases(tmp_path)[0]
    assert first.reference.path.name == "BraTS2021_00001_t2.nii.gz"
    assert [path.name[16:] for path in first.files] == ["t2.nii.gz", "flair.nii.gz", "seg.nii.gz"]


def test_two_files_for_one_modality(tmp_path):
    touch_case(tmp_path, "BraTS2021_00001")
    (tmp_path / "BraTS2021_00001_t1.nii").touch()
    with pytest.raises(UserError, match=r"two files for t1, BraTS2021_00001_t1.nii and BraTS2021_00001_t1.nii.gz"):
        find_cases(tmp_path)


def test_one_case_twice(tmp_path):
    touch_case(tmp_path / "a", "BraTS2021_00001")
    touch_case(tmp_path / "b", "BraTS2021_00001")
    with pytest.raises(UserError, match=r"BraTS2021_00001: found twice, in .*a and .*b"):
        find_cases(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such"):
        find_cases(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no NIfTI files"):
        find_cases(tmp_path)
    (tmp_path / "scan.nii.gz").touch()
    with pytest.raises(UserError, match=r"none of its 1 NIfTI files.*imagesTr") as caught:
        find_cases(tmp_path)
    assert "\n" not in str(caught.value)


def test_options_are_checked(tmp_path):
    touch_case(tmp_path, "BraTS2021_00001")
    with pytest.raises(UserError, match=r"^--layout bids: expected one of brats, msd, nnunet"):
        find_cases(tmp_path, layout="bids")
    with pytest.raises(UserError, match=r"^--labels brats22"):
        find_cases(tmp_path, labels="brats22")
    with pytest.raises(UserError, match=r"--layout msd needs a dataset.json"):
        find_cases(tmp_path, layout="msd")


@pytest.mark.parametrize("order", [("flair", "t1", "t1gd", "t2"), ("t2", "t1gd", "flair", "t1")])
@pytest.mark.parametrize("values", ["msd", "brats2021"])
def test_decathlon_gives_the_same_voxels_as_brats(tmp_path, scan, order, values):
    save_msd(tmp_path / "Task01_BrainTumour", {"BRATS_001": scan}, order, values)
    (tmp_path / "Task01_BrainTumour" / "imagesTr" / "._BRATS_001.nii.gz").write_bytes(b"x")
    save_brats(tmp_path / "brats", "BraTS2021_00001", scan)
    (msd,) = find_cases(tmp_path / "Task01_BrainTumour")
    (brats,) = find_cases(tmp_path / "brats")
    assert (msd.layout, msd.scheme, msd.id) == ("msd", values, "BRATS_001")
    ours, theirs = read_case(msd), read_case(brats)
    np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_decathlon_from_above_from_its_folders_and_unlabelled(tmp_path, scan):
    root = save_msd(tmp_path / "Task01_BrainTumour", {"BRATS_001": scan, "BRATS_002": scan})
    shutil.copytree(root / "imagesTr", root / "imagesTs")
    assert len(find_cases(tmp_path)) == 2
    assert all(case.label for case in find_cases(root / "imagesTr"))
    assert [case.label for case in find_cases(root / "imagesTs")] == [None, None]
    (one,) = find_cases(root / "imagesTr" / "BRATS_002.nii.gz")
    assert one.id == "BRATS_002"


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3},
        {"0": "background", "1": "ED", "2": "NCR/NET", "3": "ET"},
        {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
        {"enhancing tumor": 3, "background": 0, "tumor core": [2, 3], "whole tumor": [1, 2, 3]},
    ],
)
def test_nnunet_raw(tmp_path, scan, labels):
    root = save_nnunet(tmp_path / "Dataset137_BraTS", {"BraTS2021_00000": scan}, labels)
    (case,) = find_cases(root)
    assert (case.id, case.layout, case.scheme) == ("BraTS2021_00000", "nnunet", "msd")
    expected = read_case(find_cases(save_brats(tmp_path / "b", "BraTS2021_00001", scan))[0])
    np.testing.assert_array_equal(read_case(case).images, expected.images)
    np.testing.assert_array_equal(read_case(case).labels, expected.labels)


def test_nnunet_labels_that_say_nothing(tmp_path, scan):
    root = save_nnunet(tmp_path, {"a": scan}, {"background": 0, "lesion": 1})
    with pytest.raises(UserError, match=r"dataset.json: its labels .*--labels"):
        find_cases(root)
    assert find_cases(root, labels="msd")[0].scheme == "msd"
    assert find_cases(root, read_labels=False)[0].label is None


def test_numbered_4d_files_are_decathlons_and_a_damaged_file_decides_nothing(tmp_path, scan):
    save_msd(tmp_path / "msd", {"BRATS_0001": scan, "BRATS_0002": scan})
    (tmp_path / "msd" / "imagesTr" / "BRATS_0001.nii.gz").write_bytes(b"x")
    assert [case.layout for case in find_cases(tmp_path / "msd")] == ["msd", "msd"]
    root = save_nnunet(tmp_path / "nnunet", {"a": scan}, {"background": 0})
    for path in (root / "imagesTr").iterdir():
        path.write_bytes(b"x")
    assert [case.layout for case in find_cases(root, labels="msd")] == ["nnunet"]


def test_nnunet_missing_channel_file(tmp_path, scan):
    root = save_nnunet(tmp_path, {"a": scan}, {"background": 0})
    (root / "imagesTr" / "a_0001.nii.gz").unlink()
    found = survey(root, labels="msd")
    assert found.cases[0].modalities == ("t1", "t2", "flair")
    assert [problem.message for problem in found.problems] == ["case a: no t1gd (has t1, t2, flair)"]


def test_a_dataset_of_few_channels_says_what_its_channels_are(tmp_path, scan):
    root = save_msd(tmp_path, {"BRATS_001": scan}, order=("t2", "t1gd"))
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(content | {"modality": {"0": "T2w", "1": "t1gd", "2": "ADC"}}))
    found = survey(root)
    assert {name: source.channel for name, source in found.cases[0].images.items()} == {"t2": 0, "t1gd": 1}
    (problem,) = found.problems
    expected = "no t1, flair (has t1gd, t2); the channels of dataset.json are T2w, t1gd, ADC"
    assert problem.message == f"case BRATS_001: {expected}"


def test_a_case_of_other_channels_alone_cannot_be_used(tmp_path, scan):
    root = save_nnunet(tmp_path, {"a": scan, "b": scan}, {"background": 0})
    content = json.loads((root / "dataset.json").read_text())
    names = content | {"channel_names": {"0": "T1", "1": "T1gd", "2": "T2", "3": "ADC"}}
    (root / "dataset.json").write_text(json.dumps(names))
    for number in range(3):
        (root / "imagesTr" / f"a_{number:04d}.nii.gz").unlink()
    found = survey(root, labels="msd")
    assert [case.id for case in found.cases] == ["b"]
    assert "case a: none of t1, t1gd, t2, flair (channels: T1, T1gd, T2, ADC)" in found.unusable[0].message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected an object"),
        ("{}", "no channel_names"),
        (
            '{"modality": {"0": "ADC", "1": "DWI"}}',
            r"no channel is any of t1, t1gd, t2, flair \(channels: ADC, DWI\)",
        ),
        ('{"modality": {"0": "T1w", "1": "T1", "2": "T2w"}}', "two channels are called t1"),
        ('{"modality": {"x": "T1w"}}', "'x' is not the number"),
    ],
)
def test_a_dataset_json_that_cannot_be_used(tmp_path, scan, content, message):
    root = save_msd(tmp_path, {"BRATS_001": scan})
    (root / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        find_cases(root)
    assert str(root / "dataset.json") in str(caught.value)


def test_a_4d_file_with_too_few_channels(tmp_path, scan):
    root = save_msd(tmp_path, {"BRATS_001": scan})
    content = json.loads((root / "dataset.json").read_text())
    save(root / "imagesTr" / "BRATS_001.nii.gz", np.stack([scan.images["t1"]] * 3, -1))
    assert len(content["modality"]) == 4
    with pytest.raises(UserError, match=r"BRATS_001.nii.gz: shape 16 x 20 x 9 x 3, expected 4-D with a channel 3"):
        read_case(find_cases(root)[0])


def test_several_datasets_in_one_folder(tmp_path, scan):
    save_msd(tmp_path / "A", {"x": scan})
    save_msd(tmp_path / "B", {"x": scan})
    with pytest.raises(UserError, match=r"several datasets \(A, B\)"):
        find_cases(tmp_path)


def test_every_file_of_a_case_is_listed_once(tmp_path, scan):
    (msd,) = find_cases(save_msd(tmp_path / "m", {"BRATS_001": scan}))
    assert [path.parent.name for path in msd.files] == ["imagesTr", "labelsTr"]
    (brats,) = find_cases(save_brats(tmp_path / "b", "BraTS2021_00001", scan, scheme=None))
    assert len(brats.files) == 4
    np.testing.assert_array_equal(
        read_nifti(msd.label).array.T, source_label(scan, "msd"), err_msg="stored LPS, transposed"
    )
