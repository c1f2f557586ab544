"""How long does a picture take to become an embedding, and in how much memory?

One picture through ViT-B's image encoder, normalisation included, without gradients.
"""

import numpy as np

from benchmarks.options import Setting
from benchmarks.random_weights import architecture, random_picture, weights_path, write_weights
from benchmarks.sides import meta_side, our_side
from benchmarks.work import Benchmark, Comparison, Side, Work


def ours(setting: Setting) -> Work:
    import jax
    from flax import nnx

    from benchmarks.our_sam import compiled, our_sam

    graphdef, state = our_sam(setting)
    picture = jax.numpy.asarray(random_picture(setting))[:, None]

    def encode(state: nnx.State, picture: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state).encode(picture)

    program, seconds = compiled(encode, state, picture)
    return Work(
        lambda: jax.block_until_ready(program(state, picture)),
        answer=lambda embedding: np.asarray(embedding)[:, 0],
        compile_seconds=seconds,
    )


def meta(setting: Setting) -> Work:
    import torch

    from benchmarks.meta_sam import meta_sam

    sam = meta_sam(architecture(setting), weights_path(setting))
    picture = torch.from_numpy(random_picture(setting)).permute(0, 3, 1, 2).contiguous()

    @torch.inference_mode()
    def encode() -> torch.Tensor:
        return sam.image_encoder(sam.preprocess(picture))

    return Work(encode, answer=lambda embedding: embedding.permute(0, 2, 3, 1).numpy())


def keras_hub(setting: Setting) -> Work:
    """The same architecture in keras-hub; its weights are its own, so the numbers are not compared."""
    import jax
    from keras_hub.models import ViTDetBackbone

    config, picture = architecture(setting), random_picture(setting)
    backbone = ViTDetBackbone(
        hidden_size=config.embed_dim,
        num_layers=config.depth,
        intermediate_dim=config.mlp_dim,
        num_heads=config.num_heads,
        global_attention_layer_indices=list(config.global_attn_indexes),
        image_shape=(config.image_size, config.image_size, 3),
        patch_size=config.patch_size,
        num_output_channels=config.out_dim,
        window_size=config.window_size,
    )
    variables = [variable.value for variable in backbone.variables]
    trainable = [variable.value for variable in backbone.trainable_variables]
    assert len(variables) == len(trainable)

    @jax.jit
    def encode(trainable: list[jax.Array], picture: jax.Array) -> jax.Array:
        return backbone.stateless_call(trainable, [], picture, training=False)[0]

    return Work(lambda: jax.block_until_ready(encode(trainable, picture)))


KERAS_HUB = Side(keras_hub, ("keras_hub.models",), ("keras-hub", "keras", "jax"), "pip install keras-hub")

BENCHMARK = Benchmark(
    {"ours": our_side(ours), "meta": meta_side(meta), "keras_hub": KERAS_HUB},
    (
        Comparison("encoder", "ours", "meta", tolerance=1e-4),
        Comparison("encoder/keras_hub", "ours", "keras_hub"),
    ),
    write_weights,
)
