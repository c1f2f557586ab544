"""The post-processing that was chosen for a run, kept in its postprocess.json, and the rule that a command applies."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from samjax.errors import UserError
from samjax.files import parse_json
from samjax.inference.postprocess import AUTO, NONE, RAW, Postprocess
from samjax.runs.folder import POSTPROCESS, write_text
from samjax.runs.trained import AVERAGE, ended_at

FORMAT_VERSION = "1"


@dataclass(frozen=True)
class Candidate:
    """A rule that was compared."""

    rule: str
    dice: float
    """Mean 3-D Dice over the validation cases."""
    hd95: float
    """Mean 3-D HD95 in mm over the validation cases."""
    spoilt_predictions: int
    """Number of validation cases whose Dice its conditions for components lower by more than `SPOILT`."""
    spoilt_labels: int
    """Number of labels that it changes by more than `SPOILT`."""
    allowed: bool


@dataclass(frozen=True)
class PostprocessChoice:
    """The rule of a run, and what it was chosen by; stored as postprocess.json."""

    chosen: str
    reason: str
    roi: str
    weights: str
    """The weights whose predictions were cleaned: average or last."""
    step: int
    """The number of steps of these weights."""
    patients: int
    """Number of validation patients."""
    cases: int
    """Number of validation cases."""
    labels: int
    """Number of cases whose labels were looked at."""
    seen: int = 0
    """Number of training cases whose predictions decided between rules that validation left equal."""
    candidates: tuple[Candidate, ...] = ()

    @property
    def rule(self) -> Postprocess:
        return Postprocess.parse(self.chosen, "chosen")

    def __str__(self) -> str:
        """One line for the terminal."""
        return f"post-processing of prompt-free masks: {self.chosen} ({self.reason})"

    def to_json(self) -> str:
        """The text of postprocess.json."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=2) + "\n"

    def save(self, folder: Path) -> None:
        """Writes the choice into the folder of its run."""
        write_text(folder / POSTPROCESS, self.to_json())


def load_choice(folder: Path) -> PostprocessChoice | None:
    """The choice of a finished run; None for runs without one, and where it is of other weights than the run's last.

    Raises:
        UserError: the file holds no choice, or one of another version.
    """
    path = folder / POSTPROCESS
    if not path.is_file():
        return None
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        version = content.pop("format_version")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path}: format version {version}, expected {FORMAT_VERSION}; use the version of samjax that wrote it"
            )
        candidates = tuple(Candidate(**candidate) for candidate in content.pop("candidates"))
        choice = PostprocessChoice(**content, candidates=candidates)
        Postprocess.parse(choice.chosen, f"{path}: chosen")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a choice of post-processing ({error}); remove it to predict without") from error
    return choice if ended_at(folder, choice.step) else None


def rule_for(text: str, kind: str, folder: Path | None = None, average: bool = True) -> tuple[Postprocess, str]:
    """The rule that a command applies to masks, and the reason in words.

    Args:
        text: the option --postprocess: auto, or a rule for `Postprocess.parse`.
        kind: kind of prompt: box, point or none. By itself a run's choice is for prompt-free masks alone: a prompted
            mask is what somebody asked for.
        folder: folder of a finished run; None for base weights.
        average: whether the average of the weights is taken where the run has one.

    Raises:
        UserError: the text is no rule, or the run's postprocess.json cannot be read.
    """
    if text != AUTO:
        return Postprocess.parse(text), "as asked for"
    if kind != NONE:
        return RAW, "masks of prompts stay as they are"
    choice = None if folder is None else load_choice(folder)
    if choice is None:
        return RAW, "the run has none of its own"
    if choice.weights == AVERAGE and not average:
        return RAW, f"{choice.chosen} was chosen for the average of the weights"
    return choice.rule, choice.reason
