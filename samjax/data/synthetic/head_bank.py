"""Generated heads on the disk: made once, then read as memory-mapped voxels by every run.

A bank is a folder with two files a head: `head-00007.npy`, its voxels as in `anatomy.py`, and `head-00007.npz`, what is
known of it. The second is written last: a head without it is not finished. Every head depends only on its number, so
any number of processes makes the same bank, and a build that was stopped is continued by the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from samjax.data.loading.progress import map_with_progress
from samjax.data.synthetic.anatomy import HEAD_TISSUES, INSIDE, SHARE_STEPS, Voxels, make_head, tissue_shares
from samjax.files import replacing

VERSION = 1
"""Raise it when a head's number gives other voxels; each version has a folder of its own."""
FOLDER = f"heads-{VERSION}"
SEED = 0
_SITES = 400
_INNER = 3


@dataclass(frozen=True)
class Head:
    """One head of a bank.

    `voxels` (180, 232, 200, 2) uint8 as in `anatomy.py`, memory-mapped. `shares` (2, tissues): its voxels of each
    tissue, in all and inside the skull. `white`, `surface`, `stem` (n, 3) int16: places in white matter, at the
    brain's surface and in the brain stem where a tumour may start, as indices into the voxels.
    """

    voxels: Voxels
    shares: np.ndarray
    white: np.ndarray
    surface: np.ndarray
    stem: np.ndarray


def bank_folder(cache: Path) -> Path:
    """The folder of the bank in a cache folder."""
    return cache.expanduser().absolute() / FOLDER


def missing_heads(folder: Path, count: int) -> list[int]:
    """Numbers of the first `count` heads that are not finished."""
    return [number for number in range(count) if not _about(folder, number).is_file()]


def build_heads(
    folder: Path,
    count: int,
    workers: int | None = None,
    progress: bool = True,
    done: Callable[[], None] = lambda: None,
    make: Callable[[int, int], Voxels] = make_head,
) -> None:
    """Makes those of the first `count` heads that are missing.

    Args:
        workers: processes, by default one per core; with 1, this process does all.
        progress: whether to show a bar on stderr.
        done: called after each head; may raise to stop there.
        make: makes the voxels of a head from the seed and its number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = partial(_write_head, folder, make)
    for _ in map_with_progress(job, missing_heads(folder, count), "generating heads", workers, progress):
        done()


def read_head(folder: Path, number: int) -> Head:
    """Opens a finished head; its voxels are read when they are used."""
    with np.load(_about(folder, number)) as about:
        rest = {name: about[name] for name in ("shares", "white", "surface", "stem")}
    return Head(voxels=np.load(_voxels(folder, number), mmap_mode="r"), **rest)


def _voxels(folder: Path, number: int) -> Path:
    return folder / f"head-{number:05d}.npy"


def _about(folder: Path, number: int) -> Path:
    return folder / f"head-{number:05d}.npz"


def _write_head(folder: Path, make: Callable[[int, int], Voxels], number: int) -> int:
    voxels = make(SEED, number)
    with replacing(_voxels(folder, number)) as temporary, temporary.open("wb") as file:
        np.save(file, voxels)
    with replacing(_about(folder, number)) as temporary, temporary.open("wb") as file:
        np.savez(file, shares=tissue_shares(voxels), **_sites(voxels, np.random.default_rng((SEED, number, 1))))
    return number


def _sites(voxels: Voxels, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Places where tumours may start."""
    from scipy import ndimage

    coarse = voxels[::2, ::2, ::2]
    inside = coarse[..., 1] >= INSIDE
    pure = (coarse[..., 1] % INSIDE) < 0.1 * SHARE_STEPS
    depth = ndimage.distance_transform_edt(inside) * 2
    first = coarse[..., 0] % 16
    white = inside & pure & (first == HEAD_TISSUES.index("white"))
    low = np.zeros_like(inside)
    low[: inside.shape[0] // 3] = True
    # The stem is the white matter on the midline below the middle of the head.
    middle = np.zeros_like(inside)
    middle[:, :, inside.shape[2] // 2 - 7 : inside.shape[2] // 2 + 7] = True
    masks = {
        "white": white & (depth > 2 * _INNER),
        "surface": inside & (depth < _INNER) & ~low,
        "stem": white & low & middle,
    }
    return {name: _some(rng, mask if mask.any() else white | inside) for name, mask in masks.items()}


def _some(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    places = np.argwhere(mask)
    return (2 * places[rng.integers(len(places), size=_SITES)]).astype(np.int16)


def opened(folder: Path, numbers: Sequence[int]) -> list[Head]:
    """Opens several finished heads."""
    return [read_head(folder, number) for number in numbers]
