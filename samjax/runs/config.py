"""The configuration of a run: everything needed to build its model and read its data again."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.planes import parse_planes
from samjax.data.labels import ROIS, rois_of
from samjax.data.needs import Needs
from samjax.data.on_device.channels import parse_channels
from samjax.data.on_device.prompts import PromptMix
from samjax.errors import UserError
from samjax.models.config import Adaptation, ComputeConfig, SamConfig
from samjax.models.flat import BlockSpans
from samjax.models.unet import UNetConfig
from samjax.options import DEFAULT_CACHE, TrainOptions
from samjax.strategies import find_strategy
from samjax.version import __version__

FORMAT_VERSION = "1"


def needs_of(options: TrainOptions, who: str) -> Needs:
    """The modalities that the model of a run with these options looks at; `who` names it in messages."""
    if find_strategy(options.strategy).family == "pictures":
        return Needs(who, ())
    return Needs(who, parse_channels(options.channels).needed, options.modality_dropout > 0)


@dataclass(frozen=True)
class RunConfig:
    """Everything needed to build a run's model and read its data again; stored as config.json.

    `options` is resolved: channels, prompt, depth, image_size and, for scans, spacing are set.
    """

    options: TrainOptions
    data: dict[str, str]
    """Folder of each domain, by the domain's name."""
    base_path: str
    """The place of the base weights: a path, or the name of weights that samjax makes; empty for the U-Net."""
    base_sha256: str
    """The sha256 of the base weights; empty for the U-Net."""
    architecture: SamConfig | None
    """Architecture of the base weights; None for the U-Net, which has none."""
    native: int
    """Side in pixels of the run's grid of the square that slices are padded to."""
    cropped: bool = False
    """Whether slices are cropped to what the scan shows before the model sees them."""
    samples: int | None = None
    """Samples of a step over all devices; None in runs of versions that did not record it."""

    def to_json(self) -> str:
        """The text of config.json."""
        content = {"format_version": FORMAT_VERSION, "samjax": __version__, **asdict(self)}
        return json.dumps(content, indent=2, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str, where: Path) -> "RunConfig":
        """Undoes `to_json`. Raises UserError, naming the file `where`, if the text is no run's configuration."""
        try:
            content = json.loads(text)
            if content["format_version"] != FORMAT_VERSION:
                raise UserError(
                    f"{where}: format version {content['format_version']}, expected {FORMAT_VERSION}; "
                    "use the version of samjax that wrote it"
                )
            return cls(
                options=_options(content["options"]),
                data=content["data"],
                base_path=content["base_path"],
                base_sha256=content["base_sha256"],
                architecture=_architecture(content["architecture"]),
                native=content["native"],
                cropped=content.get("cropped", False),
                samples=content.get("samples"),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where}: not a run's configuration ({error})") from error

    def portable(self, labels: str | None) -> "RunConfig":
        """The configuration without the paths and names of the machine that trained; `labels` is the label scheme."""
        options = self.options
        weights = None if options.weights is None else _place_name(options.weights)
        plain = replace(
            options,
            data=(),
            weights=weights,
            run=None,
            resume=False,
            overfit=None if options.overfit is None else "one case",
            patients=None,
            split_file=None,
            labels=labels,
            cache_dir=DEFAULT_CACHE,
            coordinator=None,
        )
        return replace(self, options=plain, data={}, base_path=_place_name(self.base_path))

    @property
    def adaptation(self) -> Adaptation:
        """The modules that the run's strategy and regions add to SAM."""
        options, strategy = self.options, find_strategy(self.options.strategy)
        targets = tuple(part.strip() for part in options.lora_targets.split(","))
        return Adaptation(
            lora_rank=options.lora_rank if strategy.lora else 0,
            lora_alpha=options.lora_alpha,
            adapters=strategy.adapters,
            lora_targets=targets,
            slices=options.depth,
            inner_regions=len(rois_of(options.roi)) - 1,
        )

    @property
    def grid(self) -> RunGrid | None:
        """The voxel grid that the run's scans are resampled to; None in runs of versions that did not resample."""
        return None if self.options.spacing is None else RunGrid.parse(self.options.spacing)

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes whose slices the run was trained on; axial alone in runs of versions without the option."""
        return parse_planes(self.options.planes)

    def planes_asked(self, asked: str | None, name: str) -> tuple[str, ...]:
        """The planes in which prompt-free masks are made: those of `--planes`, or all that the run was trained on.

        Args:
            asked: the value of `--planes`; None: the default.
            name: the run, for messages.

        Raises:
            UserError: the run was not trained on a plane that is asked for.
        """
        if asked is None:
            return self.planes
        planes = parse_planes(asked)
        if lacking := [plane for plane in planes if plane not in self.planes]:
            raise UserError(
                f"--planes {asked}: {name} was not trained on {' and '.join(lacking)} slices, only on "
                f"{', '.join(self.planes)}"
            )
        return planes

    @property
    def rois(self) -> tuple[str, ...]:
        """The regions that the run's model predicts: the U-Net's all; of a SAM the prompted one first."""
        return rois_of(self.options.roi) if self.architecture else tuple(ROIS)

    @property
    def prompted_roi(self) -> str:
        """The region that decides which slices are used and where the prompts are; of a U-Net, which is scored."""
        return rois_of(self.options.roi)[0]

    @property
    def block_spans(self) -> BlockSpans:
        """The stacking of the encoder's blocks (`SamConfig.block_spans`); a U-Net stacks nothing."""
        return self.architecture.block_spans if self.architecture else UNetConfig.block_spans

    @property
    def prompts_seen(self) -> tuple[str, ...]:
        """The run's kinds of prompt; `mask` is one of them if further clicks come with the mask before them."""
        kinds = PromptMix.parse(self.options.prompt).kinds
        pictures = find_strategy(self.options.strategy).family == "pictures"
        masks = self.options.clicks > 1 and ("point" in kinds or pictures)
        return (*kinds, "mask") if masks else kinds

    @property
    def compute(self) -> ComputeConfig:
        """The options of the model's computation."""
        return ComputeConfig(self.options.dtype, self.options.remat)


def _place_name(weights: str) -> str:
    """The last part of a path; names of weights by which anybody finds them stay whole."""
    return weights if weights.startswith("hf:") else Path(weights).name


def _options(content: dict[str, Any]) -> TrainOptions:
    paths = {"run", "cache_dir", "patients", "split_file"}
    known = {option.name for option in fields(TrainOptions)}
    values = {"modality_dropout": 0.0}  # what runs did before the option
    for name, value in content.items():
        if name not in known:
            raise ValueError(f"unknown option {name}")
        values[name] = Path(value) if name in paths and value is not None else value
        if isinstance(value, list):
            values[name] = tuple(value)
    return TrainOptions(**values)


def _architecture(content: dict[str, Any] | None) -> SamConfig | None:
    if content is None:
        return None
    return SamConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in content.items()})
