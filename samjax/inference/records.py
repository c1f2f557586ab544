"""What a folder of predictions holds, and what made each of them: one JSON line a case."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from samjax.data.cases import Case
from samjax.errors import UserError

RECORDS = "predictions.jsonl"


@dataclass(frozen=True)
class PredictionRecipe:
    """What a prediction is made with; equal recipes give equal predictions."""

    runs: tuple[str, ...]
    """sha256 of what each run has trained, in the order of merging."""
    prompt: str
    """none, box or point."""
    prompts: str
    """sha256 of the case's prompts; empty without any."""
    propagate: bool
    scheme: str
    """Label scheme of the values written."""


def target(output: Path, case: str) -> Path:
    """Where the prediction of a case goes."""
    return output / f"{case}.nii.gz"


def already_done(
    output: Path, cases: Sequence[Case], recipes: Mapping[str, PredictionRecipe], overwrite: bool
) -> set[str]:
    """The cases whose prediction is there and would come out the same; none where all are to be made anew.

    Raises:
        UserError: a prediction would replace one of the case's own files or, unless `overwrite`, a file that is not
            known to be made with the same recipe.
    """
    recorded = {} if overwrite else read_records(output)
    done = set()
    for case in cases:
        path = target(output, case.id)
        if path.resolve() in {file.resolve() for file in case.files}:
            raise UserError(f"--output {output}: {path.name} there is a scan of --input; name another folder")
        if overwrite or not path.exists():
            continue
        if recorded.get(case.id) != recipes[case.id]:
            what = "made by another run or prompt" if case.id in recorded else f"not in {output / RECORDS}"
            raise UserError(f"{path}: exists and was {what}; name another --output, or replace it with --overwrite")
        done.add(case.id)
    return done


def record(output: Path, case: str, recipe: PredictionRecipe, about: Mapping[str, object]) -> None:
    """Notes how the prediction that is about to be written is made; one that is there already is removed first."""
    target(output, case).unlink(missing_ok=True)
    with (output / RECORDS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"case": case, "recipe": asdict(recipe), **about}) + "\n")


def read_records(output: Path) -> dict[str, PredictionRecipe]:
    """The latest recipe of each case; lines that were cut off or come from elsewhere are passed over."""
    path = output / RECORDS
    found: dict[str, PredictionRecipe] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            content = row["recipe"]
            found[row["case"]] = PredictionRecipe(**{**content, "runs": tuple(content["runs"])})
        except (ValueError, KeyError, TypeError):
            continue
    return found
