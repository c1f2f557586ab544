"""How long does it take to prepare a case, and then to read its slices in batches?

Preparing: our cache build of a case (read, orient, check, normalise, crop, write) beside nibabel merely reading its
five files as the integers that are stored. Reading: shuffled batches of 8 slices with labels by one worker process,
ours from the cache, PyTorch's DataLoader from the same slices as one memory-mapped `.npy` a case.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from benchmarks.options import Setting
from benchmarks.scans import cached, one_scan
from benchmarks.sides import our_numpy_side
from benchmarks.work import Benchmark, Comparison, Side, Work

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
"""Images and labels."""
BATCH = 8
WORKERS = 1


def write_files(setting: Setting) -> None:
    """The scan, its place in the slice cache, and its slices as arrays for the peer."""
    case = cached(one_scan(setting), setting)
    images, labels = case.read(0, case.shape[0], max(case.shape[1:]))
    np.save(setting.folder / "slices-images.npy", images)
    np.save(setting.folder / "slices-labels.npy", labels)


def build(setting: Setting) -> Work:
    from samjax.data.cache.cases import open_case

    case = one_scan(setting)
    folders = (Path(f"build-{number}").absolute() for number in count())
    return Work(lambda: open_case(case, next(folders)))


def nibabel(setting: Setting) -> Work:
    import nibabel

    files = one_scan(setting).files
    return Work(lambda: [np.asarray(nibabel.load(path).dataobj) for path in files])


def ours(setting: Setting) -> Work:
    from samjax.data.loading.pipeline import MapDataset
    from samjax.data.samples import ReadWindow

    case = cached(one_scan(setting), setting)
    windows = [(0, number) for number in range(_slices(case.shape[0]))]
    read = ReadWindow((case,), 1, max(case.shape[1:]))
    chain = MapDataset.source(windows).seed(0).shuffle().map(read).batch(BATCH)
    batches = chain.to_iter(workers=WORKERS)

    def epoch() -> Batches:
        for _ in range(chain.length(0)):
            batch = next(batches)
            yield batch["images"], batch["labels"]

    return Work(lambda: _taken(epoch()), lambda: _looked_at(epoch()), answer=np.array)


class NpySlices:
    """Slices of memory-mapped arrays, as PyTorch's DataLoader takes them."""

    def __init__(self, folder: Path):
        self._images, self._labels = (
            np.load(folder / f"slices-{name}.npy", mmap_mode="r") for name in ("images", "labels")
        )

    def __len__(self) -> int:
        return _slices(len(self._images))

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self._images[number]), np.array(self._labels[number])


def data_loader(setting: Setting) -> Work:
    from torch.utils.data import DataLoader

    loader = DataLoader(NpySlices(setting.folder), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)

    def epoch() -> Batches:
        for images, labels in loader:
            yield images.numpy(), labels.numpy()

    return Work(lambda: _taken(epoch()), lambda: _looked_at(epoch()), answer=np.array)


def _slices(count: int) -> int:
    """Full batches only: the two fill up the last one differently."""
    return count // BATCH * BATCH


def _taken(batches: Batches) -> int:
    """How many slices came; of each batch one pixel is looked at."""
    count = 0
    for images, _ in batches:
        images.flat[0]
        count += len(images)
    return count


def _looked_at(batches: Batches) -> tuple[int, int, int]:
    """How many slices came, and the sums of their values, whatever the order."""
    count = images_sum = labels_sum = 0
    for images, labels in batches:
        count += len(images)
        images_sum += int(images.sum(dtype=np.uint64))
        labels_sum += int(labels.sum(dtype=np.uint64))
    return count, images_sum, labels_sum


TORCH = "pip install -e '.[bench]'"

BENCHMARK = Benchmark(
    {
        "build": our_numpy_side(build, "samjax.data.cache.cases", "samjax.data.cohort"),
        "nibabel": Side(nibabel, ("nibabel", "samjax.data.cohort"), ("nibabel", "numpy")),
        "ours": our_numpy_side(ours, "samjax.data.samples"),
        "data_loader": Side(data_loader, ("torch.utils.data",), ("torch", "numpy"), TORCH),
    },
    (
        Comparison("pipeline/build", "build", "nibabel"),
        Comparison("pipeline/read", "ours", "data_loader", tolerance=0.0),
    ),
    write_files,
    note="memory is that of the main process, without its worker",
)
