import hashlib
import json

import pytest

from samjax.data.formats.layouts import Case
from samjax.data.splits import PARTS, Member, Split, Splits, split_cases, split_patients, splits_from_json
from samjax.errors import UserError


def names(count):
    return [f"p{number:04d}" for number in range(count)]


def parts_of(split):
    return [getattr(split, part) for part in PARTS]


def case(case_id, patient, domain="adult", label="seg"):
    return Case(case_id, patient, domain, {}, label, "msd", "brats")


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(3, (1, 1, 1)), (5, (3, 1, 1)), (10, (7, 1, 2)), (100, (72, 8, 20)), (1251, (901, 100, 250))],
)
def test_sizes(count, sizes):
    split = split_patients(names(count), 0)
    assert tuple(map(len, parts_of(split))) == sizes
    assert sorted(sum(parts_of(split), ())) == names(count)


def test_order_and_repeats_do_not_matter_and_the_seed_does():
    split = split_patients(names(30), 1)
    assert split_patients([*reversed(names(30)), "p0003"], 1) == split
    assert split_patients(names(30), 2) != split
    assert all(list(part) == sorted(part) for part in parts_of(split))
    assert split.test != tuple(names(30)[-6:])


@pytest.mark.parametrize(("count", "folds"), [(10, 5), (11, 5), (4, 2), (3, 3), (100, 10)])
def test_folds_test_every_patient_once(count, folds):
    splits = [split_patients(names(count), 0, f"{part}/{folds}") for part in range(1, folds + 1)]
    assert sorted(sum((split.test for split in splits), ())) == names(count)
    for split in splits:
        assert sorted(sum(parts_of(split), ())) == names(count)
        assert len(split.val) == max(1, round((count - len(split.test)) / 10))
        assert split.train


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "1", "a/b", "-1/5", "1/5/2", "½/5"])
def test_a_bad_fold_names_the_flag(fold):
    with pytest.raises(UserError, match=f"--fold {fold}"):
        split_patients(names(10), 0, fold)


def test_too_few_patients():
    with pytest.raises(UserError, match=r"domain men: 2 labelled patients; .* needs 3"):
        split_patients(names(2), 0, None, "men")
    with pytest.raises(UserError, match=r"--fold 9/9: 4 patients"):
        split_patients(names(4), 0, "9/9")


def test_follow_ups_stay_together_and_domains_do_not_touch_each_other():
    adult = [case(f"a{number}-{visit}", f"a{number}") for number in range(12) for visit in range(3)]
    child = [case(f"c{number}", f"c{number}", "child") for number in range(5)]
    unlabelled = [case("u", "u", label=None)]
    alone = split_cases(adult, 3)
    both = split_cases([*child, *reversed(adult), *unlabelled], 3)
    assert both.domains["adult"] == alone.domains["adult"]
    for part in PARTS:
        chosen = both.select(adult, part)
        assert len(chosen) == 3 * len(both.domains["adult"].__getattribute__(part))
        assert len({one.patient for one in chosen}) == len(chosen) / 3
    assert both.select(child, "all") == child
    assert both.select(unlabelled, "all") == []
    with pytest.raises(UserError, match="--split dev: expected one of train, val, test, all"):
        both.select(adult, "dev")


def test_the_same_patient_name_in_two_domains():
    cases = [case(f"p{number}", f"p{number}", domain) for domain in ("a", "b") for number in range(10)]
    cases += [case("p99", "p99", "b")]
    splits = split_cases(cases, 0)
    for part in PARTS:
        for one in splits.select(cases, part):
            assert one.patient in getattr(splits.domains[one.domain], part)


def test_json_both_ways_and_its_hash():
    splits = split_cases([case(name, name) for name in names(9)], 5, "2/3")
    content = json.loads(json.dumps(splits.to_json()))
    assert content["seed"] == 5
    assert content["fold"] == "2/3"
    assert set(content["domains"]["adult"]) == set(PARTS)
    assert len(content["sha256"]) == 64
    assert splits_from_json(content, "split.json") == splits
    assert split_cases([case(name, name) for name in names(9)], 6, "2/3").sha256 != splits.sha256
    content["domains"]["adult"]["train"].append("p9999")
    with pytest.raises(UserError, match=r"^runs/x/split.json: its sha256"):
        splits_from_json(content, "runs/x/split.json")


def test_cases_are_of_the_patient_that_the_split_notes():
    splits = Splits(0, None, {"adult": Split(("p1",), (), ("p2",))}, {"adult": {"scan_2": Member("p1", "a-b-c-d")}})
    again = splits_from_json(json.loads(json.dumps(splits.to_json())), "split.json")
    assert again == splits
    named, other = case("scan_2", "scan_2"), case("scan_2", "scan_2", "child")
    assert splits.select([named, other], "train") == [named]
    assert splits.select([named, case("x", "p2")], "test") == [case("x", "p2")]
    assert splits.sha256 != Splits(0, None, splits.domains).sha256, "a changed fingerprint is seen"


def test_splits_of_before_fingerprints_are_read_as_they_were():
    old = {"seed": 0, "fold": None, "domains": {"adult": {"train": ["a"], "val": ["b"], "test": ["c"]}}}
    written = {**old, "sha256": hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()}
    splits = splits_from_json(written, "split.json")
    assert splits.domains["adult"] == Split(("a",), ("b",), ("c",))
    assert splits.members == {}
    assert splits.to_json() == written


@pytest.mark.parametrize("content", [{}, [], None, {"seed": 1, "fold": None, "domains": {"a": []}, "sha256": ""}])
def test_a_file_that_is_no_split(content):
    with pytest.raises(UserError, match=r"^split.json: not a split"):
        splits_from_json(content, "split.json")
