"""One row for each way of training: the modules it adds, the parameters that train, and its defaults.

Only this table decides what trains. Patterns are matched against the whole stored path of a parameter
(`image_encoder/blocks/0/attn/lora/q/a`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from samjax.errors import UserError

if TYPE_CHECKING:
    from flax import nnx

PATCH_EMBEDDING = r"image_encoder/patch_embed/.*"
LORA = r"image_encoder/.*/lora/.*"
ADAPTERS = r"image_encoder/.*/adapters/.*"
CROSS_SLICE = r"image_encoder/.*/cross_slice/.*"
MASK_DECODER = r"mask_decoder/.*"
EVERYTHING = r".*"

RGB = 3
"""Channels of a SAM for pictures."""
ALL_FOUR = "t1,t1gd,t2,flair"
POINT_OR_NONE = "point:0.75,none:0.25"
"""A quarter of the samples is prompt-free, so that the run can also predict unlabelled scans."""

COMMON: Mapping[str, Any] = MappingProxyType(
    {
        "weights": "tiny",
        "depth": 1,
        "epochs": 25,
        "batch_size": 1,
        "lr": 1e-4,
        "optimizer": "adam",
        "schedule": "constant",
        "clicks": 1,
        "box_jitter": 0.0,
        "empty_share": 0.0,
        "modality_dropout": 0.0,
    }
)
"""Defaults of options that a strategy may override."""


@dataclass(frozen=True)
class Strategy:
    """A way of training."""

    name: str
    source: str
    """The source: a paper and its section or table."""
    stages: tuple[tuple[str, ...], ...]
    """Patterns of the parameters that train, for each stage in turn."""
    options: Mapping[str, Any]
    """Defaults of options, where they differ from `COMMON`."""
    family: Literal["sam", "unet", "pictures"] = "sam"
    """SAM on scans, the U-Net on scans, or SAM on dead-leaves pictures."""
    lora: bool = False
    """Whether LoRA is added to the encoder's blocks."""
    adapters: bool = False
    """Whether adapters are added to the encoder's blocks."""
    new_patch_embedding: bool = False
    """Whether the RGB patch embedding is replaced by one for the run's channels."""
    generated: bool = False
    """Whether a SAM trains on generated patients instead of scans."""

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of all options that depend on the strategy."""
        return {**COMMON, **self.options}

    def new_patch(self, channels: int, base: int = RGB) -> bool:
        """Whether a model of this many channels gets a new patch embedding in place of one for `base` channels.

        Not for three where everything trains, nor where the base was fine-tuned on as many other channels.
        """
        kept = channels == base and (base != RGB or self.stages == ((EVERYTHING,),))
        return self.new_patch_embedding and not kept

    @property
    def reads_scans(self) -> bool:
        """Whether it trains on the scans of --data."""
        return self.family != "pictures" and not self.generated

    @property
    def encoder_frozen(self) -> bool:
        """Whether SAM's image encoder stays as the base weights have it."""
        return self.family == "sam" and all(stage == (MASK_DECODER,) for stage in self.stages)


STRATEGIES: dict[str, Strategy] = {
    row.name: row
    for row in (
        Strategy(
            name="decoder",
            source="paper A, section 3",
            stages=((MASK_DECODER,),),
            options={"channels": "flair,t1gd,t2", "prompt": "box"},
        ),
        Strategy(
            name="lora",
            source="paper B, table 1",
            stages=((LORA, CROSS_SLICE, MASK_DECODER),),
            options={"channels": "t1,t2,flair", "depth": 4, "prompt": POINT_OR_NONE},
            lora=True,
        ),
        Strategy(
            name="lora4ch",
            source="paper B, section 3.1",
            stages=((PATCH_EMBEDDING, LORA, CROSS_SLICE, MASK_DECODER),),
            options={"channels": ALL_FOUR, "depth": 4, "prompt": POINT_OR_NONE},
            lora=True,
            new_patch_embedding=True,
        ),
        Strategy(
            name="lora4ch-2step",
            source="paper B, table 3",
            stages=((PATCH_EMBEDDING,), (LORA, CROSS_SLICE, MASK_DECODER)),
            options={"channels": ALL_FOUR, "depth": 4, "prompt": POINT_OR_NONE},
            lora=True,
            new_patch_embedding=True,
        ),
        Strategy(
            name="adapter",
            source="ours, after Med-SA and SAM-Med2D; beside paper B, table 5",
            stages=((PATCH_EMBEDDING, ADAPTERS, CROSS_SLICE, MASK_DECODER),),
            options={"channels": ALL_FOUR, "depth": 4, "prompt": POINT_OR_NONE},
            adapters=True,
            new_patch_embedding=True,
        ),
        Strategy(
            name="full",
            source="paper B, table 4",
            stages=((EVERYTHING,),),
            options={"channels": ALL_FOUR, "depth": 4, "prompt": POINT_OR_NONE},
            new_patch_embedding=True,
        ),
        Strategy(
            name="unet",
            source="paper A, the nnU-Net column",
            stages=((EVERYTHING,),),
            options={
                "channels": ALL_FOUR,
                "prompt": "none",
                "empty_share": 0.25,
                "lr": 1e-3,
                "batch_size": 4,
                "schedule": "cosine",
            },
            family="unet",
        ),
        Strategy(
            name="generated",
            source="generated patients alone, after SynthSeg (Billot et al. 2023)",
            stages=((EVERYTHING,),),
            options={
                "channels": ALL_FOUR,
                "prompt": "none:0.6,point:0.25,box:0.15",
                "box_jitter": 0.1,
                "empty_share": 0.3,
                "modality_dropout": 0.1,
                "batch_size": 8,
                "lr": 3e-3,
                "optimizer": "muon",
                "schedule": "cosine",
                "clip_norm": 1.0,
            },
            new_patch_embedding=True,
            generated=True,
        ),
        Strategy(
            name="pretrain",
            source="the shipped weights",
            stages=((EVERYTHING,),),
            options={
                "weights": "random",
                "channels": "rgb",
                "prompt": "point,box",
                "box_jitter": 0.1,
                "clicks": 3,
                "lr": 3e-3,
                "batch_size": 8,
                "optimizer": "muon",
                "schedule": "cosine",
                "clip_norm": 1.0,
            },
            family="pictures",
        ),
    )
}


def find_strategy(name: str) -> Strategy:
    """The row called `name`; a `UserError` if there is none."""
    if name not in STRATEGIES:
        raise UserError(f"--strategy: unknown '{name}'; expected one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def describe_default(option: str) -> str:
    """The default of an option in each strategy, as `--help` shows it: "1; 3 for pretrain"."""
    named: dict[Any, list[str]] = {}
    for row in STRATEGIES.values():
        named.setdefault(row.defaults.get(option), []).append(row.name)
    usual = COMMON.get(option)
    parts = [f"{_shown(value)} for {_listed(names)}" for value, names in named.items() if value != usual]
    if usual is not None or usual in named:
        parts.insert(0, _shown(usual))
    return "; ".join(parts)


def _shown(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def trainable_filter(strategy: Strategy, stage: int = 0) -> "nnx.filterlib.Filter":
    """The NNX filter of the parameters that train in a stage (from 0); buffers never do."""
    # Imported here: the options and --help read the table above, and shall not wait for JAX.
    from samjax.models.prompt_encoder import Buffer

    pattern = re.compile("|".join(strategy.stages[stage]))

    def chosen(path: tuple, variable: "nnx.Variable") -> bool:
        return not isinstance(variable, Buffer) and pattern.fullmatch("/".join(map(str, path))) is not None

    return chosen
