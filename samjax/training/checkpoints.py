"""Checkpoints of a run, written by Orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from samjax.training.step import TrainState

KEEP = 2


class Checkpoints:
    """The checkpoints of a run: saved without holding up training, complete or absent.

    A checkpoint holds the training state of one device (all are alike) and a small dict of host state: the
    position in the data, the best score so far.
    """

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, state: TrainState, host: dict[str, Any]) -> None:
        """Saves a state without device axis under its step; a step that is there already is left as it is."""
        step = int(state.step)
        if step not in self._manager.all_steps():
            arguments = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), host=ocp.args.JsonSave(host))
            self._manager.save(step, args=arguments)

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest checkpoint as a state of the structure of `like`, and its host state; None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(like))
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target), host=ocp.args.JsonRestore())
        )
        leaves = jax.tree.leaves(restored["state"])
        return jax.tree.unflatten(jax.tree.structure(like), leaves), restored["host"]

    def close(self) -> None:
        """Waits for what is being saved."""
        self._manager.wait_until_finished()
        self._manager.close()


def _plain(state: TrainState) -> dict[str, Any]:
    """The state's leaves by number: independent of the classes that NNX and optax wrap them in."""
    return {f"{number:05d}": leaf for number, leaf in enumerate(jax.tree.leaves(state))}
