"""Imports between the rooms of the package go one way, and no modules import each other in a circle.

Every import counts: those at the top of a module, those inside functions, and those for type checking.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "samjax"

FOUNDATION = {
    "errors",
    "limits",
    "files",
    "version",
    "command_lines",
    "models",
    "metrics",
    "weights",
    "strategies",
    "options",
}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "version": set(),
    "models": set(),
    "metrics": set(),
    "command_lines": {"errors", "files"},
    "limits": {"errors"},
    "weights": FOUNDATION - {"strategies", "options"},
    "strategies": FOUNDATION,
    "options": FOUNDATION,
    "data": FOUNDATION,
    "runs": {*FOUNDATION, "data"},
    "figures": {"files", "metrics", "data.labels", "data.cases"},
    "prepare": {*FOUNDATION, "data", "figures"},
    "inference": {*FOUNDATION, "data", "runs", "figures.palette"},
    "serve": {*FOUNDATION, "data", "runs", "figures.palette", "inference"},
    "": {"version", "inference"},
    "training": {*FOUNDATION, "data", "runs", "figures", "inference"},
    "evaluation": {*FOUNDATION, "data", "runs", "figures", "inference"},
    "cli": {*FOUNDATION, "data", "runs", "figures", "inference", "training", "evaluation", "prepare", "serve", ""},
    "__main__": {"cli"},
}
"""What each room may import besides itself: whole rooms, or single modules of one.

A room is a folder or module of the package; "" is the package's own __init__.
"""


def modules(root: Path) -> dict[str, Path]:
    """The modules of the package below `root` by their dotted names; a package stands for its __init__."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, module: str, known: Iterable[str], is_package: bool = False) -> set[str]:
    """The modules of ours that a module's source imports, wherever in it."""
    known, found = set(known), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            names = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in known else base for name in names]
        else:
            continue
        found |= {name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")}
    return found


def graph(root: Path) -> dict[str, set[str]]:
    """The modules that each module of the package imports, itself left out."""
    known = modules(root)
    return {
        name: imported(path.read_text(encoding="utf-8"), name, known, path.name == "__init__.py") - {name}
        for name, path in known.items()
    }


def room_of(module: str) -> str:
    """The room of a module: the first name below the package."""
    return module.partition(".")[2].partition(".")[0]


def allowed(module: str, target: str) -> bool:
    """Whether a module may import another one of ours."""
    room, inside = room_of(module), target.partition(".")[2]
    return room == room_of(target) or any(inside == name or inside.startswith(f"{name}.") for name in ROOMS[room])


def circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """The groups of modules that import each other in a circle, by Tarjan's algorithm (1972)."""
    index, low, stack = {}, {}, []

    def visit(module: str) -> Iterator[list[str]]:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(edges.get(module, ())):
            if target not in index:
                yield from visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                yield sorted(group)

    for module in sorted(edges):
        if module not in index:
            yield from visit(module)


def test_every_room_has_its_place():
    assert {room_of(module) for module in modules(ROOT)} <= ROOMS.keys()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room):
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph(ROOT).items()
        for target in sorted(targets)
        if room_of(module) == room and not allowed(module, target)
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    assert list(circles(graph(ROOT))) == []


def test_every_kind_of_import_is_seen():
    source = """
from typing import TYPE_CHECKING
import numpy
import samjax.data.cases
from samjax.metrics import overlap, score
from samjax import errors
if TYPE_CHECKING:
    from samjax.training.loop import train
def late():
    from samjax.cli.process import run_command
    from .sibling import name
    from .. import runs
    from ..models.sam import Sam
"""
    known = {"samjax", "samjax.errors", "samjax.metrics", "samjax.metrics.overlap", "samjax.runs"}
    assert imported(source, "samjax.inference.volumes", known) == {
        "samjax.data.cases", "samjax.metrics.overlap", "samjax.metrics", "samjax.errors", "samjax.training.loop",
        "samjax.cli.process", "samjax.inference.sibling", "samjax.runs", "samjax.models.sam",
    }  # fmt: skip
    assert imported("from .sibling import name", "samjax.inference", known, True) == {"samjax.inference.sibling"}


def test_circles_are_found():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"g"}, "g": {"f", "a"}}
    assert sorted(circles(edges)) == [["a", "b", "c"], ["f", "g"]]
    assert list(circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})) == []


@pytest.mark.parametrize(
    ("module", "target", "good"),
    [
        ("samjax.metrics.rows", "samjax.errors", False),
        ("samjax.models.sam", "samjax.files", False),
        ("samjax.data.cases", "samjax.runs.config", False),
        ("samjax.figures.box_plots", "samjax.data.labels", True),
        ("samjax.figures.box_plots", "samjax.data.labelsets", False),
        ("samjax.figures.box_plots", "samjax.errors", False),
        ("samjax.inference.volumes", "samjax.training.step", False),
        ("samjax.training.loop", "samjax.evaluation.evaluate", False),
        ("samjax.evaluation.evaluate", "samjax.training.step", False),
        ("samjax.evaluation.evaluate", "samjax.cli.process", False),
        ("samjax.runs.model", "samjax.inference.volumes", False),
        ("samjax.cli.process", "samjax.training.loop", True),
        ("samjax.cli.main", "samjax", True),
        ("samjax.runs.config", "samjax", False),
    ],
)
def test_the_rule_by_examples(module, target, good):
    assert allowed(module, target) == good
