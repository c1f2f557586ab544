"""Computes golden.npz with Meta's code: `python -m tests.models.make_golden`, where `make parity` works."""

from pathlib import Path

import numpy as np

from tests.models.cases import SMALL, Prompt, Stages, pictures, prompts_of_every_type, without_masks

GOLDEN = Path(__file__).parent / "golden.npz"
SIZES = ((128, 128), (80, 112))
"""Pictures (height, width) in pixels: of the size that the weights are for, and one that is not square."""


def picture(size: tuple[int, int]) -> np.ndarray:
    """The picture of this size, (1, height, width, 3)."""
    return pictures(1, *size, 3, seed=size[1])


def prompts(size: tuple[int, int]) -> dict[str, Prompt]:
    """The prompts on the picture of this size: with masks in one, and without in the other."""
    every = prompts_of_every_type(*size)
    return every if size == SIZES[0] else without_masks(every)


def thinned(value: np.ndarray) -> np.ndarray:
    """What is stored of a stage: every 7th value of a long one, which walks over all channels and places."""
    return value.ravel()[::7] if value.size > 1000 else value.ravel()


def key(size: tuple[int, int], part: str, stage: str) -> str:
    """The name in golden.npz; `part` is "encoder" or a type of prompt."""
    return f"{size[0]}x{size[1]}: {part}: {stage}"


def golden_stages() -> Stages:
    """What is stored, computed with Meta's code."""
    from tests.models.oracle import MetaSam

    meta = MetaSam(SMALL)
    golden: Stages = {}
    for size in SIZES:
        stages = {"encoder": meta.encoder_stages(picture(size))}
        embedding = stages["encoder"]["neck"][0]
        for name, prompt in prompts(size).items():
            stages[name] = meta.decoder_stages(embedding, prompt)
        for part, values in stages.items():
            golden |= {key(size, part, stage): thinned(value) for stage, value in values.items()}
    return golden


if __name__ == "__main__":
    golden = golden_stages()
    np.savez_compressed(GOLDEN, **golden)
    print(f"{GOLDEN}: {len(golden)} arrays, {GOLDEN.stat().st_size / 1000:.0f} kB")
