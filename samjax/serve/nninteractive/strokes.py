"""Scribbles as clicks: the models were trained with clicks, and take a line as several of them."""

import numpy as np

MOST_CLICKS = 8
"""Clicks of a scribble at most."""
MOST_VOXELS = 1 << 16
"""Voxels of a scribble at most; a line across a whole slice has some thousand."""


def clicks_along(places: np.ndarray, most: int = MOST_CLICKS) -> np.ndarray:
    """Places (m, 3), m at most `most`, among `places` (n, 3), n at least 1, that lie as far apart as they can.

    The first is the one nearest to the middle; every other is the one farthest from those before.
    """
    chosen = [int(((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    apart = ((places - places[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < most and apart.max() > 0:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, ((places - places[chosen[-1]]) ** 2).sum(axis=1))
    return places[chosen]
