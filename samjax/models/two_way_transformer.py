"""The transformer of SAM's mask decoder, in which tokens attend to the picture and the picture to the tokens.

Arrays carry the pictures B and the prompts P of a picture as separate axes. Until the picture has attended to the
tokens it is the same for all prompts of a picture: there its P axis has length 1, and its projections are
computed once.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from samjax.models.config import SamConfig
from samjax.models.layers import layer_norm, linear

TokenSets = list[jax.Array]
"""Tokens (B, P, N, dim), once or several times."""


class DownsampledAttention(nnx.Module):
    """Multi-head attention whose inner width is the model's divided by `downsample`."""

    def __init__(self, dim: int, heads: int, downsample: int, *, dtype: str):
        inner = dim // downsample
        self.q_proj = linear(dim, inner, dtype=dtype)
        self.k_proj = linear(dim, inner, dtype=dtype)
        self.v_proj = linear(dim, inner, dtype=dtype)
        self.out_proj = linear(inner, dim, dtype=dtype)
        self.heads = heads

    def __call__(self, q: jax.Array, k: jax.Array, v: jax.Array, key_valid: jax.Array | None = None) -> jax.Array:
        """Attention of q (B, Pq, Nq, dim) to k and v (B, Pk, Nk, dim), with Pq and Pk equal or 1 -> (B, P, Nq, dim).

        `key_valid` (B, P, Nk) bool is False for keys that nothing attends to; not every key of a row may be.
        """
        return self.attend(q, self.project(k, v), key_valid)

    def project(self, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values (B, Pk, Nk, dim) as heads (B, Pk, Nk, heads, d), for several calls of `attend`."""
        return self._heads(self.k_proj, k), self._heads(self.v_proj, v)

    def attend(
        self, q: jax.Array, projected: tuple[jax.Array, jax.Array], key_valid: jax.Array | None = None
    ) -> jax.Array:
        """The attention of q to what `project` gave, see `__call__`."""
        (k, v), q = projected, self._heads(self.q_proj, q)
        # A shared operand enters without its P axis, so that its part of the product is not repeated.
        q_shared, k_shared = (x.shape[1] == 1 and y.shape[1] > 1 for x, y in ((q, k), (k, q)))
        q_axes, k_axes = ("b" if shared else "bp" for shared in (q_shared, k_shared))
        q = q[:, 0] if q_shared else q
        k, v = (k[:, 0], v[:, 0]) if k_shared else (k, v)
        scores = jnp.einsum(
            f"{q_axes}qhd,{k_axes}khd->bphqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32
        )
        if key_valid is not None:
            scores = jnp.where(key_valid[:, :, None, None, :], scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
        out = jnp.einsum(f"bphqk,{k_axes}khd->bpqhd", weights, v)
        return self.out_proj(out.reshape(*out.shape[:-2], -1))

    def _heads(self, proj: nnx.Linear, x: jax.Array) -> jax.Array:
        return proj(x).reshape(*x.shape[:-1], self.heads, -1)


class TransformerMlp(nnx.Module):
    """Two linear layers with a ReLU between them, as the original transformer's."""

    def __init__(self, dim: int, hidden: int, *, dtype: str):
        self.lin1 = linear(dim, hidden, dtype=dtype)
        self.lin2 = linear(hidden, dim, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.lin2(jax.nn.relu(self.lin1(x)))


class TwoWayBlock(nnx.Module):
    """Self-attention of tokens, tokens to picture, MLP, picture to tokens (Kirillov et al. 2023, fig. 14)."""

    def __init__(self, config: SamConfig, first: bool, *, dtype: str):
        dim, heads = config.out_dim, config.decoder_heads
        self.self_attn = DownsampledAttention(dim, heads, 1, dtype=dtype)
        self.norm1 = layer_norm(dim, 1e-5)
        self.cross_attn_token_to_image = DownsampledAttention(dim, heads, 2, dtype=dtype)
        self.norm2 = layer_norm(dim, 1e-5)
        self.mlp = TransformerMlp(dim, config.decoder_mlp_dim, dtype=dtype)
        self.norm3 = layer_norm(dim, 1e-5)
        self.norm4 = layer_norm(dim, 1e-5)
        self.cross_attn_image_to_token = DownsampledAttention(dim, heads, 2, dtype=dtype)
        self.first = first

    def __call__(
        self, sets: TokenSets, image: jax.Array, set_pes: TokenSets, image_pe: jax.Array, valid: jax.Array
    ) -> tuple[TokenSets, jax.Array]:
        picture = self.cross_attn_token_to_image.project(image + image_pe, image)
        sets = [self._tokens(tokens, pe, picture, valid) for tokens, pe in zip(sets, set_pes, strict=True)]
        tokens, token_pe = sets[0], set_pes[0]
        update = self.cross_attn_image_to_token(image + image_pe, tokens + token_pe, tokens, valid)
        return sets, self.norm4(image + update)

    def _tokens(
        self, tokens: jax.Array, token_pe: jax.Array, picture: tuple[jax.Array, jax.Array], valid: jax.Array
    ) -> jax.Array:
        if self.first:  # no positions and no residual here
            tokens = self.self_attn(tokens, tokens, tokens, valid)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens, valid)
        tokens = self.norm1(tokens)
        tokens = tokens + self.cross_attn_token_to_image.attend(tokens + token_pe, picture)
        tokens = self.norm2(tokens)
        return self.norm3(tokens + self.mlp(tokens))


class TwoWayTransformer(nnx.Module):
    """Two-way blocks, then a last attention of the tokens to the picture (Kirillov et al. 2023, fig. 14)."""

    def __init__(self, config: SamConfig, *, dtype: str):
        self.layers = nnx.List(TwoWayBlock(config, index == 0, dtype=dtype) for index in range(config.decoder_depth))
        self.final_attn_token_to_image = DownsampledAttention(config.out_dim, config.decoder_heads, 2, dtype=dtype)
        self.norm_final_attn = layer_norm(config.out_dim, 1e-5)

    def __call__(
        self, image: jax.Array, image_pe: jax.Array, set_pes: TokenSets, valid: jax.Array
    ) -> tuple[TokenSets, jax.Array]:
        """Runs the transformer.

        Args:
            image: (B, P or 1, h * w, dim).
            image_pe: (1, 1, h * w, dim).
            set_pes: sets of tokens, each (B, P, N, dim), which are their own positional encoding. The sets do not see
                each other, and the picture attends to the first one alone.
            valid: (B, P, N) bool, False for empty slots.

        Returns:
            The sets of tokens, each (B, P, N, dim), and the picture (B, P, h * w, dim).
        """
        sets = set_pes
        for layer in self.layers:
            sets, image = layer(sets, image, set_pes, image_pe, valid)
        picture = self.final_attn_token_to_image.project(image + image_pe, image)
        updates = [
            self.final_attn_token_to_image.attend(tokens + pe, picture)
            for tokens, pe in zip(sets, set_pes, strict=True)
        ]
        return [self.norm_final_attn(tokens + update) for tokens, update in zip(sets, updates, strict=True)], image
