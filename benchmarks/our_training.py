"""Our compiled training step as the training loop runs it. Importing this needs jax."""

import time
from functools import partial

import jax
import numpy as np
from flax import nnx

from benchmarks.our_sam import FLOAT32
from samjax.models.sam import Sam
from samjax.options import TrainOptions
from samjax.strategies import STRATEGIES, trainable_filter
from samjax.training.optimizers import make_transform
from samjax.training.step import compile_step, initial_state, make_train_step, per_device, replicate, shard, unreplicate
from samjax.training.tasks.objective import Objective, slice_results

HostBatch = dict[str, np.ndarray]


class OurTraining:
    """A model with its optimiser, its step compiled for batches like the one given."""

    def __init__(self, model: Sam, strategy: str, objective: Objective, lr: float, batch: HostBatch):
        jax.config.update("jax_default_matmul_precision", FLOAT32)
        graphdef, trainable, frozen = nnx.split(model, trainable_filter(STRATEGIES[strategy]), ...)
        transform = make_transform(TrainOptions(optimizer="adam"))
        self._state, self._frozen = replicate(initial_state(trainable, transform)), replicate(frozen)
        self._scalars = per_device(np.float32(lr), np.bool_(False))
        step = make_train_step(graphdef, partial(slice_results, objective=objective), transform, seed=0)
        begin = time.perf_counter()
        self._step = compile_step(step, self._state, self._frozen, shard(batch))
        self.compile_seconds = time.perf_counter() - begin

    def step(self, batch: HostBatch) -> np.ndarray:
        """The batch's loss and the gradient's norm; waits for the new parameters too."""
        self._state, metrics = self._step(self._state, self._frozen, shard(batch), *self._scalars)
        jax.block_until_ready(self._state)
        return np.array([unreplicate(metrics["loss"]), unreplicate(metrics["grad_norm"])])
