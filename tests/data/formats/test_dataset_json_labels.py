"""What dataset.json says of labels and predictions, and what it may not say."""

import json

import numpy as np
import pytest

from samjax.data.cache.cases import build_cache
from samjax.data.formats.dataset_json_labels import predicted_meanings, scheme_of_meanings
from samjax.data.formats.layouts import find_cases, survey
from samjax.data.labels import BACKGROUND, EDEMA, ENHANCING, IGNORED, NON_ENHANCING, find_scheme
from samjax.errors import UserError
from tests.data.trees import example, save, save_nnunet

PLAIN = {"background": 0, "edema": 1, "non-enhancing": 2, "enhancing": 3}
REGIONS = {"background": 0, "whole_tumor": [1, 2, 3, 4], "tumor_core": [1, 2, 3], "enhancing_tumor": 1}


def described(folder, labels, **more):
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, **more}))
    return folder / "dataset.json"


@pytest.mark.parametrize(
    ("labels", "order", "codes"),
    [
        (REGIONS, [1, 2, 3], {0: BACKGROUND, 1: EDEMA, 2: NON_ENHANCING, 3: ENHANCING}),
        (REGIONS, [4, 2, 1], {0: BACKGROUND, 4: EDEMA, 2: NON_ENHANCING, 1: ENHANCING}),
        (REGIONS | {"resection_cavity": 5}, [2, 1, 3, 4], {0: 0, 2: EDEMA, 1: NON_ENHANCING, 3: ENHANCING, 4: 0}),
        (REGIONS | {"ignore": 5}, [1, 2, 3], {0: BACKGROUND, 1: EDEMA, 2: NON_ENHANCING, 3: ENHANCING}),
        (PLAIN, None, {0: BACKGROUND, 1: EDEMA, 2: NON_ENHANCING, 3: ENHANCING}),
        (PLAIN | {"ignore": 4}, [3, 2, 1], {0: BACKGROUND, 1: EDEMA, 2: NON_ENHANCING, 3: ENHANCING}),
    ],
)
def test_what_predictions_hold(tmp_path, labels, order, codes):
    scheme = scheme_of_meanings(predicted_meanings(described(tmp_path, labels, regions_class_order=order)))
    assert dict(find_scheme(scheme).codes) == codes


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("Surrounding non-enhancing FLAIR hyperintensity", {EDEMA}),
        ("non-enhancing edema", {EDEMA}),
        ("tumour-associated oedema", {EDEMA}),
        ("Non-enhancing tumor core", {NON_ENHANCING}),
        ("necrotic_core", {NON_ENHANCING}),
        ("enhancing_tumor_core", {ENHANCING}),
        ("tumor core", {NON_ENHANCING, ENHANCING}),
        ("tumor core (enhancing and necrotic)", {NON_ENHANCING, ENHANCING}),
        ("enhancing and non-enhancing tumor", {NON_ENHANCING, ENHANCING}),
        ("whole tumor (edema, core)", {EDEMA, NON_ENHANCING, ENHANCING}),
        ("edema and non-enhancing tumor", None),
        ("necrosis/edema", None),
        ("T2 hyperintense tumour", None),
        ("lesion", None),
    ],
)
def test_what_a_name_means(tmp_path, name, meaning):
    meanings = predicted_meanings(described(tmp_path, {"background": 0, name: 1}))
    assert meanings == (None if meaning is None else {0: {BACKGROUND}, 1: meaning})


def test_a_region_written_over_the_smaller_ones_hides_them(tmp_path):
    labels = {"background": 0, "enhancing": 1, "core": [1, 2], "whole": [1, 2, 3]}
    meanings = predicted_meanings(described(tmp_path, labels, regions_class_order=[3, 2, 1]))
    assert meanings == {1: {EDEMA, NON_ENHANCING, ENHANCING}}


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        (REGIONS, {}, "no regions_class_order"),
        (REGIONS, {"regions_class_order": [1, 2]}, "2 values for 3 regions"),
        (REGIONS, {"regions_class_order": [1, 1, 2]}, "writes 1 for"),
        ({"background": 0, "edema": 1, "necrosis": 1, "enhancing": 3}, {}, "'edema' and 'necrosis' both .* 1"),
        ({"background": 1, "edema": 2}, {}, "'background' has the value 1; expected 0"),
        ({"background": 0, "edema": 300}, {}, "expected 0 to 254"),
        ({"edema": 0, "necrosis": 1, "enhancing": 2}, {}, "'edema' has the value 0"),
        ({"background": 0, "edema": [1, 2], "enhancing": [2, 3]}, {"regions_class_order": [1, 2]}, None),
    ],
)
def test_predictions_of_labels_at_odds_with_themselves(tmp_path, labels, more, message):
    path = described(tmp_path, labels, **more)
    if message is None:
        assert scheme_of_meanings(predicted_meanings(path)) is None
        return
    with pytest.raises(UserError, match=message) as caught:
        predicted_meanings(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.fixture
def raw(tmp_path):
    """A function that writes an nnU-Net dataset of one case with other content in its dataset.json."""

    def write(**changes):
        root = save_nnunet(tmp_path / "Dataset001_X", {"a": example()}, PLAIN)
        content = json.loads((root / "dataset.json").read_text())
        (root / "dataset.json").write_text(json.dumps(content | changes))
        return root

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"channel_names": {"0": "T1", "1": "T1Gd", "2": "T2", "3": "FLAIR", "4": "T1w"}},
            "two channels are called t1",
        ),
        ({"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}}, "channel_names .* and modality .* differ"),
        ({"channel_names": ["T1", "T1Gd", "T2", "FLAIR"]}, "channel_names .* is \\['T1'.*expected"),
        ({"file_ending": ".mha"}, "file_ending is '.mha', but none of the 4 files"),
        ({"labels": PLAIN | {"core": [2, 3]}}, "no regions_class_order"),
        ({"labels": PLAIN | {"necrosis": 2}}, "'non-enhancing' and 'necrosis' both"),
        ({"labels": {"background": 0, "edema": [1, 2], "enhancing": [2]}, "regions_class_order": [1, 2]}, "value 2 is"),
    ],
)
def test_a_dataset_at_odds_with_itself_is_refused(raw, changes, message):
    root = raw(**changes)
    with pytest.raises(UserError, match=message) as caught:
        find_cases(root)
    assert str(root / "dataset.json") in str(caught.value)


def test_a_wrong_number_of_cases_does_no_harm(raw):
    assert len(find_cases(raw(numTraining=99))) == 1


def test_what_is_listed_twice_is_refused(raw):
    root = raw()
    text = (root / "dataset.json").read_text().replace('"1": "T1GD"', '"0": "T1GD"')
    (root / "dataset.json").write_text(text)
    with pytest.raises(UserError, match="'0' is listed twice"):
        find_cases(root)


def test_files_with_values_that_labels_do_not_name_are_left_out(raw):
    root = raw(labels={"background": 0, "edema": 1, "non-enhancing": 2, "enhancing": 4})
    good, failures = build_cache(find_cases(root), None, workers=1, progress=False)
    assert not good
    assert "label value 3 is not one of" in failures[0].reason
    assert "a.nii.gz" in failures[0].reason


@pytest.mark.parametrize("name", ["ignore", "Ignored", "void", "dont_care"])
def test_ignored_voxels_have_a_code_of_their_own_and_no_count(raw, name):
    root = raw(labels=PLAIN | {name: 7})
    label = example().label.copy()
    label[4:] = 7
    save(root / "labelsTr" / "a.nii.gz", label)
    (case,) = find_cases(root)
    assert case.scheme == "edema=1,non-enhancing=2,enhancing=3,ignore=7"
    (cached,), _ = build_cache([case], None, workers=1, progress=False)
    labels = cached.read(0, 9)[1]
    assert (labels[4:] == IGNORED).all()
    assert (labels[:4] == example().label[:4]).all()
    assert (cached.counts[4:] == 0).all()
    assert (cached.counts[:4].sum(axis=1) == labels[0].size).all()
    np.testing.assert_array_equal(cached.counts[3], np.bincount(example().label[3].ravel(), minlength=4))


def test_a_label_named_like_an_image_is_no_label(raw):
    root = raw()
    (root / "labelsTr" / "a.nii.gz").rename(root / "labelsTr" / "a_0000.nii.gz")
    found = survey(root)
    assert not found.cases
    assert "its label is called a_0000.nii.gz" in found.unusable[0].message
    assert len(find_cases(root, read_labels=False)) == 1


def test_labels_of_no_case_are_named(raw):
    root = raw()
    (root / "labelsTr" / "b.nii.gz").touch()
    (root / "labelsTr" / "._a.nii.gz").touch()
    found = survey(root)
    assert [case.label.name for case in found.cases] == ["a.nii.gz"]
    assert [(problem.path.name, problem.ignored, problem.unusable) for problem in found.problems] == [
        ("b.nii.gz", True, False)
    ]


@pytest.mark.parametrize(("folder", "name"), [("imagesTr", "a_0002"), ("labelsTr", "a")])
def test_two_files_for_one_thing(raw, folder, name):
    root = raw()
    (root / folder / f"{name}.nii").touch()
    found = survey(root)
    assert not found.cases
    assert f"{name}.nii and {name}.nii.gz; remove one" in found.unusable[0].message


def test_more_channels_than_are_named(raw):
    root = raw()
    (root / "imagesTr" / "a_0004.nii.gz").touch()
    assert "a_0004.nii.gz is channel 4, but dataset.json names 4" in survey(root).unusable[0].message
