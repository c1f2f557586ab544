"""The patients of runs: finds them again in data that were moved or renamed since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from samjax.data.cases import Case
from samjax.data.fingerprint import FingerprintIndex
from samjax.data.patients import patient_key
from samjax.data.splits import PARTS, Splits
from samjax.errors import UserError
from samjax.runs.folder import read_config, read_splits


@dataclass(frozen=True)
class Known:
    """The part of a run's split to which a case belongs, and its patient there."""

    part: str
    patient: str


class TrainedRun:
    """A run's data: the folder of each domain, and the splits."""

    def __init__(self, run: Path, folders: Mapping[str, str], splits: Splits):
        self.run, self.folders, self.splits = run, folders, splits
        # By domain, the part of each patient; test last, since with --overfit one patient is of all parts.
        self._parts = {
            domain: {patient: part for part in PARTS for patient in getattr(split, part)}
            for domain, split in splits.domains.items()
        }
        self._keys = {domain: {patient_key(name): name for name in parts} for domain, parts in self._parts.items()}
        self._places = [(domain, member) for domain, cases in splits.members.items() for member in cases.values()]
        self._index = FingerprintIndex({str(n): member.fingerprint for n, (_, member) in enumerate(self._places)})

    @classmethod
    def of(cls, run: Path) -> "TrainedRun":
        """Reads the data and splits of the run in a folder."""
        return cls(run, read_config(run).data, read_splits(run))

    def lies_at(self, folder: Path) -> str | None:
        """The run's domain that was read from a folder, or None."""
        at = (name for name, path in self.folders.items() if Path(path).resolve() == folder.resolve())
        return next((name for name in at if name in self._parts), None)

    def by_name(self, case: Case, domain: str | None) -> Known | None:
        """Finds a case by its id or patient, in a domain of the run or, if it is not there, in any."""
        others = [name for name in self._parts if name != domain]
        for names in ([domain] if domain in self._parts else [], others):
            found = [known for name in names if (known := self._in_domain(case, name))]
            if found:
                return min(found, key=lambda known: PARTS.index(known.part))  # trained on in one: trained on
        return None

    def by_fingerprint(self, fingerprint: str) -> Known | None:
        """Finds a case by the content of its images; None also for runs that recorded no fingerprints."""
        found = self._index.find(fingerprint)
        if found is None:
            return None
        domain, member = self._places[int(found)]
        return Known(self._parts[domain][member.patient], member.patient)

    def _in_domain(self, case: Case, domain: str) -> Known | None:
        parts, member = self._parts[domain], self.splits.members.get(domain, {}).get(case.id)
        patient = member.patient if member else case.patient
        if patient not in parts:
            patient = self._keys[domain].get(patient_key(patient), "")
        return Known(parts[patient], patient) if patient else None


@dataclass(frozen=True)
class Findings:
    """The cases of one domain that runs know, by case id, and these runs."""

    known: Mapping[str, Known]
    runs: tuple[Path, ...]
    held_out: str
    """The part that no run was trained on: test or, if the splits have no such part, val."""

    def part(self, case: Case) -> str | None:
        """The part of a case; None if no run knows it."""
        found = self.known.get(case.id)
        return found.part if found else None


def find_known(
    runs: Sequence[TrainedRun], domain: str, folder: Path, cases: Sequence[Case], prints: Mapping[str, str]
) -> Findings:
    """The cases of one domain that are in the splits of runs, by fingerprint if one is given, else by name.

    Args:
        runs: the runs, which must agree on every case.
        domain: name of the domain.
        folder: folder of the domain.
        cases: cases of the domain.
        prints: fingerprints by case id, as far as they are known.

    Raises:
        UserError: a case is in different parts in two runs, so that one would be scored on its training patients.
    """
    known: dict[str, Known] = {}
    knowing: list[TrainedRun] = []
    for run in runs:
        own = run.lies_at(folder) or domain
        found = {
            case.id: part
            for case in cases
            if (part := run.by_fingerprint(prints.get(case.id, "")) or run.by_name(case, own))
        }
        if any(known.get(case, part).part != part.part for case, part in found.items()):
            others = ", ".join(str(other.run) for other in knowing)
            raise UserError(
                f"--run {run.run}: another split of {domain} than {others}, so one would be scored on its training "
                "patients; compare runs of one --seed and --fold, or score other data"
            )
        known = found | known
        knowing += [run] if found else []
    tested = not knowing or any(split.test for run in knowing for split in run.splits.domains.values())
    return Findings(known, tuple(run.run for run in knowing), "test" if tested else "val")
