"""Commands as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def samjax(*arguments: object, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`samjax` of this repository with these arguments; its lines are not wrapped."""
    return python("-m", "samjax", *arguments, where=where)


def python(*arguments: object, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A Python that finds this repository's package."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "500"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
