"""Which cases are scored: data, domains, parts of the split."""

import sys
from pathlib import Path

from samjax.config import EvalOptions
from samjax.data.cache import CachedCase
from samjax.data.cases import Case
from samjax.data.cohort import list_cases, named_folders, phantom_cohort, prepare, require_labels
from samjax.data.layouts import shared_patients
from samjax.data.splits import PARTS, Splits, split_cases
from samjax.errors import UserError
from samjax.runs import read_config, read_splits


def select_cases(options: EvalOptions, runs: list[Path]) -> list[CachedCase]:
    """The prepared, labelled cases to score."""
    layout, labels = options.layout, options.labels
    if options.data:
        folders, default = named_folders(options.data), "all"
    elif runs:
        config = read_config(runs[0])
        folders, default = {name: Path(path) for name, path in config.data.items()}, "test"
        layout, labels = layout or config.options.layout, labels or config.options.labels
    else:
        folders, default = phantom_cohort(options.cache_dir), "test"
    parts = parse_parts(options.split, tuple(folders), default)
    cases = list_cases(folders, layout, labels, None)
    if set(parts.values()) != {"all"}:
        splits = _splits(options, runs, cases)
        cases = [case for name, part in parts.items() for case in splits.select(cases, part) if case.domain == name]
    if not cases:
        raise UserError(f"--split {' '.join(options.split) or default}: holds no case of {', '.join(folders)}")
    if options.data:
        _warn_of_shared_patients(runs, cases)
    return require_labels(prepare(_first(cases, options.limit), options.cache_dir if options.cache else None))


def _first(cases: list[Case], limit: int | None) -> list[Case]:
    """The first so many cases of each domain."""
    domains = dict.fromkeys(case.domain for case in cases)
    return [case for name in domains for case in [case for case in cases if case.domain == name][:limit]]


def parse_parts(texts: tuple[str, ...], domains: tuple[str, ...], default: str) -> dict[str, str]:
    """The part of each domain that `--split` names: PART for all, NAME=PART for one."""
    parts = dict.fromkeys(domains, default)
    for text in texts:
        name, found, part = text.rpartition("=")
        if part not in (*PARTS, "all") or (found and name not in parts):
            raise UserError(
                f"--split {text}: expected {', '.join(PARTS)} or all, or one of these for a domain "
                f"({', '.join(f'{domain}=test' for domain in domains)})"
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


def _splits(options: EvalOptions, runs: list[Path], cases: list[Case]) -> Splits:
    """The split of the runs, which must agree; one by the seed where no run has one for these domains."""
    domains = {case.domain for case in cases}
    known = [(run, splits) for run in runs if domains <= set((splits := read_splits(run)).domains)]
    found = [splits for _, splits in known]
    if not found:
        return split_cases(cases, options.seed)
    for run, splits in known[1:]:
        if any(splits.domains[name] != found[0].domains[name] for name in domains):
            raise UserError(
                f"--run {run}: another split than {known[0][0]}, so one would be scored on its training patients; "
                "compare runs of one --seed and --fold, or score other data"
            )
    return found[0]
