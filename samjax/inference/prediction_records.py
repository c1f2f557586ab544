"""Records of the predictions in a folder: one JSON line per case with the recipe that made it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from samjax.data.cases import Case
from samjax.data.imaging.planes import AXIAL
from samjax.errors import UserError
from samjax.inference.maps import Maps, remove_maps
from samjax.inference.postprocess import NONE

RECORDS = "predictions.jsonl"


@dataclass(frozen=True)
class PredictionRecipe:
    """Everything that decides a prediction; equal recipes give equal predictions."""

    runs: tuple[str, ...]
    """The sha256 of the trained parameters of each run, in the order of merging."""
    prompt: str
    """Kind of prompt: none, box or point."""
    prompts: str
    """The sha256 of the case's prompts; empty without any."""
    propagate: bool
    scheme: str
    """Label scheme of the values written."""
    scan: str = ""
    """Digest of the images and their grid (see `fingerprint.scan_digest`); empty in records of versions without it."""
    postprocess: str = NONE
    """The rule by which the mask was cleaned, see `Postprocess`."""
    grid: str = ""
    """The grid that the images were resampled to; empty where they were not, and in records of versions without it."""
    nested: bool = False
    """Whether inner regions were clipped to outer ones."""
    planes: str = AXIAL
    """The planes in which the mask was made: of each run, if they differ."""
    probabilities: str = ""
    """The type of the probabilities that were written; see `Maps`."""
    uncertainty: bool = False
    """Whether the uncertainty was written."""
    rotations: int = 1
    """The number of rotations whose mean the prediction is."""

    @property
    def maps(self) -> Maps:
        """The maps that were written beside the label map, which they do not change."""
        return Maps(self.probabilities, self.uncertainty)


@dataclass(frozen=True)
class Recorded:
    """One line of the records."""

    recipe: PredictionRecipe
    files: str
    """`files_of` the case when it was read."""
    regions: tuple[str, ...] = ()
    """The regions that the prediction tells apart; none in records of versions without them."""


def target(output: Path, case: str) -> Path:
    """The file of a case's prediction."""
    return output / f"{case}.nii.gz"


def already_done(
    output: Path,
    cases: Sequence[Case],
    recipes: Mapping[str, PredictionRecipe],
    overwrite: bool,
    scan_of: Callable[[Case], str],
    rois: Sequence[str] = (),
) -> set[str]:
    """The cases whose prediction is already there and would come out the same; empty with `overwrite`.

    A case of which a map is asked for that is not there is not among them: all of it is made again.

    Args:
        output: the folder of predictions.
        cases: the cases to predict.
        recipes: the recipe of each case, without its `scan`.
        overwrite: whether all predictions are to be made anew.
        scan_of: computes the `scan` of a case's recipe from its images. It is called only if a prediction is there and
            its files are not those that were read for it.
        rois: the regions of the predictions.

    Raises:
        UserError: a prediction would replace one of the case's own files or, unless `overwrite`, a file that is not
            known to be made with the same recipe from the same scan.
    """
    recorded = {} if overwrite else read_records(output)
    done = set()
    for case in cases:
        path = target(output, case.id)
        if path.resolve() in {file.resolve() for file in case.files}:
            raise UserError(f"--output {output}: {path.name} there is a scan of --input; name another folder")
        if overwrite or not path.exists():
            continue
        if why := _other(recorded.get(case.id), recipes[case.id], case, scan_of, output):
            raise UserError(f"{path}: exists and {why}; name another --output, or replace it with --overwrite")
        asked = recipes[case.id].maps
        if recorded[case.id].recipe.maps.hold(asked) and all(x.exists() for x in asked.paths(output, case.id, rois)):
            done.add(case.id)
    return done


def _other(
    found: Recorded | None, recipe: PredictionRecipe, case: Case, scan_of: Callable[[Case], str], output: Path
) -> str | None:
    """The reason why an existing prediction cannot be taken for the requested one; None if it can."""
    if found is None:
        return f"is not in {output / RECORDS}"
    same = replace(found.recipe, scan="", probabilities=recipe.probabilities, uncertainty=recipe.uncertainty)
    if same != recipe:
        for name in ("postprocess", "rotations", "planes"):
            if replace(same, **{name: getattr(recipe, name)}) == recipe:
                return f"was made with --{name} {getattr(same, name)}, not {getattr(recipe, name)}"
        return "was made by another run or prompt"
    if not found.recipe.scan:
        return f"{RECORDS} does not say of which scan it was made (an earlier version wrote it)"
    if found.files != files_of(case) and found.recipe.scan != scan_of(case):
        return "was made of another scan of that name"
    return None


def files_of(case: Case) -> str:
    """A digest of the paths and times of a case's images, equal only if nothing was written to them."""
    digest = hashlib.sha256()
    for modality in case.modalities:
        path = case.images[modality].path.resolve()
        status = path.stat()
        # The time of change, unlike that of modification, cannot be set by a program that copies.
        digest.update(f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode())
    return digest.hexdigest()


def record(output: Path, case: Case, recipe: PredictionRecipe, about: Mapping[str, object]) -> None:
    """Records the recipe of a prediction that is about to be written; an older one is removed first, with its maps."""
    target(output, case.id).unlink(missing_ok=True)
    remove_maps(output, case.id)
    row = {"case": case.id, "recipe": asdict(recipe), "files": files_of(case), **about}
    with (output / RECORDS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_records(output: Path) -> dict[str, Recorded]:
    """The latest record of each case; lines that were cut off or come from elsewhere are passed over."""
    path = output / RECORDS
    found: dict[str, Recorded] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            content = row["recipe"]
            recipe = PredictionRecipe(**{**content, "runs": tuple(content["runs"])})
            found[row["case"]] = Recorded(recipe, row.get("files", ""), tuple(row.get("regions", ())))
        except (ValueError, KeyError, TypeError):
            continue
    return found
