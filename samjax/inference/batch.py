"""Segments scans without labels: chooses the runs and cases, reads the prompts, and writes the files."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samjax.data.cases import Case
from samjax.data.fingerprint import scan_digest
from samjax.data.imaging.doubts import case_doubts, read_ranges
from samjax.data.imaging.geometry import Geometry
from samjax.data.imaging.volumes import write_labels
from samjax.data.labels import COMPARTMENTS, from_canonical, roi_value
from samjax.errors import UserError
from samjax.inference.inputs import find_inputs, geometries_of, one_line, schemes_of
from samjax.inference.prediction_records import PredictionRecipe, already_done, record, target
from samjax.inference.predictor import Predictor, read_images
from samjax.inference.prompt_files import read_prompts
from samjax.inference.reading import read_ahead
from samjax.inference.regions import MERGE_ORDER, region_codes, require_inner
from samjax.limits import check_numbers
from samjax.options import PredictOptions
from samjax.runs.folder import FINAL, find_run, read_config
from samjax.weights.base import file_sha256

if TYPE_CHECKING:
    from rich.progress import Progress

_ARGUMENTS = {"box": "boxes", "point": "points"}

Images = tuple[np.ndarray, Geometry]


@dataclass(frozen=True)
class Outcome:
    """The numbers of cases that were written, were there already, and were left out."""

    folder: Path
    written: int
    already: int
    left_out: int

    def __str__(self) -> str:
        counts = ((self.written, "written"), (self.already, "there already"), (self.left_out, "left out"))
        return ", ".join(f"{count} {what}" for count, what in counts if count)


@dataclass(frozen=True)
class FilePrompts:
    """The prompts of all cases: their kind and, if they come from a file, the boxes or clicks of each case."""

    kind: str
    """Kind of prompt: box, point, or none for prompt-free."""
    file: Path | None = None
    by_case: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, case: str) -> dict[str, np.ndarray]:
        """The arguments of `Predictor.segment` for a case."""
        return {_ARGUMENTS[self.kind]: self.by_case[case]} if self.file else {}

    def digest(self, case: str) -> str:
        """The sha256 of a case's prompts; empty without any."""
        return hashlib.sha256(repr(self.by_case[case].tolist()).encode()).hexdigest() if self.file else ""


@dataclass(frozen=True)
class CaseWriter:
    """Everything that is needed to turn a case's images into its file."""

    options: PredictOptions
    runs: tuple[Path, ...]
    predictors: tuple[Predictor, ...]
    prompts: FilePrompts
    schemes: Mapping[str, str]
    """The label scheme of each case's file."""
    recipes: Mapping[str, PredictionRecipe]

    def segment(self, case: Case, images: np.ndarray) -> np.ndarray:
        """The label values (slices, rows, columns) uint8 of a case."""
        codes = merged(self.predictors, images, self.prompts.of(case.id), self.options.propagate, self.options.nested)
        return from_canonical(codes, self.schemes[case.id])

    def write(self, case: Case, values: np.ndarray, geometry: Geometry, scan: str) -> None:
        """Writes the record of a case's prediction, with its recipe and scan, and then its file."""
        output = self.options.output
        about = {"runs": [str(run) for run in self.runs], "prompts": str(self.prompts.file or "")}
        recipe = replace(self.recipes[case.id], scan=scan)
        try:
            output.mkdir(parents=True, exist_ok=True)
            record(output, case, recipe, about)
            write_labels(target(output, case.id), values, case, geometry)
        except OSError as error:
            raise UserError(f"{target(output, case.id)}: cannot be written ({error.strerror or error})") from error


def predict(options: PredictOptions) -> Outcome:
    """Segments the cases that the options name and writes a label map for each.

    A case that cannot be read, or that the prompt file does not name, is reported on stderr and skipped.

    Raises:
        UserError: runs, prompts or the output folder cannot be used, or no case can.
    """
    check_numbers(options)
    kind, file = _kind_of(options)
    runs = merge_order([find_run(folder) for folder in options.run or (None,)])
    cases, left_out = find_inputs(options.input, options.layout, options.labels)
    schemes = schemes_of(cases, runs[0])
    if file is None:
        prompts = FilePrompts(kind)
    else:
        prompts, cases, more = _prompted(cases, kind, file)
        left_out += more
    nested = options.nested
    predictors = tuple(Predictor.from_run(run, options.weights, options.batch_size, nested) for run in runs)
    if nested:
        require_inner([roi for predictor in predictors if not predictor.is_unet for roi in predictor.rois])
    for predictor in predictors:
        predictor.require(kind)
    _tell(predictors, {schemes[case.id] for case in cases}, left_out)

    trained = tuple(file_sha256(run / FINAL) for run in runs)
    recipes = {
        case.id: PredictionRecipe(
            trained, kind, prompts.digest(case.id), options.propagate, schemes[case.id], nested=nested
        )
        for case in cases
    }
    done = already_done(options.output, cases, recipes, options.overwrite, _scan_of)
    todo = [case for case in cases if case.id not in done]
    failures = _process(todo, CaseWriter(options, tuple(runs), predictors, prompts, schemes, recipes))
    if len(failures) == len(todo) and not done:
        raise UserError(one_line([*failures, *left_out]))
    return Outcome(options.output, len(todo) - len(failures), len(done), len(left_out) + len(failures))


def merge_order(runs: Sequence[Path]) -> list[Path]:
    """Predictors sorted by `MERGE_ORDER`; a `UserError` if two have one region, or one predicts several regions."""
    of_run = {run: read_config(run).rois for run in runs}
    alone = [run for run in runs if len(of_run[run]) > 1]
    if alone and len(runs) > 1:
        raise UserError(f"--run {alone[0]}: predicts several regions at once; give it alone")
    rois = [of_run[run][0] for run in runs]
    if len(set(rois)) < len(rois):
        raise UserError(f"--run: several are of {max(rois, key=rois.count)}; give one for each region")
    return sorted(runs, key=lambda run: MERGE_ORDER.index(of_run[run][0]))


def merged(
    predictors: Sequence[Predictor],
    images: np.ndarray,
    prompts: Mapping[str, np.ndarray],
    propagate: bool,
    nested: bool = False,
) -> np.ndarray:
    """The canonical codes (slices, rows, columns) uint8 predicted by all predictors, see `region_codes`.

    Args:
        predictors: one that predicts several regions, or any number of one region each.
        images: (slices, rows, columns, 4) uint8.
        prompts: `boxes` or `points` for `Predictor.segment`, the same for all predictors.
        nested: whether to clip inner regions to outer ones, where there are several predictors.
    """
    masks = {}
    for predictor in predictors:
        predictor.set_volume(images)
        found = predictor.segment(**prompts, propagate=propagate).mask
        if len(predictor.rois) > 1:
            return found
        masks[predictor.rois[0]] = found
    return region_codes(masks, nested)


def _kind_of(options: PredictOptions) -> tuple[str, Path | None]:
    """The kind of prompt that the options name, and its file."""
    given = {"--boxes": options.boxes, "--points": options.points, "--prompt none": options.prompt}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)}: give one of them")
    if options.propagate and names not in (["--boxes"], ["--points"]):
        raise UserError("--propagate: takes prompts from slice to slice; give --boxes or --points")
    if options.boxes is not None:
        return "box", options.boxes
    return ("none", None) if options.points is None else ("point", options.points)


def _prompted(cases: Sequence[Case], kind: str, file: Path) -> tuple[FilePrompts, list[Case], list[str]]:
    """The prompts of a file, the cases that have prompts, and the reasons why others are left out."""
    geometries, reasons = geometries_of(cases)
    prompts = read_prompts(file, kind, [case.id for case in cases], geometries)
    reasons += [f"{case.id}: no prompts in {file}" for case in cases if case.id in geometries.keys() - prompts.keys()]
    return FilePrompts(kind, file, prompts), [case for case in cases if case.id in prompts], reasons


def _tell(predictors: Sequence[Predictor], schemes: set[str], left_out: Sequence[str]) -> None:
    """Prints the label schemes, and the cases that are left out."""
    several = len(predictors[0].rois) > 1
    rois = COMPARTMENTS if several else [predictor.rois[0] for predictor in predictors]
    for scheme in sorted(schemes):
        values = ", ".join(f"{roi} {roi_value(scheme, roi)}" for roi in rois)
        print(f"label values ({scheme}): {values}")
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)


def _process(cases: Sequence[Case], writer: CaseWriter) -> list[str]:
    """Segments cases one by one while threads read the next ones and write the one before.

    Returns:
        The reasons why cases failed, which are also printed on stderr.
    """
    failures = []
    ranges = read_ranges(writer.runs[0])
    with ThreadPoolExecutor(1) as pool, _bar() as bar:
        writing: Future | None = None
        reading = read_ahead(cases, _images_of, writer.options.workers)
        for case, found in bar.track(reading, total=len(cases), description="segmenting"):
            if isinstance(found, UserError):
                print(f"left out: {found}", file=sys.stderr)
                failures.append(str(found))
                continue
            images, geometry = found
            for doubt in case_doubts(case, images, geometry, ranges):
                print(f"warning: {case.id}: {doubt}", file=sys.stderr)
            scan = scan_digest(images, geometry)
            try:
                values = writer.segment(case, images)
            except UserError as error:  # its prompts are not of this scan
                failures.append(f"{case.id}: {error}")
                print(f"left out: {failures[-1]}", file=sys.stderr)
                continue
            if writing is not None:
                writing.result()
            writing = pool.submit(writer.write, case, values, geometry, scan)
        if writing is not None:
            writing.result()
    return failures


def _images_of(case: Case) -> Images | UserError:
    """A case's images, or the error if they cannot be read."""
    try:
        return read_images(case)
    except UserError as error:
        return error


def _scan_of(case: Case) -> str:
    """The fingerprint of a case's images and grid; empty where they cannot be read."""
    try:
        return scan_digest(*read_images(case))
    except UserError:
        return ""


def _bar() -> "Progress":
    """A progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(file=sys.stderr)
    columns = (*Progress.get_default_columns(), TextColumn("{task.completed}/{task.total}"))
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
