"""The devices of a model: a batch is split over them, everything else is copied to each of them."""

from dataclasses import dataclass
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")

AXIS = "batch"


@dataclass(frozen=True)
class Devices:
    """One device, or several in a row; static in compiled functions."""

    mesh: Mesh | None = None
    """Mesh of the devices; None: only the default device."""

    @classmethod
    def local(cls) -> "Devices":
        """All devices of this process."""
        devices = jax.local_devices()
        return cls(Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None)

    @property
    def count(self) -> int:
        return 1 if self.mesh is None else self.mesh.size

    def place(self, tree: Tree) -> Tree:
        """Copies arrays to every device."""
        return jax.device_put(tree, None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec()))

    def split(self, batch: jax.Array) -> jax.Array:
        """In a compiled function, gives each device its part of the batch, or all of it if it does not divide."""
        return self._laid_out(batch, PartitionSpec(AXIS) if len(batch) % self.count == 0 else PartitionSpec())

    def gather(self, array: jax.Array) -> jax.Array:
        """In a compiled function, gives every device the whole array."""
        return self._laid_out(array, PartitionSpec())

    def _laid_out(self, array: jax.Array, spec: PartitionSpec) -> jax.Array:
        if self.mesh is None:
            return array
        return jax.lax.with_sharding_constraint(array, NamedSharding(self.mesh, spec))
