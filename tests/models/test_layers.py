"""The small layers that several parts share."""

from math import erfc, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.models.layers import gelu


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_gelu_is_the_exact_one_in_every_dtype(dtype, tolerance):
    """In its negative tail too, where 1 + erf in bfloat16 would be 0."""
    x = jnp.linspace(-4, 4, 161).astype(dtype)
    exact = np.array([0.5 * value * erfc(-value / sqrt(2)) for value in np.asarray(x, np.float64)])
    for found in (gelu(x), jax.jit(gelu)(x)):
        assert found.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=tolerance, atol=1e-6)
