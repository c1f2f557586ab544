"""How long does a LoRA training step take, and in how much memory?

One slice of 240 x 240 at the model's size, the `lora` strategy without neighbours: rank 4 on queries, keys, values and
MLPs, and the mask decoder; box prompt, Adam. PyTorch: Meta's code with the same LoRA by hooks.
"""

import numpy as np

from benchmarks.options import Setting
from benchmarks.random_weights import INPUT_SIZE, LORA_RANK, LORA_SEED, architecture, weights_path, write_weights
from benchmarks.sides import meta_side, our_side
from benchmarks.work import Benchmark, Comparison, Work

NATIVE = 240
CHANNELS = "t1,t2,flair"
LR = 1e-4


def sample(samples: int = 1, slices: int = 1) -> dict[str, np.ndarray]:
    """A batch of noisy slices with a round tumour."""
    rows, columns = np.ogrid[:NATIVE, :NATIVE]
    tumour = (rows - 100) ** 2 + (columns - 130) ** 2 < 35**2
    images = np.random.default_rng(4).integers(0, 128, (samples, slices, NATIVE, NATIVE, 4), np.uint8)
    images[:, :, tumour] += 100
    numbers = np.arange(samples, dtype=np.int32)
    return {
        "images": images,
        "labels": np.broadcast_to(tumour.astype(np.uint8), images.shape[:-1]).copy(),
        "extent": np.full((samples, 2), NATIVE, np.int32),
        "slices": np.ones((samples, slices), bool),
        "valid": np.ones(samples, bool),
        "case": numbers,
        "start": np.zeros(samples, np.int32),
        "identity": numbers,
    }


def ours(setting: Setting) -> Work:
    from benchmarks.our_training import OurTraining
    from samjax.data.on_device.channels import parse_channels
    from samjax.data.on_device.prompts import PromptMix
    from samjax.models.adapt import adapt
    from samjax.models.config import Adaptation, ComputeConfig
    from samjax.training.tasks.objective import Objective
    from samjax.weights.base import load_weights

    weights = load_weights(weights_path(setting))
    model = adapt(weights.config, weights.flat, Adaptation(lora_rank=LORA_RANK), ComputeConfig(), seed=LORA_SEED)
    objective = Objective("whole-tumor", parse_channels(CHANNELS), PromptMix.parse("box"), setting.side(INPUT_SIZE))
    batch = sample()
    training = OurTraining(model, "lora", objective, LR, batch)
    return Work(lambda: training.step(batch), answer=np.asarray, compile_seconds=training.compile_seconds)


def meta(setting: Setting) -> Work:
    from benchmarks.meta_sam import meta_sam
    from benchmarks.torch_lora import add_lora
    from benchmarks.torch_training import TorchTraining
    from samjax.data.on_device.channels import parse_channels

    sam = meta_sam(architecture(setting), weights_path(setting))
    parameters = [*add_lora(sam.image_encoder, LORA_RANK, LORA_SEED), *sam.mask_decoder.parameters()]
    training = TorchTraining(sam, parameters, setting.side(INPUT_SIZE), LR, encoder_trains=True)
    batch, channels = sample(), parse_channels(CHANNELS)
    mask = batch["labels"][0, 0] > 0
    return Work(lambda: training.step(channels(batch["images"])[0, 0], mask), answer=np.asarray)


BENCHMARK = Benchmark(
    {"ours": our_side(ours), "meta": meta_side(meta)},
    (Comparison("train_step", "ours", "meta", tolerance=1e-3),),
    write_weights,
)
