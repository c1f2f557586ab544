"""Finds a SAM's state dict in the checkpoint of a training program."""

from collections.abc import Iterator

import numpy as np

from samjax.errors import UserError
from samjax.weights.matching import first_names, plainly_named
from samjax.weights.names import OUR_ANCHOR, spelling_of

WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict")
"""Keys under which training programs usually keep the state dict."""

_DEPTH = 2
"""Number of nested wrappers that are searched."""

Content = dict[object, object]
Keys = tuple[str, ...]


def state_dict(content: object, where: object) -> dict[str, np.ndarray]:
    """The tensors of the one SAM in a checkpoint's content, by their names in the file.

    They may lie at the top or under one or two keys; other content (optimiser, epoch) is left out. Of several
    SAMs, the one at the top or under the usual keys (`WRAPPERS`) is meant.

    Raises:
        UserError: `where` holds no tensors, no SAM, or several of which none is the one that is meant.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where}: holds a {type(content).__name__}; expected a state dict (names and tensors)")
    found = dict(_dicts_of_tensors(content))
    if not found:
        keys = ", ".join(repr(key)[:50] for key in list(content)[:5]) or "none"
        raise UserError(
            f"{where}: holds no state dict; expected tensors at the top or under a key such as "
            f"{', '.join(WRAPPERS)}, but its keys are: {keys}"
        )
    sams = {keys: tensors for keys, tensors in found.items() if OUR_ANCHOR in tensors or spelling_of(tensors)}
    if not sams:
        tensors = plainly_named(max(found.values(), key=len), where)
        raise UserError(
            f"{where}: not a SAM checkpoint: none of its {len(tensors)} tensors is the patch embedding of an image "
            f"encoder, in Meta's names, Hugging Face's or ours (they are {first_names(tensors)})"
        )
    usual = [keys for keys in sams if all(key in WRAPPERS for key in keys)]
    chosen = usual or list(sams)
    if len(chosen) > 1:
        places = ", ".join(repr(".".join(keys))[:50] if keys else "at the top" for keys in sams)
        raise UserError(f"{where}: holds {len(sams)} SAMs ({places}); save the one that is meant alone")
    return plainly_named(sams[chosen[0]], where)


def _dicts_of_tensors(content: Content) -> Iterator[tuple[Keys, dict[str, np.ndarray]]]:
    """Every dict with tensors in it, by the keys that lead there, but for the optimiser's; the outermost first."""
    level: list[tuple[Keys, Content]] = [((), content)]
    seen = {id(content)}  # a hostile file may hold a dict that holds itself
    for _ in range(_DEPTH + 1):
        below = []
        for keys, values in level:
            if tensors := {str(name): value for name, value in values.items() if isinstance(value, np.ndarray)}:
                yield keys, tensors
            for key, value in values.items():
                if isinstance(value, dict) and id(value) not in seen and not str(key).lower().startswith("opt"):
                    seen.add(id(value))
                    below.append(((*keys, str(key)), value))
        level = below
