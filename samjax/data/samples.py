"""Samples for the compiled step: windows of contiguous slices, read and padded to one square."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cache.embeddings import EmbeddingStore
from samjax.data.cache.views import SlicedCase
from samjax.data.labels import rois_of
from samjax.data.loading.pipeline import MapDataset
from samjax.data.slices import empty_windows, enough_pixels, roi_pixels, windows
from samjax.errors import UserError

Window = tuple[int, int]
"""Number of the case and first slice."""
_OFFSETS = 1  # tells these draws from the shuffle's, which have the same seed


def largest_square(cases: Sequence[SlicedCase]) -> int:
    """The side in pixels of the square that holds every slice of every case."""
    return max(max(case.shape[1:]) for case in cases)


@dataclass(frozen=True)
class TrainingWindows:
    """The windows with enough ROI of every epoch, at an offset drawn anew for each case and epoch.

    Of several regions, an epoch has the windows that a run for each of them would have: one that shows an inner region
    may come twice or, at other offsets, in parts. `empty_share` of the windows that are drawn for the outermost region
    show none of it: from these, prompt-free samples learn to predict nothing. Every epoch has a window.
    """

    cases: tuple[SlicedCase, ...]
    depth: int
    roi: str
    """A region, or all."""
    min_pixels: int
    empty_share: float
    seed: int

    @property
    def outermost(self) -> str:
        """The region that is the only one or holds the others."""
        return rois_of(self.roi)[0]

    def epoch(self, epoch: int) -> list[Window]:
        """The (case, first slice) of each window, in the order of the cases."""
        self.check()  # else there would be no end
        rng = np.random.default_rng((self.seed, _OFFSETS, epoch))
        drawn: list[Window] = []
        while not drawn:  # a tumour in one slice of a thin volume lies in no window of some offsets: others are drawn
            drawn = [
                (number, int(start)) for number, case in enumerate(self.cases) for start in self._starts(case, rng)
            ]
        return drawn

    def check(self) -> None:
        """Refuses, by a `UserError`, cases of which no window at any offset holds enough of the ROI."""
        if not any(enough_pixels(case.counts, self.outermost, self.min_pixels).any() for case in self.cases):
            raise UserError(
                f"no training case has a slice with --min-pixels {self.min_pixels} of --roi {self.roi}; lower it or "
                "check --roi and --labels"
            )

    def shown(self) -> list[np.ndarray]:
        """The slices of each case, int64 (n,), that any epoch can show; for windows of one slice."""
        return [np.flatnonzero(self._can_show(case)) for case in self.cases]

    def _can_show(self, case: SlicedCase) -> np.ndarray:
        found = enough_pixels(case.counts, self.outermost, self.min_pixels)
        if self.empty_share:
            first, last = case.box.start[0], case.box.stop[0]
            found[first:last] |= roi_pixels(case.counts, self.outermost)[first:last] == 0
        return found

    def _starts(self, case: SlicedCase, rng: np.random.Generator) -> np.ndarray:
        counts, brain = case.counts, (case.box.start[0], case.box.stop[0])
        chosen = []
        for roi in rois_of(self.roi):
            offset = int(rng.integers(self.depth))
            chosen.append(windows(counts, self.depth, roi, self.min_pixels, offset))
            if self.empty_share and roi == self.outermost:
                share, least = self.empty_share, self.min_pixels
                chosen.append(empty_windows(counts, self.depth, roi, offset, share, rng, brain, least))
        return np.concatenate(chosen)


@dataclass(frozen=True)
class ReadWindow:
    """Reads a window: images (Z, N, N, 4) uint8, labels (Z, N, N) uint8, extent (2,), slices (Z,) bool, present (4,)
    bool, the modalities that the case has, case, start, and identity, a number made of the case's name.

    Slices outside the volume are background and False in `slices`.
    """

    cases: tuple[SlicedCase, ...]
    depth: int
    size: int

    def __call__(self, window: Window) -> dict[str, np.ndarray]:
        number, start = window
        case = self.cases[number]
        images, labels = case.read(start, start + self.depth, self.size)
        index = np.arange(start, start + self.depth)
        return {
            "images": images,
            "labels": labels,
            "extent": np.int32(case.shape[1:]),
            "slices": (index >= 0) & (index < case.shape[0]),
            "present": case.present,
            "case": np.int32(number),
            "start": np.int32(start),
            "identity": np.int32(case.identity),
        }


@dataclass(frozen=True)
class VariantWindows:
    """The windows of each epoch with the variant of their augmentation in that epoch; the variants take turns."""

    windows: TrainingWindows
    variants: int

    def epoch(self, epoch: int) -> list[tuple[Window, int]]:
        return [(window, epoch % self.variants) for window in self.windows.epoch(epoch)]


@dataclass(frozen=True)
class ReadVariant:
    """Reads a window as `ReadWindow` does, with its variant, a number from which its augmentation is drawn."""

    read: ReadWindow

    def __call__(self, item: tuple[Window, int]) -> dict[str, np.ndarray]:
        window, variant = item
        return {**self.read(window), "variant": np.int32(variant)}


@dataclass(frozen=True)
class ReadEmbedding:
    """Reads a window of one slice with its variant and embedding (1, h, w, c) float16 in place of its images."""

    read: ReadVariant
    store: EmbeddingStore

    def __call__(self, item: tuple[Window, int]) -> dict[str, np.ndarray]:
        (number, start), variant = item
        sample = self.read(item)
        del sample["images"]
        return {**sample, "embeddings": self.store.read(self.read.read.cases[number], variant, start)[None]}


@dataclass(frozen=True)
class RegionSlices:
    """The slices of each case in turn that show enough of the ROI, (n, N, N, 4) uint8; can be iterated repeatedly."""

    cases: tuple[CachedCase, ...]
    roi: str
    min_pixels: int
    size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        for case in self.cases:
            chosen = np.flatnonzero(enough_pixels(case.counts, self.roi, self.min_pixels))
            if chosen.size:
                first = int(chosen[0])
                yield case.read(first, int(chosen[-1]) + 1, self.size)[0][chosen - first]


def training_set(
    source: TrainingWindows,
    size: int,
    batch: int,
    host: tuple[int, int] = (0, 1),
    embeddings: EmbeddingStore | None = None,
) -> MapDataset:
    """Shuffled batches of training samples for host (index, count); where there are `embeddings`, with these in place
    of the images.

    Raises:
        UserError: no window of any case holds enough of the ROI.
    """
    source.check()
    shown, read = source, ReadWindow(source.cases, source.depth, size)
    if embeddings is not None:
        shown = VariantWindows(source, embeddings.variants)
        read = ReadEmbedding(ReadVariant(read), embeddings)
    return MapDataset.source(shown).seed(source.seed).shuffle().shard(*host).map(read).batch(batch)


def scored_slices(cases: Sequence[CachedCase], roi: str, kind: str) -> list[np.ndarray]:
    """The slices of each case, bool (Z,), on which a prompt of this kind can be scored: those with ROI, or all."""
    return [np.ones(len(case.counts), bool) if kind == "none" else enough_pixels(case.counts, roi, 1) for case in cases]
