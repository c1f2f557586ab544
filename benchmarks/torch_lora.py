"""LoRA on Meta's unmodified encoder by forward hooks: the same layers, rank and start as our `lora` strategy."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from samjax.models.initialise import initial_values


class Update(nn.Module):
    """x -> (x a) b of one linear layer, as `samjax.models.lora.LoRA`."""

    def __init__(self, a: np.ndarray, b: np.ndarray):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.from_numpy(np.array(value))) for value in (a, b))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.a) @ self.b


def add_lora(encoder: nn.Module, rank: int, seed: int) -> list[nn.Parameter]:
    """Adapts queries, keys, values and both layers of each MLP; returns what trains."""
    parameters = []
    for index, block in enumerate(encoder.blocks):
        width, hidden = block.mlp.lin1.in_features, block.mlp.lin1.out_features
        place = f"image_encoder/blocks/{index}"
        qkv = nn.ModuleList(_update(f"{place}/attn/lora/{target}", width, width, rank, seed) for target in "qkv")
        first = _update(f"{place}/mlp/lora/lin1", width, hidden, rank, seed)
        second = _update(f"{place}/mlp/lora/lin2", hidden, width, rank, seed)
        block.attn.qkv.register_forward_hook(_adding_to_qkv(qkv))
        block.mlp.lin1.register_forward_hook(_adding(first))
        block.mlp.lin2.register_forward_hook(_adding(second))
        for module in (qkv, first, second):
            parameters += module.parameters()
    return parameters


def _update(place: str, width: int, out: int, rank: int, seed: int) -> Update:
    """With the values that our model draws there."""
    a, b = initial_values({f"{place}/a": (width, rank), f"{place}/b": (rank, out)}, seed).values()
    return Update(a, b)


def _adding(update: Update) -> Callable[..., torch.Tensor]:
    return lambda module, inputs, output: output + update(inputs[0])


def _adding_to_qkv(updates: nn.ModuleList) -> Callable[..., torch.Tensor]:
    return lambda module, inputs, output: output + torch.cat([update(inputs[0]) for update in updates], dim=-1)
