"""summary.json: the keys that it promises and the numbers of each scope."""

from dataclasses import replace

import pytest

from samjax.evaluation.baselines import DISK, ELLIPSE, FILLED_BOX
from samjax.evaluation.reporting.summary_json import summary_of
from samjax.evaluation.statistics import compare_runs
from tests.evaluation.reporting.made_scores import RULE, cases, collected, model, summary


def test_the_keys_that_summary_json_promises():
    run = summary(collected(model("one", "point")))["runs"]["one"]
    assert (run["prompt"], run["prompt_source"]) == ("point", "ground truth")
    assert run["data"].keys() == {"demo"}
    scopes = run["data"]["demo"]["roi"]["whole-tumor"]
    assert scopes.keys() == {"slice", "slice_all", "volume"}
    promised = {"dice", "dice_sd", "dice_ci95", "dice_nonempty", "n_nonempty", "hd95", "n", "slices"}
    for scope, cell in scopes.items():
        assert promised <= cell.keys(), scope
        assert cell["slices"] == "oracle"


def test_the_numbers_of_each_scope():
    scopes = summary(collected(model("one", "point")))["runs"]["one"]["data"]["demo"]["roi"]["whole-tumor"]
    large, small = 2 * 20 / 44, 2 * 2 / 6
    expected = {
        "slice": (large, large, 2, 2),  # at least 5 pixels
        "slice_all": ((large + small + 2) / 4, (large + small) / 2, 8, 4),
        "volume": (2 * 22 / 50, 2 * 22 / 50, 2, 2),
    }
    for scope, (dice, nonempty, n, n_nonempty) in expected.items():
        cell = scopes[scope]
        assert cell["dice"] == pytest.approx(dice)
        assert cell["dice_nonempty"] == pytest.approx(nonempty)
        assert (cell["n"], cell["n_nonempty"]) == (n, n_nonempty)
    assert scopes["slice"]["rule"] == "slices with at least 5 pixels of the ROI"


def test_domains_and_regions_are_kept_apart():
    found = collected(model("one", "box", "enhancing"), [*cases(2, "men"), *cases(1, "gli")])
    data = summary(found)["runs"]["one"]["data"]
    assert {name: part["roi"]["enhancing"]["volume"]["n"] for name, part in data.items()} == {"men": 2, "gli": 1}


def test_baselines_are_never_runs_and_are_listed_once():
    found = summary(
        *(collected(model(name, prompt)) for name, prompt in (("a", "point"), ("b", "point"), ("c", "box")))
    )
    assert found["runs"].keys() == {"a", "b", "c"}
    assert found["baselines"].keys() == {DISK, FILLED_BOX, ELLIPSE}
    for data in found["baselines"].values():
        scopes = data["demo"]["roi"]["whole-tumor"]
        assert (scopes["volume"]["n"], scopes["slice_all"]["n"]) == (2, 8)
        assert scopes["volume"]["slices"] == "oracle"
    # Models of another region have baselines of their own.
    found = summary(collected(model("a", "box")), collected(model("b", "box", "enhancing")))
    assert found["baselines"][FILLED_BOX]["demo"]["roi"].keys() == {"whole-tumor", "enhancing"}


def test_tests_pair_models_that_were_prompted_alike():
    many = cases(6)
    one, two = collected(model("one", "box"), many), collected(model("two", "box"), many)
    worse = [replace(case, volume=replace(case.volume, dice=0.1 * number)) for number, case in enumerate(two.scores)]
    two.scores[:] = worse
    free = collected(model("free", "none"), many)
    assert compare_runs(one.scores) == []
    assert compare_runs([*one.scores, *free.scores]) == []
    found = compare_runs([*one.scores, *two.scores, *free.scores])
    assert {(test.scope, test.metric, test.unit) for test in found} == {
        (scope, metric, unit) for scope, unit in (("volume", "patient"), ("slice", "slice"))
        for metric in ("dice", "hd95")
    }  # fmt: skip
    content = summary_of([one, two, free], RULE, found)
    assert len(content["tests"]) == len(found)
    assert "free" not in str(content["tests"])
