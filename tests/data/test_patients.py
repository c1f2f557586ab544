"""Which patient a case is of, by the namings of public collections."""

import pytest

from samjax.data.patients import patient_key, patient_of


@pytest.mark.parametrize(
    ("patient", "visits"),
    {
        "UPENN-GBM-00001": ("UPENN-GBM-00001_11", "UPENN-GBM-00001_21"),
        "UCSF-PDGM-0001": ("UCSF-PDGM-0001", "UCSF-PDGM-0001_nifti", "UCSF-PDGM-0001_FU003d",
                           "UCSF-PDGM-0001_FU003d_nifti"),
        "UCSD-PTGBM-0001": ("UCSD-PTGBM-0001_01", "UCSD-PTGBM-0001_02"),
        "PatientID_0003": ("PatientID_0003_Timepoint_1", "PatientID_0003_Timepoint_5"),
        "Patient-001": ("Patient-001/week-000-1", "Patient-001-week-000-2", "Patient-001_week-044"),
        "BraTS-GLI-00005": ("BraTS-GLI-00005-000", "BraTS-GLI-00005-100", "BraTS-GLI-00005-101"),
        "Brats18_TCIA01_201": ("Brats18_TCIA01_201_1", "Brats18_TCIA01_201_2"),
        "brats_tcia_pat101": ("brats_tcia_pat101_0001", "brats_tcia_pat101_0083"),
        "RHUH-0001": ("RHUH-0001_0", "RHUH-0001_1", "RHUH-0001/2"),
        # Data sets made of these, with other characters or words before.
        "UPENN_GBM_00001": ("UPENN_GBM_00001_11", "UPENN_GBM_00001_21"),
        "nn-UCSF_PDGM_0001": ("nn-UCSF_PDGM_0001", "nn-UCSF_PDGM_0001_FU003d"),
        "BraTS_GLI_00005": ("BraTS_GLI_00005_100", "BraTS_GLI_00005_101"),
        "MU_PatientID_0003": ("MU_PatientID_0003_Timepoint_1", "MU_PatientID_0003_Timepoint_2"),
        # Names that people give by themselves.
        "sub-01": ("sub-01_ses-1", "sub-01_ses-pre_acq-2"),
        "P1": ("P1/pre", "P1-post", "P1_tp2", "P1_visit-3", "P1_baseline", "P1_FU2"),
    }.items(),
)  # fmt: skip
def test_all_visits_are_of_one_patient(patient, visits):
    assert {visit: patient_of(visit) for visit in visits} == dict.fromkeys(visits, patient)


@pytest.mark.parametrize(
    "name",
    ["BraTS2021_00001", "BraTS20_Training_001", "BRATS_001", "case_001", "postop_001", "patient_7", "week-3", "scan_2"],
)
def test_numbers_of_patients_are_not_taken_for_visits(name):
    assert patient_of(name) == name


def test_a_key_leaves_out_what_copying_changes():
    assert patient_key("UPENN_GBM 00001") == patient_key("upenn-gbm-00001") != patient_key("upenn-gbm-00002")
