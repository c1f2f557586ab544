"""Patients of the phantom who differ as those of many hospitals do, for a model that is to work on strangers.

Tumours are from small to very large, several in some patients, with edema from none to that of half a hemisphere, faint
or bright; the contrast between tissues, noise, sharpness, shading and skull stripping differ from scan to scan.
Brightness is given over that of white matter in the same modality.
"""

import numpy as np

from samjax.data.synthetic.brain import TISSUES, Field, Points, Subject, edge, ellipsoid, waves
from samjax.data.synthetic.scanner import MODALITIES, Contrast, Scanner
from samjax.data.synthetic.tumour import COMPARTMENTS, GLIOMA_SITES, Tumour, lobes

# Insula, hippocampus, cingulate and orbitofrontal cortex on one side: centres and semi-axes in millimetres.
_LIMBIC = (
    ((39.0, 2.0, 0.0), (10.0, 28.0, 17.0)),
    ((26.0, -12.0, -18.0), (13.0, 24.0, 13.0)),
    ((6.0, 8.0, 22.0), (8.0, 46.0, 18.0)),
    ((14.0, 32.0, -18.0), (24.0, 28.0, 9.0)),
)


def draw_subject(rng: np.random.Generator) -> Subject:
    """A healthy adult head, from young to old."""
    size, age = rng.normal(1, 0.035), rng.uniform()
    return Subject(
        scale=tuple((size * rng.normal(1, 0.025, 3)).tolist()),
        tilt=tuple(rng.normal(0, (4.0, 2.0, 2.5)).tolist()),
        ventricles=float(rng.uniform(0.6, 1.2 + 1.2 * age)),
        sulci=float(rng.uniform(0.5, 1.1 + 1.1 * age)),
        gyrus=float(rng.uniform(13.5, 17.5)),
        gliosis=float(age * rng.beta(1.0, 1.5)),
        seed=int(rng.integers(2**31)),
        sinuses=float(rng.uniform(1.5, 4.0)),
    )


def stripped_margin(subject: Subject, points: Points) -> Field:
    """Millimetres (n,) beyond the intracranial surface that skull stripping keeps; negative where it cuts into it."""
    rng = subject.generator(9)
    depth, uneven = min(0.0, rng.uniform(-3.0, 0.8)), rng.uniform(0, 1.2)
    return np.clip(np.float32(depth) + np.float32(uneven) * waves(rng, points, 45.0, 10), None, 0)


def draw_tumours(rng: np.random.Generator) -> tuple[Tumour, ...]:
    """One glioma, or several in a fifth of the patients; the first is the largest."""
    count = int(rng.choice((1, 2, 3), p=(0.8, 0.14, 0.06)))
    first = _glioma(rng, float(np.clip(rng.lognormal(np.log(21), 0.4), 6, 40)))
    return (first, *(_glioma(rng, float(first.radius * rng.uniform(0.2, 0.7))) for _ in range(count - 1)))


def draw_contrast(rng: np.random.Generator, necrotic: bool) -> Contrast:
    """The contrast of one examination: tissues from alike to far apart, edema from faint to bright."""
    grey = {"t1": rng.uniform(0.62, 0.86), "t2": rng.uniform(1.0, 1.6), "flair": rng.uniform(0.88, 1.3)}
    grey["t1gd"] = grey["t1"] + rng.uniform(0, 0.14)
    healthy = _healthy(rng, grey)
    diseased = _diseased(rng, grey, necrotic)
    return Contrast(lambda _: healthy, lambda _: diseased, float(rng.uniform(0.03, 0.11)))


def draw_scanners(rng: np.random.Generator) -> tuple[Scanner, ...]:
    """Acquisition parameters of each modality."""
    noise = rng.uniform(0.01, 0.07)
    bias = rng.uniform(0.05, 0.22)
    scanners = []
    for _ in MODALITIES:
        level = noise * rng.uniform(0.6, 1.4)
        coarse = rng.random() < 0.3
        thick = rng.random() < 0.4
        scanners.append(
            Scanner(
                noise=(level, level),
                bias=float(bias * rng.uniform(0.6, 1.4)),
                blur=float(rng.uniform(0.4, 1.5)),
                pixel=float(rng.uniform(1.0, 1.6)) if coarse else 1.0,
                slab=float(rng.uniform(2.5, 6.5)) if thick else 0.0,
                slab_axis=int(rng.choice(3, p=(0.25, 0.25, 0.5))),
            )
        )
    return tuple(scanners)


def local_brightness(rng: np.random.Generator, points: Points, standard: Points, fractions: Field) -> Field:
    """What makes healthy tissue brighter in places, as factors (4 modalities, n): coils near the surface of the head,
    and limbic and insular cortex on FLAIR, which are the two places where real scans mislead.

    `points` are (3, n) millimetres of the head, `standard` their places in the standard anatomy.
    """
    grey = fractions[TISSUES.index("grey")] + fractions[TISSUES.index("thalamus")]
    mirrored = np.stack([np.abs(standard[0]), *standard[1:]])
    limbic = np.max([edge(ellipsoid(mirrored, centre, size), 5.0) for centre, size in _LIMBIC], axis=0) * grey
    direction = rng.normal(0, 1, 3) * (0.5, 1.0, 0.5)
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    towards = np.einsum("i,in->n", direction, points - np.float32([[0], [-16], [9]]))
    strength, fall = rng.uniform(0, 0.45), rng.uniform(12, 35)
    rows = []
    for modality in MODALITIES:
        coil = np.float32(strength * rng.uniform(0.3, 1.0)) * np.exp((towards - towards.max()) / np.float32(fall))
        bright = rng.uniform(0, 0.4) if modality == "flair" else rng.uniform(0, 0.12)
        rows.append((1 + coil) * (1 + np.float32(bright) * limbic))
    return np.stack(rows).astype(np.float32)


def _glioma(rng: np.random.Generator, radius: float) -> Tumour:
    sites, weights = zip(*GLIOMA_SITES, strict=True)
    centre = np.asarray(sites[rng.choice(len(sites), p=weights)]) + rng.normal(0, 8, 3)
    kind = rng.choice(("ring", "patchy", "faint"), p=(0.62, 0.23, 0.15))
    gaps = {"ring": (0.01, 0.3), "patchy": (0.4, 0.85), "faint": (0.88, 0.995)}[kind]
    extent = rng.choice(("little", "usual", "wide"), p=(0.12, 0.4, 0.48))
    reach = {"little": (1.5, 6), "usual": (6, 20), "wide": (20, 46)}[extent]
    return Tumour(
        kind="glioma",
        centre=tuple((centre * (rng.choice([-1, 1]), 1, 1)).tolist()),
        lobes=lobes(rng, radius, int(rng.integers(1, 4))),
        radius=radius,
        roughness=float(rng.uniform(0.06, 0.24)),
        rim=float(rng.uniform(0.12, 0.55)),
        rim_gaps=float(rng.uniform(*gaps)),
        edema=float(rng.uniform(*reach)),
        push=float(rng.uniform(0.2, 0.6)),
        necrotic=kind == "ring",
        seed=int(rng.integers(2**31)),
        fade=float(rng.uniform(0.35, 1.0)),
        patches=float(rng.uniform(0.0, 0.2)),
        one_sided=True,
        spares_grey=float(rng.uniform(0.05, 0.6)),
    )


def _healthy(rng: np.random.Generator, grey: dict[str, float]) -> Field:
    fluid = {
        "t1": rng.uniform(0.2, 0.45),
        "t1gd": rng.uniform(0.22, 0.5),
        "t2": rng.uniform(1.8, 4.2),
        "flair": rng.uniform(0.15, 0.55),
    }
    enhanced = rng.uniform(1.2, 2.3)
    rows = []
    for modality in MODALITIES:
        gm = grey[modality]
        by_name = {
            "white": 1.0,
            "grey": gm,
            "thalamus": 1 + (gm - 1) * rng.uniform(0.3, 0.8),
            "pallidum": 1 + (gm - 1) * rng.uniform(-0.3, 0.4),
            "csf": fluid[modality],
            "vessel": {"t1": 0.5, "t1gd": enhanced, "t2": 0.5, "flair": 0.5}[modality] * rng.uniform(0.7, 1.2),
            "choroid": {"t1": 0.6, "t1gd": enhanced, "t2": 1.6, "flair": 1.0}[modality] * rng.uniform(0.75, 1.2),
            "dura": {"t1": 0.5, "t1gd": 0.8 * enhanced, "t2": 0.9, "flair": 1.0}[modality] * rng.uniform(0.7, 1.3),
            "gliosis": {"t1": 0.85, "t1gd": 0.85, "t2": 1.5, "flair": 1.5}[modality] * rng.uniform(0.85, 1.25),
        }
        rows.append([by_name[tissue] for tissue in TISSUES])
    return np.asarray(rows, np.float32) * rng.lognormal(0, 0.03, (len(MODALITIES), len(TISSUES))).astype(np.float32)


def _diseased(rng: np.random.Generator, grey: dict[str, float], necrotic: bool) -> Field:
    """Brightness of the compartments; edema is brighter than white matter on T2 and FLAIR, or hardly so."""
    edema = {"t1": rng.uniform(0.66, 0.98), "t2": _between(rng, 1.15, 2.3), "flair": _between(rng, 1.15, 2.2)}
    edema["t2"] = max(edema["t2"], 0.95 * grey["t2"])
    edema["flair"] = max(edema["flair"], 1.04 * grey["flair"])
    edema["t1gd"] = edema["t1"] * rng.uniform(0.95, 1.08)
    if necrotic:
        core = {"t1": rng.uniform(0.4, 0.78), "t2": _between(rng, 1.5, 3.3), "flair": _between(rng, 0.5, 2.0)}
        core["t1gd"] = core["t1"] * rng.uniform(0.95, 1.3)
    else:  # tumour that does not enhance, or blood
        core = {"t1": rng.uniform(0.6, 1.02), "t2": edema["t2"] * rng.uniform(0.8, 1.3)}
        core["flair"] = edema["flair"] * rng.uniform(0.7, 1.25)
        core["t1gd"] = core["t1"] * rng.uniform(0.95, 1.2)
    enhancing = {
        "t1": rng.uniform(0.6, 0.98),
        "t1gd": max(_between(rng, 1.0, 2.2), 1.15 * edema["t1gd"]),
        "t2": edema["t2"] * rng.uniform(0.75, 1.3),
        "flair": edema["flair"] * rng.uniform(0.75, 1.4),
    }
    by_name = {"non-enhancing": core, "edema": edema, "enhancing": enhancing}
    return np.asarray([[by_name[c][m] for c in COMPARTMENTS] for m in MODALITIES], np.float32)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two, its logarithm uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
