"""Checks that a file holds the tensors that are expected: their names, their shapes and their values."""

from collections.abc import Iterable, Mapping

import numpy as np

from samjax.errors import UserError
from samjax.models.config import pixel_statistics
from samjax.weights.architecture import Shape

STATISTICS = ("pixel_mean", "pixel_std")
"""Buffers by which Meta's code normalises pictures; some programs store them with the weights."""

_PIECE = 1 << 18
"""Number of values checked together, so that checking a large tensor takes little memory."""


def match(
    flat: Mapping[str, np.ndarray], expected: Mapping[str, Shape], where: object, what: str = "of this SAM"
) -> None:
    """Checks that `flat` holds every expected tensor in its shape and nothing else.

    Args:
        flat: tensors by name.
        expected: the shape of each tensor that must be there, by name.
        where: the file, for the error.
        what: owner of the expected tensors, for the error.

    Raises:
        UserError: one line with the unused, the missing and the misshapen tensors of `where`.
    """
    unused = [name for name in flat if name not in expected]
    missing = [name for name in expected if name not in flat]
    misshapen = [
        f"{name} is {flat[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in flat and flat[name].shape != shape
    ]
    sides = (("unused", unused), ("missing", missing), ("of another shape", misshapen))
    faults = "; ".join(f"{len(names)} {side} ({first_names(names)})" for side, names in sides if names)
    if faults:
        raise UserError(f"{where}: its tensors are not those {what}: {faults}; expected {len(expected)} tensors")


def first_names(names: Iterable[str]) -> str:
    """The first three of the names, for an error message."""
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def plainly_named(tensors: dict[str, np.ndarray], where: object) -> dict[str, np.ndarray]:
    """Returns the tensors unchanged. Raises a `UserError` for a name with characters that cannot be printed."""
    for name in tensors:
        if not name.isprintable() or len(name) > 200:
            raise UserError(f"{where}: a tensor is called {name[:50]!r}; the file is damaged or no checkpoint of SAM")
    return tensors


def finite_float32(tensors: Mapping[str, np.ndarray], where: object) -> dict[str, np.ndarray]:
    """Widens float16 and bfloat16 tensors and rounds float64 ones; float32 tensors are passed on uncopied.

    Raises:
        UserError: a tensor is not of a floating-point type, or holds NaN, infinity or a number that float32 cannot
            hold; the line names the tensor.
    """
    return {name: _finite_float32(name, value, where) for name, value in tensors.items()}


def require_finite(tensors: Mapping[str, np.ndarray], where: object) -> None:
    """Raises a `UserError` where `finite_float32` would; keeps no converted tensor."""
    for name, value in tensors.items():
        _finite_float32(name, value, where)


def _finite_float32(name: str, value: np.ndarray, where: object) -> np.ndarray:
    if value.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise UserError(f"{where}: {name} is of type {value.dtype}; expected a floating-point type")
    with np.errstate(over="ignore"):
        converted = value.astype(np.float32, copy=False)
    if not _is_finite(converted):
        wrong = value[~np.isfinite(converted)]
        raise UserError(
            f"{where}: {name} holds {wrong[0]} ({wrong.size:,} of {value.size:,} values); expected finite numbers in "
            "the range of float32, so take an earlier or another checkpoint"
        )
    return converted


def _is_finite(value: np.ndarray) -> bool:
    values = value.ravel(order="K")  # in the order of memory a transposed tensor is not copied
    return all(np.isfinite(values[start : start + _PIECE]).all() for start in range(0, values.size, _PIECE))


def split_statistics(
    tensors: Mapping[str, np.ndarray], prefix: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Separates the tensors of a model from its pixel statistics, which are not weights. Names keep their `prefix`."""
    names = {prefix + name for name in STATISTICS}
    weights = {name: value for name, value in tensors.items() if name not in names}
    return weights, {name: value for name, value in tensors.items() if name in names}


def check_statistics(stored: Mapping[str, np.ndarray], channels: int, where: object) -> None:
    """Checks that a file's pixel statistics are those with which samjax normalises pictures of this many channels.

    Raises:
        UserError: they differ, so the model was trained with another normalisation. The line names the buffer.
    """
    for name, value in stored.items():
        mean, deviation = pixel_statistics(channels)
        expected = mean if name.endswith("pixel_mean") else deviation
        # A half keeps three digits of them.
        rounding = 2.0**-7 if value.dtype.itemsize == 2 else 1e-5
        found = value.astype(np.float64).ravel()
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=rounding, atol=0):
            raise UserError(
                f"{where}: {name} is {_numbers(found)}, but samjax normalises pictures by {_numbers(expected)}; "
                "weights that were trained with another normalisation are not read"
            )


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values[:4]) + (", ...)" if values.size > 4 else ")")
