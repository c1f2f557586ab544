"""Tables as Markdown, LaTeX and CSV."""

import csv
from pathlib import Path

import pytest
from rich.console import Console

from samjax.evaluation.reporting.tables import Table, number, write_tables

TABLE = Table(
    "Dice ± SD, 95 % CI",
    ("run_1", "a & b", "p"),
    (("x_{y}", "0.9, 0.8", "<0.001"), ("back\\slash", "#1 ~ $2^3$", 'says "so"')),
    frozenset({(0, 1)}),
)


def test_latex_escapes_what_latex_reads_as_its_own():
    lines = TABLE.to_latex().splitlines()
    assert lines[2] == r"\caption{Dice $\pm$ SD, 95 \% CI}"
    assert lines[3] == r"\begin{tabular}{lrr}"
    assert lines[4] == r"run\_1 & a \& b & p \\"
    assert lines[5] == r"\hline"
    assert lines[6] == r"x\_\{y\} & \textbf{0.9, 0.8} & $<$0.001 \\"
    assert lines[7] == r"""back\textbackslash{}slash & \#1 \textasciitilde{} \$2\textasciicircum{}3\$ & says "so" \\"""


def test_markdown_marks_what_stands_out():
    assert TABLE.to_markdown().splitlines()[:5] == [
        "**Dice ± SD, 95 % CI**",
        "",
        "| run_1 | a & b | p |",
        "| --- | --- | --- |",
        "| x_{y} | **0.9, 0.8** | <0.001 |",
    ]


def test_notes_stand_under_the_table(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    table = Table("T", ("run",), (("a",),), notes=("a is no better: 50 %", "[b] neither"))
    assert table.to_markdown().splitlines()[-4:] == ["", "a is no better: 50 %", "", "[b] neither"]
    assert r"\end{tabular}" + "\n" + r"\par a is no better: 50 \%" + "\n" in table.to_latex()
    assert table.to_csv().splitlines() == ["# T", "run", "a", "# a is no better: 50 %", "# [b] neither"]
    monkeypatch.setattr(Console, "is_terminal", False)
    table.show()
    assert capsys.readouterr().out.splitlines()[-2:] == ["a is no better: 50 %", "[b] neither"]


def test_a_name_with_a_bar_stays_one_cell_of_markdown():
    table = Table("T", ("run", "Dice"), (("a|b", "0.9"),))
    assert table.to_markdown().splitlines()[-1] == r"| a\|b | 0.9 |"


def test_csv_reads_back_as_it_was():
    first, *rest = TABLE.to_csv().splitlines()
    assert first == "# Dice ± SD, 95 % CI"
    assert list(csv.reader(rest)) == [list(TABLE.header), *map(list, TABLE.rows)]


def test_three_files_hold_all_tables(tmp_path: Path):
    other = Table("Another", ("run",), (("two",),))
    write_tables(tmp_path / "tables", iter([TABLE, other]))
    assert {path.name for path in tmp_path.iterdir()} == {"tables.md", "tables.tex", "tables.csv"}
    for name, parts in {
        "tables.md": (TABLE.to_markdown(), other.to_markdown()),
        "tables.tex": (TABLE.to_latex(), other.to_latex()),
        "tables.csv": (TABLE.to_csv(), other.to_csv()),
    }.items():
        assert (tmp_path / name).read_text(encoding="utf-8") == "\n".join(parts)


def test_the_terminal_shows_every_cell(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Console, "is_terminal", False)
    Table("Title", ("run", "Dice"), (("[red]one", "0.80 [0.70, 0.90] (3)"),), frozenset({(0, 1)})).show()
    shown = capsys.readouterr().out
    for text in ("Title", "run", "[red]one", "0.80 [0.70, 0.90] (3)"):
        assert text in shown
    assert "bold" not in shown


def test_numbers_have_their_digits_and_none_is_a_dash():
    assert (number(0.12345), number(2.0, 1), number(0.0), number(None)) == ("0.123", "2.0", "0.000", "-")
