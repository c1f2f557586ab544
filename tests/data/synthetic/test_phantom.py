"""The phantom cohort: determinism, geometry, what each domain promises, and files that survive a kill."""

import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from samjax.data.formats.layouts import find_cases
from samjax.data.synthetic import phantom
from samjax.data.synthetic.phantom import DOMAINS, PhantomOptions, make_case, write_cohort
from samjax.errors import UserError

SMALL = PhantomOptions(shape=(80, 80, 32))
TINY = PhantomOptions(shape=(24, 24, 12))


@pytest.fixture(scope="module")
def cohorts():
    return {domain: [make_case(domain, 3, index, SMALL) for index in range(5)] for domain in DOMAINS}


def core(case):
    return (case["label"] == 1) | (case["label"] == 3)


def enhancing_share(case):
    return np.count_nonzero(case["label"] == 3) / np.count_nonzero(core(case))


def healthy(case):
    """Brain that is neither tumour nor close to it or to the surface."""
    return ndimage.binary_erosion((case["images"]["t1"] > 0) & ~ndimage.binary_dilation(case["label"] > 0))


def best_threshold_dice(image, brain, target):
    """Dice of the best single threshold, from either side."""
    values, truth = image[brain], target[brain]
    best = 0.0
    for level in np.percentile(values, np.linspace(1, 99.5, 40)):
        for guess in (values >= level, values <= level):
            best = max(best, 2 * np.sum(guess & truth) / (guess.sum() + truth.sum()))
    return best


def test_same_arguments_same_voxels_and_others_differ():
    first, again = make_case("adult", 1, 2, TINY), make_case("adult", 1, 2, TINY)
    np.testing.assert_array_equal(first["label"], again["label"])
    for modality, image in first["images"].items():
        np.testing.assert_array_equal(image, again["images"][modality])
    for other in (("adult", 1, 3), ("adult", 2, 2), ("subsaharan", 1, 2), ("adult", 2, 1)):
        assert np.any(make_case(*other, TINY)["images"]["t1"] != first["images"]["t1"])


def test_default_case_is_a_whole_head_on_zero_background():
    case = make_case("adult", 0, 0)
    assert list(case["images"]) == ["t1", "t1gd", "t2", "flair"]
    brain = case["images"]["t1"] > 0
    for image in case["images"].values():
        assert image.dtype == np.int16
        assert image.shape == PhantomOptions().shape
        assert image.min() == 0
        np.testing.assert_array_equal(image > 0, brain)
    assert case["label"].dtype == np.uint8
    assert not np.any(case["label"][~brain])
    litres = brain.sum() * np.prod(PhantomOptions().spacing) / 1e6
    assert 1.2 < litres < 2.3
    sides = np.concatenate([brain[[0, -1]].ravel(), brain[:, [0, -1]].ravel(), brain[:, :, -1].ravel()])
    assert not sides.any()
    assert ndimage.label(brain)[1] == 1


def test_labels_are_whole_and_present_as_the_domain_has_them(cohorts):
    for domain, cases in cohorts.items():
        for case in cases:
            pieces = np.bincount(ndimage.label(case["label"])[0].ravel())[1:]
            assert pieces.min() * np.prod(SMALL.spacing) >= 100  # mm3: no crumbs
            found = set(np.unique(case["label"]))
            assert found <= {0, 1, 2, 3}
            if domain in ("adult", "subsaharan"):
                assert found == {0, 1, 2, 3}
            elif domain == "meningioma":
                assert {0, 3} <= found
            else:
                assert {0, 1} <= found
    # Optional compartments are there in some cases.
    assert any(np.any(case["label"] == 2) for case in cohorts["meningioma"])
    assert any(np.any(case["label"] == 3) for case in cohorts["paediatric"])


def test_gadolinium_brightens_some_tumours_and_not_others(cohorts):
    shares = {domain: [enhancing_share(case) for case in cases] for domain, cases in cohorts.items()}
    assert min(shares["meningioma"]) > 0.6
    assert max(shares["paediatric"]) < 0.2
    assert 0.1 < np.median(shares["adult"]) < 0.8


def test_meningiomas_lie_at_the_surface_and_are_smoother_than_gliomas(cohorts):
    def depth(case):
        inside = ndimage.distance_transform_edt(case["images"]["t1"] > 0, sampling=SMALL.spacing)
        return inside[core(case)].min()

    def compactness(case):
        """Surface voxels over the two-thirds power of the volume."""
        body = core(case)
        return np.count_nonzero(body & ~ndimage.binary_erosion(body)) / np.count_nonzero(body) ** (2 / 3)

    assert np.median([depth(case) for case in cohorts["meningioma"]]) < 4
    assert np.median([depth(case) for case in cohorts["adult"]]) > 4
    medians = {domain: np.median([compactness(case) for case in cohorts[domain]]) for domain in ("meningioma", "adult")}
    assert medians["meningioma"] < medians["adult"]


def test_paediatric_tumours_lie_on_the_midline_and_mostly_low(cohorts):
    middle = (SMALL.shape[0] - 1) / 2
    aside = {}
    heights = []
    for domain in ("paediatric", "adult"):
        centres = [np.argwhere(core(case)).mean(axis=0) for case in cohorts[domain]]
        aside[domain] = [abs(centre[0] - middle) * SMALL.spacing[0] for centre in centres]
        heights.append(np.median([centre[2] for centre in centres]))
    assert max(aside["paediatric"]) < 15
    assert np.median(aside["adult"]) > 15
    assert heights[0] < heights[1] - 4


def test_subsaharan_scans_are_noisier():
    """The same even object, as each domain's scanner records it."""

    def noise(domain, seed):
        even = np.ones((30, 30, 12), np.float32)
        rng = np.random.default_rng(seed)
        stored = phantom.scan.acquire(rng, even, even > 0, (1.2, 1.2, 4.5), phantom._SCANNERS[domain])
        return stored.std() / stored.mean()

    coarse = [noise("subsaharan", seed) for seed in range(8)]
    for domain in ("adult", "meningioma", "paediatric"):
        assert np.median(coarse) > 1.5 * np.median([noise(domain, seed) for seed in range(8)])


def test_subsaharan_scans_are_coarser(cohorts):
    def step(case, axis):
        """Typical difference between neighbours along `axis`."""
        image, mask = case["images"]["t2"].astype(float), healthy(case)
        return np.median(np.abs(image - np.roll(image, 1, axis))[mask & np.roll(mask, 1, axis)])

    def folds(case):
        """Contrast left at the size of a fold: the spread of the middle frequencies over the mean."""
        image, mask = case["images"]["t2"].astype(float), healthy(case)
        band = ndimage.gaussian_filter(image, (0.8, 0.8, 0)) - ndimage.gaussian_filter(image, (3, 3, 0))
        return band[mask].std() / image[mask].mean()

    def thin_slices(case):
        return step(case, 2) / step(case, 0)

    coarse, sharp = cohorts["subsaharan"], cohorts["adult"]
    assert max(map(thin_slices, coarse)) < min(map(thin_slices, sharp))
    assert max(map(folds, coarse)) < min(map(folds, sharp))


def test_contrasts_are_those_of_the_sequences(cohorts):
    for case in cohorts["adult"]:
        images, label, normal = case["images"], case["label"], healthy(case)

        def ratio(modality, value, images=images, label=label, normal=normal):
            return np.median(images[modality][label == value]) / np.median(images[modality][normal])

        assert ratio("t2", 2) > 1.15  # edema
        assert ratio("flair", 2) > 1.1
        assert ratio("t1gd", 3) > 1.2  # rim
        assert ratio("t1gd", 1) < 0.85  # core
        assert ratio("t1", 1) < 0.9


def test_no_single_threshold_separates_the_tumour(cohorts):
    """As hard as real scans, where flair alone gives about 0.7 and t1gd about 0.3 for the rim."""
    for case in cohorts["adult"]:
        brain = case["images"]["t1"] > 0
        for modality, most in (("t1", 0.6), ("t1gd", 0.6), ("t2", 0.85)):
            assert best_threshold_dice(case["images"][modality], brain, case["label"] > 0) < most
    flair = [
        best_threshold_dice(case["images"]["flair"], case["images"]["t1"] > 0, case["label"] > 0)
        for case in cohorts["adult"]
    ]
    rim = [
        best_threshold_dice(case["images"]["t1gd"], case["images"]["t1"] > 0, case["label"] == 3)
        for case in cohorts["adult"]
    ]
    assert np.mean(flair) < 0.88
    assert np.mean(rim) < 0.7


def test_axes_run_left_posterior_superior(monkeypatch):
    """A lesion of the right frontal lobe, and the cerebellum, end up where the affine says."""
    draw = phantom.growth.draw_tumour

    def in_right_frontal_lobe(*arguments):
        return replace(draw(*arguments), centre=(30.0, 34.0, 30.0), edema=0.0)

    monkeypatch.setattr(phantom.growth, "draw_tumour", in_right_frontal_lobe)
    case = make_case("adult", 0, 0, SMALL)
    brain = np.argwhere(case["images"]["t1"] > 0)
    world = nibabel.affines.apply_affine(SMALL.affine, brain)
    tumour = nibabel.affines.apply_affine(SMALL.affine, np.argwhere(core(case))).mean(axis=0)
    middle = world.mean(axis=0)
    assert tumour[0] > middle[0] + 15  # R
    assert tumour[1] > middle[1] + 25  # A
    assert tumour[2] > middle[2]  # S
    lowest = world[world[:, 2] < world[:, 2].min() + 30]
    assert lowest[:, 1].mean() < middle[1] - 10  # cerebellum and brain stem, not frontal lobe


def test_files_are_brats(tmp_path):
    folders = write_cohort(tmp_path / "phantom2023", "meningioma", 1, seed=4, options=TINY)
    assert [folder.name for folder in folders] == ["BraTS-MEN-90000-000"]
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == [f"BraTS-MEN-90000-000-{kind}.nii.gz" for kind in ("seg", "t1c", "t1n", "t2f", "t2w")]
    case = make_case("meningioma", 4, 0, TINY)
    for kind, array in (
        ("t1c", case["images"]["t1gd"]),
        ("t2f", case["images"]["flair"]),
        ("seg", case["label"]),
    ):
        image = nibabel.load(folders[0] / f"BraTS-MEN-90000-000-{kind}.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), array)
        assert image.get_data_dtype() == (np.uint8 if kind == "seg" else np.int16)
        assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
        np.testing.assert_allclose(image.header.get_zooms(), TINY.spacing, rtol=1e-6)
        # BraTS places the last row at 0 mm posterior-anterior.
        np.testing.assert_allclose(image.affine[:3, 3], (0, TINY.spacing[1] * 23, 0), rtol=1e-6)
        assert image.header["qform_code"] == image.header["sform_code"] == 1


def test_the_cohort_is_found_as_brats_2023(tmp_path):
    for domain in DOMAINS:
        write_cohort(tmp_path / f"{domain}-2023", domain, 2, options=TINY)
        cases = find_cases(tmp_path / f"{domain}-2023", domain)
        assert [case.id[-9:] for case in cases] == ["90000-000", "90001-000"]
        assert {case.scheme for case in cases} == {"brats2023"}


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_finished_cohort_is_kept_extended_and_cut(tmp_path):
    root = tmp_path / "c2023"
    write_cohort(root, "adult", 2, options=TINY)
    before = contents(root)
    stamps = {p: p.stat().st_mtime_ns for p in root.rglob("*.nii.gz")}
    calls = []
    write_cohort(root, "adult", 2, options=TINY, progress=lambda done, total: calls.append((done, total)))
    assert calls == []
    assert contents(root) == before
    write_cohort(root, "adult", 3, options=TINY, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 1)]
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    write_cohort(root, "adult", 1, options=TINY)
    assert sorted(p.name for p in root.iterdir()) == ["BraTS-GLI-90000-000", "cohort.json"]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"options": PhantomOptions(shape=(20, 20, 10))}, {"domain": "paediatric"}]
)
def test_other_options_write_the_cohort_anew(tmp_path, change):
    arguments = {"domain": "adult", "cases": 1, "seed": 0, "options": TINY}
    write_cohort(tmp_path / "a2023", **arguments)
    write_cohort(tmp_path / "a2023", **(arguments | change))
    write_cohort(tmp_path / "b2023", **(arguments | change))
    assert contents(tmp_path / "a2023") == contents(tmp_path / "b2023")


KILLED = """
import os, sys
from pathlib import Path
from samjax.data.synthetic import phantom
written = phantom._write_nifti
calls = []
def dies(*arguments):
    calls.append(1)
    if len(calls) == 8:
        os._exit(9)
    written(*arguments)
phantom._write_nifti = dies
assert "jax" not in sys.modules and "nibabel" not in sys.modules
phantom.write_cohort(sys.argv[1], "adult", 3, options=phantom.PhantomOptions(shape=(24, 24, 12)))
"""


def test_a_killed_call_is_continued(tmp_path):
    root, whole = tmp_path / "k2023", tmp_path / "w2023"
    assert subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False).returncode == 9
    done = [p.name for p in root.iterdir() if p.name.startswith("BraTS")]
    assert done == ["BraTS-GLI-90000-000"]  # the second case was cut short and is not seen as one
    assert any(p.name.startswith(".tmp-") for p in root.iterdir())
    calls = []
    write_cohort(root, "adult", 3, options=TINY, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    write_cohort(whole, "adult", 3, options=TINY)
    assert contents(root) == contents(whole)


def test_several_workers_write_the_same_files(tmp_path):
    write_cohort(tmp_path / "one2023", "subsaharan", 3, options=TINY)
    write_cohort(tmp_path / "two2023", "subsaharan", 3, options=TINY, workers=2)
    assert contents(tmp_path / "one2023") == contents(tmp_path / "two2023")


def test_a_folder_with_other_things_is_refused_and_untouched(tmp_path):
    (tmp_path / "BraTS-GLI-90000-000").mkdir()
    with pytest.raises(UserError, match="BraTS-GLI-90000-000"):
        write_cohort(tmp_path, "adult", 1, options=TINY)
    (tmp_path / "BraTS-GLI-90000-000").rename(tmp_path / "thesis")
    with pytest.raises(UserError, match="thesis"):
        write_cohort(tmp_path, "adult", 1, options=TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis"]


def test_an_unknown_domain_is_named(tmp_path):
    with pytest.raises(UserError, match=r"'adults'.*paediatric"):
        make_case("adults", 0, 0)
    with pytest.raises(UserError, match="'adults'"):
        write_cohort(tmp_path / "x", "adults", 1)
    assert not (tmp_path / "x").exists()
