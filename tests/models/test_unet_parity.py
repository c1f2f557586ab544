"""The U-Net against one built by hand in PyTorch, as nnU-Net builds its PlainConvUNet, with the same weights."""

import jax
import numpy as np
import pytest

from samjax.models.unet import DecoderStage, EncoderStage, UNetConfig, standardise
from samjax.weights.names import CONV, DECONV
from tests.models.cases import relative_error
from tests.models.unets import SMALL, predict, scans, unet, weights

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
"""Of a stage's scale, max |ours - PyTorch's| / max |PyTorch's|."""


class TorchUNet:
    """PyTorch's modules by our paths, with the weights of `unets`."""

    def __init__(self, config: UNetConfig = SMALL):
        import torch
        from torch import nn

        self.config = config
        self.modules: dict[str, nn.Module] = {}
        flat = weights(config)
        for path in (path for path in flat if path.endswith(("/kernel", "/scale"))):
            name, _, word = path.rpartition("/")
            value, kind = flat[path], DECONV if name.endswith("/up") else CONV
            if word == "scale":
                module = nn.InstanceNorm2d(len(value), eps=1e-5, affine=True)
            elif name.endswith("/up"):
                module = nn.ConvTranspose2d(*value.shape[2:], 2, 2)
            else:
                stride = 2 if name.startswith("encoder") and "/convs/0/" in name and "encoder/0" not in name else 1
                module = nn.Conv2d(*value.shape[2:], value.shape[0], stride, padding=value.shape[0] // 2)
            value = value if word == "scale" else value.transpose(np.argsort(kind.axes))
            module.weight = nn.Parameter(torch.from_numpy(value.copy()), requires_grad=False)
            module.bias = nn.Parameter(torch.from_numpy(flat[f"{name}/bias"]), requires_grad=False)
            self.modules[name] = module

    def convs(self, stage: str, x):
        from torch.nn.functional import leaky_relu

        for index in range(self.config.convs_per_stage):
            conv, norm = (self.modules[f"{stage}/convs/{index}/{part}"] for part in ("conv", "norm"))
            x = leaky_relu(norm(conv(x)), 0.01)
        return x

    def decode(self, level: int, below, skip):
        import torch

        x = torch.cat([self.modules[f"decoder/{level}/up"](below), skip], 1)
        return self.convs(f"decoder/{level}", x)

    def logits(self, x) -> list:
        """Of the supervised resolutions, from full downwards; `x` is normalised."""
        skips = []
        for level in range(len(self.config.features)):
            x = self.convs(f"encoder/{level}", x)
            skips.append(x)
        outputs = []
        for level in reversed(range(len(skips) - 1)):
            x = self.decode(level, x, skips[level])
            outputs.insert(0, x)
        return [self.modules[f"heads/{level}"](outputs[level]) for level in range(self.config.supervised)]


def channels_first(x: np.ndarray):
    from torch import from_numpy

    return from_numpy(np.array(x, np.float32)).permute(0, 3, 1, 2)


def channels_last(x) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy()


def drawn(*shape: int) -> np.ndarray:
    return np.random.RandomState(3).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("level", [0, 1])
def test_encoder_stage(level):
    """The second has the stride."""
    x = drawn(2, 12, 20, (SMALL.in_channels, *SMALL.features)[level])
    found = jax.jit(EncoderStage.__call__)(unet().encoder[level], x)
    expected = TorchUNet().convs(f"encoder/{level}", channels_first(x))
    assert relative_error(found, channels_last(expected)) < TOLERANCE


def test_decoder_stage():
    below, skip = drawn(2, 6, 10, 6), drawn(2, 12, 20, 4)
    found = jax.jit(DecoderStage.__call__)(unet().decoder[0], below, skip)
    expected = TorchUNet().decode(0, channels_first(below), channels_first(skip))
    assert relative_error(found, channels_last(expected)) < TOLERANCE


def test_picture_to_logits():
    images = scans(2, 48, 64, 2)
    found = predict(unet(), images, supervised=True)
    expected = TorchUNet().logits(channels_first(standardise(images)))
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, channels_last(theirs)) < TOLERANCE
