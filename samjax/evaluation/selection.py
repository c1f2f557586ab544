"""Which cases are scored: data, domains, parts of the split."""

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import Case
from samjax.data.cohort import list_cases, named_folders, phantom_cohort, prepare, require_labels
from samjax.data.formats.layouts import shared_patients
from samjax.data.splits import PARTS, Split, Splits, split_cases
from samjax.errors import UserError
from samjax.options import EvalOptions
from samjax.runs.folder import read_config, read_splits


def select_cases(options: EvalOptions, runs: list[Path]) -> list[CachedCase]:
    """The prepared, labelled cases to score: of domains that a run was trained on its test part, of others all."""
    layout, labels = options.layout, options.labels
    if options.data:
        folders = named_folders(options.data)
    elif runs:
        config = read_config(runs[0])
        folders = {name: Path(path) for name, path in config.data.items()}
        layout, labels = layout or config.options.layout, labels or config.options.labels
    else:
        folders = phantom_cohort(options.cache_dir)
    listed = list_cases(folders, layout, labels, None)
    divided = [Divided(run, read_config(run).data, read_splits(run).domains) for run in runs]
    own = {name: _split_of_runs(divided, name, folder, listed) for name, folder in folders.items()}
    default = {name: "all" if options.data and split is None else "test" for name, split in own.items()}
    parts = parse_parts(options.split, default)
    cases = [case for name, part in parts.items() for case in _part(listed, name, part, own[name], options.seed)]
    if not cases:
        asked = " ".join(options.split) or " ".join(f"{name}={part}" for name, part in parts.items())
        raise UserError(f"--split {asked}: holds no case of {', '.join(folders)}")
    if options.data:
        _warn_of_shared_patients(runs, cases)
    chosen = _distinct(_first(cases, options.limit))
    return require_labels(prepare(chosen, options.cache_dir if options.cache else None))


def _distinct(cases: list[Case]) -> list[Case]:
    """The cases, with the domain before the id where another domain has the same: results are named by id."""
    times = Counter(case.id for case in cases)
    return [replace(case, id=f"{case.domain}-{case.id}") if times[case.id] > 1 else case for case in cases]


def _part(cases: list[Case], domain: str, part: str, split: Split | None, seed: int) -> list[Case]:
    """The cases of a part of one domain; it is divided by the seed where no run divided it."""
    within = [case for case in cases if case.domain == domain]
    if part == "all":
        return within
    splits = split_cases(within, seed) if split is None else Splits(seed, None, {domain: split})
    return splits.select(within, part)


def _first(cases: list[Case], limit: int | None) -> list[Case]:
    """The first so many cases of each domain."""
    domains = dict.fromkeys(case.domain for case in cases)
    return [case for name in domains for case in [case for case in cases if case.domain == name][:limit]]


def parse_parts(texts: tuple[str, ...], default: dict[str, str]) -> dict[str, str]:
    """The part of each domain: as `--split` names it, PART for all or NAME=PART for one, else the default."""
    parts = dict(default)
    for text in texts:
        name, found, part = text.rpartition("=")
        if part not in (*PARTS, "all") or (found and name not in parts):
            raise UserError(
                f"--split {text}: expected {', '.join(PARTS)} or all, or one of these for a domain "
                f"({', '.join(f'{domain}=test' for domain in parts)})"
            )
        parts |= {name: part} if found else dict.fromkeys(parts, part)
    return parts


def _warn_of_shared_patients(runs: list[Path], cases: list[Case]) -> None:
    """Says so where a run was trained on a collection that holds the same patients as what it is scored on."""
    for run in runs:
        config = read_config(run)
        folders = {name: Path(path) for name, path in config.data.items() if Path(path).exists()}
        trained = list_cases(folders, config.options.layout, config.options.labels, None)
        if warning := shared_patients(trained, cases):
            print(f"warning: {run}: {warning}", file=sys.stderr)


class Divided(NamedTuple):
    """What a run was trained on: each domain's folder and split."""

    run: Path
    folders: Mapping[str, str]
    splits: Mapping[str, Split]


def _split_of_runs(runs: list[Divided], domain: str, folder: Path, cases: list[Case]) -> Split | None:
    """The split of a domain by the runs that were trained on it, which must agree; None where none was."""
    patients = {case.patient for case in cases if case.domain == domain and case.label is not None}
    known = [(run.run, split) for run in runs if (split := _split_of_run(run, domain, folder, patients))]
    for run, split in known[1:]:
        if split != known[0][1]:
            raise UserError(
                f"--run {run}: another split of {domain} than {known[0][0]}, so one would be scored on its training "
                "patients; compare runs of one --seed and --fold, or score other data"
            )
    return known[0][1] if known else None


def _split_of_run(run: Divided, domain: str, folder: Path, patients: set[str]) -> Split | None:
    """A run knows a domain by its folder, or, where that was moved, by its name and patients."""
    for name, path in run.folders.items():
        split = run.splits.get(name)
        if split is None:
            continue
        moved = name == domain and patients <= {*split.train, *split.val, *split.test}
        if moved or Path(path).resolve() == folder.resolve():
            return split
    return None
