"""Three steps on this process's half of a batch: `python -m tests.training.hosts HOST:PORT INDEX FILE.npz`.

The model is one that compiles in a moment; batches and random keys are those of training.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from samjax.data.on_device.keys import sample_keys
from samjax.errors import UserError
from samjax.training import distributed
from samjax.training.step import (
    compile_step,
    initial_state,
    make_scoring_step,
    make_train_step,
    per_device,
    replicate,
    shard,
    unreplicate,
)
from samjax.training.tasks.objective import Batch, SliceResults
from tests.training import small

SAMPLES = 8
EMPTY = ((0, 0), (0, 1), (1, 0), (5, 1))


class Pixels(nnx.Module):
    """A logit for each pixel from its four intensities; `scale` is frozen."""

    def __init__(self) -> None:
        self.weight = nnx.Param(jnp.array([0.5, -0.25, 0.1, 0.0]))
        self.bias = nnx.Param(jnp.array(-0.1))
        self.scale = nnx.Variable(jnp.array([1.0, 0.5, 2.0, 1.5]))

    def __call__(self, images: jax.Array) -> jax.Array:
        return images / 255 @ (self.weight[...] * self.scale[...]) + self.bias[...]


def results(model: Pixels, batch: Batch, key: jax.Array) -> SliceResults:
    """Cross-entropy of each slice, its intensities scaled by a random number of its own."""
    labels = batch["labels"] > 0
    gain = jax.vmap(jax.vmap(jax.random.uniform))(sample_keys(key, batch).slices)
    logits = model(batch["images"] * gain[..., None, None, None])
    loss = optax.sigmoid_binary_cross_entropy(logits, labels).mean(axis=(2, 3))
    counted = batch["slices"] & batch["valid"][:, None] & labels.any(axis=(2, 3))
    return SliceResults(loss, counted, {"true": labels.sum(axis=(2, 3))})


def three_steps() -> dict[str, np.ndarray]:
    """Losses, parameters and scores of the processes that there are."""
    graphdef, trainable, frozen = nnx.split(Pixels(), nnx.Param, ...)
    transform = optax.identity()
    state, frozen = replicate(initial_state(trainable, transform)), replicate(frozen)
    step = compile_step(make_train_step(graphdef, results, transform, seed=7), state, frozen, _share(0))
    losses, counted = [], []
    with _Compilations() as compiled:
        for seed in range(3):
            state, metrics = step(state, frozen, _share(seed), *per_device(np.float32(1.0), np.bool_(False)))
            losses.append(float(unreplicate(metrics)["loss"]))
            counted.append(int(unreplicate(metrics)["counted"]))
    parameters = jax.tree.leaves(unreplicate(state).trainable)
    others = [np.asarray(x.addressable_data(1))[0] for x in jax.tree.leaves(state.trainable)]
    scores = make_scoring_step(graphdef, results, seed=1)((state.trainable, frozen), _share(0))
    return {
        "losses": np.array(losses),
        "counted": np.array(counted),
        "compiled": np.array(compiled.names),
        "parameters": np.concatenate([np.ravel(x) for x in parameters]),
        "parameters of the second device": np.concatenate([np.ravel(x) for x in others]),
        "scores": jax.device_get(scores).loss.reshape(-1, small.DEPTH),
    }


def _share(seed: int) -> dict[str, np.ndarray]:
    """This process's part of a global batch, sharded over its devices."""
    size = SAMPLES // jax.process_count()
    start = jax.process_index() * size
    return shard({name: x[start : start + size] for name, x in small.batch(SAMPLES, seed, EMPTY).items()})


class _Compilations:
    """Names the programs that are compiled while entered."""

    def __enter__(self) -> "_Compilations":
        self.names: list[str] = []
        jax.monitoring.register_event_duration_secs_listener(self._note)
        return self

    def _note(self, event: str, seconds: float, **details: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.names.append(details.get("fun_name", ""))

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._note)


def agreements(index: int) -> dict[str, np.ndarray]:
    """What the processes agree on, each saying something else."""
    given = {"folder": "runs/größer" * 40 if index == 0 else "", "step": 2**40 + index}
    vote = distributed.Vote()
    votes = [vote(index == 1 and step == 2) for step in range(5)]
    try:
        with distributed.errors_shared():
            if index == 1:
                raise UserError("--data missing: no such folder")
        message = ""
    except UserError as error:
        message = str(error)
    with distributed.errors_shared():
        pass
    sent = {
        "float": np.full((2, 3), index + 0.5, np.float32),
        "count": np.int32(7 + index),
        "flag": np.bool_(not index),
    }
    received = distributed.broadcast(sent)
    return {
        "from_writer": np.array(str(distributed.from_writer(lambda: given))),
        "gathered": distributed.gathered(np.array([2**40 + index, -1])),
        "scalars": distributed.gathered(np.float64(0.1 + index)),
        "votes": np.array(votes),
        "message": np.array(message),
        "writer": np.array(distributed.is_writer()),
        **{f"broadcast {name}": np.asarray(x) for name, x in received.items()},
    }


def main() -> None:
    coordinator, index, file = sys.argv[1:]
    distributed.start(coordinator, 2, int(index))
    np.savez(Path(file), **agreements(int(index)), **three_steps())
    distributed.barrier("end")


if __name__ == "__main__":
    main()
