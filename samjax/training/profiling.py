"""A profile of some steps of a run, by JAX's profiler (`train --profile`)."""

from pathlib import Path

import jax

FOLDER = "profile"
WARM_UP = 5
"""Steps before the profile: in the first ones programs are still compiled and memory is still allocated."""


class StepProfile:
    """Profiles `steps` steps once `WARM_UP` others have been taken; None: never. Close it at the run's end."""

    def __init__(self, folder: Path, steps: int | None):
        self._folder, self._taken, self._running = folder, 0, False
        self._end = None if steps is None else WARM_UP + steps

    def before_step(self, previous: object) -> str | None:
        """Begins or ends the profile where that is due; `previous` are the last step's results, which are waited for.

        Returns:
            A line that says where the profile is, once it has ended.
        """
        if self._taken == WARM_UP and self._end is not None:
            jax.block_until_ready(previous)
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._running = True
        line = None
        if self._running and self._taken == self._end:
            jax.block_until_ready(previous)
            line = self.close()
        self._taken += 1
        return line

    def close(self) -> str | None:
        """Ends the profile if it is still being taken."""
        if not self._running:
            return None
        self._running = False
        jax.profiler.stop_trace()
        return (
            f"a profile of {self._taken - WARM_UP} steps is in {self._folder}: open its perfetto_trace.json.gz on "
            "ui.perfetto.dev, or the folder with XProf"
        )
