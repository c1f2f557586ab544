"""A generated cohort of brain-tumour scans in five domains, as NIfTI files in BraTS layout.

No scan of a real person went into it. The domains differ in the ways that the public ones do:
`adult` (glioma inside the brain: edema, non-enhancing core, enhancing rim), `meningioma` (outside the
brain, sharply bounded, mostly enhancing), `paediatric` (pons and midline, little enhancement) and
`subsaharan` (gliomas seen by a coarse, noisy scanner). `varied` is like none of the public ones: gliomas and
scanners that differ as those of many hospitals do.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from filelock import FileLock

from samjax.data.loading.progress import map_in_order
from samjax.data.synthetic import brain, varied
from samjax.data.synthetic import scanner as scan
from samjax.data.synthetic import tumour as growth
from samjax.errors import UserError
from samjax.files import replacing

DOMAINS = ("adult", "meningioma", "paediatric", "subsaharan", "varied")
PREFIXES = {"adult": "GLI", "meningioma": "MEN", "paediatric": "PED", "subsaharan": "SSA", "varied": "VAR"}
FILE_NAMES = {"t1": "t1n", "t1gd": "t1c", "t2": "t2w", "flair": "t2f"}
FIELD_OF_VIEW = (192.0, 192.0, 144.0)  # millimetres, x y z
VERSION = 1  # raise when the same options give other voxels, so that written cohorts are made anew

_CENTRE = (0.0, -16.0, 9.0)  # of the field of view, in standard coordinates
_SCANNERS = {
    "adult": scan.Scanner(noise=(0.012, 0.035), bias=0.10, blur=0.6),
    "meningioma": scan.Scanner(noise=(0.012, 0.035), bias=0.10, blur=0.6),
    "paediatric": scan.Scanner(noise=(0.012, 0.035), bias=0.10, blur=0.6),
    "subsaharan": scan.Scanner(noise=(0.06, 0.11), bias=0.18, blur=0.7, pixel=1.5, thickness=2.0),
}


@dataclass(frozen=True)
class PhantomOptions:
    """Size of the volumes; the field of view stays, so fewer voxels are larger ones."""

    shape: tuple[int, int, int] = (160, 160, 32)  # voxels to the left, posterior and superior
    field_of_view: tuple[float, float, float] = FIELD_OF_VIEW  # millimetres

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in millimetres."""
        return tuple(length / n for length, n in zip(self.field_of_view, self.shape, strict=True))

    @property
    def affine(self) -> np.ndarray:
        """Voxel to world (RAS millimetres), 4 x 4: axis codes L, P, S with BraTS's own offset."""
        x, y, z = self.spacing
        affine = np.diag([-x, -y, z, 1.0])
        affine[1, 3] = y * (self.shape[1] - 1)
        return affine


class PhantomCase(TypedDict):
    """`images` by modality, int16 (i, j, k) with 0 outside the brain; `label` uint8, BraTS 2023 values."""

    images: dict[str, np.ndarray]
    label: np.ndarray


def make_case(domain: str, seed: int, index: int, options: PhantomOptions | None = None) -> PhantomCase:
    """One examination with its tumour; the same arguments give the same voxels.

    Label values: 1 non-enhancing or necrotic, 2 edema, 3 enhancing. Raises `UserError` for a domain
    that is not in `DOMAINS`.
    """
    options = options or PhantomOptions()
    _check_domain(domain)
    rng = np.random.default_rng((DOMAINS.index(domain), seed, index))
    subject = _draw_subject(domain, rng)
    points, near = _grid(options, subject)
    standard = brain.head_to_standard(points, subject)
    outside = brain.intracranial(standard)
    inside = outside < (varied.stripped_margin(subject, points) if domain == "varied" else 0)
    points, standard, outside = points[:, inside], standard[:, inside], outside[inside]
    mask = np.zeros(options.shape, bool)
    mask.flat[near[inside]] = True

    tumours, contrast, scanners = _draw_examination(domain, rng, standard, outside)
    moved = standard
    for tumour in tumours:
        moved = growth.displaced(moved, tumour)
    fractions = brain.tissue_fractions(moved, subject, outside)
    opacities, compartments = growth.grow_all(standard, moved, tumours, fractions, outside)
    label = np.zeros(options.shape, np.uint8)
    label[mask] = compartments
    crumbs = _crumbs(label > 0, options)
    label[crumbs] = 0
    opacities *= 1 - crumbs[mask]

    brightness = scan.signal(rng, points, fractions, opacities, contrast)
    if domain == "varied":
        brightness *= varied.local_brightness(rng, points, moved, fractions)
    images = {}
    for modality, values, scanner in zip(scan.MODALITIES, brightness, scanners, strict=True):
        volume = np.zeros(options.shape, np.float32)
        volume[mask] = values * scan.bias_field(rng, points, scanner.bias)
        images[modality] = scan.acquire(rng, volume, mask, options.spacing, scanner)
    return {"images": images, "label": label}


def write_cohort(
    root: Path | str,
    domain: str,
    cases: int,
    seed: int = 0,
    options: PhantomOptions | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes `cases` examinations under `root` in BraTS 2023 layout and returns their folders.

    Case names do not distinguish BraTS 2023 from 2024; cohort.json under `root` does. A cohort that is there
    already is kept if domain, seed and options are the same (missing cases are added, surplus ones
    removed) and replaced otherwise; a killed call is continued by the next one.
    `progress` is called with the numbers of cases written and to write. Raises `UserError` if `root` holds
    anything that this function did not write.
    """
    options = options or PhantomOptions()
    _check_domain(domain)
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    record = {"version": VERSION, "domain": domain, "seed": seed, **asdict(options), "cases": cases}
    record = json.loads(json.dumps(record))
    names = [f"BraTS-{PREFIXES[domain]}-{90000 + index:05d}-000" for index in range(cases)]
    whole = root.absolute()
    # One writer at a time; a second one waits and then finds the cohort finished.
    with FileLock(whole.parent / f".{whole.name}.lock"):
        _clear(root, record, set(names))
        missing = [index for index, name in enumerate(names) if not (root / name).is_dir()]
        if missing:
            _write_record(root, record, finished=False)
            jobs = [(root, names[index], domain, seed, index, options) for index in missing]
            for done, _ in enumerate(map_in_order(_write_case, jobs, workers), start=1):
                if progress:
                    progress(done, len(jobs))
        _write_record(root, record, finished=True)
    return [root / name for name in names]


def _check_domain(domain: str) -> None:
    if domain not in DOMAINS:
        raise UserError(f"phantom domain {domain!r} is unknown; choose one of {', '.join(DOMAINS)}")


def _draw_subject(domain: str, rng: np.random.Generator) -> brain.Subject:
    if domain == "varied":
        return varied.draw_subject(rng)
    child = domain == "paediatric"
    size = rng.normal(0.93 if child else 1.0, 0.02)
    return brain.Subject(
        scale=tuple((size * rng.normal(1, 0.018, 3)).tolist()),
        tilt=tuple(rng.normal(0, (2.0, 1.2, 1.5)).tolist()),
        ventricles=float(rng.uniform(0.6, 1.0) if child else rng.uniform(0.75, 1.6)),
        sulci=float(rng.uniform(0.45, 0.8) if child else rng.uniform(0.7, 1.6)),
        gyrus=float(rng.uniform(14.5, 17)),
        gliosis=0.0 if child else float(rng.beta(1.0, 2.0)),
        seed=int(rng.integers(2**31)),
    )


def _draw_examination(
    domain: str, rng: np.random.Generator, standard: brain.Points, outside: brain.Field
) -> tuple[tuple[growth.Tumour, ...], scan.Contrast, tuple[scan.Scanner, ...]]:
    """The tumours of a patient, how they and the tissues look, and the scanner of each modality."""
    if domain == "varied":
        tumours = varied.draw_tumours(rng)
        return tumours, varied.draw_contrast(rng, tumours[0].necrotic), varied.draw_scanners(rng)
    tumour = growth.draw_tumour(domain, rng, standard, outside)
    return (tumour,), scan.usual_contrast(tumour), (_SCANNERS[domain],) * len(scan.MODALITIES)


def _grid(options: PhantomOptions, subject: brain.Subject) -> tuple[brain.Points, np.ndarray]:
    """Voxel centres that may lie in the head, (3, n) mm, and their flat indices in the volume."""
    axes = []
    for length, spacing, sign, centre in zip(options.shape, options.spacing, (-1, -1, 1), _CENTRE, strict=True):
        axes.append((sign * (np.arange(length) - (length - 1) / 2) * spacing + centre).astype(np.float32))
    x, y, z = (a - np.float32(c) for a, c in zip(np.meshgrid(*axes, indexing="ij", sparse=True), _CENTRE, strict=True))
    reach = max(subject.scale) * 1.1
    near = np.flatnonzero((x / 70) ** 2 + (y / 88) ** 2 + (z / 76) ** 2 < np.float32(reach**2))
    i, j, k = np.unravel_index(near, options.shape)
    return np.stack([axes[0][i], axes[1][j], axes[2][k]]), near


def _crumbs(tumour: np.ndarray, options: PhantomOptions) -> np.ndarray:
    """The pieces of less than a tenth of a millilitre, unless that is all there is."""
    from scipy import ndimage

    pieces, _ = ndimage.label(tumour)
    voxels = np.bincount(pieces.ravel())
    voxels[0] = 0
    small = voxels * np.prod(options.spacing) < 100
    small[voxels.argmax()] = False
    return small[pieces] & tumour


def _write_case(job: tuple[Path, str, str, int, int, PhantomOptions]) -> None:
    """Writes one case into a temporary folder and renames it, so a case folder is always whole."""
    root, name, domain, seed, index, options = job
    case = make_case(domain, seed, index, options)
    folder = Path(tempfile.mkdtemp(dir=root, prefix=".tmp-"))
    try:
        folder.chmod(root.stat().st_mode & 0o777)
        for modality, image in case["images"].items():
            _write_nifti(folder / f"{name}-{FILE_NAMES[modality]}.nii.gz", image, options)
        _write_nifti(folder / f"{name}-seg.nii.gz", case["label"], options)
        folder.rename(root / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_nifti(path: Path, array: np.ndarray, options: PhantomOptions) -> None:
    import gzip

    import nibabel

    image = nibabel.Nifti1Image(array, options.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(options.affine, 1)
    image.set_sform(options.affine, 1)
    # No time stamp or name in the gzip header: the same case is the same file, byte for byte.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as stream:
        stream.write(image.to_bytes())


def _clear(root: Path, record: dict, wanted: set[str]) -> None:
    """Removes what earlier calls left that this one cannot use; refuses a folder that is not ours."""
    written = root / "cohort.json"
    cases = re.compile(rf"BraTS-({'|'.join(PREFIXES.values())})-9\d{{4}}-000")
    entries = [e for e in root.iterdir() if e != written]
    foreign = sorted(e.name for e in entries if not cases.fullmatch(e.name) and not e.name.startswith(".tmp-"))
    if foreign or (not written.exists() and any(cases.fullmatch(e.name) for e in entries)):
        found = foreign[0] if foreign else entries[0].name
        raise UserError(f"{root}: holds {found!r}, which is no part of a phantom cohort; give an empty folder")
    same = written.exists() and _same_cases(written, record)
    if not same and written.exists():
        written.unlink()
        # With the record gone a kill from here on must not leave cases that look foreign.
        _write_record(root, {**record, "cases": 0}, finished=False)
    for entry in entries:
        if not same or entry.name not in wanted:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _same_cases(written: Path, record: dict) -> bool:
    try:
        found = json.loads(written.read_text())
    except ValueError:
        return False
    keys = [key for key in record if key != "cases"]
    return isinstance(found, dict) and all(found.get(key) == record[key] for key in keys)


def _write_record(root: Path, record: dict, finished: bool) -> None:
    with replacing(root / "cohort.json") as path:
        path.write_text(json.dumps({**record, "finished": finished}, indent=1) + "\n")
