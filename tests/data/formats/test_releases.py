"""Label schemes from the names of cases and of a release's folder, and never from a year elsewhere."""

import pytest

from samjax.data.formats.releases import known_scheme

PED, GLI = "BraTS-PED-00001-000", "BraTS-GLI-00001-000"


@pytest.mark.parametrize(
    ("folder", "case", "scheme"),
    [
        ("ASNR-MICCAI-BraTS2023-PED-Challenge-TrainingData", PED, "brats2023"),
        ("asnr-miccai-brats2023-gli-challenge-trainingdata_v2", GLI, "brats2023"),
        ("ASNR-MICCAI-BraTS2023-GLI-Challenge-ValidationData", GLI, "brats2023"),
        ("BraTS2024-PED-Challenge", PED, "ped2024"),
        ("BraTS2024-PED-Challenge-TrainingData", PED, "ped2024"),
        ("BraTS-PEDs2024_Training", PED, "ped2024"),
        ("BraTS2024-BraTS-GLI-TrainingData", GLI, "gli2024"),
        ("BraTS2024-BraTS-GLI-AdditionalTrainingData", GLI, "gli2024"),
        ("MICCAI-BraTS2024-GLI-Challenge-Training_1", GLI, "gli2024"),
        ("PED-2024", PED, "ped2024"),
        ("PEDs 2024", PED, "ped2024"),
        ("BraTS2023", PED, "brats2023"),
        ("brats_2024", GLI, "gli2024"),
    ],
)
def test_a_releases_own_name_decides(tmp_path, folder, case, scheme):
    root = tmp_path / folder
    (root / case).mkdir(parents=True)
    found = known_scheme(case, root, root / case)
    assert (found.scheme, found.source) == (scheme, f"from the folder's name {folder}")
    assert known_scheme(case, root / case, root / case) == found, "also where one case's folder is given"


@pytest.mark.parametrize(
    "folder",
    [
        "PED_copied_2024-03-01", "copied_2024-03-01", "2024", "data-2023", "BraTS2023-2024", "BraTS2024-03",
        "2024-BraTS-download", "BraTS2023-PED-masks-of-2024", "BraTS2024-GLI-Challenge", "BraTS2025-PED",
    ],
)  # fmt: skip
def test_any_other_name_leaves_it_open(tmp_path, folder):
    root = tmp_path / folder
    (root / PED).mkdir(parents=True)
    assert known_scheme(PED, root, root / PED) is None


def test_the_nearest_release_counts(tmp_path):
    inner = tmp_path / "BraTS2023" / "moved_2023" / "BraTS2024-PED-Challenge" / "x_2023" / PED
    inner.mkdir(parents=True)
    assert known_scheme(PED, tmp_path / "BraTS2023", inner).scheme == "ped2024"


@pytest.mark.parametrize(
    ("case", "scheme"),
    [
        ("Brats17_TCIA_604_1", "brats2021"), ("BraTS2021_00002", "brats2021"), ("BraTS-MET-00001-000", "brats2023"),
        ("BraTS-SSA-00001-000", "brats2023"), ("BraTS-GoAT-00001", "brats2023"), ("BraTS-XYZ-00001-000", None),
        ("UCSF-PDGM-0004", None), ("scan_2021_1", None), ("BraTS2022_00001", None),
    ],
)  # fmt: skip
def test_names_of_cases(tmp_path, case, scheme):
    found = known_scheme(case, tmp_path, tmp_path)
    assert (found.scheme if found else None) == scheme
