"""Tables for the terminal and for Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Text cells under a caption that says what they are."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        lines = [f"**{self.caption}**", "", _line(self.header), _line(["---"] * len(self.header))]
        return "\n".join([*lines, *map(_line, self.rows)]) + "\n"

    def show(self) -> None:
        """Prints it to the terminal."""
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.caption, title_justify="left", title_style="bold")
        for index, name in enumerate(self.header):
            table.add_column(name, justify="left" if index < 4 else "right")
        for row in self.rows:
            table.add_row(*row)
        console = Console()
        if not console.is_terminal:
            console = Console(width=120)
        console.print(table)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(value: float | None, digits: int = 3) -> str:
    """A number for a cell; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
