"""Scans are known by what is in them, not by their files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samjax.data.cache.cases import open_case
from samjax.data.cases import Case
from samjax.data.fingerprint import FingerprintIndex, fingerprint_of, scan_digest
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.volumes import read_case
from samjax.inference.predictor import read_images
from tests.data.trees import Example, example, save_brats, save_msd

ID = "BraTS2021_00001"


def case_at(folder: Path, scan: Example, name: str = ID, scheme: str | None = "brats2021", **how) -> Case:
    (case,) = find_cases(save_brats(folder, name, scan, scheme, **how))
    return case


@pytest.fixture(scope="module")
def scan() -> Example:
    return example()


@pytest.fixture(scope="module")
def original(scan: Example, tmp_path_factory: pytest.TempPathFactory) -> str:
    return fingerprint_of(read_case(case_at(tmp_path_factory.mktemp("scan"), scan)))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("BraTS2021_00777", {}),
        (ID, {"suffix": ".nii"}),
        (ID, {"orientation": "RAS"}),
        (ID, {"orientation": "AIL", "spacing": (2.0, 1.0, 1.0)}),
        (ID, {"scheme": None}),
        (ID, {"dtype": np.int32}),
    ],
)
def test_files_do_not_matter(tmp_path: Path, scan: Example, original: str, name: str, how: dict):
    assert fingerprint_of(read_case(case_at(tmp_path, scan, name, **how))) == original


def test_a_decathlon_file_of_the_same_scan(tmp_path: Path, scan: Example, original: str):
    (case,) = find_cases(save_msd(tmp_path, {"BRATS_001": scan}))
    assert fingerprint_of(read_case(case)) == original


def test_background_around_the_head_does_not_matter(tmp_path: Path, scan: Example, original: str):
    around = ((1, 3), (0, 5), (2, 0))
    padded = Example({m: np.pad(x, around) for m, x in scan.images.items()}, np.pad(scan.label, around))
    assert fingerprint_of(read_case(case_at(tmp_path, padded))) == original


def test_another_scan_differs_in_every_part_and_one_voxel_in_its_own(tmp_path: Path, scan: Example, original: str):
    other = fingerprint_of(read_case(case_at(tmp_path / "other", example(1))))
    assert all(a != b for a, b in zip(original.split("-"), other.split("-"), strict=True))
    changed = {m: image.copy() for m, image in scan.images.items()}
    changed["t2"][4, 10, 8] += 100
    parts = fingerprint_of(read_case(case_at(tmp_path / "t2", Example(changed, scan.label)))).split("-")
    same = [a == b for a, b in zip(original.split("-"), parts, strict=True)]
    assert same == [True, True, False, True]


def test_it_is_kept_in_the_cache_and_made_up_for_in_older_files(tmp_path: Path, scan: Example, original: str):
    case = case_at(tmp_path / "scan", scan)
    cached = open_case(case, tmp_path / "cache")
    assert cached.stored_fingerprint == cached.fingerprint == original
    assert replace(cached, stored_fingerprint=None).fingerprint == original
    assert open_case(case, None).fingerprint == original


def test_an_index_finds_cases_that_share_a_scan():
    index = FingerprintIndex({"one": "a-b-c-d", "two": "e-f-g-h", "none": ""})
    assert (index.find("a-b-c-d"), index.find("x-f-x-x")) == ("one", "two")
    assert index.find("b-a-d-c") is None, "modalities are compared with their own"
    assert index.find("") is None
    index.add("later", "a-x-x-x")
    assert index.find("a-y-y-y") == "one"


def test_a_missing_modality_has_no_part_and_the_scan_is_found_by_the_others(
    tmp_path: Path, scan: Example, original: str
):
    def without_t1(folder: str, images: Example) -> str:
        case = case_at(tmp_path / folder, images)
        return fingerprint_of(read_case(replace(case, images={m: x for m, x in case.images.items() if m != "t1"})))

    found = without_t1("same", scan)
    assert found == "-" + original.partition("-")[2]
    index = FingerprintIndex({"whole": original, "other": without_t1("other", example(1))})
    assert index.find(found) == "whole"
    assert index.find(without_t1("third", example(2))) is None, "two scans without T1 have nothing in common"


def test_the_digest_of_a_scan_knows_its_grid(tmp_path: Path, scan: Example):
    def digest(folder: str, images: Example = scan, **how) -> str:
        return scan_digest(*read_images(case_at(tmp_path / folder, images, scheme=None, **how)))

    moved = Example({m: np.roll(image, 1, axis=2) for m, image in scan.images.items()}, scan.label)
    first = digest("first")
    assert digest("again", suffix=".nii") == first
    assert len({first, digest("spacing", spacing=(2.0, 1.0, 1.0)), digest("turned", orientation="RAS"),
                digest("moved", moved), digest("other", example(1))}) == 5  # fmt: skip
