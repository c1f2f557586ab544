"""The tables of results: which rows stand together, their cells, and what is bold."""

from dataclasses import replace

import numpy as np
import pytest

from samjax.evaluation.baselines import ELLIPSE, FILLED_BOX, FLAIR
from samjax.evaluation.reporting.result_tables import main_tables, result_tables
from tests.evaluation.reporting.made_scores import RULE, collected, model, summary


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


def test_the_best_of_models_with_the_same_prompt_is_bold():
    found = [collected(model(name, prompt)) for name, prompt in (("a", "point"), ("b", "point"), ("c", "box"))]
    content = summary(*found)
    volume = content["runs"]["b"]["data"]["demo"]["roi"]["whole-tumor"]["volume"]
    volume |= {"dice": 0.99, "hd95": 50.0}
    (table,) = [table for table in main_tables(content, RULE) if table.caption.startswith("Dice and HD95 by volume")]
    bold = {(table.rows[row][0], table.header[column]) for row, column in table.bold}
    assert bold == {("b", "Dice ± SD"), ("a", "HD95 mm")}  # "c" has no rival, the filled box is none
    assert "**0.990" in table.to_markdown()


def by_volume(content: dict, prompted: bool):
    start = "prompts from ground truth" if prompted else "no prompts"
    (table,) = [table for table in main_tables(content, RULE)
                if table.caption.startswith("Dice and HD95 by volume") and start in table.caption]  # fmt: skip
    return table


def test_the_flair_threshold_stands_in_prompt_free_tables_once():
    found = [collected(model(name, prompt)) for name, prompt in (("a", "none"), ("b", "none"), ("c", "box"))]
    found[0].baselines[FLAIR] = [
        replace(case, volume=replace(case.volume, dice=0.95, run=FLAIR)) for case in found[0].scores
    ]
    content = summary(*found)
    assert content["baselines"][FLAIR]["demo"]["roi"]["whole-tumor"]["volume"]["slices"] == "all"
    for table in main_tables(content, RULE):
        names = [row[0] for row in table.rows]
        if "no prompts" in table.caption:
            assert names == ["a", "b", f"({FLAIR})"]
            assert "in brackets a rule without learning" in table.caption
        else:
            assert f"({FLAIR})" not in names
    assert [note.partition(" (demo")[0] for note in by_volume(content, False).notes] == [
        f"a does not beat the {FLAIR}",
        f"b does not beat the {FLAIR}",
    ]
    markdown = by_volume(content, False).to_markdown()
    assert markdown.endswith(f"{by_volume(content, False).notes[1]}\n")


def test_a_model_is_named_with_the_best_baseline_that_it_does_not_beat():
    found = collected(model("asked", "box"))
    assert by_volume(summary(found), True).notes[0].startswith(f"asked does not beat the {FILLED_BOX} (demo")
    for case in range(len(found.scores)):
        found.scores[case] = replace(found.scores[case], volume=replace(found.scores[case].volume, dice=1.0))
    for scores in found.baselines.values():
        scores[:] = [replace(case, volume=replace(case.volume, dice=0.5)) for case in scores]
    content = summary(found)
    assert by_volume(content, True).notes == ()
    assert [entry["beats"] for entry in content["against_baselines"]] == [True, True]


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
    (table,) = [table for table in result_tables(content, RULE) if "after each click" in table.caption]
    assert table.header[:4] == ("run", "1 click", "2 clicks", "3 clicks")
    assert table.rows == (("clicked", "0.300", "0.685", "0.925", "2.5 (100 %)", "3.0 (100 %)", "2"),)
