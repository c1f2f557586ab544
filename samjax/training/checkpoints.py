"""Checkpoints of a run, written and read by Orbax."""

import gc
import json
import logging
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from samjax.errors import UserError
from samjax.training.distributed import broadcast, errors_shared, from_writer, is_writer
from samjax.training.step import TrainState

KEEP = 2
"""The number of newest checkpoints that are kept, in addition to the best by validation."""

Host = dict[str, Any]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax's other reads, which a failed one leaves behind, from writing tracebacks on stderr."""
    former = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    try:
        yield
    finally:
        gc.collect()  # else they would end, and write, whenever garbage is looked for next
        sys.unraisablehook = former


class Checkpoints:
    """The checkpoints of a run: saved without holding up training, complete or absent.

    A checkpoint holds the training state of one device (all are alike) and a small dict of host state: stage,
    position in the data, learning rate, the best score so far.
    """

    def __init__(self, folder: Path):
        """Opens the checkpoints in `folder`; nothing in it changes before the first `save`."""
        self._folder = folder
        self._best = _Best()
        self._damaged: list[int] = []
        self._writer: ocp.CheckpointManager | None = None
        for name in ("absl", "asyncio"):  # Orbax's chatter: what matters comes as an exception
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def _opened(self, **options: Any) -> ocp.CheckpointManager:
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        options = ocp.CheckpointManagerOptions(create=False, multiprocessing_options=alone, **options)
        return ocp.CheckpointManager(self._folder.absolute(), options=options)

    def _written(self) -> ocp.CheckpointManager:
        """The manager that saves; made at the first save, which also removes damaged and unfinished checkpoints."""
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)  # Orbax makes none where not all processes take part
            self._writer = self._opened(
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(KEEP), self._best]),
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            )
            for step in self._damaged:
                self._writer.delete(step)
        return self._writer

    def save(self, state: TrainState, host: Host) -> None:
        """Saves a state without device axis under its step; a step that is already saved is left as it is.

        `best_step` in the host state names the checkpoint that is kept for its validation score.
        """
        if not is_writer():
            return
        step, plain = int(state.step), _plain(state)
        self._best.step = host["best_step"]
        manager = self._written()
        if step not in manager.all_steps():
            layout = _layout_crc32(state)
            content = {"host": host, "layout": layout, "crc32": _checksum(plain, host)}
            arguments = ocp.args.Composite(state=ocp.args.StandardSave(plain), host=ocp.args.JsonSave(content))
            manager.save(step, args=arguments)

    def restore(self, like: Callable[[Host], TrainState]) -> tuple[TrainState, Host] | None:
        """The newest checkpoint that can be read: its state and host state; None if there is none at all.

        Damaged newer ones are reported on stderr, and deleted at the next save, since they will be written again.

        Args:
            like: makes a state of the checkpoint's structure, from its host state.

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

    @_quiet()
    def _newest(self, like: Callable[[Host], TrainState]) -> tuple[TrainState, Host] | None:
        if not self._folder.is_dir():
            return None
        with closing(self._opened(read_only=True)) as reader:
            steps = sorted(reader.all_steps(), reverse=True)
            for step in steps:
                try:
                    found = self._read(reader, step, like)
                except Exception as error:  # Orbax raises many kinds for damaged files
                    what = "of another version of samjax" if isinstance(error, _OtherLayout) else "damaged"
                    reason = str(error).strip().split("\n")[0][:200]
                    print(f"{self._folder / str(step)}: {what}, so not used ({reason})", file=sys.stderr)
                else:
                    self._damaged = [later for later in steps if later > step]
                    return found
        if steps:
            raise UserError(f"{self._folder}: none of the checkpoints {steps} can be read; start a new run")
        return None

    def _read(
        self, reader: ocp.CheckpointManager, step: int, like: Callable[[Host], TrainState]
    ) -> tuple[TrainState, Host]:
        content = reader.restore(step, args=ocp.args.Composite(host=ocp.args.JsonRestore()))["host"]
        host = content["host"]
        template = like(host)
        if content.get("layout") != _layout_crc32(template):
            raise _OtherLayout("the trainable parameters have other names, shapes or another order")
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(template))
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        plain = reader.restore(step, args=arguments)["state"]
        if _checksum(plain, host) != content["crc32"]:
            raise ValueError("not what was saved, by its checksum")
        return jax.tree.unflatten(jax.tree.structure(template), jax.tree.leaves(plain)), host

    def wait(self) -> None:
        """Waits for the save in progress."""
        if self._writer is not None:
            self._writer.wait_until_finished()

    def close(self) -> None:
        """Waits for the save in progress, and frees the resources of saving."""
        self.wait()
        if self._writer is not None:
            self._writer.close()


class _OtherLayout(ValueError):
    """The checkpoint has parameters that this version does not have, or has in another order."""


class _Best:
    """An Orbax preservation policy: keeps the checkpoint of one step."""

    def __init__(self) -> None:
        self.step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]


def _layout_crc32(state: TrainState) -> int:
    """CRC-32 of the trainable arrays' names and shapes, since Orbax sees only the length of their vector."""
    layout = state.trainable.layout
    return zlib.crc32(json.dumps([layout.names(), layout.shapes]).encode())


def _checksum(plain: dict[str, Any], host: Host) -> int:
    """CRC-32 of everything in a checkpoint, since Orbax does not detect a flipped bit."""
    value = zlib.crc32(json.dumps(host, sort_keys=True).encode())
    for leaf in jax.tree.leaves(plain):
        value = zlib.crc32(np.ascontiguousarray(leaf), value)
    return value


def _plain(state: TrainState) -> dict[str, Any]:
    """The state's leaves by number: independent of the classes that NNX and optax wrap them in."""
    return {f"{number:05d}": leaf for number, leaf in enumerate(jax.tree.leaves(state))}
