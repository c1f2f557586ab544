"""What a folder of scans holds: whose label is whose, two files for one thing, names of cases, other formats."""

import os
import unicodedata
from pathlib import Path

import pytest

from samjax.data.formats.layouts import find_cases, survey
from samjax.errors import UserError
from tests.data.formats.test_layouts import NEW, touch_case
from tests.data.trees import example, save_nnunet

SCANS = ("_t1", "_t1ce", "_t2", "_flair")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def ignored(root: Path) -> list[str]:
    return sorted(problem.path.name for problem in survey(root, labels="brats2021").problems if problem.ignored)


class TestLabels:
    @pytest.mark.parametrize("ending", ["brain_seg", "t1_seg", "brain_mask", "brain_parenchyma_segmentation", "gtv"])
    def test_another_segmentation_is_named_and_ignored(self, tmp_path, ending):
        folder = touch_case(tmp_path / "BraTS2021_00001", "BraTS2021_00001", SCANS)
        touch(folder / f"BraTS2021_00001_{ending}.nii.gz")
        (case,) = find_cases(tmp_path)
        assert case.label is None
        assert ignored(tmp_path) == [f"BraTS2021_00001_{ending}.nii.gz"]
        assert survey(tmp_path, read_labels=False).problems == []

    def test_the_label_is_found_among_them(self, tmp_path):
        folder = touch_case(tmp_path / "UCSF-PDGM-0004_nifti", "UCSF-PDGM-0004", ("_T1", "_T1c", "_T2", "_FLAIR"))
        others = ["brain_segmentation", "brain_parenchyma_segmentation"]
        for ending in ("tumor_segmentation", *others):
            touch(folder / f"UCSF-PDGM-0004_{ending}.nii.gz")
        (case,) = find_cases(tmp_path, labels="brats2021")
        assert case.label.name == "UCSF-PDGM-0004_tumor_segmentation.nii.gz"
        assert ignored(tmp_path) == sorted(f"UCSF-PDGM-0004_{ending}.nii.gz" for ending in others)

    @pytest.mark.parametrize("other", ["BraTS2021_09999", "BraTS2021_00002"])
    def test_another_patients_is_ignored(self, tmp_path, other):
        folder = touch_case(tmp_path / "BraTS2021_00001", "BraTS2021_00001", SCANS)
        touch_case(tmp_path / "BraTS2021_00002", "BraTS2021_00002", SCANS)
        touch(folder / f"{other}_seg.nii.gz")
        assert [case.label for case in find_cases(tmp_path)] == [None, None]
        assert ignored(tmp_path) == [f"{other}_seg.nii.gz"]

    def test_upenns_labels_lie_apart_and_the_corrected_one_counts(self, tmp_path):
        for number in (1, 2):
            name = f"UPENN-GBM-0000{number}_11"
            touch_case(tmp_path / "images_structural" / name, name, ("_T1", "_T1GD", "_T2", "_FLAIR"))
            touch(tmp_path / "automated_segm" / f"{name}_automated_approx_segm.nii.gz")
        touch(tmp_path / "images_segm" / "UPENN-GBM-00001_11_segm.nii.gz")
        touch(tmp_path / "dataset.json")
        cases = find_cases(tmp_path, labels="brats2021")
        assert [case.label.name for case in cases] == [
            "UPENN-GBM-00001_11_segm.nii.gz", "UPENN-GBM-00002_11_automated_approx_segm.nii.gz",
        ]  # fmt: skip
        assert ignored(tmp_path) == ["UPENN-GBM-00001_11_automated_approx_segm.nii.gz"]
        with pytest.raises(UserError, match="its 1 NIfTI files are labels; point at a folder that holds the scans too"):
            find_cases(tmp_path / "images_segm")

    def test_labels_in_a_folder_of_any_other_name_are_not_taken(self, tmp_path):
        touch_case(tmp_path / "BraTS2021_00001", "BraTS2021_00001", SCANS)
        touch(tmp_path / "fast" / "BraTS2021_00001_seg.nii.gz")
        assert find_cases(tmp_path)[0].label is None
        assert ignored(tmp_path) == ["BraTS2021_00001_seg.nii.gz"]

    def test_bids(self, tmp_path):
        for session in ("1", "2"):
            name, folder = f"sub-01_ses-{session}", tmp_path / "sub-01" / f"ses-{session}" / "anat"
            touch_case(folder, name, ("_T1w", "_ce-gadolinium_T1w", "_T2w", "_FLAIR", "_dseg"))
        touch(tmp_path / "derivatives/x/sub-01/ses-1/anat/sub-01_ses-1_desc-tumor_dseg.nii.gz")
        one, two = find_cases(tmp_path, labels="msd")
        assert (one.id, one.patient, one.images["t1gd"].path.name) == (
            "sub-01_ses-1", "sub-01", "sub-01_ses-1_ce-gadolinium_T1w.nii.gz",
        )  # fmt: skip
        assert one.label.name == "sub-01_ses-1_desc-tumor_dseg.nii.gz"
        assert two.label is None
        assert ignored(tmp_path) == ["sub-01_ses-1_dseg.nii.gz", "sub-01_ses-2_dseg.nii.gz"]


class TestTwoFilesForOneThing:
    @pytest.mark.parametrize("ending", ["_seg", "_t2"])
    @pytest.mark.parametrize("suffix", [".nii", ".NII.GZ", ".Nii"])
    def test_two_suffixes(self, tmp_path, ending, suffix):
        touch_case(tmp_path, "BraTS2021_00001")
        touch(tmp_path / f"BraTS2021_00001{ending}{suffix}")
        (problem,) = survey(tmp_path).unusable
        assert f"BraTS2021_00001{ending}.nii.gz" in problem.message
        assert f"BraTS2021_00001{ending}{suffix}" in problem.message

    @pytest.mark.parametrize("ending", ["_seg", "_t2"])
    def test_a_twin_in_a_folder_below(self, tmp_path, ending):
        touch_case(tmp_path / "a", "BraTS2021_00001", (*SCANS, "_seg"))
        inner = "labels" if ending == "_seg" else "copy"
        touch(tmp_path / inner / f"BraTS2021_00001{ending}.nii.gz")
        found = survey(tmp_path)
        if ending == "_seg":  # that beside the scans and that in a folder of labels
            assert "two files for the label" in found.unusable[0].message
        assert not found.cases
        assert str(tmp_path / "a") in found.unusable[0].message
        assert str(tmp_path / inner) in found.unusable[0].message

    def test_two_endings_for_the_label(self, tmp_path):
        folder = touch_case(tmp_path, "BraTS2021_00001")
        touch(folder / "BraTS2021_00001_segmentation.nii.gz")
        assert "two files for the label" in survey(tmp_path).unusable[0].message

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_one_image_under_two_names(self, tmp_path, link):
        touch_case(tmp_path / "BraTS2021_00001", "BraTS2021_00001", SCANS)
        other = touch_case(tmp_path / "BraTS2021_00002", "BraTS2021_00002", SCANS[1:])
        link(tmp_path / "BraTS2021_00001/BraTS2021_00001_t1.nii.gz", other / "BraTS2021_00002_t1.nii.gz")
        touch_case(tmp_path / "BraTS2021_00003", "BraTS2021_00003", SCANS)
        found = survey(tmp_path)
        assert [case.id for case in found.cases] == ["BraTS2021_00003"]
        assert {problem.case for problem in found.unusable} == {"BraTS2021_00001", "BraTS2021_00002"}
        assert "the same file as" in found.unusable[0].message

    def test_one_modality_that_is_another(self, tmp_path):
        folder = touch_case(tmp_path, "BraTS2021_00001", SCANS[1:])
        os.symlink(folder / "BraTS2021_00001_t1ce.nii.gz", folder / "BraTS2021_00001_t1.nii.gz")
        assert "the same file as" in survey(tmp_path).unusable[0].message

    @pytest.mark.parametrize("name", ["alias", "a_first"])
    def test_a_link_beside_its_folder_is_refused_whichever_comes_first(self, tmp_path, name):
        touch_case(tmp_path / "m" / "BraTS2021_00001", "BraTS2021_00001", SCANS)
        (tmp_path / "m" / name).symlink_to(tmp_path / "m" / "BraTS2021_00001")
        (problem,) = survey(tmp_path / "m").unusable
        assert "found twice" in problem.message


class TestNamesOfCases:
    def test_a_link_keeps_its_own_name(self, tmp_path):
        touch_case(tmp_path / "target", "", ("t1", "t1c", "t2", "flair"))
        (tmp_path / "patient7").symlink_to(tmp_path / "target")
        (tmp_path / "all").mkdir()
        (tmp_path / "all" / "patient8").symlink_to(tmp_path / "target")
        assert [case.id for case in find_cases(tmp_path / "patient7")] == ["patient7"]
        assert [case.id for case in find_cases(tmp_path / "all")] == ["patient8"]

    @pytest.mark.parametrize("visits", [("pre", "post"), ("week-000-1", "week-012"), ("2019-03-01", "2019-04-02")])
    @pytest.mark.parametrize("repeated", [False, True])
    def test_visits_are_told_apart_by_their_patients(self, tmp_path, visits, repeated):
        """Whether the files are just t1.nii.gz or repeat the folder's name."""
        for patient in ("P1", "P2"):
            for visit in visits:
                names = [f"{visit}_{name}" if repeated else name for name in ("t1", "t1c", "t2", "flair", "seg")]
                touch_case(tmp_path / "all" / patient / visit, "", names)
        cases = find_cases(tmp_path / "all", labels="msd")
        assert [(case.id, case.patient) for case in cases] == sorted(
            (f"{patient}_{visit}", patient) for patient in ("P1", "P2") for visit in visits
        )
        assert all(case.label.parent == case.images["t1"].path.parent for case in cases)

    def test_folders_of_one_name_are_told_apart_by_all_that_it_takes(self, tmp_path):
        for folder in ("A/P1/scan", "B/P1/scan", "B/P2/scan", "B/P2/other"):
            touch_case(tmp_path / folder, "", ("t1", "t1c", "t2", "flair"))
        assert [(case.id, case.patient) for case in find_cases(tmp_path)] == [
            ("A_P1_scan", "A_P1"), ("B_P1_scan", "B_P1"), ("P2_other", "P2"), ("P2_scan", "P2"),
        ]  # fmt: skip

    def test_lumiere(self, tmp_path):
        folder = touch_case(tmp_path / "Patient-001/week-000-1", "", ("T1", "CT1", "T2", "FLAIR"))
        touch(folder / "DeepBraTumIA-segmentation/atlas/segmentation/seg_mask.nii.gz")
        touch(folder / "HD-GLIO-AUTO-segmentation/registered/segmentation.nii.gz")
        (case,) = find_cases(tmp_path)
        assert (case.id, case.patient, case.label) == ("Patient-001_week-000-1", "Patient-001", None)
        assert ignored(tmp_path) == ["seg_mask.nii.gz", "segmentation.nii.gz"]

    def test_both_unicode_forms_are_one_case(self, tmp_path):
        composed, apart = (unicodedata.normalize(form, "Zoë_1") for form in ("NFC", "NFD"))
        touch_case(tmp_path, composed, SCANS)
        touch(tmp_path / f"{apart}_seg.nii.gz")
        (case,) = find_cases(tmp_path, labels="msd")
        assert case.id == composed
        assert case.label is not None


class TestOtherFiles:
    def test_capital_suffixes_are_read(self, tmp_path):
        touch_case(tmp_path, "BraTS2021_00001", suffix=".NII.GZ")
        (case,) = find_cases(tmp_path)
        assert case.label.name == "BraTS2021_00001_seg.NII.GZ"

    @pytest.mark.parametrize("suffix", [".hdr", ".img", ".mha", ".nrrd"])
    def test_another_format_is_named(self, tmp_path, suffix):
        touch_case(tmp_path, "BraTS2021_00001", suffix=suffix)
        with pytest.raises(UserError, match=rf"BraTS2021_00001_\w+\{suffix} is not read; convert it"):
            find_cases(tmp_path)

    def test_one_scan_in_another_format(self, tmp_path):
        touch_case(tmp_path, "BraTS2021_00001", SCANS[1:])
        touch(tmp_path / "BraTS2021_00001_t1.img")
        (problem,) = survey(tmp_path).problems
        assert "no t1 (has t1gd, t2, flair); BraTS2021_00001_t1.img is not read" in problem.message
        assert not problem.unusable

    @pytest.mark.parametrize("beside", ["images_structural", "images_DSC", "HGG"])
    def test_a_stray_dataset_json_decides_nothing(self, tmp_path, beside):
        touch_case(tmp_path / beside / "BraTS2021_00001", "BraTS2021_00001")
        (tmp_path / "dataset.json").write_text('{"name": "notes"}')
        assert [case.layout for case in find_cases(tmp_path)] == ["brats"]
        assert [case.layout for case in find_cases(tmp_path / beside)] == ["brats"]

    def test_nor_does_it_beside_images_and_labels_of_another_layout(self, tmp_path):
        touch_case(tmp_path / "images" / "BraTS2021_00001", "BraTS2021_00001", SCANS)
        touch(tmp_path / "labels" / "BraTS2021_00001_seg.nii.gz")
        (tmp_path / "dataset.json").write_text('{"name": "notes"}')
        (case,) = find_cases(tmp_path)
        assert (case.layout, case.label) == ("brats", tmp_path / "labels" / "BraTS2021_00001_seg.nii.gz")

    def test_a_dataset_without_training_images_names_what_there_is(self, tmp_path):
        root = save_nnunet(tmp_path, {"a": example()}, {"background": 0})
        (root / "imagesTr").rename(root / "imagesTs")
        with pytest.raises(UserError, match=r"imagesTr: no NIfTI files.*; point at .*imagesTs"):
            find_cases(root)

    def test_a_dataset_and_other_scans_in_one_folder(self, tmp_path):
        save_nnunet(tmp_path / "Dataset001_X", {"a": example()}, {"background": 0})
        touch_case(tmp_path / "BraTS2021_00001", "BraTS2021_00001")
        with pytest.raises(UserError, match="holds the dataset Dataset001_X and other scans"):
            find_cases(tmp_path)

    def test_the_scheme_and_why(self, tmp_path):
        touch_case(tmp_path / "BraTS2024-PED-Challenge" / "BraTS-PED-00001-000", "BraTS-PED-00001-000", NEW)
        (case,) = find_cases(tmp_path / "BraTS2024-PED-Challenge")
        assert (case.scheme, case.scheme_source) == ("ped2024", "from the folder's name BraTS2024-PED-Challenge")
        (case,) = find_cases(tmp_path, labels="brats2023")
        assert (case.scheme, case.scheme_source) == ("brats2023", "from --labels")
