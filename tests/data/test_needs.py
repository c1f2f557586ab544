"""Which cases a model takes, and what is said of the others."""

from pathlib import Path

import pytest

from samjax.data.cases import Case, Source
from samjax.data.needs import Needs, divide, lacking_note, parse_modalities
from samjax.errors import UserError

ALL = ("t1", "t1gd", "t2", "flair")


def case(name: str, *modalities: str, why: str = "") -> Case:
    images = {modality: Source(Path("data") / name / f"{modality}.nii") for modality in modalities}
    return Case(name, name, "", images, None, None, "brats", why_missing=why)


def test_a_model_needs_only_what_it_looks_at():
    three = Needs("decoder", ("flair", "t1gd", "t2"))
    assert three.refusal(("t1gd", "t2", "flair")) is None
    assert three.refusal(("t1", "t1gd", "t2")) == (
        "no flair (has t1, t1gd, t2), which decoder looks at; only runs with --modality-dropout do without"
    )
    assert Needs("one", ("t1gd", "t1gd", "t1gd")).refusal(("t1gd",)) is None


def test_with_dropout_one_modality_is_enough_but_none_is_not():
    any_of_three = Needs("decoder", ("flair", "t1gd", "t2"), dropout=True)
    assert any_of_three.refusal(("t2",)) is None
    assert any_of_three.lacking(("t2",)) == ("t1gd", "flair")
    assert any_of_three.refusal(("t1",)) == (
        "no t1gd, t2, flair (has t1), which decoder looks at; one of them is needed"
    )
    assert Needs("one", ("t1gd", "t1gd", "t1gd"), dropout=True).refusal(("t1",)) is not None


def test_cases_are_divided_with_one_line_for_each_that_is_left_out():
    cases = [case("a", *ALL), case("b", "t1", "t2", why="flair.mha is not read"), case("c", "flair")]
    taken, reasons = divide(cases, [Needs("x", ("flair",)), Needs("y", ("t1", "flair"))])
    assert [one.id for one in taken] == ["a"]
    assert reasons[0].startswith("data/b: case b: no flair (has t1, t2), which x looks at;")
    assert reasons[0].endswith("(flair.mha is not read)")
    assert "case c: no t1 (has flair), which y looks at" in reasons[1]
    assert divide(cases, []) == (cases, [])


def test_hidden_modalities_count_as_missing():
    taken, reasons = divide([case("a", *ALL)], [Needs("x", ("flair", "t2"))], hidden={"flair"})
    assert (taken, len(reasons)) == ([], 1)
    assert "no flair (has t1, t1gd, t2)" in reasons[0]


def test_the_note_counts_what_is_missing():
    needs = [Needs("x", ALL, dropout=True)]
    cases = [case("a", *ALL), case("b", "t1", "t2"), case("c", "flair", "t1", "t2")]
    assert lacking_note(cases, needs) == (
        "2 of 3 cases lack modalities (2 have no t1gd, 1 have no flair) and are taken without them"
    )
    assert lacking_note(cases[:1], needs) is None
    assert lacking_note(cases, [Needs("y", ("t1", "t2"))]) is None


def test_the_modalities_of_an_option():
    assert parse_modalities("FLAIR, t2w", "--modalities") == ("t2", "flair")
    for text in ("", "t2,flare", "t2,T2w"):
        with pytest.raises(UserError, match="--modalities"):
            parse_modalities(text, "--modalities")
