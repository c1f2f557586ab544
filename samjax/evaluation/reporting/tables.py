"""Tables for the terminal, Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from samjax.files import replacing

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "≥": r"$\geq$", "×": r"$\times$",
        "−": "$-$", "<": "$<$", ">": "$>$",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of text under a caption."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    """The (row, column) of each cell in bold."""
    notes: tuple[str, ...] = ()
    """Sentences under the table."""

    def to_markdown(self) -> str:
        lines = [f"**{self.caption}**", "", _line(self.header), _line(["---"] * len(self.header))]
        notes = [line for note in self.notes for line in ("", note)]
        return "\n".join([*lines, *map(_line, self._styled("**{}**", str)), *notes]) + "\n"

    def to_latex(self) -> str:
        """The table as a LaTeX environment that needs no package."""
        rows = [" & ".join(map(_latex, self.header)), r"\hline"]
        rows += map(" & ".join, self._styled(r"\textbf{{{}}}", _latex))
        body = "\n".join(row if row == r"\hline" else row + r" \\" for row in rows)
        columns = "l" + "r" * (len(self.header) - 1)
        notes = "".join(f"\\par {_latex(note)}\n" for note in self.notes)
        return (
            f"\\begin{{table}}\n\\centering\n\\caption{{{_latex(self.caption)}}}\n\\begin{{tabular}}{{{columns}}}\n"
            f"{body}\n\\end{{tabular}}\n{notes}\\end{{table}}\n"
        )

    def to_csv(self) -> str:
        """The caption as a comment, then header and rows, then the notes as comments."""
        text = io.StringIO()
        text.write(f"# {self.caption}\n")
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        text.writelines(f"# {note}\n" for note in self.notes)
        return text.getvalue()

    def show(self) -> None:
        """Prints the table to the terminal."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(title=escape(self.caption), title_justify="left", title_style="bold")
        for index, name in enumerate(self.header):
            table.add_column(escape(name), justify="left" if index < 4 else "right", overflow="fold")
        for row in self._styled("[bold]{}[/bold]", escape):
            table.add_row(*row)
        console = Console()
        if not console.is_terminal:
            console = Console(width=120)
        console.print(table)
        for note in self.notes:
            console.print(escape(note), highlight=False)

    def _styled(self, bold: str, escaped: Callable[[str], str]) -> list[list[str]]:
        """The rows in the spelling of a format; `bold` has {} in place of a bold cell's text."""
        return [
            [bold.format(escaped(cell)) if (i, j) in self.bold else escaped(cell) for j, cell in enumerate(row)]
            for i, row in enumerate(self.rows)
        ]


def write_tables(stem: Path, tables: Iterable[Table]) -> None:
    """Writes all tables to stem.md, stem.tex and stem.csv, one after the other."""
    tables = list(tables)
    for suffix, texts in (
        (".md", [table.to_markdown() for table in tables]),
        (".tex", [table.to_latex() for table in tables]),
        (".csv", [table.to_csv() for table in tables]),
    ):
        with replacing(stem.with_suffix(suffix)) as temporary:
            temporary.write_text("\n".join(texts), encoding="utf-8")


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float | None, digits: int = 3) -> str:
    """The text of a number in a cell; a dash if there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
