"""How long do 16 prompts on one embedding take?

Prompt encoder and mask decoder, one click each, three masks each (Meta's default for a click). Meta's decoder computes
the fourth mask too and drops it.
"""

import numpy as np

from benchmarks.options import Setting
from benchmarks.random_weights import INPUT_SIZE, architecture, weights_path, write_weights
from benchmarks.sides import meta_side, our_side
from benchmarks.work import Benchmark, Comparison, Work

PROMPTS = 16


def embedding_and_clicks(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """(1, h, w, dim) and (16, 1, 2) pixels (x, y), all float32."""
    config, rng = architecture(setting), np.random.default_rng(3)
    tokens = config.table_tokens
    embedding = rng.standard_normal((1, tokens, tokens, config.out_dim), np.float32)
    return embedding, rng.uniform(0, setting.side(INPUT_SIZE) - 1, (PROMPTS, 1, 2)).astype(np.float32)


def ours(setting: Setting) -> Work:
    import jax
    from flax import nnx

    from benchmarks.our_sam import compiled, our_sam
    from samjax.models.prompt_encoder import POSITIVE, make_prompts

    graphdef, state = our_sam(setting)
    embedding, clicks = map(jax.numpy.asarray, embedding_and_clicks(setting))

    def decode(state: nnx.State, embedding: jax.Array, clicks: jax.Array) -> jax.Array:
        prompts = make_prompts(clicks[None], jax.numpy.full((1, PROMPTS, 1), POSITIVE))
        logits, _ = nnx.merge(graphdef, state).decode(embedding, prompts, multimask=True)
        return logits[0]

    program, seconds = compiled(decode, state, embedding, clicks)
    return Work(
        lambda: jax.block_until_ready(program(state, embedding, clicks)), answer=np.asarray, compile_seconds=seconds
    )


def meta(setting: Setting) -> Work:
    import torch

    from benchmarks.meta_sam import meta_sam

    sam = meta_sam(architecture(setting), weights_path(setting))
    embedding, clicks = map(torch.from_numpy, embedding_and_clicks(setting))
    embedding = embedding.permute(0, 3, 1, 2).contiguous()
    labels = torch.ones(PROMPTS, 1)

    @torch.inference_mode()
    def decode() -> torch.Tensor:
        sparse, dense = sam.prompt_encoder(points=(clicks, labels), boxes=None, masks=None)
        logits, _ = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return logits

    return Work(decode, answer=lambda logits: logits.numpy())


BENCHMARK = Benchmark(
    {"ours": our_side(ours), "meta": meta_side(meta)},
    (Comparison("decoder", "ours", "meta", tolerance=1e-4),),
    write_weights,
)
