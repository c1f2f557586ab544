"""Prompts drawn from ground truth inside the compiled step, at native resolution and separately for each slice.

Boxes: the tight box, with optional jitter. Clicks: the first uniform in the ROI (paper B, section 4.2), further ones
from the largest error region of the current prediction. `none`: no prompt at all, as on an unlabelled scan.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from samjax.errors import UserError
from samjax.models.prompt_encoder import EMPTY, POSITIVE, Prompts, make_prompts

KINDS = ("box", "point", "none")


@dataclass(frozen=True)
class PromptMix:
    """Which kinds of prompt a sample may get, and how often.

    Attributes:
        shares: ((kind, probability), ...) with probabilities that sum to 1.
        jitter: a box corner moves by up to this share of the box's side, in both directions.
    """

    shares: tuple[tuple[str, float], ...]
    jitter: float = 0.0

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind, share in self.shares if share > 0)

    @classmethod
    def parse(cls, text: str, jitter: float = 0.0) -> "PromptMix":
        """Reads `box`, `mixed` (all kinds equally), `point,none` or `point:0.75,none:0.25`."""
        text = ",".join(KINDS) if text == "mixed" else text
        pairs = []
        for part in text.split(","):
            kind, _, share = part.strip().partition(":")
            if kind not in KINDS:
                raise UserError(f"--prompt: unknown kind '{kind}'; expected one of {', '.join(KINDS)} or mixed")
            try:
                pairs.append((kind, float(share) if share else 1.0))
            except ValueError:
                raise UserError(f"--prompt: '{share}' is not a number; write e.g. point:0.75,none:0.25") from None
        total = sum(share for _, share in pairs)
        if total <= 0 or any(share < 0 for _, share in pairs) or len(dict(pairs)) < len(pairs):
            raise UserError(f"--prompt: the shares of '{text}' must be positive, each kind named once")
        return cls(tuple((kind, share / total) for kind, share in pairs), jitter)

    def __str__(self) -> str:
        if len(self.shares) == 1:
            return self.shares[0][0]
        return ",".join(f"{kind}:{share:g}" for kind, share in self.shares)


def tight_box(mask: jax.Array) -> jax.Array:
    """The indices (x0, y0, x1, y1), inclusive, of the tight box of (H, W) bool; meaningless for an empty mask."""
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    last_row, last_column = mask.shape[0] - 1, mask.shape[1] - 1
    box = (
        jnp.argmax(columns),
        jnp.argmax(rows),
        last_column - jnp.argmax(columns[::-1]),
        last_row - jnp.argmax(rows[::-1]),
    )
    return jnp.stack(box).astype(jnp.float32)


def jitter_box(key: jax.Array, box: jax.Array, jitter: float, extent: jax.Array) -> jax.Array:
    """Moves each side of (x0, y0, x1, y1) by up to `jitter` of the box's width or height, inside the slice."""
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    sides = jnp.stack([width, height, width, height])
    moved = jnp.round(box + jax.random.uniform(key, (4,), minval=-jitter, maxval=jitter) * sides)
    limit = jnp.stack([extent[1], extent[0], extent[1], extent[0]]).astype(jnp.float32) - 1
    moved = jnp.clip(moved, 0.0, limit)
    return jnp.concatenate([jnp.minimum(moved[:2], moved[2:]), jnp.maximum(moved[:2], moved[2:])])


def uniform_click(key: jax.Array, mask: jax.Array) -> jax.Array:
    """A pixel (x, y) drawn uniformly from (H, W) bool; meaningless for an empty mask."""
    counts = jnp.cumsum(mask.reshape(-1).astype(jnp.int32))
    chosen = jax.random.randint(key, (), 0, jnp.maximum(counts[-1], 1))
    index = jnp.searchsorted(counts, chosen, side="right")
    return jnp.stack([index % mask.shape[1], index // mask.shape[1]]).astype(jnp.float32)


def to_input_pixels(coords: jax.Array, native: int, size: int) -> jax.Array:
    """Native pixel indices to the model's coordinates, whose integers mean pixel centres.

    Pixel i of N has its centre at (i + 0.5) * S / N of the input; the prompt encoder adds the half pixel itself.
    """
    return (coords + 0.5) * (size / native) - 0.5


def draw_kinds(key: jax.Array, mix: PromptMix) -> jax.Array:
    """The index in `KINDS` of one sample's prompt."""
    chances = jnp.array([dict(mix.shares).get(kind, 0.0) for kind in KINDS])
    return jax.random.choice(key, len(KINDS), p=chances)


def first_prompt(
    key: jax.Array, mask: jax.Array, kind: jax.Array, extent: jax.Array, mix: PromptMix, size: int
) -> Prompts:
    """The first prompt of one slice, empty where the slice holds no ROI.

    Args:
        key: PRNG key of the slice.
        mask: (N, N) bool, the ROI.
        kind: index in `KINDS`.
        extent: (2,) rows and columns of the slice.
        mix: the kinds that may occur, which decide the slots, and the jitter.
        size: side of the model's input.

    Returns:
        Prompts without the batch axis: coords (1, slots, 2), labels (1, slots); vmap over slices.
    """
    box_key, click_key = jax.random.split(key)
    native = mask.shape[0]
    present = mask.any()
    is_point, is_box = (present & (kind == KINDS.index(name)) for name in ("point", "box"))
    clicks = 1 if "point" in mix.kinds else 0
    points = to_input_pixels(uniform_click(click_key, mask), native, size)[None, None, None]
    labels = jnp.where(is_point, POSITIVE, EMPTY).astype(jnp.int32)[None, None, None]
    boxes = has_box = None
    if "box" in mix.kinds:
        box = tight_box(mask)
        if mix.jitter:
            box = jitter_box(box_key, box, mix.jitter, extent)
        boxes = to_input_pixels(box, native, size)[None, None]
        has_box = is_box[None, None]
    prompts = make_prompts(points[:, :, :clicks], labels[:, :, :clicks], boxes, has_box)
    return Prompts(prompts.coords[0], prompts.labels[0])
