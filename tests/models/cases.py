"""Small models, random weights and inputs that the tests of this folder share, and our model by stages.

Everything is drawn with `RandomState`, the one generator whose stream NumPy promises to keep: golden.npz was
computed from the same numbers, so no weights are stored.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from samjax.models.config import Adaptation, ComputeConfig, SamConfig
from samjax.models.flat import flat_shapes, from_flat
from samjax.models.prompt_encoder import EMPTY, NEGATIVE, POSITIVE, Prompts, make_prompts
from samjax.models.sam import Sam, normalise
from samjax.weights.architecture import expected_shapes
from samjax.weights.names import from_ours, to_ours

SMALL = SamConfig(
    embed_dim=48,
    depth=4,
    num_heads=3,
    global_attn_indexes=(1, 3),
    window_size=3,
    image_size=128,
    mlp_dim=96,
    out_dim=32,
    decoder_mlp_dim=64,
    iou_head_dim=24,
)
"""For comparisons with Meta's model: a window of 3 does not divide its 8 x 8 tokens."""

MINI = SamConfig(
    embed_dim=24,
    depth=4,
    num_heads=2,
    global_attn_indexes=(1, 3),
    window_size=3,
    patch_size=4,
    image_size=16,
    mlp_dim=40,
    out_dim=16,
    decoder_mlp_dim=24,
    iou_head_dim=12,
)
"""For properties of our own code, over 4 x 4 tokens."""

ADAPTATION = Adaptation(lora_rank=4, slices=4)

Stages = dict[str, np.ndarray]


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference by the reference's scale, max |ours - reference| / max |reference|."""
    ours, reference = np.asarray(ours, np.float32), np.asarray(reference, np.float32)
    assert ours.shape == reference.shape
    assert np.isfinite(ours).all()
    if not reference.size:
        return 0.0
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


def errors(ours: Stages, reference: Stages) -> dict[str, float]:
    """The relative error of every stage."""
    assert ours.keys() == reference.keys()
    return {stage: relative_error(ours[stage], reference[stage]) for stage in reference}


def random_values(name: str, shape: Sequence[int]) -> np.ndarray:
    """Float32 values for the tensor that Meta calls `name`: nothing stays at zero or one."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith(".bias"):
        return 0.1 * values
    if re.fullmatch(r".*\.rel_pos_[hw]", name):
        return 0.3 * values
    if re.fullmatch(r".*(embed|embeddings\.\d|tokens?)\.weight|.*(pos_embed|gaussian_matrix)", name):
        return values
    if len(shape) == 1:  # LayerNorm
        return 1 + 0.2 * values
    return values / np.float32(np.sqrt(np.prod(shape[1:])))


def meta_weights(config: SamConfig) -> dict[str, np.ndarray]:
    """Random weights by Meta's names, in PyTorch's layout."""
    shapes = {path: np.broadcast_to(np.float32(0), shape) for path, shape in expected_shapes(config).items()}
    return {name: random_values(name, view.shape) for name, view in from_ours(shapes, "meta").items()}


def our_weights(config: SamConfig) -> dict[str, np.ndarray]:
    """The same by our paths, through the conversion that checkpoints take."""
    return to_ours(meta_weights(config), "meta", "", "random weights")


def our_sam(config: SamConfig) -> Sam:
    """A model with these weights."""
    model = Sam(config)
    from_flat(model, our_weights(config))
    return model


@cache
def adapted_weights() -> Mapping[str, np.ndarray]:
    """Random weights by our paths for MINI with all that can be added; nothing is at its initial value."""
    weights = our_weights(MINI)
    for path, shape in flat_shapes(Sam(MINI, ADAPTATION)).items():
        if path not in weights:
            weights[path] = 0.2 * random_values(path, shape)
    return weights


def sam_with(
    weights: Mapping[str, np.ndarray],
    adaptation: Adaptation | None = None,
    compute: ComputeConfig | None = None,
    config: SamConfig = MINI,
) -> Sam:
    """A model with those of `weights` that it has."""
    model = Sam(config, adaptation, compute)
    from_flat(model, {path: weights[path] for path in flat_shapes(model)})
    return model


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 pictures in [0, 255]."""
    return np.random.RandomState(seed).uniform(0, 255, shape).astype(np.float32)


@dataclass(frozen=True)
class Prompt:
    """One prompt as Meta's code takes it; None where it has no such part."""

    points: np.ndarray | None = None
    """(K, 2) float32 as (x, y)."""
    labels: np.ndarray | None = None
    """(K,) int32."""
    box: np.ndarray | None = None
    """(4,) float32."""
    mask: np.ndarray | None = None
    """(4h, 4w) float32 logits."""


def prompts_of_every_type(height: int, width: int, patch: int = 16) -> dict[str, Prompt]:
    """Random prompts on a picture of height x width pixels, by type."""
    random = np.random.RandomState(height * 10_000 + width)
    size = np.float32([width, height])
    first, second, third = (random.uniform(0, size, (3, 2))).astype(np.float32)
    corners = np.sort(random.uniform(0, size, (2, 2, 2)), axis=1).reshape(2, 4).astype(np.float32)
    masks = 3 * random.standard_normal((2, height * 4 // patch, width * 4 // patch)).astype(np.float32)
    positive, both = np.int32([POSITIVE]), np.int32([POSITIVE, NEGATIVE])
    return {
        "point": Prompt(first[None], positive),
        "negative point": Prompt(second[None], np.int32([NEGATIVE])),
        "two points": Prompt(np.stack([second, third]), both),
        "box": Prompt(box=corners[0]),
        "point and box": Prompt(third[None], positive, corners[1]),
        "point and mask": Prompt(second[None], positive, mask=masks[0]),
        "mask": Prompt(mask=masks[1]),
        "none": Prompt(),
    }


def without_masks(prompts: Mapping[str, Prompt]) -> dict[str, Prompt]:
    """Those of the prompts that have no mask."""
    return {name: prompt for name, prompt in prompts.items() if prompt.mask is None}


def into_slots(prompts: Sequence[Prompt], slots: int, mask_size: tuple[int, int]) -> dict[str, jax.Array | Prompts]:
    """Arguments of `Sam.decode`: prompts on one picture in one batch (B = 1), with `slots` slots for clicks.

    Empty slots get coordinates too, far from zero: they must not matter. Masks are left out if no prompt has
    one: then the decoder treats the picture as one for all prompts.
    """
    count = len(prompts)
    points = np.full((1, count, slots, 2), 37.0, np.float32)
    labels = np.full((1, count, slots), EMPTY, np.int32)
    boxes = np.full((1, count, 4), 11.0, np.float32)
    masks = np.full((1, count, *mask_size), 5.0, np.float32)
    for index, prompt in enumerate(prompts):
        if prompt.points is not None:
            points[0, index, : len(prompt.points)] = prompt.points
            labels[0, index, : len(prompt.points)] = prompt.labels
        if prompt.box is not None:
            boxes[0, index] = prompt.box
        if prompt.mask is not None:
            masks[0, index] = prompt.mask
    has_box = jnp.array([[prompt.box is not None for prompt in prompts]])
    has_mask = jnp.array([[prompt.mask is not None for prompt in prompts]])
    slotted = make_prompts(jnp.asarray(points), jnp.asarray(labels), jnp.asarray(boxes), has_box)
    with_masks = {"masks": jnp.asarray(masks), "has_mask": has_mask} if has_mask.any() else {}
    return {"prompts": slotted, **with_masks}


encode = jax.jit(Sam.encode)
"""`Sam.encode`, compiled once for all tests."""
decode = jax.jit(Sam.decode, static_argnames="multimask")
"""`Sam.decode`, compiled once for all tests."""


@jax.jit
def _encode(model: Sam, images: jax.Array) -> dict[str, jax.Array]:
    return model.image_encoder(normalise(images), intermediates=True)[1]


def encoder_stages(model: Sam, images: np.ndarray) -> Stages:
    """Every stage of the encoder for pictures (B, H, W, channels): (B, h, w, dim) by name."""
    return {stage: np.asarray(value)[:, 0] for stage, value in _encode(model, images[:, None]).items()}


@jax.jit
def _decode(
    model: Sam,
    embeddings: jax.Array,
    prompts: Prompts,
    masks: jax.Array | None = None,
    has_mask: jax.Array | None = None,
) -> dict[str, jax.Array]:
    height, width = embeddings.shape[1:3]
    patch = model.config.patch_size
    sparse, valid = model.prompt_encoder.sparse(prompts, (height * patch, width * patch))
    dense = model.prompt_encoder.dense(masks, has_mask)
    image_pe = model.prompt_encoder.pe_layer.grid(height, width)
    *_, inner = model.mask_decoder(embeddings, image_pe, sparse, valid, dense, intermediates=True)
    dense = jnp.broadcast_to(dense, (*sparse.shape[:2], height, width, dense.shape[-1]))
    outputs = {"sparse": sparse, "dense": dense, "tokens": inner["tokens"]}
    single, multi = (
        model.decode(embeddings, prompts, masks=masks, has_mask=has_mask, multimask=multimask)
        for multimask in (False, True)
    )
    # The IoU of all masks as one stage: a single number has no scale.
    return outputs | {
        "single mask": single[0],
        "multi masks": multi[0],
        "iou": jnp.concatenate([single[1], multi[1]], axis=-1),
    }


def decoder_stages(model: Sam, embedding: np.ndarray, prompts: Sequence[Prompt], slots: int) -> list[Stages]:
    """Every stage from the prompts on, one dict for each prompt, all computed in one batch.

    `embedding` is (h, w, dim). Empty slots are left out, so that the tokens are those that Meta's code has.
    """
    height, width = embedding.shape[:2]
    arguments = into_slots(prompts, slots, (4 * height, 4 * width))
    outputs = jax.device_get(_decode(model, embedding[None], **arguments))
    filled = np.asarray(arguments["prompts"].labels[0] != EMPTY)
    results = []
    for index in range(len(prompts)):
        stages = {stage: value[0, index] for stage, value in outputs.items()}
        own = len(stages["tokens"]) - len(stages["sparse"])
        stages["tokens"] = stages["tokens"][np.concatenate([np.ones(own, bool), filled[index]])]
        stages["sparse"] = stages["sparse"][filled[index]]
        results.append(stages)
    return results
