"""Lists of patients."""

from pathlib import Path

import pytest

from samjax.data.cases import Case
from samjax.data.patient_lists import read_patients, with_patients
from samjax.errors import UserError


def listed(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "who.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "case,patient\na,1\nb,1\nc,2\n",
        "\ufeffPatient; Age ;Case\n1;70;a\n1;71;b\n\n2;50;c\n",
        "patient\tcase\r\n1\ta\r\n1\tb\r\n2\tc",
    ],
)
def test_the_columns_are_found(tmp_path, text):
    assert read_patients(listed(tmp_path, text)) == {"a": "1", "b": "1", "c": "2"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty; expected case,patient"),
        ("id,patient\na,1\n", "id, patient; expected case,patient"),
        ("case,patient\na,1\nb,\n", "line 3 has no patient"),
        ("case,patient\n,1\n", "line 2 has no case"),
        ("case,patient\na,1\nb,1\na,2\n", "line 4: a is of 2 here, 1 above"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, text, words):
    path = listed(tmp_path, text)
    with pytest.raises(UserError, match=words) as caught:
        read_patients(path)
    assert str(caught.value).startswith(f"--patients {path}: ")
    with pytest.raises(UserError, match="cannot be read"):
        read_patients(tmp_path / "absent.csv")


def test_cases_get_their_patients_and_the_others_are_named():
    cases = [Case(name, name, "demo", {}, None, None, "brats") for name in "abcd"]
    named, note = with_patients(cases, {"a": "1", "b": "1", "z": "9"}, Path("who.csv"))
    assert [case.patient for case in named] == ["1", "1", "c", "d"]
    assert "does not name 2 of 4 cases (c, d)" in note
    assert with_patients(cases[:2], {"a": "1", "b": "1"}, Path("who.csv"))[1] is None
    with pytest.raises(UserError, match=r"who.csv: names none of the 4 cases \(such as a\)"):
        with_patients(cases, {"z": "9"}, Path("who.csv"))
