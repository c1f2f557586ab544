"""The numbers allowed in the options of the commands; an option has one range in all commands that have it."""

import math
from dataclasses import dataclass, fields

from samjax.errors import UserError


@dataclass(frozen=True)
class Limit:
    """A range of finite numbers: from `lowest` on, or above it where `above`, up to `highest`, or below it."""

    lowest: float
    highest: float = math.inf
    above: bool = False
    below: bool = False

    def allows(self, value: float) -> bool:
        """Whether the value is finite and within the range."""
        if not math.isfinite(value) or not self.lowest <= value <= self.highest:
            return False
        return not (self.above and value == self.lowest) and not (self.below and value == self.highest)

    def __str__(self) -> str:
        first = f"above {self.lowest:g}" if self.above else f"at least {self.lowest:g}"
        if self.highest == math.inf:
            return first
        return f"{first} and {'below' if self.below else 'at most'} {self.highest:.10g}"


_COUNT, _COUNT_OR_NONE = Limit(1), Limit(0)
_POSITIVE, _NOT_NEGATIVE = Limit(0, above=True), Limit(0)
LIMITS: dict[str, Limit] = {
    **dict.fromkeys(
        (
            "depth", "epochs", "max_steps", "batch_size", "image_size", "min_pixels", "lora_rank", "limit", "clicks",
            "checkpoint_every", "accumulate", "profile", "lr_finder_every", "cache_embeddings",
        ),
        _COUNT,
    ),
    **dict.fromkeys(("workers", "warmup_steps", "swa_cycle"), _COUNT_OR_NONE),
    **dict.fromkeys(("lr", "swa_lr", "clip_norm", "lora_alpha", "elastic_sigma", "embeddings_budget"), _POSITIVE),
    **dict.fromkeys(("weight_decay", "elastic_alpha"), _NOT_NEGATIVE),
    "seed": Limit(0, 2**32 - 1),
    "rotation": Limit(0, 180),
    "rotations": Limit(1, 99),
    "box_jitter": Limit(0, 1),
    **dict.fromkeys(("empty_share", "modality_dropout"), Limit(0, 1, below=True)),
    "swa_start": Limit(0, 1),
    "port": Limit(0, 65535),
}  # fmt: skip
"""The range of each numeric option, by its field's name."""


def check_numbers(options: object) -> None:
    """Raises a `UserError` for a number in a dataclass of options that is outside its range."""
    for name in (field.name for field in fields(options)):
        value, limit = getattr(options, name), LIMITS.get(name)
        if limit is None or value is None or isinstance(value, str) or limit.allows(value):
            continue
        words = " or auto" if name == "lr" else ""
        raise UserError(f"--{name.replace('_', '-')} {value}: expected a finite number, {limit}{words}")
