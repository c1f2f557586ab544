"""What names of files say, and which of them are labels."""

import unicodedata

import pytest

from samjax.data.formats.names import ImageName, LabelName, image_name, label_name, nifti_stem


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a_t1.nii.gz", "a_t1"),
        ("a_t1.nii", "a_t1"),
        ("A_T1.NII.GZ", "A_T1"),
        ("a.b.nii.gz", "a.b"),
        ("._a_t1.nii.gz", None),
        ("a_t1.hdr", None),
        ("a_t1.nii.gz.part", None),
        (".nii.gz", None),
    ],
)
def test_what_is_nifti(name, stem):
    assert nifti_stem(name) == stem


def test_both_unicode_forms_are_one_name():
    composed, apart = (unicodedata.normalize(form, "Müller_t1.nii.gz") for form in ("NFC", "NFD"))
    assert composed != apart
    assert nifti_stem(composed) == nifti_stem(apart)


@pytest.mark.parametrize(
    ("stem", "case", "modality"),
    [
        ("BraTS2021_00001_t1ce", "BraTS2021_00001", "t1gd"),
        ("BraTS-GLI-00001-000-t2f", "BraTS-GLI-00001-000", "flair"),
        ("t1", None, "t1"),
        ("_t1", None, "t1"),
        ("CT1", None, "t1gd"),
        ("UPENN-GBM-00001_11_T1GD", "UPENN-GBM-00001_11", "t1gd"),
        ("UCSF-PDGM-0004_T1gad", "UCSF-PDGM-0004", "t1gd"),
        ("case_t1_ce", "case", "t1gd"),
        ("case_T1-Post", "case", "t1gd"),
        ("case_t1_pre", "case", "t1"),
        ("case_T1w_Gd", "case", "t1gd"),
        ("UCSD-PTGBM-0002_01_T1pre", "UCSD-PTGBM-0002_01", "t1"),
        ("UCSD-PTGBM-0002_01_T1post", "UCSD-PTGBM-0002_01", "t1gd"),
        ("PatientID_0003_Timepoint_1_brain_t1c", "PatientID_0003_Timepoint_1", "t1gd"),
        ("case_T2_FLAIR", "case", "flair"),
        ("sub-01_T1w", "sub-01", "t1"),
        ("sub-01_ses-2_ce-gadolinium_T1w", "sub-01_ses-2", "t1gd"),
        ("sub-01_ses-2_acq-3d_ce-Gd_run-1_T1w", "sub-01_ses-2", "t1gd"),
        ("sub-01_ce-none_T1w", "sub-01", "t1"),
        ("sub-01_space-SRI_FLAIR", "sub-01", "flair"),
    ],
)
def test_scans(stem, case, modality):
    assert image_name(stem) == ImageName(case, modality)


@pytest.mark.parametrize("stem", ["UCSF-PDGM-0004_T1_bias", "UCSF-PDGM-0004_ADC", "a_T1_unstripped", "ct1_skull_strip"])
def test_what_is_no_scan(stem):
    assert image_name(stem) is None


@pytest.mark.parametrize(
    ("stem", "case", "rank"),
    [
        ("BraTS2021_00001_seg", "BraTS2021_00001", 0),
        ("BraTS-GLI-00001-000-seg", "BraTS-GLI-00001-000", 0),
        ("UCSF-PDGM-0004_tumor_segmentation", "UCSF-PDGM-0004", 0),
        ("UPENN-GBM-00001_11_segm", "UPENN-GBM-00001_11", 0),
        ("UPENN-GBM-00001_11_automated_approx_segm", "UPENN-GBM-00001_11", 1),
        ("PatientID_0003_Timepoint_1_tumorMask", "PatientID_0003_Timepoint_1", 0),
        ("UCSD-PTGBM-0002_01_BraTS_tumor_seg", "UCSD-PTGBM-0002_01", 0),
        ("W39_1998.09.19_Segm", "BraTS20_Training_355", 0),
        ("sub-01_ses-1_seg", "sub-01_ses-1", 0),
        ("seg", None, 0),
    ],
)
def test_labels(stem, case, rank):
    assert label_name(stem) == LabelName(case, rank)


def test_a_bids_label_that_names_the_tumour_may_lie_apart():
    assert label_name("sub-01_space-T1w_desc-tumor_dseg") == LabelName("sub-01", anywhere=True)


@pytest.mark.parametrize(
    ("stem", "case"),
    [
        ("BraTS2021_00001_brain_seg", "BraTS2021_00001"),
        ("BraTS2021_00001_t1_seg", "BraTS2021_00001"),
        ("UCSF-PDGM-0004_brain_segmentation", "UCSF-PDGM-0004"),
        ("UCSF-PDGM-0004_brain_parenchyma_segmentation", "UCSF-PDGM-0004"),
        ("UCSD-PTGBM-0002_01_total_cellular_tumor_seg", "UCSD-PTGBM-0002_01"),
        ("BraTS2021_00001_brain_mask", "BraTS2021_00001"),
        ("sub-01_dseg", "sub-01"),
        ("sub-01_desc-brain_seg", "sub-01"),
        ("sub-01_T1w_seg", "sub-01"),
        ("sub-01_label-GM_seg", "sub-01"),
    ],
)
def test_other_segmentations_are_no_label_of_the_case(stem, case):
    found = label_name(stem)
    assert found is None or found.case != case
