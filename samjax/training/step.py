"""The training and validation steps on all devices, the only code that uses `jax.pmap`.

The state is donated; the frozen parameters are replicated once and passed unchanged. The loss is the sum over the
counted slices of all devices divided by their number, so devices that hold many empty slices weigh no more than
they should. Random numbers depend on the seed, the step and the sample alone: one device and four give the same
update.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from samjax.training.parameter_vector import ParameterVector, to_vector
from samjax.training.tasks.objective import Batch, SliceResults

AXIS = "data"


class TrainState(NamedTuple):
    """State of the training, which each step changes."""

    step: jax.Array
    """Number of steps done, int32."""
    trainable: ParameterVector
    optimizer: optax.OptState
    average: ParameterVector
    """Mean of the trainable parameters over the averaged steps (SWA)."""
    averaged: jax.Array
    """Number of averaged steps, int32."""


def initial_state(trainable: nnx.State, transform: optax.GradientTransformation, step: int = 0) -> TrainState:
    """The state before the first step, which may count from a later number."""
    # Arrays, not NumPy scalars, which Orbax does not restore.
    first_step, none = np.array(step, np.int32), np.zeros((), np.int32)

    @jax.jit  # else each operation would be compiled by itself
    def start(trainable: nnx.State) -> tuple[ParameterVector, optax.OptState]:
        vector = to_vector(trainable)
        return vector, transform.init(vector)

    vector, optimizer = start(trainable)
    return TrainState(first_step, vector, optimizer, vector, none)


SliceFunction = Callable[[nnx.Module, Batch, jax.Array], SliceResults]
TrainStep = Callable[[TrainState, nnx.State, Batch, jax.Array, jax.Array], tuple[TrainState, dict[str, jax.Array]]]
States = tuple[nnx.State | ParameterVector, ...]
"""The parts of a model that `nnx.merge` joins."""
ScoringStep = Callable[[States, Batch], SliceResults]


def replicate(tree: object, count: int | None = None) -> object:
    """A copy of `tree` on every local device (or the first `count`), with a leading device axis.

    Its layout is that of the pmapped steps' results; with another layout the second step would be compiled again.
    """
    devices = jax.local_devices()[:count]
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))

    def copies(x: jax.Array) -> jax.Array:
        x = np.asarray(x)
        return jax.device_put(np.broadcast_to(x, (len(devices), *x.shape)), sharding)

    return jax.tree.map(copies, tree)


def unreplicate(tree: object) -> object:
    """The first device's copy of a replicated tree, as NumPy arrays of their own."""
    return jax.tree.map(lambda x: np.array(x.addressable_data(0)).reshape(x.shape[1:]), tree)


def per_device(*scalars: np.generic) -> list[np.ndarray]:
    """Each scalar repeated for every local device."""
    return [np.full(jax.local_device_count(), scalar) for scalar in scalars]


def shard(batch: dict[str, np.ndarray]) -> Batch:
    """Splits a host's batch over its devices: (samples, ...) -> (devices, samples / devices, ...)."""
    devices = jax.local_device_count()
    return {name: x.reshape(devices, len(x) // devices, *x.shape[1:]) for name, x in batch.items()}


def make_train_step(
    graphdef: nnx.GraphDef,
    slice_function: SliceFunction,
    transform: optax.GradientTransformation,
    seed: int,
    micro_batches: int = 1,
) -> TrainStep:
    """The pmapped step (state, frozen, batch, learning rate, update_average) -> (state, metrics).

    All arguments and results have a device axis. `transform` takes parameter vectors and gives updates without the
    learning rate, which comes with each call; `update_average` (bool) decides whether the new parameters enter the
    average. Each device takes its samples in `micro_batches` parts one after the other and adds their gradients up:
    less memory, and the update of one batch. A step whose loss or gradient is not finite, or in which no slice counts,
    changes only the step count, not even the optimiser's moments. The metrics are `loss`, `counted`,
    `finite`, `grad_norm`, `both`, `pred`, `true`.
    """

    def summed_loss(trainable: nnx.State, frozen: nnx.State, batch: Batch, key: jax.Array):
        results = slice_function(nnx.merge(graphdef, trainable, frozen), batch, key)
        total = jnp.where(results.counted, results.loss, 0.0).sum()
        counts = {name: jnp.where(results.counted, x, 0).sum() for name, x in results.overlap.items()}
        return total, {"counted": results.counted.sum(), **counts}

    def sums(trainable: nnx.State, frozen: nnx.State, batch: Batch, key: jax.Array) -> tuple:
        """Loss, counts and gradients of a batch, summed over its counted slices."""
        (loss, counts), gradients = jax.value_and_grad(summed_loss, has_aux=True)(trainable, frozen, batch, key)
        return loss, counts, to_vector(gradients)

    def sums_in_parts(trainable: nnx.State, frozen: nnx.State, batch: Batch, key: jax.Array) -> tuple:
        """Does the same as `sums`, for one micro-batch after the other."""
        parts = {name: x.reshape(micro_batches, -1, *x.shape[1:]) for name, x in batch.items()}
        shapes = jax.eval_shape(sums, trainable, frozen, {name: x[0] for name, x in parts.items()}, key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def add(total: tuple, part: Batch) -> tuple[tuple, None]:
            return jax.tree.map(jnp.add, total, sums(trainable, frozen, part, key)), None

        return jax.lax.scan(add, zeros, parts)[0]

    def step(state: TrainState, frozen: nnx.State, batch: Batch, learning_rate: jax.Array, update_average: jax.Array):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        summed = sums if micro_batches == 1 else sums_in_parts
        loss, counts, gradients = jax.lax.psum(summed(state.trainable.traced_tree(), frozen, batch, key), AXIS)
        number = jnp.maximum(counts["counted"], 1)
        loss, gradients = loss / number, jax.tree.map(lambda g: g / number, gradients)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        usable = finite & (counts["counted"] > 0)

        with jax.named_scope("update"):
            updates, optimizer = transform.update(gradients, state.optimizer, state.trainable)
            trainable = jax.tree.map(lambda p, u: p - learning_rate * u, state.trainable, updates)
            trainable, optimizer = _choose(usable, (trainable, optimizer), (state.trainable, state.optimizer))
            update_average = update_average & usable
            mean = optax.incremental_update(trainable, state.average, 1 / (state.averaged + 1))
            average = _choose(update_average, mean, state.average)
        metrics = {"loss": loss, "finite": finite, "grad_norm": norm, **counts}
        return TrainState(state.step + 1, trainable, optimizer, average, state.averaged + update_average), metrics

    return jax.pmap(step, axis_name=AXIS, donate_argnums=0)


@dataclass(frozen=True)
class CompiledStep:
    """A compiled training step; `report` has the compile time, and the memory that XLA expects it to need."""

    call: TrainStep
    report: str

    def __call__(self, *arguments: object) -> tuple[TrainState, dict[str, jax.Array]]:
        return self.call(*arguments)


def compile_step(step: TrainStep, state: TrainState, frozen: nnx.State, batch: Batch) -> CompiledStep:
    """Compiles a step for replicated states and a sharded batch like these, before its first call."""
    begin = time.perf_counter()
    compiled = step.lower(state, frozen, batch, *per_device(np.float32(0), np.bool_(False))).compile()
    report = f"compiled the step in {time.perf_counter() - begin:.1f} s"
    memory = compiled.memory_analysis()
    if memory is not None:
        # Donated outputs take the place of arguments.
        needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        report += f"; by XLA's analysis it needs {needed / 2**30:.2f} GiB on each device"
    # Not `compiled` itself: of several processes none has the global arrays that it takes. The pmapped step finds it.
    return CompiledStep(step, report)


def _choose(condition: jax.Array, new: object, old: object) -> object:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def make_scoring_step(graphdef: nnx.GraphDef, slice_function: SliceFunction, seed: int) -> ScoringStep:
    """The pmapped (states or vectors of the model, batch) -> results of each slice, with a device axis.

    The prompts depend on `seed` and the slice alone, so that epochs and runs are compared on the same prompts.
    """

    def step(states: States, batch: Batch) -> SliceResults:
        trees = (state.traced_tree() if isinstance(state, ParameterVector) else state for state in states)
        return slice_function(nnx.merge(graphdef, *trees), batch, jax.random.key(seed))

    return jax.pmap(step, axis_name=AXIS)
