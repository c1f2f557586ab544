"""The modalities that a model needs, and the cases that it takes."""

from collections.abc import Collection
from dataclasses import dataclass

from samjax.data.cases import MODALITIES, Case


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
        """The reason, in words, why the model cannot take a scan with these modalities; None if it can."""
        lacking = self.lacking(present)
        if not lacking or (self.dropout and len(lacking) < len(self.modalities)):
            return None
        has = ", ".join(name for name in MODALITIES if name in present) or "none of them"
        found = f"no {', '.join(lacking)} (has {has}), which {self.who} looks at"
        return found if self.dropout else f"{found}; training with --modality-dropout teaches to do without"

    def refusal_of(self, case: Case) -> str | None:
        """The same for the files of a case, with their folder."""
        reason = self.refusal(case.modalities)
        if reason is None:
            return None
        why = f" [{case.why_missing}]" if case.why_missing else ""
        return f"{case.reference.path.parent}: case {case.id}: {reason}{why}"


