"""Division of the samples of a step among the devices, also when a run is resumed on other devices.

A run's step takes a number of samples that never changes: its schedule, its position in the data and its random
numbers count in them. On fewer devices each takes several micro-batches one after the other.
"""

from dataclasses import dataclass

from samjax.errors import UserError


@dataclass(frozen=True)
class Division:
    """Each of `devices` takes `micro_batches` of `batch_size` samples one after the other."""

    devices: int
    micro_batches: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.devices} devices x {self.micro_batches} micro-batches x {self.batch_size} samples"


def divide(samples: int, devices: int, batch_size: int) -> Division:
    """Shares the samples of a step evenly, in the fewest micro-batches of at most `batch_size` samples.

    Raises:
        UserError: the devices cannot share the samples evenly.
    """
    if samples % devices:
        possible = [str(count) for count in range(1, samples + 1) if samples % count == 0]
        raise UserError(
            f"a step of this run takes {samples} sample{'s' * (samples > 1)}, which {devices} devices cannot share "
            f"evenly; go on with {', '.join(possible[:-1]) + ' or ' * bool(possible[:-1]) + possible[-1]} "
            f"device{'s' * (samples > 1)}"
        )
    each = samples // devices
    size = max(size for size in range(1, min(batch_size, each) + 1) if each % size == 0)
    return Division(devices, each // size, size)


def check_batch_size(samples: int, devices: int, batch_size: int) -> None:
    """Refuses, by a `UserError`, a --batch-size in which the devices cannot take the samples of a step."""
    if divide(samples, devices, batch_size).batch_size != batch_size:
        each = samples // devices
        possible = ", ".join(str(size) for size in range(1, each + 1) if each % size == 0)
        raise UserError(
            f"--batch-size {batch_size}: a step of this run takes {samples} samples, {each} on each of {devices} "
            f"devices; expected one of {possible}"
        )
