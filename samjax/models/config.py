"""The sizes of SAM as frozen dataclasses (ViT-B, ViT-L, ViT-H and the small model that is shipped), and the mean and
deviation that its pictures are normalised by.

This module imports no JAX, since reading and checking weights begins here.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}
"""What `ComputeConfig.dtype` may be, and the precision by which JAX then multiplies."""


def pixel_statistics(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (channels,) float32 that pictures in [0, 255] are normalised by.

    Three channels have SAM's own; with another number, each has their average.
    """
    mean, std = np.float32(PIXEL_MEAN), np.float32(PIXEL_STD)
    if channels != 3:
        mean, std = np.full(channels, mean.mean()), np.full(channels, std.mean())
    return mean, std


@dataclass(frozen=True)
class SamConfig:
    """The architecture of a SAM. The defaults are Meta's ViT-B (Kirillov et al. 2023, section 3)."""

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    global_attn_indexes: tuple[int, ...] = (2, 5, 8, 11)
    """Blocks that attend over the whole picture; the others attend inside windows."""
    window_size: int = 14
    """Side of an attention window in tokens."""
    patch_size: int = 16
    image_size: int = 1024
    """Side in pixels for which the position tables are stored; other sizes interpolate them."""
    in_channels: int = 3
    mlp_dim: int = 3072
    out_dim: int = 256
    """Width of the neck, the prompt encoder and the mask decoder."""
    decoder_mlp_dim: int = 2048
    decoder_depth: int = 2
    decoder_heads: int = 8
    num_multimask: int = 3
    mask_channels: int = 16
    iou_head_dim: int = 256
    iou_head_depth: int = 3

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.embed_dim // self.num_heads

    @property
    def table_tokens(self) -> int:
        """Side in tokens of the stored absolute position table."""
        return self.image_size // self.patch_size

    @property
    def block_windows(self) -> tuple[int, ...]:
        """Side in tokens of each block's attention windows; 0: it attends over the whole picture."""
        return tuple(0 if index in self.global_attn_indexes else self.window_size for index in range(self.depth))

    @property
    def block_spans(self) -> tuple[int, ...]:
        """The number of blocks of one kind in each span of the group that repeats: (2, 1) in ViT-B, windowed first."""
        windows = self.block_windows
        period = next(
            period
            for period in range(1, self.depth + 1)
            if self.depth % period == 0 and windows == windows[:period] * (self.depth // period)
        )
        return tuple(len(list(span)) for _, span in groupby(windows[:period]))


@dataclass(frozen=True)
class Adaptation:
    """The modules that fine-tuning adds: to the encoder's blocks (paper B, section 3.1), and masks to the decoder."""

    lora_rank: int = 0
    """Rank of the LoRA updates; 0 adds none."""
    lora_alpha: float | None = None
    """The update is scaled by alpha / rank; None means alpha = rank."""
    lora_targets: tuple[str, ...] = ("q", "k", "v", "mlp")
    adapters: bool = False
    """Whether every block has adapters, see `models.adapter`."""
    slices: int = 1
    """Contiguous slices per sample; above 1 every block attends across them."""
    inner_regions: int = 0
    """Regions inside the prompted one, each with a mask of its own from the same prompt; 0 adds none."""

    @property
    def lora_scale(self) -> float:
        """Factor of the LoRA updates."""
        return 1.0 if self.lora_alpha is None else self.lora_alpha / self.lora_rank


@dataclass(frozen=True)
class ComputeConfig:
    """Options of the computation, which change speed and memory but not the stored parameters."""

    dtype: str = "float32"
    """float32, tf32 (float32, multiplied as the hardware multiplies it fast) or bfloat16. Parameters that train, norms
    and softmax stay float32."""
    remat: bool = False
    """Recompute each encoder block in the backward pass instead of keeping its activations."""

    @property
    def activations(self) -> str:
        """The dtype of activations and of the operands of matrix products."""
        return "bfloat16" if self.dtype == "bfloat16" else "float32"

    @property
    def precision(self) -> str:
        """JAX's precision of matrix products; "highest" keeps a GPU from multiplying float32 in TF32."""
        return PRECISIONS[self.dtype]


PRESETS: dict[str, SamConfig] = {
    "vit_b": SamConfig(),
    "vit_l": SamConfig(embed_dim=1024, depth=24, num_heads=16, mlp_dim=4096, global_attn_indexes=(5, 11, 17, 23)),
    "vit_h": SamConfig(embed_dim=1280, depth=32, num_heads=16, mlp_dim=5120, global_attn_indexes=(7, 15, 23, 31)),
    "tiny": SamConfig(
        embed_dim=192,
        depth=6,
        num_heads=3,
        mlp_dim=768,
        global_attn_indexes=(2, 5),
        window_size=8,
        image_size=256,
        out_dim=128,
        decoder_mlp_dim=512,
    ),
}
