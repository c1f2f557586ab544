"""How long do Dice and HD95 of a whole tumour take?

A tumour of BraTS's size in a volume of 240 x 240 x 155 voxels, and a prediction with another outline. MedPy pools both
directions' distances, so that ours is asked for the same definition there.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.options import Setting
from benchmarks.sides import our_numpy_side
from benchmarks.work import Benchmark, Comparison, Side, Work

NATIVE = 240
SPACING = (1.0, 1.0, 1.0)
INSTALL = "pip install -e '.[bench]'"


def masks(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """A predicted and a true mask, bool (155, 240, 240) or smaller alike."""
    from scipy import ndimage

    side = setting.side(NATIVE)
    shape = (max(side * 155 // 240, 1), side, side)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    centre, radii = (0.52, 0.45, 0.58), (0.2, 0.14, 0.11)
    scaled = [(grid / n - c) / r for grid, n, c, r in zip((z, y, x), shape, centre, radii, strict=True)]
    rough = sum(axis**2 for axis in scaled)
    rng = np.random.default_rng(5)
    found = []
    for _ in range(2):
        noise = ndimage.zoom(rng.standard_normal([max(n // 8, 2) for n in shape]).astype(np.float32), 8, order=1)
        wobble = np.zeros(shape, np.float32)
        part = tuple(slice(min(n, m)) for n, m in zip(shape, noise.shape, strict=True))
        wobble[part] = noise[part]
        found.append(rough + 0.3 * wobble < 1)
    pred, true = found
    # A seventh of the tumour is not found, and an island is found where none is: Dice 0.81, HD95 13 mm.
    pred[: int(0.42 * shape[0])] = False
    island = (grid - place * n for grid, n, place in zip((z, y, x), shape, (0.7, 0.7, 0.3), strict=True))
    away = sum((axis / radius) ** 2 for axis, radius in zip(island, (4, 9, 7), strict=True))
    pred |= away < (side / NATIVE) ** 2
    return pred, true


def _work(score: Callable[[np.ndarray, np.ndarray], tuple[float, float]], setting: Setting) -> Work:
    pred, true = masks(setting)
    return Work(lambda: score(pred, true), answer=np.array)


def ours(setting: Setting) -> Work:
    from samjax.metrics.scores import score

    def dice_and_hd95(pred: np.ndarray, true: np.ndarray) -> tuple[float, float]:
        row = score(pred, true, SPACING)
        return row["dice"], row["hd95"]

    return _work(dice_and_hd95, setting)


def ours_pooled(setting: Setting) -> Work:
    from samjax.metrics.hausdorff import hd95_pooled
    from samjax.metrics.overlap import dice

    return _work(lambda pred, true: (dice(pred, true), hd95_pooled(pred, true, SPACING)), setting)


def medpy(setting: Setting) -> Work:
    from medpy.metric import binary

    return _work(lambda pred, true: (binary.dc(pred, true), binary.hd95(pred, true, SPACING)), setting)


def monai(setting: Setting) -> Work:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance

    def dice_and_hd95(pred: np.ndarray, true: np.ndarray) -> tuple[float, float]:
        y_pred, y = (torch.from_numpy(mask)[None, None].float() for mask in (pred, true))
        distance = compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=SPACING)
        return float(compute_dice(y_pred, y, include_background=True)), float(distance)

    return _work(dice_and_hd95, setting)


BENCHMARK = Benchmark(
    {
        "ours": our_numpy_side(ours, "samjax.metrics.scores", "scipy.spatial", "scipy.ndimage"),
        "ours_pooled": our_numpy_side(ours_pooled, "samjax.metrics.hausdorff", "scipy.spatial", "scipy.ndimage"),
        "medpy": Side(medpy, ("medpy.metric.binary",), ("medpy", "scipy", "numpy"), INSTALL),
        "monai": Side(monai, ("monai.metrics", "scipy.ndimage"), ("monai", "torch", "scipy", "numpy"), INSTALL),
    },
    (
        Comparison("metrics/medpy", "ours_pooled", "medpy", tolerance=1e-9),
        Comparison("metrics/monai", "ours", "monai", tolerance=2e-4),
    ),
)
