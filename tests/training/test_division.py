"""How the samples of a step are shared, and what cannot be shared."""

import pytest

from samjax.errors import UserError
from samjax.training.division import Division, check_batch_size, divide


@pytest.mark.parametrize(
    ("samples", "devices", "batch_size", "expected"),
    [
        (4, 4, 1, Division(4, 1, 1)),
        (4, 1, 1, Division(1, 4, 1)),
        (4, 2, 1, Division(2, 2, 1)),
        (8, 1, 8, Division(1, 1, 8)),
        (8, 4, 8, Division(4, 1, 2)),
        (12, 2, 4, Division(2, 2, 3)),  # 6 on each, of which 4 is no divisor
        (7, 1, 4, Division(1, 7, 1)),
    ],
)
def test_a_step_keeps_its_samples(samples, devices, batch_size, expected):
    found = divide(samples, devices, batch_size)
    assert found == expected
    assert found.devices * found.micro_batches * found.batch_size == samples


@pytest.mark.parametrize(
    ("samples", "devices", "possible"), [(4, 3, "1, 2 or 4 devices"), (1, 2, "with 1 device"), (6, 4, "1, 2, 3 or 6")]
)
def test_devices_that_cannot_share_a_step_are_refused_with_those_that_can(samples, devices, possible):
    with pytest.raises(UserError) as caught:
        divide(samples, devices, 1)
    assert possible in str(caught.value)
    assert f"{samples} sample" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_batch_size_that_does_not_fit_is_refused_with_those_that_do():
    check_batch_size(8, 2, 4)
    check_batch_size(8, 2, 1)
    with pytest.raises(UserError, match=r"--batch-size 3.* 8 samples, 4 on each of 2 devices; expected one of 1, 2, 4"):
        check_batch_size(8, 2, 3)
    with pytest.raises(UserError, match="--batch-size 8"):
        check_batch_size(8, 2, 8)
