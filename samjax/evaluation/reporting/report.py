"""The report of an evaluation: one HTML file that needs no network, no other file and no server."""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samjax.evaluation.reporting.tables import Table
from samjax.evaluation.reporting.viewer import ViewerCase, data_uri, payload
from samjax.figures import palette
from samjax.files import replacing

_PNG = b"\x89PNG\r\n\x1a\n"
_NUMBER = re.compile(r"[<~+−-]?\s*\d.*|[-–—]?")


@dataclass(frozen=True)
class ReportedRun:
    """A model that was scored, and its prompts."""

    name: str
    strategy: str
    prompt: str
    """The prompt as in its rows: "box", "point, 3 clicks", "none", ..."""
    prompt_source: str
    """Source of its prompts: "ground truth" or "none"."""
    weights_sha256: str
    """Digest of its base weights; empty where there are none."""
    config: Mapping[str, Any]
    """The options it was trained with, resolved."""

    @property
    def prompts(self) -> str:
        """The source of its prompts in words."""
        return "no prompts" if self.prompt_source == "none" else f"prompts from {self.prompt_source} ({self.prompt})"


@dataclass(frozen=True)
class ReportedFigure:
    """A figure as the bytes of a PNG."""

    name: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        return data_uri("image/png", self.png)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; a ValueError if it is not a PNG."""
        if not self.png.startswith(_PNG):
            raise ValueError(f"figure {self.name}: expected the bytes of a PNG")
        return struct.unpack(">II", self.png[16:24])


@dataclass(frozen=True)
class EvaluationReport:
    """All content of a report, in the order in which it is shown."""

    title: str
    runs: tuple[ReportedRun, ...]
    tables: tuple[Table, ...]
    tests: tuple[Table, ...]
    """Tables of paired tests."""
    figures: tuple[ReportedFigure, ...]
    cases: tuple[ViewerCase, ...]
    """The cases of the slice viewer, with predictions of `runs`; a BraTS case adds about 1 MB to the file."""
    environment: Mapping[str, str]
    """Date, command, versions and device, in the form shown."""


def write_report(path: Path, report: EvaluationReport) -> None:
    """Writes the report as one self-contained HTML file.

    Raises:
        ValueError: a figure is not a PNG, or a case has predictions of a run that is not in the report.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    unknown = {run for case in report.cases for run in case.predictions} - {run.name for run in report.runs}
    if unknown:
        raise ValueError(f"report: predictions of {', '.join(sorted(unknown))}, which is not among its runs")
    environment = Environment(
        loader=PackageLoader("samjax.evaluation.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # the default sorts keys, but modalities and regions have an order
    environment.filters |= {"plain": _plain, "numeric": numeric_columns}
    html = environment.get_template("report.html.jinja").render(report=report, viewer=_viewer(report))
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _viewer(report: EvaluationReport) -> dict[str, Any]:
    """The data that the viewer's script reads."""
    return {
        "runs": {run.name: {"prompts": run.prompts, "prompted": run.prompt_source != "none"} for run in report.runs},
        "cases": [payload(case) for case in report.cases],
        "style": {
            "truePositive": palette.TRUE_POSITIVE,
            "falsePositive": palette.FALSE_POSITIVE,
            "falseNegative": palette.FALSE_NEGATIVE,
            "border": palette.BORDER,
            "dimmed": palette.DIMMED,
            "opacity": palette.OPACITY,
        },
    }


def numeric_columns(table: Table) -> list[bool]:
    """For each column, whether it holds numbers, which are aligned right; the first column is always a name."""
    cells = zip(*table.rows, strict=True) if table.rows else [()] * len(table.header)
    return [number > 0 and all(_NUMBER.fullmatch(cell) for cell in column) for number, column in enumerate(cells)]


def _plain(value: Any) -> str:
    """The text of an option's value."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
