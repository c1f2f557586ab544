"""`samjax nnunet`: writes a run's patients and split as a dataset of nnU-Net v2; docs/nnunet.md has the next steps."""

from pathlib import Path

from samjax.data.cohort import list_cases
from samjax.data.formats.nnunet_export import export_nnunet
from samjax.options import NnunetOptions
from samjax.runs.config import needs_of
from samjax.runs.folder import find_run, read_config, read_splits


def main(options: NnunetOptions) -> None:
    """Exports the cases of a run, and prints where they are."""
    run = find_run(options.run)
    config = read_config(run)
    folders = {name: Path(path) for name, path in config.data.items()}
    name, trained = run.resolve().name, config.options
    needs = [needs_of(trained, name)]
    cases = list_cases(folders, trained.layout, trained.labels, trained.limit, needs=needs)
    found = export_nnunet(cases, read_splits(run), options.out, name, options.number)
    print(f"{len(found.train)} training, {len(found.val)} validation, {len(found.test)} test cases: {found.raw}")
    print(f"the split, as fold 0: {found.splits}")
