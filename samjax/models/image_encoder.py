"""SAM's image encoder: a ViT with windowed and global attention, a neck, and optional adaptation.

Blocks repeat in groups (ViT-B: windowed, windowed, global). One `lax.scan` runs over the groups, and in a group one
over each span of blocks of a kind, so that a kind of block is compiled once, and the backward pass recomputes one block
at a time. Their parameters are therefore stacked from loading on; only `samjax.models.flat` converts between the
stored names (`blocks/3/...`) and the stacked ones.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from samjax.models.adapter import MLP_SCALE, Adapter
from samjax.models.attention import depth_attention, from_windows, grid_attention, to_windows
from samjax.models.config import Adaptation, ComputeConfig, SamConfig
from samjax.models.cross_slice import CrossSlice
from samjax.models.layers import PatchConv, convolution, gelu, layer_norm, linear, parameter, resize
from samjax.models.lora import LoRA

SAVED_ACTIVATIONS = ("attended", "hidden")
"""The activations that a block keeps for the backward pass without --remat; with it, it keeps none."""


class Attention(nnx.Module):
    """Multi-head attention with decomposed relative positions; windowed where `window` is set."""

    def __init__(self, config: SamConfig, adaptation: Adaptation, compute: ComputeConfig, window: int):
        dim = config.embed_dim
        self.qkv = linear(dim, 3 * dim, dtype=compute.activations)
        self.proj = linear(dim, dim, dtype=compute.activations)
        tokens = window or config.table_tokens
        self.rel_pos_h = parameter(2 * tokens - 1, config.head_dim)
        self.rel_pos_w = parameter(2 * tokens - 1, config.head_dim)
        targets = [target for target in "qkv" if adaptation.lora_rank and target in adaptation.lora_targets]
        self.lora = nnx.Dict({t: LoRA(dim, dim, adaptation, dtype=compute.activations) for t in targets})
        self.heads = config.num_heads
        self.window = window

    def project(self, h: jax.Array) -> jax.Array:
        """Queries, keys and values: (B, Z, H, W, dim) -> (B, Z, H, W, 3, heads, head_dim)."""
        qkv = self.qkv(h).reshape(*h.shape[:-1], 3, h.shape[-1])
        for target, lora in self.lora.items():
            qkv = qkv.at[..., "qkv".index(target), :].add(lora(h))
        return qkv.reshape(*h.shape[:-1], 3, self.heads, h.shape[-1] // self.heads)

    def spatial(self, qkv: jax.Array) -> jax.Array:
        """Attention inside each slice: (B, Z, H, W, 3, heads, head_dim) -> (B, Z, H, W, dim), projected."""
        batch, slices, height, width = qkv.shape[:4]
        qkv = qkv.reshape(batch * slices, *qkv.shape[2:])
        out = checkpoint_name(self._windowed(qkv) if self.window else self._grid(qkv), "attended")
        return self.proj(out.reshape(batch, slices, height, width, -1))

    def depth(self, qkv: jax.Array, bias: jax.Array, valid: jax.Array | None) -> jax.Array:
        """Attention across slices with this block's own weights; shapes as `spatial`, `bias` as CrossSlice's."""
        q, k, v = (qkv[..., i, :, :] for i in range(3))
        out = depth_attention(q, k, v, bias, valid)
        return self.proj(out.reshape(*out.shape[:4], -1))

    def _grid(self, qkv: jax.Array) -> jax.Array:
        q, k, v = (qkv[..., i, :, :] for i in range(3))
        return grid_attention(q, k, v, self.rel_pos_h[...], self.rel_pos_w[...])

    def _windowed(self, qkv: jax.Array) -> jax.Array:
        height, width = qkv.shape[1:3]
        padded_h, padded_w = (-(-n // self.window) * self.window for n in (height, width))
        if (padded_h, padded_w) != (height, width):
            # SAM pads with zeros before the projection, so a padding token's query, key and value are the biases.
            fill = self.qkv.bias[...].astype(qkv.dtype).reshape(qkv.shape[3:])
            padded = jnp.broadcast_to(fill, (qkv.shape[0], padded_h, padded_w, *qkv.shape[3:]))
            qkv = padded.at[:, :height, :width].set(qkv)
        out = from_windows(self._grid(to_windows(qkv, self.window)), padded_h, padded_w)
        return out[:, :height, :width]


class EncoderMlp(nnx.Module):
    """The block's two linear layers with a GELU between, each with an optional LoRA."""

    def __init__(self, config: SamConfig, adaptation: Adaptation, compute: ComputeConfig):
        dims = {"lin1": (config.embed_dim, config.mlp_dim), "lin2": (config.mlp_dim, config.embed_dim)}
        self.lin1 = linear(*dims["lin1"], dtype=compute.activations)
        self.lin2 = linear(*dims["lin2"], dtype=compute.activations)
        adapted = dims if adaptation.lora_rank and "mlp" in adaptation.lora_targets else {}
        self.lora = nnx.Dict({name: LoRA(*dim, adaptation, dtype=compute.activations) for name, dim in adapted.items()})

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = self.lin1(x)
        if "lin1" in self.lora:
            hidden += self.lora["lin1"](x)
        hidden = gelu(checkpoint_name(hidden, "hidden"))
        out = self.lin2(hidden)
        if "lin2" in self.lora:
            out += self.lora["lin2"](hidden)
        return out


class Block(nnx.Module):
    """A transformer block over (B, Z, H, W, dim); `window` 0 means global attention."""

    def __init__(self, config: SamConfig, adaptation: Adaptation, compute: ComputeConfig, window: int):
        self.norm1 = layer_norm(config.embed_dim, 1e-6)
        self.attn = Attention(config, adaptation, compute, window)
        self.norm2 = layer_norm(config.embed_dim, 1e-6)
        self.mlp = EncoderMlp(config, adaptation, compute)
        self.cross_slice = (
            CrossSlice(config.embed_dim, config.num_heads, adaptation.slices, dtype=compute.activations)
            if adaptation.slices > 1
            else None
        )
        places = ("attn", "mlp") if adaptation.adapters else ()
        self.adapters = nnx.Dict({place: Adapter(config.embed_dim, dtype=compute.dtype) for place in places})

    def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
        qkv = self.attn.project(self.norm1(x))
        update = self.attn.spatial(qkv)
        if "attn" in self.adapters:
            update += self.adapters["attn"](update)
        if self.cross_slice is not None:
            update += self.cross_slice(self.attn.depth(qkv, self.cross_slice.bias[...], valid))
        x = x + update
        h = self.norm2(x)
        update = self.mlp(h)
        if "mlp" in self.adapters:
            update += MLP_SCALE * self.adapters["mlp"](h)
        return x + update


class ImageEncoder(nnx.Module):
    """Pictures to image embeddings.

    `blocks[s]` holds the parameters of span s of every group, stacked as (groups, blocks of the span, ...).
    """

    def __init__(self, config: SamConfig, adaptation: Adaptation, compute: ComputeConfig):
        dim, out_dim, dtype = config.embed_dim, config.out_dim, compute.activations
        self.patch_embed = nnx.Dict(proj=PatchConv(config.in_channels, dim, config.patch_size, dtype=dtype))
        self.pos_embed = parameter(1, config.table_tokens, config.table_tokens, dim)
        spans = config.block_spans
        groups = config.depth // sum(spans)
        windows = [config.block_windows[sum(spans[:number])] for number in range(len(spans))]
        self.blocks = nnx.List(
            _stacked(Block(config, adaptation, compute, window), groups, span)
            for span, window in zip(spans, windows, strict=True)
        )
        self.neck = nnx.List(
            [
                convolution(dim, out_dim, 1, bias=False, dtype=dtype),
                layer_norm(out_dim, 1e-6),
                convolution(out_dim, out_dim, 3, bias=False, dtype=dtype),
                layer_norm(out_dim, 1e-6),
            ]
        )
        self.config = config
        self.compute = compute

    def __call__(
        self, images: jax.Array, valid: jax.Array | None = None, *, intermediates: bool = False
    ) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Encodes samples of slices.

        Args:
            images: (B, Z, H, W, channels) normalised; H and W multiples of the patch. Z = 1 for single pictures.
            valid: (B, Z) bool, False for padding slices; None: all are real.
            intermediates: also return the patch embedding (`patch_embed`), each block's output (`blocks/3`) and
                the embedding (`neck`), each as (B, Z, h, w, dim).

        Returns:
            (B, Z, H / patch, W / patch, out_dim).
        """
        patches = self.patch_embed["proj"](images)
        x = patches + self._positions(*patches.shape[2:4]).astype(patches.dtype)
        x, outputs = self.run_blocks(x, valid, intermediates=intermediates)
        x = x.reshape(-1, *x.shape[2:])
        for layer in self.neck:
            x = layer(x)
        embeddings = x.reshape(*patches.shape[:-1], -1)
        if not intermediates:
            return embeddings
        by_group = jnp.concatenate(outputs, axis=1)
        blocks = {f"blocks/{index}": x for index, x in enumerate(by_group.reshape(-1, *by_group.shape[2:]))}
        return embeddings, {"patch_embed": patches, **blocks, "neck": embeddings}

    def run_blocks(
        self, x: jax.Array, valid: jax.Array | None, *, intermediates: bool = False
    ) -> tuple[jax.Array, list[jax.Array | None]]:
        """All blocks in their order, on tokens (B, Z, h, w, dim).

        Returns:
            The same shape, and with `intermediates` the outputs of each span's blocks, (groups, span, B, Z, h, w, dim).
        """
        spans = [nnx.split(blocks) for blocks in self.blocks]
        # The backward pass recomputes what takes much memory for its time: norms, projections to queries,
        # keys and values, attention's scores, GELU.
        kept = None if self.compute.remat else jax.checkpoint_policies.save_only_these_names(*SAVED_ACTIVATIONS)

        def run_span(graphdef: nnx.GraphDef, params: nnx.State, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
            # Inside a scan nothing merges the recomputation with the forward pass: no barriers are needed.
            @partial(jax.checkpoint, policy=kept, prevent_cse=False)
            def run_block(x: jax.Array, params: nnx.State) -> tuple[jax.Array, jax.Array | None]:
                x = nnx.merge(graphdef, params)(x, valid)
                return x, x if intermediates else None

            return jax.lax.scan(run_block, x, params)

        def run_group(x: jax.Array, params: list[nnx.State]) -> tuple[jax.Array, list[jax.Array | None]]:
            outputs = []
            for (graphdef, _), of_span in zip(spans, params, strict=True):
                x, output = run_span(graphdef, of_span, x)
                outputs.append(output)
            return x, outputs

        return jax.lax.scan(run_group, x, [params for _, params in spans])

    def _positions(self, height: int, width: int) -> jax.Array:
        """The absolute position embedding for a grid, (1, 1, h, w, dim), interpolated where the size differs."""
        return resize(self.pos_embed[...], height, width)[None]


def _stacked(block: Block, groups: int, span: int) -> Block:
    """A block whose parameters have two new first axes: the group, and the place in the group's span of blocks."""
    graphdef, params = nnx.split(block)
    stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((groups, span, *x.shape), x.dtype), params)
    return nnx.merge(graphdef, stacked)
