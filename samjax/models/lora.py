"""Low-rank adaptation (LoRA) of linear layers (Hu et al. 2021; paper B, eq. 3-5)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from samjax.models.config import Adaptation
from samjax.models.layers import parameter


class LoRA(nnx.Module):
    """The update x -> scale * (x @ a) @ b of a linear layer, with a (in, rank) random and b (rank, out) zero.

    `samjax.models.initialise` draws a with a standard deviation of 1 / sqrt(in) and sets b to zero: the adapted layer
    starts as the base layer, bit for bit.
    """

    def __init__(self, in_dim: int, out_dim: int, adaptation: Adaptation, *, dtype: str = "float32"):
        self.a = parameter(in_dim, adaptation.lora_rank)
        self.b = parameter(adaptation.lora_rank, out_dim)
        self.scale = adaptation.lora_scale
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        reduced = x.astype(self.dtype) @ self.a[...].astype(self.dtype)
        return self.scale * _expand(reduced, self.b[...].astype(self.dtype))


@jax.custom_vjp
def _expand(reduced: jax.Array, b: jax.Array) -> jax.Array:
    """The product of `reduced` (..., rank) and b (rank, out).

    JAX's own gradient of b transposes the gradient of all tokens, which takes long on CPUs; this one transposes the
    few columns of `reduced`.
    """
    return reduced @ b


def _expand_forward(reduced: jax.Array, b: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return reduced @ b, (reduced, b)


def _expand_backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    reduced, b = kept
    tokens = tuple(range(reduced.ndim - 1))
    return gradient @ b.T, jnp.tensordot(reduced, gradient, (tokens, tokens))


_expand.defvjp(_expand_forward, _expand_backward)


def lora_updates(flat: Mapping[str, np.ndarray], adaptation: Adaptation) -> dict[str, np.ndarray]:
    """The weight updates scale * a @ b of every adapted layer.

    Args:
        flat: parameters by stored path (blocks unstacked).

    Returns:
        The (in, out) update by the path of the LoRA module, such as `image_encoder/blocks/0/attn/lora/q`.
    """
    modules = [path.removesuffix("/a") for path in flat if "/lora/" in path and path.endswith("/a")]
    scale = adaptation.lora_scale
    return {module: scale * (flat[f"{module}/a"] @ flat[f"{module}/b"]) for module in modules}


def merge_lora(flat: Mapping[str, np.ndarray], adaptation: Adaptation) -> dict[str, np.ndarray]:
    """Folds the LoRA updates into the base kernels; the result holds no LoRA parameter.

    Args:
        flat: parameters by stored path (blocks unstacked), LoRA included.

    Returns:
        Parameters by path, which a model without LoRA takes. Outputs agree to rounding.
    """
    merged = {path: array for path, array in flat.items() if "/lora/" not in path}
    for module, update in lora_updates(flat, adaptation).items():
        owner, target = module.split("/lora/")
        if target in ("q", "k", "v"):
            path = f"{owner}/qkv/kernel"
            dim = update.shape[1]
            start = "qkv".index(target) * dim
            merged[path] = np.array(merged[path])
            merged[path][:, start : start + dim] += update
        else:
            path = f"{owner}/{target}/kernel"
            merged[path] = np.asarray(merged[path]) + update
    return merged
