"""The readers on real BraTS 2018 cases and an unlabelled one, where SAMJAX_REAL_DATA names their folder."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from samjax.data.cache.cases import build_cache
from samjax.data.check import check
from samjax.data.formats.layouts import MODALITIES, find_cases
from samjax.data.imaging.normalise import PERCENTILES, normalise
from samjax.data.imaging.volumes import read_case, write_labels
from samjax.data.labels import from_canonical

ROOT = Path(os.environ.get("SAMJAX_REAL_DATA", "."))
pytestmark = pytest.mark.skipif("SAMJAX_REAL_DATA" not in os.environ, reason="SAMJAX_REAL_DATA is not set")
LABELS = {0: 0, 1: 2, 2: 1, 4: 3}


@pytest.fixture(scope="module")
def cases():
    return find_cases(ROOT / "brats18", "adult")


def test_ten_patients_one_scheme(cases):
    assert len(cases) == len({case.patient for case in cases}) == 10
    assert {case.scheme for case in cases} == {"brats2021"}


@pytest.mark.parametrize("number", [3, 5])
def test_voxels_are_those_nibabel_reads(cases, number, tmp_path):
    volume = read_case(cases[number])
    for channel, modality in enumerate(MODALITIES):
        image = nib.load(cases[number].images[modality].path)
        spl = np.transpose(image.get_fdata(), (2, 1, 0))  # these files are stored along L, P, S
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        low, high = np.percentile(spl[spl != 0], PERCENTILES)
        expected = np.where(spl != 0, np.rint(np.clip((spl - low) / (high - low), 0, 1) * 255), 0)
        whole = np.zeros(spl.shape)
        whole[volume.box.index] = volume.images[..., channel]
        assert np.abs(whole - expected).max() <= 1
        assert np.count_nonzero(whole != expected) < 10
    label = nib.load(cases[number].label)
    canonical = np.zeros(volume.geometry.shape, np.uint8)
    canonical[volume.box.index] = volume.labels
    for value, code in LABELS.items():
        assert np.count_nonzero(label.get_fdata() == value) == np.count_nonzero(canonical == code)
    write_labels(tmp_path / "x.nii.gz", from_canonical(canonical, "brats2021"), cases[number], volume.geometry)
    written = nib.load(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), np.asanyarray(label.dataobj))
    np.testing.assert_allclose(written.affine, label.affine, atol=1e-6)
    assert written.get_data_dtype() == label.get_data_dtype()


def test_a_real_brain_turned_or_resampled_is_as_bright_as_before(cases):
    """The edges of this case are hard; every interpolation leaves a soft one."""
    apart = []
    for modality in MODALITIES:
        stored = nib.load(cases[3].images[modality].path).get_fdata(dtype=np.float32).transpose(2, 1, 0)[40:110]
        plain = normalise(stored, 0, modality)
        for change in (
            lambda x: ndimage.gaussian_filter(x, 0.6),
            lambda x: ndimage.rotate(x, 7.0, axes=(1, 2), reshape=False, order=1),
            lambda x: ndimage.zoom(x, (1, 0.7, 0.7), order=1),
        ):
            changed = change(stored)
            brain, before = (
                changed > 0.3 * np.median(changed[changed > 0]),
                stored > 0.3 * np.median(stored[stored > 0]),
            )
            apart.append(np.median(normalise(changed, 0, modality)[brain]) - np.median(plain[before]))
    assert np.abs(apart).max() < 20
    assert np.abs(apart).mean() < 9


def test_the_same_case_as_decathlon_gives_the_same_voxels(cases, tmp_path):
    order = ("flair", "t1", "t1gd", "t2")
    case = cases[0]
    images = [nib.load(case.images[modality].path) for modality in order]
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    stacked = np.stack([np.asanyarray(image.dataobj) for image in images], -1)
    nib.save(nib.Nifti1Image(stacked, images[0].affine), tmp_path / "imagesTr" / "BRATS_001.nii")
    label = np.asanyarray(nib.load(case.label).dataobj)
    # Decathlon: 1 edema, 2 non-enhancing, 3 enhancing.
    mapped = np.array([0, 2, 1, 0, 3], np.uint8)[label]
    nib.save(nib.Nifti1Image(mapped, images[0].affine), tmp_path / "labelsTr" / "BRATS_001.nii")
    content = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    ours, theirs = read_case(find_cases(tmp_path)[0]), read_case(case)
    np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.counts, theirs.counts)


def test_a_scan_without_label_along_other_axes(cases, tmp_path):
    (case,) = find_cases(ROOT / "unlabelled")
    assert case.label is None
    image = nib.load(case.images["flair"].path)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    (one,), failures = build_cache([case], tmp_path, workers=1, progress=False)
    assert not failures
    pictures, labels = one.read(0, 155)
    assert not labels.any()
    stored = np.asanyarray(image.dataobj)
    np.testing.assert_array_equal(pictures[..., 3] == 0, (stored[::-1, ::-1].T == 0) | (pictures[..., 3] == 0))
    assert np.corrcoef(pictures[80, ..., 3].ravel(), stored[::-1, ::-1, 80].T.ravel())[0, 1] > 0.9


def test_all_pass_the_check():
    report = check(ROOT / "brats18", progress=False)
    assert report.problems == []
    assert report.total == 10
