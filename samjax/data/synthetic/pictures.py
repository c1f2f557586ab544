"""Dead-leaves pictures as samples for pretraining, drawn when they are read."""

from dataclasses import dataclass

import numpy as np

from samjax.data.loading.pipeline import MapDataset
from samjax.data.synthetic.dead_leaves import DeadLeavesOptions, dead_leaves, visible_regions

SMALLEST_SHARE = 1 / 100
"""The share of the picture that a visible region needs to serve as a target: 26 x 26 pixels in 256 x 256."""
_HELD_OUT = 1  # tells these pictures from the training ones of the same seed


@dataclass(frozen=True)
class FreshPictures:
    """Epochs of `count` numbers each, none ever repeated."""

    count: int

    def epoch(self, epoch: int) -> range:
        """The numbers of an epoch's pictures."""
        return range(epoch * self.count, (epoch + 1) * self.count)


@dataclass(frozen=True)
class DrawPicture:
    """Draws a picture: images (1, S, S, 3) uint8, ids (S, S) uint8, targets (P,) uint8 and identity, its number.

    `targets` are the shapes to be segmented, chosen at random, filled up with 0 where the picture has fewer.
    """

    size: int
    targets: int
    seed: int
    stream: int = 0

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, self.stream, number))
        picture, ids = dead_leaves(rng, DeadLeavesOptions(size=self.size))
        usable = rng.permutation(visible_regions(ids, int(SMALLEST_SHARE * self.size**2)))[: self.targets]
        targets = np.zeros(self.targets, np.uint8)
        targets[: usable.size] = usable
        return {
            "images": picture[None],
            "ids": ids,
            "targets": targets,
            "slices": np.ones(1, bool),
            "identity": np.int32(number),
        }


def training_pictures(
    epoch: int, size: int, targets: int, seed: int, batch: int, host: tuple[int, int] = (0, 1)
) -> MapDataset:
    """Batches of ever new pictures, `epoch` of them per epoch, for host (index, count)."""
    draw = DrawPicture(size, targets, seed)
    return MapDataset.source(FreshPictures(epoch)).shard(*host).map(draw).batch(batch)


def held_out_pictures(count: int, size: int, targets: int, batch: int) -> MapDataset:
    """Batches of the pictures that models are scored on: the same for every run, never trained on."""
    return MapDataset.source(range(count)).map(DrawPicture(size, targets, 0, _HELD_OUT)).batch(batch)
