"""The modalities that a model looks at, and the cases that it can take."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from samjax.data.cases import MODALITIES, Case, modality_of
from samjax.errors import UserError


@dataclass(frozen=True)
class Needs:
    """The modalities that a model looks at, and whether it was trained to do without some of them."""

    who: str
    """The model, or the option that names its channels, for messages."""
    modalities: tuple[str, ...]
    dropout: bool = False
    """Whether modalities were hidden in training, so that any one of them is enough."""

    def lacking(self, present: Collection[str]) -> tuple[str, ...]:
        """The modalities that the model looks at and that are not among those present, in the order of `MODALITIES`."""
        return tuple(name for name in MODALITIES if name in self.modalities and name not in present)

    def refusal(self, present: Collection[str]) -> str | None:
        """The reason why the model cannot take a scan with these modalities, in words; None if it can."""
        lacking = self.lacking(present)
        if not lacking or (self.dropout and len(lacking) < len(set(self.modalities))):
            return None
        has = ", ".join(name for name in MODALITIES if name in present) or "none"
        advice = "one of them is needed" if self.dropout else "only runs with --modality-dropout do without"
        return f"no {', '.join(lacking)} (has {has}), which {self.who} looks at; {advice}"


def divide(cases: Iterable[Case], needs: Sequence[Needs], hidden: Collection[str] = ()) -> tuple[list[Case], list[str]]:
    """The cases that all models can take, and the reasons, a line each, why the others are left out.

    Args:
        needs: the needs of each model.
        hidden: modalities that the models are not shown.
    """
    taken, reasons = [], []
    for case in cases:
        present = [name for name in case.modalities if name not in hidden]
        reason = next((reason for one in needs if (reason := one.refusal(present))), None)
        if reason is None:
            taken.append(case)
            continue
        why = f" ({case.why_missing})" if case.why_missing else ""
        reasons.append(f"{case.reference.path.parent}: case {case.id}: {reason}{why}")
    return taken, reasons


def lacking_note(cases: Sequence[Case], needs: Sequence[Needs]) -> str | None:
    """One line on the cases that lack modalities that models look at; None if there are none."""
    lacking = [{name for one in needs for name in one.lacking(case.modalities)} for case in cases]
    if not any(lacking):
        return None
    counts = {name: sum(name in names for names in lacking) for name in MODALITIES}
    listed = ", ".join(f"{count} have no {name}" for name, count in counts.items() if count)
    return f"{sum(map(bool, lacking))} of {len(cases)} cases lack modalities ({listed}) and are taken without them"


def parse_modalities(text: str, option: str) -> tuple[str, ...]:
    """The modalities that an option's value names ("flair,t2"), each once, in the order of `MODALITIES`.

    Raises:
        UserError: a name is unknown or there twice.
    """
    found = [modality_of(name.strip()) for name in text.split(",")]
    if None in found or len(set(found)) < len(found):
        raise UserError(f"{option} {text}: expected some of {', '.join(MODALITIES)}, each once, such as t2,flair")
    return tuple(name for name in MODALITIES if name in found)
