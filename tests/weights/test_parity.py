"""Against PyTorch, Meta's code and transformers themselves."""

from collections import OrderedDict

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.models.config import PRESETS
from samjax.models.prompt_encoder import make_prompts
from samjax.models.sam import normalise
from samjax.weights.architecture import deduce, expected_shapes
from samjax.weights.base import load_weights
from samjax.weights.export import save_meta, save_transformers
from samjax.weights.hugging_face import transformers_config
from samjax.weights.names import spelling_of, to_ours
from samjax.weights.pth import read_pth
from tests.made_runs import merged_run
from tests.weights.checkpoints import GOLDEN, SMALL, TORCH_SAVE, random_flat, same

try:
    import torch

    from tests.weights.oracle import meta_sam, transformers_sam
except ModuleNotFoundError:
    torch = None

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True)
def oracle() -> None:
    """Nothing here skips: without PyTorch the parity tests fail."""
    assert torch is not None, "the parity tests need PyTorch: make parity installs it"


def shapes(tensors) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in tensors.items()}


def odd_state() -> OrderedDict:
    """Tensors as they may lie in a checkpoint: of all types, views, parameters, sharing a storage."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict(
        base=base,
        transposed=base.T,
        part=base[1:3, ::2],
        scalar=torch.tensor(7.0),
        parameter=torch.nn.Parameter(base[0].clone()),
        empty=torch.zeros(0, 3),
        half=base.half(),
        bfloat16=base.bfloat16(),
        double=base.double(),
        long=base.long(),
        bool=base > 5,
    )
    state._metadata = OrderedDict(version=1)
    return state


def test_the_stored_file_is_what_torch_writes_today(tmp_path):
    torch.save(
        {"state_dict": odd_state(), "epoch": 3, "args": {"lr": 1e-4, "betas": (0.9, 0.99)}},
        tmp_path / "a.pth",
    )
    found, stored = read_pth(tmp_path / "a.pth"), read_pth(TORCH_SAVE)
    assert same(found.pop("state_dict"), stored.pop("state_dict"))
    assert found == stored == {"epoch": 3, "args": {"lr": 1e-4, "betas": (0.9, 0.99)}}


@pytest.mark.parametrize(
    "name", ["base", "transposed", "part", "scalar", "parameter", "empty", "half", "double", "long", "bool"]
)
def test_reads_what_torch_saved(tmp_path, name):
    torch.save(odd_state(), tmp_path / "a.pth")
    assert np.array_equal(read_pth(tmp_path / "a.pth")[name], odd_state()[name].detach().numpy())


def test_reads_bfloat16(tmp_path):
    torch.save(odd_state(), tmp_path / "a.pth")
    assert np.array_equal(read_pth(tmp_path / "a.pth")["bfloat16"].astype(np.float32), odd_state()["bfloat16"].float())


def test_protocol_4_is_read_too(tmp_path):
    torch.save(odd_state(), tmp_path / "a.pth", pickle_protocol=4)
    assert same(read_pth(tmp_path / "a.pth"), read_pth(TORCH_SAVE)["state_dict"])


def test_golden_names_are_meta_s():
    assert shapes(meta_sam(SMALL).state_dict()) == GOLDEN["meta"]


def test_golden_names_are_those_of_transformers():
    stored = shapes(transformers_sam(transformers_config(SMALL)).state_dict())
    del stored["prompt_encoder.shared_embedding.positional_embedding"]  # the twin that save_pretrained leaves out
    assert stored == GOLDEN["transformers"]


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_tables_cover_the_published_models(name):
    with torch.device("meta"):
        state = meta_sam(PRESETS[name]).state_dict()
    tensors = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in state.items()}
    ours = {path: value.shape for path, value in to_ours(tensors, *spelling_of(tensors), name).items()}
    assert deduce(ours, name) == PRESETS[name]
    assert ours == expected_shapes(PRESETS[name])


def test_tables_cover_the_transformers_model():
    with torch.device("meta"):
        state = transformers_sam(transformers_config(PRESETS["vit_b"])).state_dict()
    tensors = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in state.items()}
    ours = {path: value.shape for path, value in to_ours(tensors, *spelling_of(tensors), "it").items()}
    assert ours == expected_shapes(PRESETS["vit_b"])


def test_meta_and_back_is_bitwise_the_same(tmp_path):
    model = meta_sam(SMALL)
    torch.save(model.state_dict(), tmp_path / "meta.pth")
    weights = load_weights(tmp_path / "meta.pth")
    assert weights.config == SMALL
    linear = model.image_encoder.blocks[1].mlp.lin1.weight.detach().numpy()
    assert np.array_equal(weights.flat["image_encoder/blocks/1/mlp/lin1/kernel"], linear.T)
    save_meta(tmp_path / "back.pth", weights.flat)
    for mmap in (False, True):
        state = torch.load(tmp_path / "back.pth", weights_only=True, mmap=mmap)
        model.load_state_dict(state, strict=True)
        assert all(torch.equal(value, state[name]) for name, value in torch.load(tmp_path / "meta.pth").items())


def test_training_checkpoint_with_optimiser_under_ddp(tmp_path):
    model = meta_sam(SMALL)
    optimiser = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimiser.step()
    state = OrderedDict((f"module.{name}", value.half()) for name, value in model.state_dict().items())
    torch.save({"model": state, "optimizer": optimiser.state_dict(), "epoch": 4}, tmp_path / "a.pth")
    flat = load_weights(tmp_path / "a.pth").flat
    expected = model.mask_decoder.iou_token.weight.detach().half().float().numpy()
    assert np.array_equal(flat["mask_decoder/iou_token/embedding"], expected)


def test_whole_module_is_refused(tmp_path):
    torch.save(meta_sam(SMALL), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"names segment_anything\.modeling\.sam\.Sam"):
        load_weights(tmp_path / "a.pth")


def test_deconvolution_is_a_product_of_each_position():
    """out[2i + a, 2j + b] = x[i, j] @ kernel[a, b], with the kernel as stored here."""
    layer = meta_sam(SMALL).mask_decoder.output_upscaling[0]
    names = {
        f"mask_decoder.output_upscaling.0.{name}": value.detach().numpy() for name, value in layer.named_parameters()
    }
    ours = to_ours(names, "meta", "", "it")
    x = np.random.default_rng(0).normal(size=(3, 5, SMALL.out_dim)).astype(np.float32)
    kernel = ours["mask_decoder/output_upscaling/0/kernel"]
    out = np.einsum("ijc,abcd->iajbd", x, kernel).reshape(6, 10, -1) + ours["mask_decoder/output_upscaling/0/bias"]
    expected = layer(torch.tensor(x).permute(2, 0, 1)[None])[0].permute(1, 2, 0).detach().numpy()
    assert np.abs(out - expected).max() < 1e-5


def test_transformers_and_back_is_bitwise_the_same(tmp_path):
    model = transformers_sam(transformers_config(SMALL))
    model.save_pretrained(tmp_path / "model")
    weights = load_weights(tmp_path / "model" / "model.safetensors")
    assert weights.config == SMALL
    save_transformers(tmp_path / "back", weights.flat, weights.config)
    back, report = type(model).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(report.values())
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in model.state_dict().items())
    save_transformers(tmp_path / "file.safetensors", weights.flat, weights.config)
    first, second = (
        load_weights(path).flat for path in (tmp_path / "file.safetensors", tmp_path / "model" / "model.safetensors")
    )
    assert same(first, second)


def test_both_spellings_are_the_same_model(tmp_path):
    """Our random weights, written for Meta's code and for transformers, give the same masks."""
    flat = {path: 0.2 * value for path, value in random_flat().items()}
    meta = meta_sam(SMALL)
    save_meta(tmp_path / "meta.pth", flat)
    meta.load_state_dict(torch.load(tmp_path / "meta.pth", weights_only=True))
    save_transformers(tmp_path / "hf", flat, SMALL)
    from transformers import SamModel

    other = SamModel.from_pretrained(tmp_path / "hf").eval()
    image = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    points, box = torch.tensor([[[4.0, 11.0]]]), torch.tensor([[[2.0, 3.0, 15.0, 17.0]]])
    with torch.no_grad():
        sparse, dense = meta.prompt_encoder(points=(points, torch.ones(1, 1)), boxes=box[0], masks=None)
        embedding = meta.image_encoder(image)
        masks, iou = meta.mask_decoder(embedding, meta.prompt_encoder.get_dense_pe(), sparse, dense, True)
        theirs = other(pixel_values=image, input_points=points[None], input_labels=torch.ones(1, 1, 1), input_boxes=box)
    assert (theirs.pred_masks[0, 0] - masks[0]).abs().max() < 1e-4 * masks.abs().max()
    assert (theirs.iou_scores[0, 0] - iou[0]).abs().max() < 1e-4


@pytest.mark.parametrize(("strategy", "size"), [("lora", 64), ("lora4ch", 96)])
def test_a_run_with_lora_gives_its_masks_in_meta_s_code(tmp_path, strategy, size):
    """Merged and, where the size differs from the base weights', with interpolated positions."""
    ours, flat, architecture = merged_run(tmp_path, strategy, size)
    save_meta(tmp_path / "merged.pth", flat)
    meta = meta_sam(architecture)
    meta.load_state_dict(torch.load(tmp_path / "merged.pth", weights_only=True))
    images = np.random.default_rng(1).integers(0, 256, (1, 1, size, size, architecture.in_channels))
    click, box = np.float32([[[20.0, 30.0]]]), np.float32([[2.0, 3.0, 40.0, 50.0]])
    prompts = make_prompts(click[None], np.ones((1, 1, 1), np.int32), box[None])
    expected, expected_iou = ours(images, prompts, multimask=True)
    with torch.no_grad():
        # "+ 0": torch takes no read-only arrays.
        picture = torch.tensor(np.asarray(normalise(images))[0] + 0).permute(0, 3, 1, 2)
        points = (torch.tensor(click), torch.ones(1, 1))
        sparse, dense = meta.prompt_encoder(points=points, boxes=torch.tensor(box), masks=None)
        embedding = meta.image_encoder(picture)
        masks, iou = meta.mask_decoder(embedding, meta.prompt_encoder.get_dense_pe(), sparse, dense, True)
    assert np.abs(masks[0].numpy() - expected[0, 0]).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(iou[0].numpy() - expected_iou[0, 0]).max() < 1e-4 * np.abs(expected_iou).max()
