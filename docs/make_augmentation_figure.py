"""Draws images/augmentation.png: `python docs/make_augmentation_figure.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from samjax.data.on_device.augment import Augmentation, augment, coordinate_field, warp_linear
from samjax.data.synthetic.phantom import make_case
from samjax.files import replacing

IMAGES = Path(__file__).parent / "images"
SHOWN = 7  # the slice itself and six augmented versions
LABEL_COLOUR = "#f2b134"


def phantom_slice() -> tuple[np.ndarray, np.ndarray]:
    """(N, N, 2) FLAIR and T1Gd in [0, 1] and (N, N) labels, anterior up, at a tumour's largest slice."""
    case = make_case("adult", 0, 10)
    level = int(np.argmax(np.count_nonzero(case["label"], axis=(0, 1))))
    planes = []
    for modality in ("flair", "t1gd"):
        volume = case["images"][modality]
        planes.append(np.clip(volume[..., level].T / np.percentile(volume[volume > 0], 99.5), 0, 1))
    return np.stack(planes, axis=-1), case["label"][..., level].T


def grid_picture(size: int, step: int = 8) -> np.ndarray:
    """(size, size, 1): lines every `step` pixels, with soft flanks so that they survive the warp."""
    distance = np.abs((np.arange(size) - size / 2 + step / 2) % step - step / 2)
    lines = np.clip(1.5 - distance, 0, 1)
    return np.maximum(lines[:, None], lines[None, :])[..., None]


def draw(path: Path) -> None:
    """Rows: FLAIR and T1Gd with the label's outline, and a grid under the same field."""
    images, labels = phantom_slice()
    size = labels.shape[0]
    extent = jnp.array([size, size])
    figure, axes = plt.subplots(3, SHOWN, figsize=(9.6, 4.6), facecolor="black", layout="constrained")
    for column in range(SHOWN):
        strength = Augmentation() if column else Augmentation(rotation=0.0, elastic_alpha=0.0)
        key = jax.random.key(column)
        warped, outlined = augment(key, images[None], labels[None], extent, strength)
        grid = warp_linear(grid_picture(size), coordinate_field(key, size, extent, strength))
        for axis, picture in zip(axes[:, column], (*jnp.moveaxis(warped[0], -1, 0), grid[..., 0]), strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.contour(outlined[0] > 0, [0.5], colors=LABEL_COLOUR, linewidths=0.8)
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title("original" if column == 0 else f"augmented {column}", color="white")
    for axis, name in zip(axes[:, 0], ("flair", "t1gd", "field"), strict=True):
        axis.set_ylabel(name, color="white")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    draw(IMAGES / "augmentation.png")
