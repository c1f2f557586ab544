"""Draws images/phantom_domains.png and images/dead_leaves.png: `python docs/make_data_figures.py`."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from samjax.data.synthetic.dead_leaves import dead_leaves
from samjax.data.synthetic.phantom import DOMAINS, make_case
from samjax.files import replacing

IMAGES = Path(__file__).parent / "images"
COMPARTMENTS = ("non-enhancing", "edema", "enhancing")  # label values 1, 2, 3
COLOURS = ("#3b6fe0", "#35c26b", "#f2b134")
EXAMPLES = {"adult": 10, "meningioma": 1, "paediatric": 0, "subsaharan": 16}  # case indices of seed 0


def phantom_domains(path: Path) -> None:
    """A row for each domain: four modalities and the labels on FLAIR, at the tumour's largest slice."""
    titles = ("t1", "t1gd", "t2", "flair", "flair with labels")
    figure, axes = plt.subplots(len(DOMAINS), len(titles), figsize=(10, 9.6), facecolor="black", layout="constrained")
    for row, domain in zip(axes, DOMAINS, strict=True):
        case = make_case(domain, 0, EXAMPLES[domain])
        level = int(np.argmax(np.count_nonzero(case["label"], axis=(0, 1))))
        # Columns run to the patient's left and rows to posterior, as the files do.
        label = case["label"][18:142, 4:156, level].T
        for axis, title in zip(row, titles, strict=True):
            volume = case["images"][title.split()[0]]
            picture = volume[18:142, 4:156, level].T
            axis.imshow(picture, cmap="gray", vmin=0, vmax=np.percentile(volume[volume > 0], 99.5))
            axis.set(xticks=[], yticks=[])
        shown = np.ma.masked_equal(label, 0)
        row[-1].imshow(shown, cmap=ListedColormap(COLOURS), vmin=1, vmax=3, alpha=0.5, interpolation="nearest")
        row[0].set_ylabel(domain, color="white")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, color="white")
    figure.legend(
        handles=[Patch(color=c, label=name) for name, c in zip(COMPARTMENTS, COLOURS, strict=True)],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        labelcolor="white",
    )
    _save(figure, path, dpi=92)


def dead_leaves_pictures(path: Path) -> None:
    """Twelve pictures, each above the boundaries of what can be seen in it."""
    figure, axes = plt.subplots(4, 6, figsize=(10, 6.8), layout="constrained")
    for index in range(12):
        picture, ids = dead_leaves(np.random.default_rng((0, index)))
        top, column = 2 * (index // 6), index % 6
        axes[top, column].imshow(picture)
        axes[top + 1, column].imshow(_boundaries(ids), cmap="gray_r", interpolation="nearest")
    for axis in axes.flat:
        axis.set_axis_off()
    _save(figure, path, dpi=92)


def _boundaries(ids: np.ndarray) -> np.ndarray:
    edges = np.zeros(ids.shape, bool)
    edges[1:] |= ids[1:] != ids[:-1]
    edges[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    return edges


def _save(figure: plt.Figure, path: Path, dpi: int) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    plt.close(figure)


if __name__ == "__main__":
    phantom_domains(IMAGES / "phantom_domains.png")
    dead_leaves_pictures(IMAGES / "dead_leaves.png")
