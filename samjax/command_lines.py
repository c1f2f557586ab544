"""Command lines for messages, in the form in which the running command was started.

The same commands run as `samjax train` where samjax is installed, as `python -m samjax train`, and as `python train.py`
in a copy of the repository. A message that gives the next command uses the form of the running one.
"""

import os
import shlex
import sys
from pathlib import Path

SCRIPTS = {"train": "train.py", "eval": "eval.py", "predict": "predict.py"}
"""The commands that are also scripts of the repository."""
CONVERSIONS = ("convert/torch_to_flax.py", "convert/flax_to_torch.py")
"""The two scripts that together are the command `convert`."""

_HOME = Path(__file__).resolve().parents[1]
"""The folder that holds the package: the repository's own, unless the package is installed."""


def command(name: str, *arguments: object) -> str:
    """The line to type for the command `name`, quoted for a shell.

    In a program that only uses samjax as a library this is the installed command.
    """
    return shlex.join([*_start(name), *map(str, arguments)])


def command_typed() -> str:
    """The line that started this process, with its arguments."""
    if _is_module():
        return shlex.join(["python", "-m", "samjax", *sys.argv[1:]])
    start = ["python"] if _is_script() else []
    return shlex.join([*start, Path(sys.argv[0]).name, *sys.argv[1:]])


def _start(name: str) -> list[str]:
    if _is_script() and name in SCRIPTS:
        path = str(_HOME / SCRIPTS[name])
        return ["python", path if os.path.isabs(sys.argv[0]) else os.path.relpath(path)]
    return ["python", "-m", "samjax", name] if _is_module() or _is_script() else ["samjax", name]


def _is_script() -> bool:
    """Whether a script of the repository runs."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    scripts = [_HOME / name for name in (*SCRIPTS.values(), *CONVERSIONS)]
    return file is not None and Path(file).resolve() in scripts


def _is_module() -> bool:
    """Whether `python -m samjax` runs."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "samjax.__main__"
