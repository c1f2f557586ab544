"""One row for each way of training: what it adds to the model, what trains, and its defaults.

This table alone says what trains. Patterns are matched against the whole stored path of a parameter
(`image_encoder/blocks/0/attn/lora/q/a`).
"""

import re
from dataclasses import dataclass

from flax import nnx

from samjax.errors import UserError
from samjax.models.prompt_encoder import Buffer

PATCH_EMBEDDING = r"image_encoder/patch_embed/.*"
LORA = r"image_encoder/.*/lora/.*"
CROSS_SLICE = r"image_encoder/.*/cross_slice/.*"
MASK_DECODER = r"mask_decoder/.*"
EVERYTHING = r".*"


@dataclass(frozen=True)
class Strategy:
    """A way of training SAM."""

    name: str
    source: str
    """Where it comes from: a paper and its section or table."""
    trains: tuple[str, ...]
    """Patterns of the parameters that train."""
    channels: str
    """Default of --channels."""
    depth: int
    """Default of --depth, slices a sample."""
    prompt: str
    """Default of --prompt."""
    lora: bool = False
    """Adds LoRA to the encoder's blocks."""
    new_patch_embedding: bool = False
    """Replaces the RGB patch embedding by one for the run's channels."""


STRATEGIES: dict[str, Strategy] = {
    row.name: row
    for row in (
        Strategy(
            name="decoder",
            source="paper A, section 3",
            trains=(MASK_DECODER,),
            channels="flair,t1gd,t2",
            depth=1,
            prompt="box",
        ),
        Strategy(
            name="lora",
            source="paper B, table 1",
            trains=(LORA, CROSS_SLICE, MASK_DECODER),
            channels="t1,t2,flair",
            depth=4,
            prompt="point:0.75,none:0.25",
            lora=True,
        ),
        Strategy(
            name="lora4ch",
            source="paper B, section 3.1",
            trains=(PATCH_EMBEDDING, LORA, CROSS_SLICE, MASK_DECODER),
            channels="t1,t1gd,t2,flair",
            depth=4,
            prompt="point:0.75,none:0.25",
            lora=True,
            new_patch_embedding=True,
        ),
        Strategy(
            name="full",
            source="paper B, table 4",
            trains=(EVERYTHING,),
            channels="t1,t1gd,t2,flair",
            depth=4,
            prompt="point:0.75,none:0.25",
            new_patch_embedding=True,
        ),
    )
}


def find_strategy(name: str) -> Strategy:
    """The row called `name`; UserError if there is none."""
    if name not in STRATEGIES:
        raise UserError(f"--strategy: unknown '{name}'; expected one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def trains(strategy: Strategy) -> nnx.filterlib.Filter:
    """The NNX filter of the parameters that train; buffers never do."""
    pattern = re.compile("|".join(strategy.trains))

    def chosen(path: tuple, variable: nnx.Variable) -> bool:
        return not isinstance(variable, Buffer) and pattern.fullmatch("/".join(map(str, path))) is not None

    return chosen
