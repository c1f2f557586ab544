"""Prepares the cases of a folder, one after the other, and tells what was done with each."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from samjax.errors import UserError
from samjax.options import PrepareOptions
from samjax.prepare.case import Prepared, prepare_case
from samjax.prepare.finding import CaseScans, find_scans
from samjax.prepare.folder import read_record, record_path, write_case
from samjax.prepare.grid import parse_spacing
from samjax.prepare.itk import simple_itk


@dataclass(frozen=True)
class Outcome:
    """The numbers of cases that were prepared, were there already, and were left out."""

    folder: Path
    prepared: int
    already: int
    left_out: int

    def __str__(self) -> str:
        counts = ((self.prepared, "prepared"), (self.already, "there already"), (self.left_out, "left out"))
        return ", ".join(f"{count} {what}" for count, what in counts if count)


def prepare(options: PrepareOptions) -> Outcome:
    """Prepares the cases of `--input`; one that cannot be is reported on stderr and left out.

    Raises:
      UserError: SimpleITK is missing, an option is wrong, or no case can be prepared.
    """
    simple_itk()
    spacing = parse_spacing(options.spacing)
    output = options.output
    if options.input.resolve() in (output.resolve(), *output.resolve().parents):
        raise UserError(f"--output {output}: lies in --input {options.input}, where it would be read; name another")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file; name a folder")
    found = find_scans(options.input)
    asked = {"reference": options.reference, "spacing": spacing}
    todo = [case for case in found.cases if options.overwrite or not _already(output, case, asked)]
    if found.labels:
        print(f"note: {found.labels} label files are not carried over, they lie on the grids of their scans")

    failures = list(found.reasons)
    for case in todo:
        start = time.monotonic()
        try:
            prepared = prepare_case(case, options.reference, spacing)
            write_case(output, prepared, asked)
        except UserError as error:
            failures.append(str(error))
            continue
        print(describe(prepared, time.monotonic() - start), flush=True)
    already = len(found.cases) - len(todo)
    if len(failures) == len(todo) + len(found.reasons) and not already:
        more = f" (and {len(failures) - 1} more cases left out)" if len(failures) > 1 else ""
        raise UserError(failures[0] + more)
    for reason in failures:
        print(f"left out: {reason}", file=sys.stderr)
    done = len(todo) - (len(failures) - len(found.reasons))
    return Outcome(output, done, already, len(failures))


def describe(prepared: Prepared, seconds: float) -> str:
    """The lines about a prepared case: one for each modality, one for the brain, and one for each doubt."""
    scans, reference = prepared.scans, prepared.reference
    lines = [f"{scans.id}: reference {reference}, {seconds:.0f} s"]
    for name, movement in prepared.movements.items():
        agreed = movement.agreement
        moved = f"moved {movement.shift:.1f} mm, turned {movement.degrees:.1f} degrees"
        how = moved if movement.transform is not None else "left where it is"
        lines.append(f"  {name}: {how}; mutual information {agreed.before:.2f} -> {agreed.after:.2f}")
    if scans.missing:
        lines.append(f"  missing: {', '.join(scans.missing)}")
    volume = (
        prepared.brain.sum() * prepared.grid.spacing[0] * prepared.grid.spacing[1] * prepared.grid.spacing[2] / 1000
    )
    if prepared.stripped:
        whose = (
            "of all" if len(prepared.stripped) == len(scans.images) else f"of {', '.join(prepared.stripped)}, for all"
        )
        lines.append(f"  brain: {volume:.0f} ml, {whose}: stripped already")
    else:
        lines.append(f"  brain: {volume:.0f} ml")
    lines += [f"  warning: {doubt}" for doubt in prepared.doubts]
    return "\n".join(lines)


def _already(output: Path, case: CaseScans, asked: dict) -> bool:
    """Whether a case was prepared before in the same way.

    Raises:
      UserError: something else lies in its place.
    """
    record = read_record(output, case.id)
    if record is None:
        if (output / case.id).exists():
            raise UserError(f"{output / case.id}: exists and is no prepared case; name another --output")
        return False
    sources = {name: str(source.path) for name, source in case.images.items()}
    options = record.get("options", {})
    same_options = options.get("reference") == asked["reference"] and options.get("spacing") == list(asked["spacing"])
    if not same_options or {name: one["source"] for name, one in record["modalities"].items()} != sources:
        path = record_path(output, case.id)
        raise UserError(f"{path}: was prepared from other files or with other options; replace it with --overwrite")
    return True
