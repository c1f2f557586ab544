"""Draws image embeddings in two dimensions, by domain (paper B, fig. 9)."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from samjax.figures.canvas import WIDTH, colour, drawn, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_embedding_map(
    path: Path,
    title: str,
    domains: Sequence[str],
    labels: dict[str, str],
    tsne: np.ndarray,
    pca: np.ndarray,
    explained: tuple[float, float],
) -> None:
    """Writes t-SNE and PCA side by side, a colour and a marker for each domain.

    Args:
        path: the PNG; the PDF is written beside it.
        title: the title above both.
        domains: the domain of each of n points.
        labels: the legend's text of each domain.
        tsne, pca: (n, 2) the points.
        explained: the shares of the variance that PCA's two components explain.
    """
    with drawn(path, 4.1) as figure:
        left, right = figure.subplots(1, 2)
        _scatter(left, domains, labels, tsne)
        _scatter(right, domains, labels, pca)
        left.set(title="t-SNE (distances and sizes mean little)", xticks=[], yticks=[])
        left.spines[["top", "right"]].set_visible(True)
        first, second = (f"component {i} ({share:.0%} of the variance)" for i, share in enumerate(explained, 1))
        right.set(title="PCA", xlabel=first, ylabel=second)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.suptitle(fill(title, int(12 * WIDTH)))


def _scatter(axis: "Axes", domains: Sequence[str], labels: dict[str, str], points: np.ndarray) -> None:
    domains = np.array(domains)
    for number, (name, label) in enumerate(labels.items()):
        axis.scatter(
            *points[domains == name].T, s=16, marker=marker(number), color=colour(number), alpha=0.7, linewidths=0.3,
            edgecolors="white", label=label,
        )  # fmt: skip
