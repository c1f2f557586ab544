"""Many small random draws from one key, as slices of one array of random numbers.

Inside a compiled function every draw with a key of its own compiles its own copy of the generator; dozens of them take
longer to compile than a model.
"""

import math
from dataclasses import dataclass, field

import jax

SIZE = 2048


@dataclass
class Draws:
    """Hands out the numbers of one key in the order asked for, none of them twice.

    The order is that of the code that is traced, so that one key gives one set of draws.
    """

    key: jax.Array
    used: int = 0
    numbers: jax.Array = field(init=False)

    def __post_init__(self) -> None:
        numbers = jax.random.uniform(self.key, (SIZE,), minval=1e-6, maxval=1 - 1e-6)
        # Else XLA would put the generator into every function that takes a slice.
        self.numbers = jax.lax.optimization_barrier(numbers)

    def uniform(self, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> jax.Array:
        """Uniform numbers in [low, high], float32."""
        count = math.prod(shape)
        if self.used + count > SIZE:
            raise ValueError(f"more than {SIZE} draws from one key")
        taken = self.numbers[self.used : self.used + count].reshape(shape)
        self.used += count
        return low + (high - low) * taken

    def normal(self, shape: tuple[int, ...] = ()) -> jax.Array:
        """Normal numbers of mean 0 and variance 1, float32."""
        return jax.scipy.special.ndtri(self.uniform(shape))

    def chance(self, share: float, shape: tuple[int, ...] = ()) -> jax.Array:
        """Bool, each True with probability `share`."""
        return self.uniform(shape) < share
