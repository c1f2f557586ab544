"""Reads `--boxes` and `--points` files: JSON, by case, in voxel indices of the source array."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samjax.data.imaging.geometry import Geometry, points_to_ours
from samjax.errors import UserError
from samjax.files import parse_json
from samjax.inference.prompts import regions_of

_FORMS = {
    "box": "six whole numbers i0, j0, k0, i1, j1, k1, its first and last voxel",
    "point": "four whole numbers i, j, k, label, with label 1 (inside) or 0 (outside)",
}


def read_prompts(
    path: Path, kind: str, cases: Sequence[str], geometries: Mapping[str, Geometry]
) -> dict[str, np.ndarray]:
    """The prompts of each case in a file, in our axes.

    Args:
        kind: "box", for {"CASE": [[i0, j0, k0, i1, j1, k1], ...]}, corners inclusive; or "point", for
            {"CASE": [[i, j, k, label], ...]}.
        cases: the ids of all cases.
        geometries: geometries of the cases whose files can be read; the prompts of others are passed over.

    Returns:
        The boxes (n, 6) or points (n, 4) for `Predictor.segment`, by case.

    Raises:
        UserError: the file is not of this form, or a prompt is not of its case.
    """
    content = _read(path)
    if not content:
        raise UserError(f"{path}: holds no case")
    known = set(cases)
    prompts = {}
    for case, entries in content.items():
        where = f"{path}: {case}"
        if case not in known:
            raise UserError(f"{where}: no such case; --input holds {_some(cases)}")
        if not isinstance(entries, list) or not entries:
            raise UserError(f"{where}: {entries!r}; expected a list of prompts (leave a case out that has none)")
        if case not in geometries:
            continue
        geometry = geometries[case]
        for entry in entries:
            _verify(entry, kind, geometry.source_shape, where)
        prompts[case] = _to_ours(np.array(entries), kind, geometry)
        _verify_slices(prompts[case], kind, geometry, where)
    return prompts


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f'{path}: expected an object {{"CASE": [prompts]}}')
    return content


def _verify(entry: Any, kind: str, shape: tuple[int, int, int], where: str) -> None:
    length = 6 if kind == "box" else 4
    # bool is an int to Python, but true is no voxel.
    if not isinstance(entry, list) or len(entry) != length or any(type(value) is not int for value in entry):
        raise UserError(f"{where}: {kind} {json.dumps(entry)}: expected {_FORMS[kind]}")
    for number in range(6 if kind == "box" else 3):
        side = shape[number % 3]
        if not 0 <= entry[number] < side:
            axis = "ijk"[number % 3]
            raise UserError(f"{where}: {kind} {entry}: {axis} = {entry[number]} is not a voxel's, 0 to {side - 1}")
    if kind == "box" and any(first > last for first, last in zip(entry[:3], entry[3:], strict=True)):
        raise UserError(f"{where}: box {entry}: ends before it begins; expected {_FORMS[kind]}")
    if kind == "point" and entry[3] not in (0, 1):
        raise UserError(f"{where}: point {entry}: label {entry[3]}, expected 1 (inside) or 0 (outside)")


def _to_ours(entries: np.ndarray, kind: str, geometry: Geometry) -> np.ndarray:
    if kind == "point":
        return np.concatenate([points_to_ours(entries[:, :3], geometry), entries[:, 3:]], axis=1)
    corners = points_to_ours(entries.reshape(-1, 2, 3), geometry)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _verify_slices(prompts: np.ndarray, kind: str, geometry: Geometry, where: str) -> None:
    """Refuses slices with negative clicks only."""
    none = np.zeros((0, 6), int)
    try:
        regions_of(*((prompts, none) if kind == "box" else (none, prompts)), geometry.shape)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
