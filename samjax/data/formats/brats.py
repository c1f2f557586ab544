"""The BraTS layout of any year: one file per modality, named after the case.

`ID_t1ce.nii.gz` (to 2021) and `ID-t1c.nii.gz` (from 2023), a folder a case or all in one, at any depth; where the
files are just `t1.nii.gz`, `seg.nii.gz`, their folder names the case. BIDS names and those of several other
collections are known too; see `names`.
"""

from pathlib import Path

from samjax.data.cases import MODALITIES, Case, Problem, Source
from samjax.data.formats.label_files import LabelFiles, choose_labels, two_files
from samjax.data.formats.names import image_name
from samjax.data.formats.releases import KnownScheme, known_scheme, schemes_to_choose
from samjax.data.formats.scan_files import ScanFiles, collect_files
from samjax.data.formats.scan_names import FoundScan, scans_of
from samjax.errors import UserError


def find_brats(root: Path, domain: str, labels: str | None, read_labels: bool) -> tuple[list[Case], list[Problem]]:
    """Every case under `root`, and the problems of those that cannot be used or files that are not.

    A file counts as a case's label only if its name is the case's own with a known ending (`names.LABEL_ENDINGS`) and
    it lies with the scans or in one of `names.LABEL_FOLDERS`; other segmentations are reported and ignored.

    Raises:
      UserError: there are MEN-RT cases, or the names do not give the label scheme.
    """
    files = collect_files(root)
    scans = scans_of(files, root)
    chosen, problems = choose_labels(files, scans, root) if read_labels else ({}, [])
    cases = []
    for scan in scans:
        more = _surplus(scan) or chosen.get(scan.id, LabelFiles()).problems(scan)
        problems += more
        if more:
            continue
        sources = {modality: Source(paths[0]) for modality, paths in scan.images.items()}
        label = chosen[scan.id].path if scan.id in chosen else None
        folder = scan.folders[0]
        known = KnownScheme(labels, "from --labels") if labels else known_scheme(scan.id, root, folder)
        if known is None and label is not None:
            raise _open_scheme(scan.id, folder)
        scheme, source = (known.scheme, known.source) if known else (None, "")
        cases.append(Case(scan.id, scan.patient, domain, sources, label, scheme, "brats", source, _unread(scan, files)))
    return cases, problems


def _surplus(scan: FoundScan) -> list[Problem]:
    """The problem of a case that has several files for one modality."""
    twice = {modality: paths for modality, paths in scan.images.items() if len(paths) > 1}
    if not twice:
        return []
    modality = next(modality for modality in MODALITIES if modality in twice)
    first, second, *_ = sorted(twice[modality])
    folders = scan.folders
    if len(twice) == len(scan.images) and len(folders) > 1:
        where = f"in {folders[0]} and {folders[1]}"
        message = f"case {scan.id}: found twice, {where}; keep one, or give their files names of their own"
        return [Problem(scan.id, folders[1], message)]
    return [Problem(scan.id, second, two_files(scan.id, f"files for {modality}", first, second))]


def _unread(scan: FoundScan, files: ScanFiles) -> str:
    """Advice on a modality that the case has only in a format that is not read; empty if there is none."""
    for path, stem in files.unread:
        image = image_name(stem)
        if image and path.parent in scan.folders and image.modality not in scan.images:
            return unread_format(path)
    return ""


def unread_format(path: Path) -> str:
    """Advice for an image of another format than NIfTI."""
    return f"{path.name} is not read; convert it to one NIfTI file (.nii.gz)"


def _open_scheme(case_id: str, folder: Path) -> UserError:
    *others, last = schemes_to_choose(case_id)
    return UserError(
        f"{folder}: the names do not tell what the label values of {case_id} mean; "
        f"name their scheme with --labels {', '.join(others)} or {last}"
    )
