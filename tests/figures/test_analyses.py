"""Figures of the analyses: what is drawn is what was given."""

import numpy as np

from samjax.figures.canvas import colour
from samjax.figures.embedding_map import draw_embedding_map
from samjax.figures.lora_distance import DistanceColumn, draw_lora_distance


def column(title: str, seed: int) -> DistanceColumn:
    gaps = np.sort(np.random.default_rng(seed).random((3, 4)), axis=1)[:, ::-1]
    return DistanceColumn(title, np.arange(3), gaps, gaps.max(1) + 0.5, gaps.max(1))


def test_gaps_norms_and_bounds_of_every_module(kept, tmp_path):
    columns = [column("query", 0), column("value", 1)]
    draw_lora_distance(tmp_path / "lora.png", ("adult", "men"), columns)
    above, below = np.array(kept[0].axes).reshape(2, 2)
    assert [axis.get_title() for axis in above] == ["query", "value"]
    for top, bottom, given in zip(above, below, columns, strict=True):
        assert np.array([line.get_ydata() for line in top.lines]).T.tolist() == given.gaps.tolist()
        assert [line.get_ydata().tolist() for line in bottom.lines] == [given.norms.tolist(), given.bounds.tolist()]
    assert [text.get_text() for text in above[-1].get_legend().get_texts()] == [f"$i = {i}$" for i in range(1, 5)]
    assert kept[0].get_suptitle() == "LoRA updates of adult and men"


def test_each_domain_has_its_points_and_colour(kept, tmp_path):
    tsne, pca = np.random.default_rng(0).random((2, 6, 2))
    labels = {"gli": "gli: 4 slices", "men": "men: 2 slices"}
    domains = ["gli", "men", "gli", "gli", "men", "gli"]
    draw_embedding_map(tmp_path / "map.png", "a title", domains, labels, tsne, pca, (0.5, 0.25))
    for axis, points in zip(kept[0].axes, (tsne, pca), strict=True):
        for number, (scatter, name) in enumerate(zip(axis.collections, labels, strict=True)):
            own = points[[domain == name for domain in domains]]
            assert scatter.get_offsets().tolist() == own.tolist()
            assert scatter.get_label() == labels[name]
            rgb = [round(255 * part) for part in scatter.get_facecolor()[0][:3]]
            assert "#" + bytes(rgb).hex() == colour(number)
    assert kept[0].axes[1].get_xlabel() == "component 1 (50% of the variance)"
