"""SAM's image encoder: a ViT with windowed and global attention, a neck, and room for adaptation.

Blocks repeat in groups (ViT-B: windowed, windowed, global). The parameters of the blocks at the same place of their
group are stacked from loading on, so that one `lax.scan` runs over the groups: it compiles once instead of once a
group, and recomputation inside it holds on every backend. `samjax.models.flat` is the one way between the
stored names (`blocks/3/...`) and the stacked ones.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from samjax.models.attention import depth_attention, from_windows, grid_attention, to_windows
from samjax.models.cross_slice import CrossSlice
from samjax.models.layers import PatchConv, gelu, layer_norm, resize
from samjax.models.lora import LoRA
from samjax.models.presets import Adaptation, Compute, SamConfig

KEPT = ("qkv", "attended", "hidden")
"""What a block keeps for the backward pass without --remat; with it, nothing."""


class Attention(nnx.Module):
    """Multi-head attention with decomposed relative positions; windowed where `window` is set."""

    def __init__(self, config: SamConfig, adaptation: Adaptation, compute: Compute, window: int, *, rngs: nnx.Rngs):
        dim = config.embed_dim
        self.qkv = nnx.Linear(dim, 3 * dim, dtype=compute.dtype, rngs=rngs)
        self.proj = nnx.Linear(dim, dim, dtype=compute.dtype, rngs=rngs)
        tokens = window or config.table_tokens
        self.rel_pos_h = nnx.Param(jnp.zeros((2 * tokens - 1, config.head_dim)))
        self.rel_pos_w = nnx.Param(jnp.zeros((2 * tokens - 1, config.head_dim)))
        targets = [target for target in "qkv" if adaptation.lora_rank and target in adaptation.lora_targets]
        self.lora = nnx.Dict({t: LoRA(dim, dim, adaptation, dtype=compute.dtype, rngs=rngs) for t in targets})
        self.heads = config.num_heads
        self.window = window

    def project(self, h: jax.Array) -> jax.Array:
        """(B, Z, H, W, dim) -> queries, keys and values, (B, Z, H, W, 3, heads, head_dim)."""
        qkv = self.qkv(h).reshape(*h.shape[:-1], 3, h.shape[-1])
        for target, lora in self.lora.items():
            qkv = qkv.at[..., "qkv".index(target), :].add(lora(h))
        qkv = checkpoint_name(qkv, "qkv")
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

    def __init__(self, config: SamConfig, adaptation: Adaptation, compute: Compute, *, rngs: nnx.Rngs):
        dims = {"lin1": (config.embed_dim, config.mlp_dim), "lin2": (config.mlp_dim, config.embed_dim)}
        self.lin1 = nnx.Linear(*dims["lin1"], dtype=compute.dtype, rngs=rngs)
        self.lin2 = nnx.Linear(*dims["lin2"], dtype=compute.dtype, rngs=rngs)
        adapted = dims if adaptation.lora_rank and "mlp" in adaptation.lora_targets else {}
        self.lora = nnx.Dict(
            {name: LoRA(*dim, adaptation, dtype=compute.dtype, rngs=rngs) for name, dim in adapted.items()}
        )

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

    def __init__(self, config: SamConfig, adaptation: Adaptation, compute: Compute, window: int, *, rngs: nnx.Rngs):
        self.norm1 = layer_norm(config.embed_dim, 1e-6, rngs)
        self.attn = Attention(config, adaptation, compute, window, rngs=rngs)
        self.norm2 = layer_norm(config.embed_dim, 1e-6, rngs)
        self.mlp = EncoderMlp(config, adaptation, compute, rngs=rngs)
        self.cross_slice = (
            CrossSlice(config.embed_dim, config.num_heads, adaptation.slices, dtype=compute.dtype, rngs=rngs)
            if adaptation.slices > 1
            else None
        )

    def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
        qkv = self.attn.project(self.norm1(x))
        update = self.attn.spatial(qkv)
        if self.cross_slice is not None:
            update += self.cross_slice(self.attn.depth(qkv, self.cross_slice.bias[...], valid))
        x = x + update
        return x + self.mlp(self.norm2(x))


class ImageEncoder(nnx.Module):
    """Pictures to image embeddings.

    `blocks[j]` holds the stacked parameters of the blocks j, j + period, j + 2 * period, ...
    """

    def __init__(self, config: SamConfig, adaptation: Adaptation, compute: Compute, *, rngs: nnx.Rngs):
        dim, out_dim, dtype = config.embed_dim, config.out_dim, compute.dtype
        self.patch_embed = nnx.Dict(proj=PatchConv(config.in_channels, dim, config.patch_size, dtype=dtype, rngs=rngs))
        self.pos_embed = nnx.Param(
            nnx.initializers.normal(0.02)(rngs.params(), (1, config.table_tokens, config.table_tokens, dim))
        )
        windows = [0 if j in config.global_attn_indexes else config.window_size for j in range(config.block_period)]
        groups = config.depth // config.block_period
        self.blocks = nnx.List(
            _stacked([Block(config, adaptation, compute, window, rngs=rngs) for _ in range(groups)])
            for window in windows
        )
        self.neck = nnx.List(
            [
                nnx.Conv(dim, out_dim, (1, 1), use_bias=False, dtype=dtype, rngs=rngs),
                layer_norm(out_dim, 1e-6, rngs),
                nnx.Conv(out_dim, out_dim, (3, 3), use_bias=False, dtype=dtype, rngs=rngs),
                layer_norm(out_dim, 1e-6, rngs),
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
        graphdef, params = nnx.split(self.blocks)

        def run_block(params: nnx.State, x: jax.Array, j: int) -> jax.Array:
            return nnx.merge(graphdef, params)[j](x, valid)

        # The backward pass recomputes what takes much memory and little time: norms, GELU, attention's scores.
        kept = None if self.compute.remat else jax.checkpoint_policies.save_only_these_names(*KEPT)
        run_block = jax.checkpoint(run_block, static_argnums=2, policy=kept)

        def run_group(x: jax.Array, params: nnx.State) -> tuple[jax.Array, list[jax.Array]]:
            outputs = []
            for j in range(self.config.block_period):
                x = run_block(params, x, j)
                outputs.append(x)
            return x, outputs if intermediates else []

        x, outputs = jax.lax.scan(run_group, x, params)
        x = x.reshape(-1, *x.shape[2:])
        for layer in self.neck:
            x = layer(x)
        embeddings = x.reshape(*patches.shape[:-1], -1)
        if not intermediates:
            return embeddings
        blocks = {
            f"blocks/{group * len(outputs) + j}": output[group]
            for j, output in enumerate(outputs)
            for group in range(output.shape[0])
        }
        return embeddings, {"patch_embed": patches, **blocks, "neck": embeddings}

    def _positions(self, height: int, width: int) -> jax.Array:
        """The absolute position embedding for a grid, (1, 1, h, w, dim), interpolated where the size differs."""
        return resize(self.pos_embed[...], height, width)[None]


def _stacked(modules: list[nnx.Module]) -> nnx.Module:
    """One module whose parameters are those of `modules` along a new first axis."""
    graphdef, _ = nnx.split(modules[0])
    states = [nnx.state(module) for module in modules]
    return nnx.merge(graphdef, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
