"""What Meta's segment-anything does in each row, by PyTorch. Importing this needs torch and Meta's code."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from segment_anything.modeling.image_encoder import Attention, get_rel_pos

from benchmarks.decoder import embedding_and_clicks
from benchmarks.gpu.ready import Ready
from benchmarks.gpu.rows import COMPILED, EAGER, Row
from benchmarks.meta_sam import meta_sam
from benchmarks.options import Setting
from benchmarks.random_weights import INPUT_SIZE, LORA_RANK, LORA_SEED, architecture, random_picture, weights_path
from benchmarks.torch_lora import add_lora
from benchmarks.torch_training import TorchTraining
from benchmarks.train_step import CHANNELS, LR, sample


def prepare(row: Row, setting: Setting, device: str) -> Ready:
    """Loads a row's model and inputs onto the device (cpu or cuda)."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = row.dtype == "tf32"
    if row.by != EAGER:
        Attention.forward = _fused
    works = {"encoder": _encoder, "train_step": _train_step, "prompts": _prompts}
    return works[row.work](row, setting, device)


@contextmanager
def _cast(row: Row, device: str) -> Iterator[None]:
    with torch.autocast(device, torch.bfloat16, enabled=row.dtype == "bfloat16"):
        yield


def _finished(device: str, result: Any) -> Any:
    if device == "cuda":
        torch.cuda.synchronize()
    return result


def _fused(self: Attention, x: torch.Tensor) -> torch.Tensor:
    """Meta's attention by PyTorch's fused one; relative positions become its mask."""
    batch, height, width, _ = x.shape
    qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    grid = q.reshape(batch, self.num_heads, height, width, -1)
    by_row = torch.einsum("bnhwc,hkc->bnhwk", grid, get_rel_pos(height, height, self.rel_pos_h).to(q.dtype))
    by_column = torch.einsum("bnhwc,wkc->bnhwk", grid, get_rel_pos(width, width, self.rel_pos_w).to(q.dtype))
    mask = (by_row[..., None] + by_column[..., None, :]).reshape(batch, self.num_heads, height * width, height * width)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return self.proj(out.permute(0, 2, 1, 3).reshape(batch, height, width, -1))


def _encoder(row: Row, setting: Setting, device: str) -> Ready:
    sam = meta_sam(architecture(setting), weights_path(setting)).to(device)
    pictures = torch.from_numpy(random_picture(setting)).permute(0, 3, 1, 2).repeat(row.batch, 1, 1, 1).to(device)
    encoder: Callable[[torch.Tensor], torch.Tensor] = sam.image_encoder
    begin = time.perf_counter()

    @torch.inference_mode()
    def run() -> torch.Tensor:
        with _cast(row, device):
            return _finished(device, encoder(sam.preprocess(pictures)))

    seconds = None
    if row.by == COMPILED:
        encoder = torch.compile(sam.image_encoder)
        run()
        seconds = time.perf_counter() - begin
    return Ready(run, lambda x: x[:1].float().permute(0, 2, 3, 1).cpu().numpy(), seconds)


def _prompts(row: Row, setting: Setting, device: str) -> Ready:
    sam = meta_sam(architecture(setting), weights_path(setting)).to(device)
    embedding, clicks = (torch.from_numpy(x).to(device) for x in embedding_and_clicks(setting))
    embedding = embedding.permute(0, 3, 1, 2).contiguous()
    labels = torch.ones(len(clicks), 1, device=device)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        with _cast(row, device):
            sparse, dense = sam.prompt_encoder(points=(clicks, labels), boxes=None, masks=None)
            logits, _ = sam.mask_decoder(
                image_embeddings=embedding,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
        return _finished(device, logits)

    return Ready(run, lambda logits: logits.float().cpu().numpy())


def _train_step(row: Row, setting: Setting, device: str) -> Ready:
    from samjax.data.on_device.channels import parse_channels

    sam = meta_sam(architecture(setting), weights_path(setting))
    parameters = [*add_lora(sam.image_encoder, LORA_RANK, LORA_SEED), *sam.mask_decoder.parameters()]
    sam.to(device)
    training = TorchTraining(sam, parameters, setting.side(INPUT_SIZE), LR, encoder_trains=True, device=device)
    batch = sample()
    picture = np.asarray(parse_channels(CHANNELS)(batch["images"])[0, 0])
    mask = batch["labels"][0, 0] > 0

    def run() -> np.ndarray:
        with _cast(row, device):
            return _finished(device, training.step(picture, mask))

    return Ready(run, np.asarray)
