"""A training step in PyTorch that does what ours does: box prompt, Dice + BCE + IoU error at native size, Adam."""

from collections.abc import Iterable
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

IOU_WEIGHT = 0.05


class TorchTraining:
    """Meta's SAM with an optimiser over some of its parameters."""

    def __init__(
        self,
        sam: nn.Module,
        parameters: Iterable[nn.Parameter],
        size: int,
        lr: float,
        encoder_trains: bool,
        device: str = "cpu",
    ):
        self.device = device
        self.sam, self.size, self.encoder_trains = sam, size, encoder_trains
        self.parameters = [parameter.requires_grad_(True) for parameter in parameters]
        self.optimizer = torch.optim.Adam(self.parameters, lr)

    def step(self, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """One slice (N, N, 3) in [0, 255] with its region (N, N) bool -> its loss and the gradient's norm."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(torch.from_numpy(picture).to(self.device), torch.from_numpy(mask).to(self.device))
        loss.backward()
        squares = [parameter.grad.square().sum() for parameter in self.parameters if parameter.grad is not None]
        self.optimizer.step()
        return np.array([loss.item(), torch.stack(squares).sum().sqrt().item()])

    def _loss(self, picture: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        native = len(mask)
        with nullcontext() if self.encoder_trains else torch.no_grad():
            x = interpolate(picture.float().permute(2, 0, 1)[None], (self.size, self.size), mode="bilinear")
            embedding = self.sam.image_encoder(self.sam.preprocess(x[0])[None])
        sparse, dense = self.sam.prompt_encoder(points=None, boxes=tight_box(mask, self.size), masks=None)
        logits, iou = self.sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        logits = interpolate(logits, (self.size, self.size), mode="bilinear")
        logits = interpolate(logits, (native, native), mode="bilinear")[0, 0]
        return slice_loss(logits, iou[0, 0], mask)


def tight_box(mask: torch.Tensor, size: int) -> torch.Tensor:
    """(1, 4) as (x0, y0, x1, y1) in pixels of the input, as our prompts place them."""
    rows, columns = torch.where(mask)
    box = torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]).float()
    return ((box + 0.5) * (size / len(mask)) - 0.5)[None]


def slice_loss(logits: torch.Tensor, iou: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """As `samjax.training.tasks.losses.slice_loss` of one slice without padding."""
    target, probability = mask.float(), logits.sigmoid()
    dice = 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
    predicted = logits.detach() > 0
    union = (predicted | mask).sum()
    actual = (predicted & mask).sum() / union if union > 0 else torch.tensor(1.0)
    return dice + binary_cross_entropy_with_logits(logits, target) + IOU_WEIGHT * (iou - actual) ** 2
