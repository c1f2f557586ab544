"""Segments scans without labels: chooses the runs and cases, reads the prompts, and writes the files."""

import hashlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samjax.data.cases import MODALITIES, Case
from samjax.data.fingerprint import scan_digest
from samjax.data.imaging.doubts import case_doubts, read_ranges
from samjax.data.imaging.geometry import Geometry
from samjax.data.imaging.planes import AXIAL
from samjax.data.imaging.volumes import write_labels
from samjax.data.labels import COMPARTMENTS, from_canonical, roi_value
from samjax.data.needs import divide
from samjax.errors import UserError
from samjax.inference.ensembles import common_rule, ensemble_lines, in_merge_order, merged
from samjax.inference.inputs import find_inputs, geometries_of, one_line, schemes_of
from samjax.inference.loading import model_of_run
from samjax.inference.maps import Maps, write_maps
from samjax.inference.postprocess import RAW, Postprocess, cleaned
from samjax.inference.prediction_records import PredictionRecipe, already_done, record, target
from samjax.inference.predictor import Predictor, read_images
from samjax.inference.prompt_files import read_prompts
from samjax.inference.reading import read_ahead
from samjax.inference.regions import require_inner
from samjax.inference.rotations import refuse_boxes
from samjax.inference.volume_table import clear_volumes, write_volumes
from samjax.limits import check_numbers
from samjax.options import PredictOptions
from samjax.runs.folder import FINAL, GLIOMA, find_model, read_config
from samjax.weights.base import file_sha256

if TYPE_CHECKING:
    from rich.progress import Progress

_ARGUMENTS = {"box": "boxes", "point": "points"}

Images = tuple[np.ndarray, Geometry]
Segmented = tuple[np.ndarray, dict[str, np.ndarray]]
"""A case's label values (slices, rows, columns) uint8, and the probabilities of its regions in the same shape."""


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
    postprocess: Postprocess
    """The rule by which the merged masks are cleaned."""
    schemes: Mapping[str, str]
    """The label scheme of each case's file."""
    recipes: Mapping[str, PredictionRecipe]

    @property
    def rois(self) -> tuple[str, ...]:
        """The regions of all predictors, in the order of merging."""
        return tuple(dict.fromkeys(roi for predictor in self.predictors for roi in predictor.rois))

    def segment(self, case: Case, images: np.ndarray, geometry: Geometry) -> Segmented:
        """The label values of a case and, if maps are asked for, probabilities; says where cleaning left nothing."""
        codes, probabilities = merged(
            self.predictors,
            images,
            geometry.spacing,
            self.prompts.of(case.id),
            self.options.propagate,
            bool(maps_of(self.options)),
            self.options.nested,
            self.postprocess.fit,
        )
        if self.postprocess != RAW:
            found = codes.any()
            codes = cleaned(codes, geometry.spacing, self.postprocess, self.rois)
            if found and not codes.any():
                print(f"warning: {case.id}: --postprocess {self.postprocess} leaves nothing of it", file=sys.stderr)
        return from_canonical(codes, self.schemes[case.id]), probabilities

    def missing(self, case: Case) -> list[str]:
        """The modalities that any run looks at and that the case lacks."""
        lacking = {name for predictor in self.predictors for name in predictor.model.needs.lacking(case.modalities)}
        return [name for name in MODALITIES if name in lacking]

    def write(self, case: Case, found: Segmented, geometry: Geometry, scan: str) -> None:
        """Writes the record of a case's prediction, with its recipe and scan, then its maps, and then its file."""
        output, (values, probabilities) = self.options.output, found
        about = {
            "runs": [str(run) for run in self.runs],
            "prompts": str(self.prompts.file or ""),
            "regions": list(self.rois),
            "missing": self.missing(case),
        }
        recipe = replace(self.recipes[case.id], scan=scan)
        try:
            output.mkdir(parents=True, exist_ok=True)
            record(output, case, recipe, about)
            write_maps(output, maps_of(self.options), probabilities, case, geometry)
            write_labels(target(output, case.id), values, case, geometry)
        except OSError as error:
            raise UserError(f"{target(output, case.id)}: cannot be written ({error.strerror or error})") from error


def predict(options: PredictOptions) -> Outcome:
    """Segments the cases that the options name and writes a label map for each, and a table of volumes.

    A case that cannot be read, that the prompt file does not name, or that lacks a modality which a run needs, is
    reported on stderr and skipped.

    Raises:
        UserError: runs, prompts or the output folder cannot be used, or no case can.
    """
    check_numbers(options)
    kind, file = _kind_of(options)
    if not options.run:
        print(
            f"model: {GLIOMA}, trained on generated scans alone, its enhancing tumour is not to be relied on; --run "
            "latest takes your newest run",
            file=sys.stderr,
        )
    runs = in_merge_order([find_model(folder) for folder in options.run or (Path(GLIOMA),)])
    outermost = [run for run in runs if read_config(run).options.roi == read_config(runs[0]).options.roi]
    rule, why = common_rule(options.postprocess, kind, outermost)
    cases, left_out = find_inputs(options.input, options.layout, options.labels)
    schemes = schemes_of(cases, runs[0])
    if file is None:
        prompts = FilePrompts(kind)
    else:
        prompts, cases, more = _prompted(cases, kind, file)
        left_out += more
    nested, planes, rotations = options.nested, options.planes, options.rotations
    models = [model_of_run(run, options.weights, nested=nested, planes=planes, rotations=rotations) for run in runs]
    predictors = tuple(Predictor(model, options.batch_size) for model in models)
    if nested:
        require_inner([roi for predictor in predictors if not predictor.is_unet for roi in predictor.rois])
    for predictor in predictors:
        predictor.require(kind)
    cases, refused = divide(cases, [predictor.model.needs for predictor in predictors])
    left_out += refused
    if not cases:
        raise UserError(one_line(left_out))
    grids = grids_of(predictors, cases)
    _tell(predictors, {schemes[case.id] for case in cases}, left_out)
    print(f"post-processing: {rule} ({why})")

    trained = tuple(file_sha256(run / FINAL) for run in runs)
    recipes = {
        case.id: PredictionRecipe(
            trained,
            kind,
            prompts.digest(case.id),
            options.propagate,
            schemes[case.id],
            postprocess=str(rule),
            grid=grids.get(case.id, ""),
            nested=nested,
            planes=planes_of(predictors) if kind == "none" else AXIAL,
            probabilities=options.probabilities or "",
            uncertainty=options.uncertainty,
            rotations=rotations,
        )
        for case in cases
    }
    writer = CaseWriter(options, tuple(runs), predictors, prompts, rule, schemes, recipes)
    done = already_done(options.output, cases, recipes, options.overwrite, _scan_of, writer.rois)
    todo = [case for case in cases if case.id not in done]
    _tell_grids({case.id: grids[case.id] for case in todo if case.id in grids})
    clear_volumes(options.output)
    try:
        failures = _process(todo, writer, alone=len(todo) == 1 and not done)
    finally:
        write_volumes(options.output, writer.rois, recipes)
    if len(failures) == len(todo) and not done:
        raise UserError(one_line([*failures, *left_out]))
    return Outcome(options.output, len(todo) - len(failures), len(done), len(left_out) + len(failures))


def maps_of(options: PredictOptions) -> Maps:
    """The maps that the options ask for."""
    return Maps(options.probabilities or "", options.uncertainty)


def grids_of(predictors: Sequence[Predictor], cases: Sequence[Case]) -> dict[str, str]:
    """The grids, joined by " and ", that runs resample cases to, by the ids of the cases that are on others."""
    found = {}
    for name, geometry in geometries_of(cases)[0].items():
        grids = (predictor.model.grid for predictor in predictors)
        other = [grid.words for grid in grids if grid and grid.resamples(geometry.shape, geometry.spacing)]
        if other:
            found[name] = " and ".join(dict.fromkeys(other))
    return found


def planes_of(predictors: Sequence[Predictor]) -> str:
    """The planes of prompt-free masks, as of --planes; of each run, joined by " and ", if they differ."""
    return " and ".join(dict.fromkeys(",".join(predictor.model.planes) for predictor in predictors))


def _kind_of(options: PredictOptions) -> tuple[str, Path | None]:
    """The kind of prompt that the options name, and its file."""
    given = {"--boxes": options.boxes, "--points": options.points, "--prompt none": options.prompt}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)}: give one of them")
    if options.planes is not None and names not in ([], ["--prompt none"]):
        raise UserError(f"--planes {options.planes}: the masks of prompts are axial; leave it out")
    if options.propagate and names not in (["--boxes"], ["--points"]):
        raise UserError("--propagate: takes prompts from slice to slice; give --boxes or --points")
    if options.propagate:
        refuse_boxes(options.rotations, "--propagate")
    if options.boxes is not None:
        refuse_boxes(options.rotations, "--boxes")
        return "box", options.boxes
    return ("none", None) if options.points is None else ("point", options.points)


def _prompted(cases: Sequence[Case], kind: str, file: Path) -> tuple[FilePrompts, list[Case], list[str]]:
    """The prompts of a file, the cases that have prompts, and the reasons why others are left out."""
    geometries, reasons = geometries_of(cases)
    prompts = read_prompts(file, kind, [case.id for case in cases], geometries)
    reasons += [f"{case.id}: no prompts in {file}" for case in cases if case.id in geometries.keys() - prompts.keys()]
    return FilePrompts(kind, file, prompts), [case for case in cases if case.id in prompts], reasons


def _tell(predictors: Sequence[Predictor], schemes: set[str], left_out: Sequence[str]) -> None:
    """Prints label schemes, ensembles, rotations, and cases that are left out."""
    several = len(predictors[0].rois) > 1
    rois = COMPARTMENTS if several else dict.fromkeys(predictor.rois[0] for predictor in predictors)
    for scheme in sorted(schemes):
        values = ", ".join(f"{roi} {roi_value(scheme, roi)}" for roi in rois)
        print(f"label values ({scheme}): {values}")
    for line in [*ensemble_lines(predictors), *_rotation_lines(predictors)]:
        print(line)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)


def _tell_grids(grids: Mapping[str, str]) -> None:
    """Prints the grids that cases are resampled to, by the ids of those that are segmented now."""
    for grid, count in Counter(grids.values()).items():
        only = next(case for case, name in grids.items() if name == grid)
        what = f"{count} cases are" if count > 1 else f"{only} is"
        print(f"{what} resampled to the run's {grid}, and the masks back", file=sys.stderr)


def _rotation_lines(predictors: Sequence[Predictor]) -> list[str]:
    """One line for each set of rotations."""
    angles = dict.fromkeys(predictor.model.angles for predictor in predictors if predictor.model.turns)
    return [f"rotations (mean probability): {', '.join(f'{angle:g}' for angle in one)} degrees" for one in angles]


def _process(cases: Sequence[Case], writer: CaseWriter, alone: bool) -> list[str]:
    """Segments cases one by one while threads read the next ones and write the one before.

    Reasons for leaving a case out are printed on stderr, unless the case is `alone`: then it is the command's error.

    Returns:
        The reasons why cases failed.
    """
    failures = []
    ranges, grid = read_ranges(writer.runs[0]), writer.predictors[0].model.grid
    with ThreadPoolExecutor(1) as pool, _bar() as bar:
        writing: Future | None = None
        reading = read_ahead(cases, _images_of, writer.options.workers)
        for case, found in bar.track(reading, total=len(cases), description="segmenting"):
            if isinstance(found, UserError):
                failures.append(_left_out(str(found), alone))
                continue
            images, geometry = found
            for doubt in case_doubts(case, images, geometry, ranges, grid):
                print(f"warning: {case.id}: {doubt}", file=sys.stderr)
            if missing := writer.missing(case):
                print(f"note: {case.id}: no {', '.join(missing)}; predicted without", file=sys.stderr)
            scan = scan_digest(images, geometry)
            try:
                segmented = writer.segment(case, images, geometry)
            except UserError as error:  # its prompts are not of this scan
                failures.append(_left_out(f"{case.id}: {error}", alone))
                continue
            if writing is not None:
                writing.result()
            writing = pool.submit(writer.write, case, segmented, geometry, scan)
        if writing is not None:
            writing.result()
    return failures


def _left_out(reason: str, alone: bool) -> str:
    if not alone:
        print(f"left out: {reason}", file=sys.stderr)
    return reason


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
