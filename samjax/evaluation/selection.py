"""Selects the cases to score: data, domains, and parts of the split."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import MODALITIES, Case
from samjax.data.cohort import leave_out, list_cases, named_folders, phantom_cohort, prepare, require_labels
from samjax.data.formats.layouts import survey
from samjax.data.needs import Needs, divide, lacking_note
from samjax.data.shared import shared_patients
from samjax.data.split_files import read_split_file
from samjax.data.splits import PARTS, split_cases
from samjax.errors import UserError
from samjax.evaluation.known import Findings, TrainedRun, find_known
from samjax.evaluation.models import shown_modalities
from samjax.inference.inputs import one_line
from samjax.options import EvalOptions
from samjax.runs.folder import read_config, read_splits

_AT_ONCE = 16
"""Cases held in memory together while fingerprints are taken without a cache."""


@dataclass(frozen=True)
class Selection:
    """The prepared, labelled cases to score, and the number of selected cases that are left out."""

    cases: list[CachedCase]
    left_out: int


def select_cases(options: EvalOptions, runs: list[Path], needs: Sequence[Needs] = ()) -> Selection:
    """The cases to score: the test part of data that runs were trained on, and all of other data.

    A run's patients are found by their names and by the fingerprints of their scans, even if the data were moved or
    renamed. Patients that a run was trained on are scored only with an explicit --split. A case that lacks a modality
    which a model needs is left out; modalities that the options do not show are hidden.

    Args:
        needs: the modalities that each model looks at.

    Raises:
        UserError: there is nothing to score, the data cannot be used, or two runs have different splits.
    """
    left_out: list[str] = []
    folders, layout, labels = _data_of(options, runs)
    listed = list_cases(folders, layout, labels, None, options.patients, left_out)
    choice = _Choice(options, folders, listed, [TrainedRun.of(run) for run in runs], needs)
    findings = {domain: choice.known(domain, {}) for domain in folders}
    findings |= choice.read(choice.divided_by_nobody(findings))
    chosen = choice.cases(findings)
    prepared = _prepared(chosen, options, left_out)
    if contradicted := choice.contradicted(findings, prepared):
        findings |= choice.read(contradicted)
        chosen = choice.cases(findings)
        prepared = _prepared(chosen, options, left_out)
    leave_out(choice.refused, False, left_out)
    choice.tell(findings, chosen)
    if options.data:
        _warn_of_shared_patients(runs, chosen)
    cases = [replace(case, hidden=choice.hidden) for case in require_labels(prepared, left_out)]
    return Selection(cases, len(set(left_out)))


def _data_of(options: EvalOptions, runs: list[Path]) -> tuple[dict[str, Path], str | None, str | None]:
    """The folder of each domain, their layout and label scheme: from the options, else from the first run."""
    if options.data:
        return named_folders(options.data), options.layout, options.labels
    if not runs:
        return phantom_cohort(options.cache_dir), options.layout, options.labels
    config = read_config(runs[0])
    if not config.data and read_splits(runs[0]).domains:
        raise UserError(
            f"{runs[0].name}: a packed run, which does not say where its scans are; name some with --data DIR"
        )
    if not config.data:
        print(f"{runs[0].name} was trained on no scans: scored on the phantom; for others, name them with --data DIR")
        return phantom_cohort(options.cache_dir), options.layout, options.labels
    folders = {name: Path(path) for name, path in config.data.items()}
    for name, folder in folders.items():
        if not folder.exists():
            raise UserError(f"{folder}: the data of {runs[0]} are not there; say where they are with --data {name}=DIR")
    return folders, options.layout or config.options.layout, options.labels or config.options.labels


def _prepared(cases: list[Case], options: EvalOptions, left_out: list[str]) -> list[CachedCase]:
    return prepare(_distinct(cases), options.cache_dir if options.cache else None, left_out=left_out)


def _fingerprints(cases: Sequence[Case], domain: str, options: EvalOptions) -> dict[str, str]:
    """The fingerprints of a domain's labelled cases by id; those that cannot be read have none."""
    print(f"{domain}: reading all its {len(cases)} labelled cases, to find those that were trained on", file=sys.stderr)
    found: dict[str, str] = {}
    step = len(cases) if options.cache else _AT_ONCE
    for start in range(0, len(cases), step):
        group = prepare(list(cases[start : start + step]), options.cache_dir if options.cache else None)
        found |= {case.case.id: case.fingerprint for case in group}
    return found


class _Choice:
    """Chooses the cases of each domain from those listed, by the knowledge of the runs."""

    def __init__(
        self,
        options: EvalOptions,
        folders: Mapping[str, Path],
        listed: list[Case],
        runs: list[TrainedRun],
        needs: Sequence[Needs],
    ):
        self._options, self._folders, self._listed, self._runs, self._needs = options, folders, listed, runs, needs
        self.hidden = frozenset(MODALITIES).difference(shown_modalities(options) or MODALITIES)
        self.refused: list[str] = []
        """The reasons why cases of the chosen parts are left out: they lack modalities."""
        self._file_parts: dict[tuple[str, str], str] | None = None
        if options.split_file is not None:
            fold = None if options.fold is None else str(options.fold)
            splits, notes = read_split_file(options.split_file, fold, listed, needed=())
            for note in notes:
                print(f"note: {note}", file=sys.stderr)
            self._file_parts = {(case.domain, case.id): part for part in PARTS for case in splits.select(listed, part)}

    def of(self, domain: str) -> list[Case]:
        """The labelled cases of a domain."""
        return [case for case in self._listed if case.domain == domain and case.label is not None]

    def known(self, domain: str, fingerprints: Mapping[str, str]) -> Findings:
        """The cases of a domain that are in the splits of runs."""
        return find_known(self._runs, domain, self._folders[domain], self.of(domain), fingerprints)

    def read(self, domains: Sequence[str]) -> dict[str, Findings]:
        """The cases that runs know in domains, by the fingerprints of all their labelled cases."""
        return {name: self.known(name, _fingerprints(self.of(name), name, self._options)) for name in domains}

    def divided_by_nobody(self, findings: Mapping[str, Findings]) -> list[str]:
        """The domains of which --split names a part, but which no run knows by name; a run may know their scans."""
        noted = any(run.splits.members for run in self._runs)
        parts = self._asked(findings)
        return [name for name, found in findings.items() if noted and not found.known and parts[name] != "all"]

    def contradicted(self, findings: Mapping[str, Findings], prepared: Sequence[CachedCase]) -> list[str]:
        """The domains with a scan whose fingerprint belongs to another part of a run's split than its name."""
        noting = [run for run in self._runs if run.splits.members]
        by_place = {(case.domain, case.files): case for case in self._listed}
        domains = {}
        for cached in prepared:
            case = by_place[cached.case.domain, cached.case.files]
            parts = {known.part for run in noting if (known := run.by_fingerprint(cached.fingerprint))}
            if parts - {findings[case.domain].part(case)}:
                domains[case.domain] = None
        return list(domains)

    def cases(self, findings: Mapping[str, Findings]) -> list[Case]:
        """The cases of the requested part of each domain, with their patients' names in the runs."""
        parts = self._asked(findings)
        cases = [case for domain in self._folders for case in self._part(domain, parts[domain], findings[domain])]
        if not cases:
            raise self._nothing(findings, parts)
        if not self._options.split:
            self._refuse_training_patients(findings, cases)
        if self._options.patients is None:
            cases = [_named(case, findings[case.domain]) for case in cases]
        taken, self.refused = divide(cases, self._needs, self.hidden)
        if not taken:
            raise UserError(one_line(self.refused))
        return _first(taken, self._options.limit)

    def tell(self, findings: Mapping[str, Findings], chosen: Sequence[Case]) -> None:
        """Reports cases that are not scored, and cases that are scored although a run was trained on them."""
        parts = self._asked(findings)
        if note := lacking_note(chosen, self._needs):
            print(f"note: {note}", file=sys.stderr)
        for domain, found in findings.items():
            if not found.known or self._file_parts is not None:
                continue
            runs, own = " and ".join(map(str, found.runs)), self.of(domain)
            moved = all(run.lies_at(self._folders[domain]) is None for run in self._runs)
            if moved and not self._options.split:
                print(
                    f"note: {domain}: {len(found.known)} of {len(own)} labelled cases are of patients that {runs} was "
                    f"divided with; its {parts[domain]} part alone is scored (--split {domain}=all scores all)",
                    file=sys.stderr,
                )
            if (new := [case.id for case in own if case.id not in found.known]) and parts[domain] != "all":
                print(f"note: {domain}: {len(new)} cases that {runs} does not know are not scored", file=sys.stderr)
        seen = [case for case in chosen if findings[case.domain].part(case) == "train"]
        if seen:
            print(
                f"warning: {len(seen)} of the {len(chosen)} cases scored are of patients that were trained on, such as "
                f"{seen[0].id}",
                file=sys.stderr,
            )

    def _asked(self, findings: Mapping[str, Findings]) -> dict[str, str]:
        """The part of each domain: from --split, else the held-out part, or all for data that no run knows."""
        default = {}
        for domain, found in findings.items():
            if self._file_parts is not None:
                own = {part for (name, _), part in self._file_parts.items() if name == domain}
                default[domain] = "test" if "test" in own else "val"
            elif found.known:
                default[domain] = found.held_out
            else:
                default[domain] = "all" if self._options.data else "test"
        return parse_parts(self._options.split, default)

    def _part(self, domain: str, part: str, found: Findings) -> list[Case]:
        """The cases of a part of one domain, which is divided by the seed if neither a file nor a run divides it."""
        within = [case for case in self._listed if case.domain == domain]
        if part == "all":
            return within
        if self._file_parts is not None:
            return [case for case in within if self._file_parts.get((domain, case.id)) == part]
        if found.known:
            return [case for case in within if found.part(case) == part]
        return split_cases(within, self._options.seed).select(within, part)

    def _refuse_training_patients(self, findings: Mapping[str, Findings], cases: Sequence[Case]) -> None:
        for case in cases:
            found = findings[case.domain]
            if found.part(case) not in (None, found.held_out):
                raise UserError(
                    f"--data {case.domain}: {case.id} is of a patient that {' and '.join(map(str, found.runs))} was "
                    f"trained or validated on; --split PART scores such patients too"
                )

    def _nothing(self, findings: Mapping[str, Findings], parts: Mapping[str, str]) -> UserError:
        """The reason why there is nothing to score."""
        asked = " ".join(self._options.split) or " ".join(f"{name}={part}" for name, part in parts.items())
        known = [(domain, found) for domain, found in findings.items() if found.known]
        if known and not self._options.split:
            domain, found = known[0]
            return UserError(
                f"--data {domain}: all {len(found.known)} cases that {' and '.join(map(str, found.runs))} knows are of "
                f"patients that it was trained or validated on; --split {domain}=all scores them nevertheless"
            )
        return UserError(f"--split {asked}: holds no case of {', '.join(self._folders)}")


def _named(case: Case, found: Findings) -> Case:
    known = found.known.get(case.id)
    return replace(case, patient=known.patient) if known else case


def _distinct(cases: list[Case]) -> list[Case]:
    """The cases, with the domain before the id if another domain has the same id, since ids name the results."""
    times = Counter(case.id for case in cases)
    return [replace(case, id=f"{case.domain}-{case.id}") if times[case.id] > 1 else case for case in cases]


def _first(cases: list[Case], limit: int | None) -> list[Case]:
    """The first `limit` cases of each domain; all if it is None."""
    domains = dict.fromkeys(case.domain for case in cases)
    return [case for name in domains for case in [case for case in cases if case.domain == name][:limit]]


def parse_parts(texts: tuple[str, ...], default: dict[str, str]) -> dict[str, str]:
    """The part of each domain that is scored.

    Args:
        texts: the `--split` values, each PART for all domains or NAME=PART for one.
        default: the part of each domain that no value names.
    """
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
    """Prints a warning if a run was trained on a collection that holds the same patients as the cases.

    The run's own training data are not scored, so faults in them do not stop the scoring.
    """
    for run in runs:
        config, trained = read_config(run), []
        for domain, folder in config.data.items():
            with suppress(UserError):
                options = config.options
                trained += survey(folder, domain, options.layout, options.labels, read_labels=False).cases
        if warning := shared_patients(trained, cases):
            print(f"warning: {run}: {warning}", file=sys.stderr)
