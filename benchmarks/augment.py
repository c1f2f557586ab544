"""How long does augmenting a batch take: rotation and elastic deformation of 8 samples of 240 x 240 x 5?

Four modalities, interpolated linearly, and the label, whose values are kept. SciPy runs sample after sample, and beside
it with one thread a core; dm-pix is compiled for the whole batch. Each draws fields of its own of the same strength;
for the comparison of the numbers SciPy then warps with ours.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.options import Setting
from benchmarks.sides import our_side
from benchmarks.work import Benchmark, Comparison, Side, Work

NATIVE = 240
BATCH = 8
CHANNELS = 4
Sample = tuple[np.ndarray, np.ndarray]


def batch(setting: Setting) -> Sample:
    """Images (8, 1, n, n, 4) uint8, smooth so that interpolation is no matter of chance, and labels (8, 1, n, n)."""
    side, rng = setting.side(NATIVE), np.random.default_rng(6)
    coarse = rng.integers(0, 256, (BATCH, 1, -(-side // 8), -(-side // 8), CHANNELS), np.uint8)
    images = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :side, :side]
    return np.ascontiguousarray(images), (images[..., 0] // 64).astype(np.uint8)


def strength(side: int) -> tuple[float, float, float]:
    """Degrees, and alpha and sigma in pixels of slices of this side."""
    from samjax.data.on_device.augment import REFERENCE_SIZE, Augmentation

    options, relative = Augmentation(), side / REFERENCE_SIZE
    return options.rotation, options.elastic_alpha * relative**2, options.elastic_sigma * relative


def ours(setting: Setting) -> Work:
    import jax

    from benchmarks.our_sam import compiled
    from samjax.data.on_device.augment import Augmentation, augment

    images, labels = map(jax.numpy.asarray, batch(setting))
    extent = jax.numpy.full((BATCH, 2), images.shape[2])

    def augmented(keys: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(augment, in_axes=(0, 0, 0, 0, None))(keys, images, labels, extent, Augmentation())

    keys = jax.random.split(jax.random.key(0), BATCH)
    program, seconds = compiled(augmented, keys, images, labels)
    return Work(
        lambda: jax.block_until_ready(program(keys, images, labels)),
        answer=lambda found: together(np.asarray(found[0]), np.asarray(found[1])),
        compile_seconds=seconds,
    )


def together(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(8, n, n, 5): the images, and the labels as loud as they are."""
    return np.concatenate([images[:, 0], 64.0 * labels[:, 0, ..., None]], axis=-1)


def scipy_warped(image: np.ndarray, label: np.ndarray, field: np.ndarray) -> Sample:
    """One slice (n, n, 4) and its label (n, n) at the rows and columns of a field (2, n, n)."""
    from scipy.ndimage import map_coordinates

    warped = [
        map_coordinates(image[..., channel], field, np.float32, order=1, mode="grid-constant")
        for channel in range(CHANNELS)
    ]
    return np.stack(warped, axis=-1), map_coordinates(label, field, order=0, mode="grid-constant")


def scipy_field(rng: np.random.Generator, side: int) -> np.ndarray:
    """(2, n, n) float32: a random rotation about the middle and smoothed noise."""
    from scipy.ndimage import gaussian_filter

    rotation, alpha, sigma = strength(side)
    angle = np.float32(np.deg2rad(rng.uniform(-rotation, rotation)))
    rows, columns = np.indices((side, side), np.float32) - np.float32((side - 1) / 2)
    cos, sin = np.cos(angle), np.sin(angle)
    field = np.stack([cos * rows - sin * columns, sin * rows + cos * columns]) + np.float32((side - 1) / 2)
    noise = rng.random((2, side, side), np.float32) * 2 - 1
    return field + np.float32(alpha) * gaussian_filter(noise, (0, sigma, sigma), mode="constant")


def _scipy(setting: Setting, threads: int) -> Work:
    images, labels = batch(setting)

    def one(number: int) -> Sample:
        field = scipy_field(np.random.default_rng(number), images.shape[2])
        return scipy_warped(images[number, 0], labels[number, 0], field)

    pool = ThreadPoolExecutor(threads)
    each: Callable = pool.map if threads > 1 else map

    def run() -> Sample:
        warped = list(each(one, range(BATCH)))
        return np.stack([image for image, _ in warped]), np.stack([label for _, label in warped])

    return Work(run, answer=lambda found: scipy_on_our_fields(images, labels))


def scipy_on_our_fields(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What SciPy makes of the fields that ours draws."""
    import jax

    from samjax.data.on_device.augment import Augmentation, coordinate_field

    side = images.shape[2]
    warped = []
    for number, key in enumerate(jax.random.split(jax.random.key(0), BATCH)):
        field = coordinate_field(key, side, jax.numpy.full(2, side), Augmentation())
        warped.append(scipy_warped(images[number, 0], labels[number, 0], np.asarray(field)))
    return together(*(np.stack(part)[:, None] for part in zip(*warped, strict=True)))


def scipy(setting: Setting) -> Work:
    return _scipy(setting, threads=1)


def scipy_threads(setting: Setting) -> Work:
    return _scipy(setting, threads=len(os.sched_getaffinity(0)))


def dm_pix(setting: Setting) -> Work:
    """Its rotation after its elastic deformation: it has no common field, so that it interpolates twice."""
    import jax
    from dm_pix import elastic_deformation, rotate

    from benchmarks.our_sam import compiled

    images, labels = map(jax.numpy.asarray, batch(setting))
    rotation, alpha, sigma = strength(images.shape[2])

    def one(key: jax.Array, image: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        angle_key, noise_key = jax.random.split(key)
        angle = jax.numpy.deg2rad(jax.random.uniform(angle_key, (), minval=-rotation, maxval=rotation))

        def moved(x: jax.Array, order: int) -> jax.Array:
            x = elastic_deformation(noise_key, x.astype("float32"), alpha, sigma, order=order, mode="constant")
            return rotate(x, angle, order=order, mode="constant")

        return moved(image[0], 1), moved(label[0][..., None], 0)

    keys = jax.random.split(jax.random.key(0), BATCH)
    program, seconds = compiled(jax.vmap(one), keys, images, labels)
    return Work(lambda: jax.block_until_ready(program(keys, images, labels)), compile_seconds=seconds)


# The last one, which brings JAX along, only tells the strength: it must not count as SciPy's memory.
SCIPY = ("scipy.ndimage", "samjax.data.on_device.augment")

BENCHMARK = Benchmark(
    {
        "ours": our_side(ours),
        "scipy": Side(scipy, SCIPY, ("scipy", "numpy")),
        "scipy_threads": Side(scipy_threads, SCIPY, ("scipy", "numpy")),
        "dm_pix": Side(dm_pix, ("benchmarks.our_sam", "dm_pix"), ("dm-pix", "jax"), "pip install -e '.[bench]'"),
    },
    (
        Comparison("augment", "ours", "scipy", tolerance=1e-3),
        Comparison("augment/scipy_threads", "ours", "scipy_threads", tolerance=1e-3),
        Comparison("augment/dm_pix", "ours", "dm_pix"),
    ),
)
