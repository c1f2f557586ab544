"""summary.json and the tables of results."""

from dataclasses import replace

import numpy as np
import pytest

from samjax.evaluation.baselines import DISK, ELLIPSE, FILLED_BOX
from samjax.evaluation.collected import Collected
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.reporting.summary_json import all_tables, main_tables, summary_of
from samjax.evaluation.reporting.summary_json import tests_of as paired_tests_of
from samjax.evaluation.scoring import SliceRule
from tests.evaluation.cases import collect_one, made_case, made_model, no_rounds, predicted, square

SHAPE = (4, 12, 12)
RULE = SliceRule(min_pixels=5)


def model(name: str, prompt: str, roi: str = "whole-tumor", clicks: int = 1) -> PromptedModel:
    return made_model(name, prompt, (roi,), clicks)


def cases(count: int = 2, domain: str = "demo"):
    """Slices of 24, 4 and no pixels."""
    labels = square(SHAPE, slice(1, 2), slice(2, 8), slice(3, 7), code=3)
    labels[2, 3:5, 3:5] = 3
    return [made_case(labels, f"{domain}-{number}", domain) for number in range(count)]


def collected(model: PromptedModel, chosen=None) -> Collected:
    """A model that misses the last row of every region."""
    found = Collected(model)
    for case in cases() if chosen is None else chosen:
        mask = (case.labels > 0) & np.roll(case.labels > 0, -1, axis=1)
        rounds = no_rounds(SHAPE[0], model.clicks)
        rounds.prompted[1:3], rounds.click[1:3] = True, (4, 4)
        rounds.counts[:] = 10, 10, 20
        collect_one(found, case, predicted(mask, None if model.prompt == "none" else rounds), RULE, 20.0)
    return found


def summary(*found: Collected) -> dict:
    return summary_of(found, RULE, [])


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


def test_oracle_and_prompt_free_scores_never_share_a_table():
    found = [collected(model("asked", "box")), collected(model("free", "none"))]
    content = summary(*found)
    free = content["runs"]["free"]
    assert (free["prompt"], free["prompt_source"]) == ("none", "none")
    assert {cell["slices"] for cell in free["data"]["demo"]["roi"]["whole-tumor"].values()} == {"all"}
    tables = main_tables(content, RULE)
    assert len(tables) == 2 * 4
    for table in tables:
        names = {row[0] for row in table.rows}
        if "no prompts, every slice run" in table.caption:
            assert names == {"free"}
        else:
            assert "prompts from ground truth" in table.caption
            assert names == {"asked", f"({FILLED_BOX})", f"({ELLIPSE})"}


def test_a_table_s_cells_by_hand():
    (table,) = [table for table in main_tables(summary(collected(model("free", "none"))), RULE)
                if "by volume (3-D)" in table.caption and table.caption.startswith("Dice")]  # fmt: skip
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert (row["run"], row["domain"], row["ROI"], row["prompt"]) == ("free", "demo", "whole-tumor", "none")
    assert (row["Dice ± SD"], row["95 % CI"], row["n"]) == ("0.880 ± 0.000", "0.880 to 0.880", "2")
    assert row["Dice, not empty (n)"] == "0.880 (2)"


def test_the_best_of_models_that_were_asked_alike_is_bold():
    found = [collected(model(name, prompt)) for name, prompt in (("a", "point"), ("b", "point"), ("c", "box"))]
    content = summary(*found)
    volume = content["runs"]["b"]["data"]["demo"]["roi"]["whole-tumor"]["volume"]
    volume |= {"dice": 0.99, "hd95": 50.0}
    (table,) = [table for table in main_tables(content, RULE) if table.caption.startswith("Dice and HD95 by volume")]
    bold = {(table.rows[row][0], table.header[column]) for row, column in table.bold}
    assert bold == {("b", "Dice ± SD"), ("a", "HD95 mm")}  # "c" has no rival, the filled box is none
    assert "**0.990" in table.to_markdown()


def test_clicks_are_in_the_summary_and_a_table_of_their_own():
    found = collected(model("clicked", "point", clicks=3))
    found.slice_dice = [np.array([[0.2, 0.4], [0.5, 0.87], [0.95, 0.9]])]
    found.patients = ["a", "b"]
    content = summary(found, collected(model("once", "point")))
    clicks = content["runs"]["clicked"]["clicks"]
    assert content["runs"]["clicked"]["prompt"] == "point, 3 clicks"
    assert [entry["mean"] for entry in clicks["dice"]] == pytest.approx([0.3, 0.685, 0.925])
    assert clicks["needed"]["0.85"] == {"clicks": 2.5, "reached": 1.0}
    assert "clicks" not in content["runs"]["once"]
    (table,) = [table for table in all_tables(content, [], RULE) if "after each click" in table.caption]
    assert table.header[:4] == ("run", "1 click", "2 clicks", "3 clicks")
    assert table.rows == (("clicked", "0.300", "0.685", "0.925", "2.5 (100 %)", "3.0 (100 %)", "2"),)


def test_tests_pair_models_that_were_prompted_alike():
    many = cases(6)
    one, two = collected(model("one", "box"), many), collected(model("two", "box"), many)
    worse = [replace(case, volume=replace(case.volume, dice=0.1 * number)) for number, case in enumerate(two.scores)]
    two.scores[:] = worse
    free = collected(model("free", "none"), many)
    assert paired_tests_of([one]) == []
    assert paired_tests_of([one, free]) == []
    found = paired_tests_of([one, two, free])
    assert {(test.scope, test.metric, test.unit) for test in found} == {
        (scope, metric, unit) for scope, unit in (("volume", "patient"), ("slice", "slice"))
        for metric in ("dice", "hd95")
    }  # fmt: skip
    content = summary_of([one, two, free], RULE, found)
    assert len(content["tests"]) == len(found)
    assert "free" not in str(content["tests"])
