"""Writes a finished run as one file that predicts on another machine (`samjax pack`); `runs.packed` reads it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from samjax.data.imaging.doubts import RANGES
from samjax.data.splits import PARTS, Member, Split, Splits
from samjax.errors import UserError
from samjax.inference.inputs import training_scheme
from samjax.inference.postprocess_choice import load_choice
from samjax.runs.checksums import with_checksums
from samjax.runs.config import RunConfig
from samjax.runs.folder import (
    CARD,
    CONFIG,
    FINAL,
    PCA,
    POSTPROCESS,
    SPLIT,
    WEIGHTS,
    find_model,
    read_config,
    read_splits,
)
from samjax.runs.packed import FILES, PACKED, PACKED_VERSION
from samjax.runs.trained import LAST, STEP, final_metadata, load_trained, packed_base
from samjax.strategies import find_strategy
from samjax.weights.safetensors_file import read_safetensors, write_safetensors


def pack(run: Path | None, out: Path, weights: str | None = None, labels: str | None = None) -> Path:
    """Writes the weights by which a run predicts, its base weights, and all that its masks depend on, into one file.

    Parameters stay as they are, so that the file gives the run's masks bit by bit. No path, name or patient of the
    machine is in it; the fingerprints of the scans that the run was divided with are, so that an evaluation knows them.

    Args:
        run: as `find_model` takes it.
        out: a new file, NAME.safetensors; NAME is the model's name from then on.
        weights: new place of the base weights; None: the place that the run recorded.
        labels: the label scheme of masks where a scan's names do not tell it; None: that of the training data.

    Returns:
        The run's folder.

    Raises:
        UserError: the run is not finished or was trained on pictures, its base weights are missing, its label scheme is
            not known, or `out` exists.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"{out}: expected a name that ends in .safetensors")
    if out.exists():
        raise UserError(f"{out}: exists; name a new file")
    folder = find_model(run)
    config = read_config(folder)
    if find_strategy(config.options.strategy).family == "pictures":
        raise UserError(f"{folder}: was trained on pictures; its {WEIGHTS} is one file already, for --weights")
    _, found = load_trained(folder, weights)
    plain = config.portable(labels or training_scheme(folder))
    step = read_safetensors(folder / FINAL)[1].get(STEP)
    trained = {f"{LAST}/{path}": x for path, x in found.trained.items()}
    tensors = trained | packed_base(found.base, found.trained) | _files(folder, plain)
    metadata = final_metadata(plain, None if step is None else int(step)) | {PACKED: PACKED_VERSION}
    write_safetensors(out, tensors, with_checksums(metadata, tensors))
    return folder


def _files(folder: Path, config: RunConfig) -> dict[str, np.ndarray]:
    """The run's small files as bytes, by their names in a packed run."""
    contents = {
        CONFIG: config.to_json().encode(),
        SPLIT: (json.dumps(anonymous(read_splits(folder)).to_json(), indent=2) + "\n").encode(),
    }
    contents |= {name: (folder / name).read_bytes() for name in (RANGES, PCA, CARD) if (folder / name).is_file()}
    if (choice := load_choice(folder)) is not None:
        contents[POSTPROCESS] = replace(choice, weights=LAST).to_json().encode()
    return {f"{FILES}{name}": np.frombuffer(content, np.uint8) for name, content in sorted(contents.items())}


def anonymous(splits: Splits) -> Splits:
    """The splits with numbers for the names of patients and cases.

    The fingerprints of scans stay, by which an evaluation finds out that the run was trained on a scan.
    """
    domains, members = {}, {}
    for domain, split in splits.domains.items():
        patients = [patient for part in PARTS for patient in getattr(split, part)]
        numbers = {patient: f"packed-patient-{n}" for n, patient in enumerate(sorted(set(patients)))}
        domains[domain] = Split(*(tuple(numbers[patient] for patient in getattr(split, part)) for part in PARTS))
        cases = [splits.members[domain][case] for case in sorted(splits.members.get(domain, ()))]
        members[domain] = {
            f"packed-case-{n}": Member(numbers[case.patient], case.fingerprint) for n, case in enumerate(cases)
        }
    return Splits(splits.seed, splits.fold, domains, members if splits.members else {})
