"""Checkpoints of a run, written by Orbax."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from samjax.distributed import broadcast, errors_shared, from_writer, is_writer
from samjax.errors import UserError
from samjax.training.step import TrainState

KEEP = 2
"""The newest so many are kept, and the best by validation."""

Host = dict[str, Any]


class Checkpoints:
    """The checkpoints of a run: saved without holding up training, complete or absent.

    A checkpoint holds the training state of one device (all are alike) and a small dict of host state: stage,
    position in the data, learning rate, the best score so far.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        if not is_writer():
            return
        folder.mkdir(parents=True, exist_ok=True)  # Orbax makes none where not all processes take part
        options = ocp.CheckpointManagerOptions(
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}),
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(KEEP),
                    policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
                ]
            ),
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, state: TrainState, host: Host, score: float | None = None) -> None:
        """Saves a state without device axis under its step; a step that is there already is left as it is."""
        if not is_writer():
            return
        step = int(state.step)
        if step not in self._manager.all_steps():
            arguments = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), host=ocp.args.JsonSave(host))
            self._manager.save(step, args=arguments, metrics=None if score is None else {"score": score})

    def restore(self, like: Callable[[Host], TrainState]) -> tuple[TrainState, Host] | None:
        """The newest checkpoint that can be read: its state and host state; None if there is none at all.

        Damaged newer ones are named on stderr and deleted: they will be written again.

        Args:
            like: gives a state of the checkpoint's structure, from its host state.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        found = None
        with errors_shared():
            if is_writer():
                found = self._newest(like)
        host = from_writer(lambda: None if found is None else found[1])
        if host is None:
            return None
        return broadcast(like(host) if found is None else found[0]), host

    def _newest(self, like: Callable[[Host], TrainState]) -> tuple[TrainState, Host] | None:
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                found = self._read(step, like)
            except Exception as error:  # Orbax raises many kinds for damaged files
                reason = str(error).strip().split("\n")[0][:200]
                print(f"{self._folder / str(step)}: damaged, so not used ({reason})", file=sys.stderr)
            else:
                for damaged in (later for later in steps if later > step):
                    self._manager.delete(damaged)
                return found
        if steps:
            raise UserError(f"{self._folder}: none of the checkpoints {steps} can be read; start a new run")
        return None

    def _read(self, step: int, like: Callable[[Host], TrainState]) -> tuple[TrainState, Host]:
        host = self._manager.restore(step, args=ocp.args.Composite(host=ocp.args.JsonRestore()))["host"]
        template = like(host)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(template))
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        leaves = jax.tree.leaves(self._manager.restore(step, args=arguments)["state"])
        return jax.tree.unflatten(jax.tree.structure(template), leaves), host

    def wait(self) -> None:
        """Waits for what is being saved."""
        if is_writer():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being saved, and frees what saving needs."""
        self.wait()
        if is_writer():
            self._manager.close()


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]


def _plain(state: TrainState) -> dict[str, Any]:
    """The state's leaves by number: independent of the classes that NNX and optax wrap them in."""
    return {f"{number:05d}": leaf for number, leaf in enumerate(jax.tree.leaves(state))}
