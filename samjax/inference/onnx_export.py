"""Writes a SAM as ONNX (`samjax export --format onnx`), which runs without JAX.

jax2onnx translates the two programs of `inference.export`. What it cannot translate is said here in other words, for
the export alone: blocks are written out instead of scanned, LoRA is merged, attention takes one head after the other,
and windows are padded by joining. The result is compared with the model by onnxruntime.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from samjax.errors import UserError
from samjax.files import replacing
from samjax.inference.export import Program, describe, example_inputs, largest_difference, new_folder, programs_of, save
from samjax.inference.model import SegmentationModel
from samjax.models.attention import from_windows, relative_table, to_windows
from samjax.models.config import ComputeConfig
from samjax.models.flat import from_flat, to_flat
from samjax.models.lora import merge_lora
from samjax.models.missing import without_missing
from samjax.models.prompt_encoder import make_prompts
from samjax.models.sam import Sam, normalise

CLICKS = 8
"""Clicks of a prompt in the exported decoder; those that are not there have the label -2."""
TOLERANCE = 1e-4
"""Largest allowed difference between a loaded program and the model, as a share of an output's largest value."""
LARGEST_BYTES = 2_000_000_000
"""Size of the parameters that one ONNX file can hold."""


def deploy_onnx(model: SegmentationModel, out: Path) -> dict[str, Any]:
    """Writes encoder.onnx, decoder.onnx and deployment.json; returns the latter.

    Numbers of pictures and prompts stay open; the side of the input, the slices of a sample and the clicks of a prompt
    are fixed. The programs compute in float32 and hold their parameters. Both are loaded again and compared.

    Raises:
        UserError: jax2onnx or onnxruntime is missing, the model is a U-Net or too large for a file, or `out` holds
            something.
        RuntimeError: the loaded programs give other numbers than the model.
    """
    require_packages()
    new_folder(model, out)
    reference, plain = _float32(model), _float32(model, merged=True)
    parameters, programs = programs_of(replace(model, **_parts(reference)))
    if sum(x.nbytes for x in parameters.values()) > LARGEST_BYTES:
        raise UserError(f"{model.name}: its parameters take more than the 2 GB that an ONNX file can hold")
    out.mkdir(parents=True, exist_ok=True)
    functions = {"encoder": _encoder(plain, model.image_size), "decoder": _decoder(plain)}
    programs = [replace(program, inputs=_with_clicks(program)) for program in programs]
    described = {program.name: _write(program, functions[program.name], out) for program in programs}
    description = describe(model, ("onnx",), described)
    description["made_with"] |= {name: version(name) for name in ("jax2onnx", "onnx")}
    description["dtype"] = "float32"
    description["difference"] = {
        program.name: _compare(program, parameters, out / described[program.name]["file"]) for program in programs
    }
    save(out, description)
    return description


def require_packages() -> None:
    """Raises a `UserError` where a package of the extra `onnx` is missing."""
    try:
        import onnxruntime

        with _quiet():
            import jax2onnx
    except ImportError as error:
        raise UserError(f"--format onnx needs {error.name}, which is missing: pip install 'samjax[onnx]'") from None
    assert onnxruntime
    assert jax2onnx


def _float32(model: SegmentationModel, merged: bool = False) -> Sam:
    """The model's network in float32; `merged`: with LoRA in the kernels."""
    network = model.network()
    flat = to_flat(nnx.state(network), network.config.block_spans)
    adaptation = network.adaptation
    if merged:
        flat, adaptation = merge_lora(flat, adaptation), replace(adaptation, lora_rank=0)
    plain = Sam(network.config, adaptation, ComputeConfig())
    from_flat(plain, flat)
    return plain


def _parts(network: Sam) -> dict[str, Any]:
    graphdef, state = nnx.split(network)
    return {"graphdef": graphdef, "states": (state,)}


def _with_clicks(program: Program) -> tuple[tuple[str, tuple[str | int, ...], str, str], ...]:
    """The program's inputs with a fixed number of clicks."""
    return tuple(
        (name, tuple(CLICKS if side == "k" else side for side in shape), dtype, meaning.replace("k clicks", "clicks"))
        for name, shape, dtype, meaning in program.inputs
    )


def _encoder(network: Sam, size: int | None) -> Callable[..., jax.Array]:
    """The image encoder as a function of its inputs alone."""
    encoder = network.image_encoder
    assert size is not None
    tokens = size // network.config.patch_size
    positions = np.asarray(encoder._positions(tokens, tokens))
    blocks = [_written_out(block, tokens) for block in _blocks(encoder)]
    for layer in encoder.neck:
        if isinstance(layer, nnx.Conv):
            layer.padding = "SAME"  # the same here, and a text, which jax2onnx asks for

    def encode(images: jax.Array, slices: jax.Array, *present: jax.Array) -> jax.Array:
        x = normalise(images)
        if present:
            x = without_missing(x, present[0][:, None])
        x = encoder.patch_embed["proj"](x) + positions
        for block in blocks:
            x = block(x, slices)
        x = x.reshape(-1, *x.shape[2:])
        for layer in encoder.neck:
            x = layer(x)
        return x.reshape(*images.shape[:2], *x.shape[1:])

    return encode


def _decoder(network: Sam) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The decoder as a function of its inputs alone."""

    def decode(embeddings: jax.Array, *prompts: jax.Array) -> tuple[jax.Array, jax.Array]:
        points, labels, boxes, has_box, masks, has_mask = prompts
        slots = make_prompts(points, labels, boxes, has_box)
        return network.decode(embeddings, slots, masks=masks, has_mask=has_mask, multimask=None)

    return decode


def _blocks(encoder: nnx.Module) -> Iterator[nnx.Module]:
    """The encoder's blocks one by one, in their order."""
    spans = [nnx.split(blocks) for blocks in encoder.blocks]
    for group in range(len(jax.tree.leaves(spans[0][1])[0])):
        for graphdef, params in spans:
            for place in range(jax.tree.leaves(params)[0].shape[1]):
                yield nnx.merge(graphdef, jax.tree.map(partial(_at, group, place), params))


def _at(group: int, place: int, x: jax.Array) -> jax.Array:
    return x[group, place]


def _written_out(block: nnx.Module, tokens: int) -> nnx.Module:
    """The block with the attention below in place of its own."""
    attention = block.attn
    side = attention.window or tokens
    rel_h, rel_w = (np.asarray(relative_table(x[...], side)) for x in (attention.rel_pos_h, attention.rel_pos_w))
    attention._grid = partial(_grid, rel_h, rel_w)
    attention._windowed = partial(_windowed, attention)
    attention.depth = partial(_depth, attention)
    return block


def _grid(rel_h: np.ndarray, rel_w: np.ndarray, qkv: jax.Array) -> jax.Array:
    """`Attention._grid` by plain matrix products, one head after the other."""
    height, width, _, heads, dim = qkv.shape[1:]
    q, k, v = (qkv[..., i, :, :] for i in range(3))
    found = []
    for head in range(heads):
        query, key, value = (x[:, :, :, head] for x in (q, k, v))
        flat = [x.reshape(-1, height * width, dim) for x in (query, key, value)]
        scores = ((flat[0] * dim**-0.5) @ flat[1].transpose(0, 2, 1)).reshape(-1, height, width, height, width)
        by_row = query @ rel_h.transpose(0, 2, 1)
        by_column = (query.transpose(0, 2, 1, 3) @ rel_w.transpose(0, 2, 1)).transpose(0, 2, 1, 3)
        scores += by_row.reshape(-1, height, width, height, 1) + by_column.reshape(-1, height, width, 1, width)
        weights = jax.nn.softmax(scores.reshape(-1, height * width, height * width), axis=-1)
        found.append((weights @ flat[2]).reshape(-1, height, width, 1, dim))
    return jnp.concatenate(found, axis=3)


def _windowed(attention: nnx.Module, qkv: jax.Array) -> jax.Array:
    """`Attention._windowed`, padded by joining."""
    batch, height, width = qkv.shape[:3]
    size = attention.window
    padded_h, padded_w = (-(-side // size) * size for side in (height, width))
    fill = np.asarray(attention.qkv.bias[...]).reshape(qkv.shape[3:])
    if padded_w > width:
        right = jnp.broadcast_to(fill, (batch, height, padded_w - width, *fill.shape))
        qkv = jnp.concatenate([qkv, right], axis=2)
    if padded_h > height:
        below = jnp.broadcast_to(fill, (batch, padded_h - height, padded_w, *fill.shape))
        qkv = jnp.concatenate([qkv, below], axis=1)
    out = from_windows(attention._grid(to_windows(qkv, size)), padded_h, padded_w)
    return out[:, :height, :width]


def _depth(attention: nnx.Module, qkv: jax.Array, bias: jax.Array, valid: jax.Array) -> jax.Array:
    """`Attention.depth` by plain matrix products."""
    q, k, v = (qkv[..., i, :, :].transpose(0, 2, 3, 4, 1, 5) for i in range(3))
    slices, table = qkv.shape[1], np.asarray(bias)
    offsets = np.arange(slices)[:, None] - np.arange(slices)[None] + (table.shape[1] - 1) // 2
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(0, 1, 2, 3, 5, 4) + table[:, offsets]
    scores += jnp.where(valid, 0.0, np.finfo(np.float32).min / 2)[:, None, None, None, None, :]
    out = (jax.nn.softmax(scores, axis=-1) @ v).transpose(0, 4, 1, 2, 3, 5)
    return attention.proj(out.reshape(*out.shape[:4], -1))


def _write(program: Program, function: Callable[..., Any], out: Path) -> dict[str, Any]:
    """Writes a program; returns its entry in deployment.json."""
    from jax2onnx import to_onnx

    with _quiet():
        content = to_onnx(
            function,
            inputs=program.abstract(),
            model_name=program.name,
            input_names=[name for name, *_ in program.inputs],
            output_names=[name for name, _ in program.outputs],
        ).SerializeToString()
    name = f"{program.name}.onnx"
    with replacing(out / name) as temporary:
        temporary.write_bytes(content)
    return {
        "file": name,
        "inputs": [
            {"name": name, "shape": list(shape), "dtype": dtype, "meaning": meaning}
            for name, shape, dtype, meaning in program.inputs
        ],
        "outputs": [{"name": name, "meaning": meaning} for name, meaning in program.outputs],
    }


def _compare(program: Program, parameters: dict[str, np.ndarray], file: Path) -> float:
    """The largest difference of the loaded program from the model, for two numbers of pictures and prompts.

    Raises:
        RuntimeError: it is above the tolerance.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    found, compiled = 0.0, jax.jit(program.function)
    for sizes in ({"b": 1, "p": 1}, {"b": 2, "p": 3}):
        inputs = example_inputs(program, sizes)
        names = [name for name, *_ in program.inputs]
        ours = session.run([name for name, _ in program.outputs], dict(zip(names, inputs, strict=True)))
        with jax.default_matmul_precision("highest"):
            expected = jax.tree.leaves(compiled(parameters, *inputs))
        found = max(found, largest_difference(ours, expected))
    if not found <= TOLERANCE:
        raise RuntimeError(f"{file}: differs from the model by {found:.1e}")
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of jax2onnx on parts of it that this version of JAX has no use for."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
