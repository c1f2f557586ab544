"""Reads docstrings as they are meant here: the text of an attribute or of Returns does not begin with a type.

Napoleon takes what stands before the first colon there for a type. Fields of named tuples that have no text of their
own are left out; the docstring of their class describes them. The metaclass of Flax modules hides their arguments.
"""

import inspect
import re

from flax import nnx
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

_COLON = "\ue000"
"""Stands for a colon until Napoleon has read the docstring."""
_SECTION = re.compile(r"(?P<name>Args|Returns|Raises|Attributes|Yields):")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _hide_colons, priority=400)
    app.connect("autodoc-process-docstring", _show_colons, priority=600)
    app.connect("autodoc-process-signature", _signature_of_module)
    app.connect("autodoc-skip-member", _is_bare_field)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _hide_colons(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    hidden = what in ("attribute", "property", "data")
    for number, line in enumerate(lines):
        if section := _SECTION.fullmatch(line.strip()):
            hidden = section["name"] in ("Returns", "Yields")
        elif hidden:
            lines[number] = line.replace(":", _COLON)


def _show_colons(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _is_bare_field(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    """Whether a member is to be left out; None leaves the decision to autodoc."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def _signature_of_module(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """The arguments of a Flax module; None leaves a signature as it is."""
    if what != "class" or not issubclass(thing, nnx.Module):
        return None
    own = inspect.signature(thing.__init__)
    arguments = [argument for argument in own.parameters.values() if argument.name != "self"]
    return stringify_signature(own.replace(parameters=arguments), unqualified_typehints=True), None
