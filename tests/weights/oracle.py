"""The official PyTorch models in a small size, for the parity tests; importing this needs torch."""

import torch

from benchmarks.meta_sam import meta_architecture
from samjax.models.config import SamConfig


def meta_sam(config: SamConfig) -> torch.nn.Module:
    """Meta's Sam of this architecture with every parameter random."""
    return _randomised(meta_architecture(config))


def transformers_sam(config: dict) -> torch.nn.Module:
    """Hugging Face's SamModel from the content of a config.json, with every parameter random."""
    from transformers import SamConfig as TransformersConfig
    from transformers import SamModel

    return _randomised(SamModel(TransformersConfig(**config)))


def _randomised(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.device.type != "meta":
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()
