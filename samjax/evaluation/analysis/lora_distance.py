"""The distance between two runs' LoRA updates, layer by layer (paper B, eq. 6-8 and fig. 8).

An update dPhi = scale * a @ b of rank r has r singular values that are not zero. Paper B compares two runs by
|sigma_i(dPhi_1) - sigma_i(dPhi_2)|, i = 1 ... r. Each is a lower bound of the spectral norm of dPhi_1 - dPhi_2 (eq. 8;
the text by fig. 8 has upper). The bound does not see rotations: updates with equal singular values may do quite
different things. Therefore the norm itself is given too, which costs as little, since dPhi_1 - dPhi_2 has a rank
of at most 2 r.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samjax.errors import UserError
from samjax.figures.lora_distance import DistanceColumn, draw_lora_distance
from samjax.files import replacing
from samjax.models.config import Adaptation
from samjax.runs.config import RunConfig
from samjax.runs.folder import find_model, read_config
from samjax.runs.trained import load_trained

MODULES = {"q": "query", "k": "key", "v": "value", "lin1": "first MLP layer", "lin2": "second MLP layer"}
"""The modules that LoRA adapts, in the order of the figure's columns, with their titles."""
NAME = "lora_distance"
"""The name of the files written, before their suffixes."""

Factors = dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]
"""The factors a (in, r) and scale * b (r, out), float64, by encoder block and module."""


@dataclass(frozen=True)
class ModuleDistance:
    """The updates of one module of one encoder block (from 0) in two runs."""

    layer: int
    module: str
    first: np.ndarray
    """The singular values of the first run's update, (r,), falling."""
    second: np.ndarray
    """The singular values of the second run's update, (r,), falling."""
    norm: float
    """The spectral norm of the difference of the updates."""

    @property
    def gaps(self) -> np.ndarray:
        """|sigma_i(dPhi_1) - sigma_i(dPhi_2)|, (r,)."""
        return np.abs(self.first - self.second)

    @property
    def bound(self) -> float:
        """The best lower bound of `norm` that eq. 8 gives."""
        return float(self.gaps.max())


def comparable_pair(runs: Sequence[Path]) -> tuple[Path, Path]:
    """The two runs with LoRA updates among `runs`.

    Raises:
        UserError: there are not exactly two, or they differ in base weights, rank or targets.
    """
    configs = {run: read_config(run) for run in runs}
    found = [run for run, config in configs.items() if config.adaptation.lora_rank]
    if len(found) != 2:
        named = ", ".join(run.name for run in found) or "none"
        raise UserError(f"--lora-distance: compares two runs with LoRA updates, found {named}; name two with --run")
    first, second = found
    _require_comparable((first, second), (configs[first], configs[second]))
    return first, second


def compare(
    first: Path, second: Path, output: Path, weights: str | None = None, average: bool = True
) -> list[ModuleDistance]:
    """Compares two finished runs (see `comparable_pair`); writes lora_distance.csv, .png and .pdf into `output`.

    Args:
        first, second: the folders of the runs.
        weights: new place of their base weights; None if they have not moved.
        average: whether to take the average of a run's weights, if it has one, instead of the last ones.

    Raises:
        UserError: a folder holds no finished run.
    """
    distances = distances_of(*(_factors_of(folder, weights, average) for folder in (first, second)))
    names = tuple(folder.resolve().name for folder in (first, second))
    _write_csv(output / f"{NAME}.csv", distances)
    _draw(output / f"{NAME}.png", distances, names)
    return distances


def _factors_of(folder: Path, weights: str | None, average: bool) -> Factors:
    config, found = load_trained(find_model(folder), weights, average)
    return lora_factors(found.trained, config.adaptation)


def _require_comparable(folders: tuple[Path, Path], configs: tuple[RunConfig, RunConfig]) -> None:
    for what, value in (
        ("base weights", lambda config: config.base_sha256[:12]),
        ("LoRA rank", lambda config: config.adaptation.lora_rank),
        ("LoRA targets", lambda config: ",".join(sorted(config.adaptation.lora_targets))),
    ):
        ours, theirs = map(value, configs)
        if ours != theirs:
            raise UserError(
                f"{folders[1]}: {what} {theirs}, but {folders[0]} has {ours}; "
                "only updates of equal shape to the same weights can be compared"
            )


def lora_factors(flat: Mapping[str, np.ndarray], adaptation: Adaptation) -> Factors:
    """The factors of every LoRA update.

    Args:
        flat: parameters by stored path (blocks unstacked), such as `image_encoder/blocks/0/attn/lora/q/a`.
    """
    found = {}
    for path in flat:
        if "/lora/" in path and path.endswith("/a"):
            module = path.removesuffix("/a")
            layer, name = int(module.split("/")[2]), module.rpartition("/")[2]
            a, b = (np.asarray(flat[f"{module}/{part}"], np.float64) for part in "ab")
            found[layer, name] = a, adaptation.lora_scale * b
    return found


def distances_of(first: Factors, second: Factors) -> list[ModuleDistance]:
    """The distance of each module in each block, block by block; both hold the same modules in the same shapes."""
    names = list(MODULES)
    keys = sorted(first, key=lambda key: (key[0], names.index(key[1])))
    return [
        ModuleDistance(
            *key,
            first=singular_values(*first[key]),
            second=singular_values(*second[key]),
            norm=difference_norm(first[key], second[key]),
        )
        for key in keys
    ]


def singular_values(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The singular values of a @ b that can differ from zero, falling: a (in, r), b (r, out) -> (min(in, r, out),).

    With a = Q R and b^T = P S they are those of the small matrix R @ S^T, so the full matrix is never formed.
    """
    left, right = (np.linalg.qr(factor, mode="r") for factor in (a, b.T))
    return np.linalg.svd(left @ right.T, compute_uv=False)


def difference_norm(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """The spectral norm of a1 @ b1 - a2 @ b2, itself a product of two thin factors."""
    a = np.concatenate([first[0], -second[0]], axis=1)
    b = np.concatenate([first[1], second[1]], axis=0)
    return float(singular_values(a, b)[0])


def _write_csv(path: Path, distances: Sequence[ModuleDistance]) -> None:
    """Writes one line for each singular value, with numbers in full."""
    header = ("layer", "module", "i", "sigma_first", "sigma_second", "gap", "bound", "spectral_norm")
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for found in distances:
            for i, values in enumerate(zip(found.first, found.second, found.gaps, strict=True), 1):
                writer.writerow(
                    (found.layer, found.module, i, *(float(value) for value in values), found.bound, found.norm)
                )


def _draw(path: Path, distances: Sequence[ModuleDistance], runs: tuple[str, str]) -> None:
    columns = []
    for module, title in MODULES.items():
        found = [distance for distance in distances if distance.module == module]
        if found:
            columns.append(
                DistanceColumn(
                    title,
                    blocks=np.array([distance.layer for distance in found]),
                    gaps=np.array([distance.gaps for distance in found]),
                    norms=np.array([distance.norm for distance in found]),
                    bounds=np.array([distance.bound for distance in found]),
                )
            )
    draw_lora_distance(path, runs, columns)
