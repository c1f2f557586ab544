"""Prompts drawn from ground truth inside the compiled step, at native resolution, separately for each slice.

Boxes: the tight box, with optional jitter. Clicks: the first uniform in the ROI (paper B, section 4.2), further
ones well inside the largest error region of the current prediction. `none`: no prompt at all, as on an unlabelled
scan.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from samjax.errors import UserError
from samjax.models.prompt_encoder import EMPTY, NEGATIVE, POSITIVE, Prompts, make_prompts
from samjax.models.resizing import to_input_pixels

KINDS = ("box", "point", "none")


@dataclass(frozen=True)
class PromptMix:
    """The kinds of prompt that a sample may get, and their probabilities.

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
        positive = 0 < total < float("inf") and all(share >= 0 for _, share in pairs)
        if not positive or len(dict(pairs)) < len(pairs):
            raise UserError(f"--prompt: the shares of '{text}' must be positive, each kind named once")
        return cls(tuple((kind, share / total) for kind, share in pairs), jitter)

    def __str__(self) -> str:
        if len(self.shares) == 1:
            return self.shares[0][0]
        return ",".join(f"{kind}:{share:g}" for kind, share in self.shares)


def tight_box(mask: jax.Array) -> jax.Array:
    """The tight boxes (..., 4) of masks (..., H, W) bool, as indices (x0, y0, x1, y1) float32, inclusive.

    The box of an empty mask is meaningless.
    """
    rows, columns = mask.any(axis=-1), mask.any(axis=-2)
    last_row, last_column = mask.shape[-2] - 1, mask.shape[-1] - 1
    box = (
        jnp.argmax(columns, axis=-1),
        jnp.argmax(rows, axis=-1),
        last_column - jnp.argmax(columns[..., ::-1], axis=-1),
        last_row - jnp.argmax(rows[..., ::-1], axis=-1),
    )
    return jnp.stack(box, axis=-1).astype(jnp.float32)


def jitter_box(key: jax.Array, box: jax.Array, jitter: float, extent: jax.Array) -> jax.Array:
    """Moves each side of (x0, y0, x1, y1) by up to `jitter` of the box's width or height, within the slice.

    The sides are rounded to whole pixels, so a small box may move by up to half a pixel more.
    """
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


def first_click(key: jax.Array, mask: jax.Array) -> jax.Array:
    """The first click (x, y) on one slice, uniform in the ROI (H, W) bool; `key` is the slice's own."""
    _, click_key = jax.random.split(key)
    return uniform_click(click_key, mask)


def further_key(key: jax.Array, slot: int | jax.Array) -> jax.Array:
    """The key for `next_click` of the click in slot 1, 2, ... of a slice whose own key is `key`."""
    return jax.random.fold_in(key, slot + 1)  # 0 and 1 are what the first prompt's split gave


def draw_kinds(key: jax.Array, mix: PromptMix) -> jax.Array:
    """The index in `KINDS` of one sample's prompt."""
    chances = jnp.array([dict(mix.shares).get(kind, 0.0) for kind in KINDS])
    return jax.random.choice(key, len(KINDS), p=chances)


def first_prompt(
    key: jax.Array,
    mask: jax.Array,
    kind: jax.Array,
    extent: jax.Array,
    mix: PromptMix,
    size: int,
    clicks: int | None = None,
) -> Prompts:
    """The first prompt of one slice, empty where the slice holds no ROI.

    The first `clicks` slots are for clicks; only the first of them is filled, and only if the kind is point.

    Args:
        key: PRNG key of the slice.
        mask: (N, N) bool, the ROI.
        kind: index in `KINDS`.
        extent: (2,) rows and columns of the slice.
        mix: the kinds that may occur, which decide the slots, and the jitter.
        size: side of the model's input.
        clicks: None: one if the mix has points, else none.

    Returns:
        Prompts without the batch axis: coords (1, slots, 2), labels (1, slots); vmap over slices.
    """
    box_key, _ = jax.random.split(key)
    native = mask.shape[0]
    present = mask.any()
    is_point, is_box = (present & (kind == KINDS.index(name)) for name in ("point", "box"))
    if clicks is None:
        clicks = int("point" in mix.kinds)
    click = to_input_pixels(first_click(key, mask), size / native)
    points = jnp.broadcast_to(click, (1, 1, clicks, 2))
    labels = jnp.where((jnp.arange(clicks) == 0) & is_point, POSITIVE, EMPTY).astype(jnp.int32)[None, None]
    boxes = has_box = None
    if "box" in mix.kinds:
        box = tight_box(mask)
        if mix.jitter:
            box = jitter_box(box_key, box, mix.jitter, extent)
        boxes = to_input_pixels(box, size / native)[None, None]
        has_box = is_box[None, None]
    prompts = make_prompts(points, labels, boxes, has_box)
    return Prompts(prompts.coords[0], prompts.labels[0])


def next_click(key: jax.Array, predicted: jax.Array, mask: jax.Array, pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A further click on one slice: in the largest region that the current prediction gets wrong.

    A region is a 4-connected piece of the missed or of the surplus pixels; of equally large ones, that which holds
    the first pixel in reading order. The click is uniform among the region's pixels that lie deeper than half its
    greatest depth, about a quarter of the area of a disc: so RITM (Sofiiuk et al. 2021) draws its training clicks,
    and only its evaluation clicks the very centre. Depth is city-block distance and the region is chosen by area,
    where RITM's code takes Euclidean distance and the kind of error that is deeper.

    Args:
        key: PRNG key of the slice and round.
        predicted: (N, N) bool, the current prediction.
        mask: (N, N) bool, the ROI.
        pixels: (N, N) bool, the pixels that are not padding; errors elsewhere do not count.

    Returns:
        (2,) float32 native (x, y), and an int32 label: POSITIVE on a missed part, NEGATIVE on surplus, EMPTY with
        meaningless coordinates where the prediction is right.
    """
    missed, surplus = mask & ~predicted & pixels, predicted & ~mask & pixels
    region = largest_region(missed + 2 * surplus)
    depth = border_distance(region)
    click = uniform_click(key, region & (2 * depth > depth.max()))
    label = jnp.where((region & missed).any(), POSITIVE, NEGATIVE)
    return click, jnp.where(region.any(), label, EMPTY).astype(jnp.int32)


def add_click(
    prompts: Prompts, slot: int, key: jax.Array, predicted: jax.Array, mask: jax.Array, pixels: jax.Array, size: int
) -> Prompts:
    """Puts a click in the largest error region of a prediction into a slot of one slice's prompt, if it is of clicks.

    `prompts` is what `first_prompt` gave, the other arguments are those of `next_click`; vmap over slices.
    """
    click, label = next_click(key, predicted, mask, pixels)
    label = jnp.where(prompts.labels[0, 0] == POSITIVE, label, EMPTY)
    coords = to_input_pixels(click, size / mask.shape[0])
    return Prompts(prompts.coords.at[0, slot].set(coords), prompts.labels.at[0, slot].set(label))


def largest_region(kinds: jax.Array) -> jax.Array:
    """The largest 4-connected piece of equal, non-zero values in (H, W) integers, as (H, W) bool."""
    found = kinds != 0
    first = _first_pixels(kinds)
    sizes = jnp.zeros(kinds.size, jnp.int32).at[first].add(found)
    return found & (first == jnp.argmax(sizes))


def _first_pixels(kinds: jax.Array) -> jax.Array:
    """The flat index of the first pixel, in reading order, of each pixel's 4-connected piece in (H, W).

    A forest in which every pixel points to an earlier one of its piece: at first to the one above it or else
    before it; then the roots of touching trees are joined, which at least halves their number each time (after
    Shiloach and Vishkin 1982).
    """
    height, width = kinds.shape
    own = jnp.arange(height * width).reshape(height, width)
    same_row = jnp.pad((kinds[:, 1:] == kinds[:, :-1]) & (kinds[:, 1:] != 0), ((0, 0), (1, 0)))
    same_column = jnp.pad((kinds[1:] == kinds[:-1]) & (kinds[1:] != 0), ((1, 0), (0, 0)))
    parent = jnp.where(same_column, own - width, jnp.where(same_row, own - 1, own)).reshape(-1)
    joins = same_row.reshape(-1)  # pixels of one column are in one tree from the start

    def before(root: jax.Array) -> jax.Array:
        return jnp.where(joins, jnp.roll(root, 1), root)

    def join(root: jax.Array) -> jax.Array:
        other = before(root)
        return _roots(root.at[jnp.maximum(root, other)].min(jnp.minimum(root, other)))

    root = jax.lax.while_loop(lambda root: (before(root) != root).any(), join, _roots(parent))
    return root.reshape(height, width)


def _roots(parent: jax.Array) -> jax.Array:
    """Follows the pointers of a forest to the end; a root points to itself."""
    return jax.lax.while_loop(lambda p: (p[p] != p).any(), lambda p: p[p], parent)


def border_distance(region: jax.Array) -> jax.Array:
    """City-block distance of each pixel of (H, W) bool to the nearest False one; beyond the borders all are False.

    Eroding k times with a cross leaves the pixels at more than k.
    """
    distance = jnp.pad(jnp.where(region, sum(region.shape), 0), 1)
    for axis in (0, 1):
        place = jnp.expand_dims(jnp.arange(distance.shape[axis]), 1 - axis)
        ahead = jax.lax.cummin(distance - place, axis) + place
        behind = jax.lax.cummin(distance + place, axis, reverse=True) - place
        distance = jnp.minimum(ahead, behind)
    return distance[1:-1, 1:-1]
