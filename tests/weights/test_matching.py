"""Names, shapes and values of tensors against what is expected of them."""

import time

import ml_dtypes
import numpy as np
import pytest

from samjax.errors import UserError
from samjax.weights.matching import check_statistics, finite_float32, match, require_finite, split_statistics


def test_match_accepts_only_the_same():
    expected = {"a": (2, 3), "b": (1,)}
    good = {"a": np.zeros((2, 3)), "b": np.zeros(1)}
    match(good, expected, "it")
    for bad in ({"a": good["a"]}, good | {"c": good["b"]}, good | {"b": np.zeros((1, 1))}, {}):
        with pytest.raises(UserError, match="it: its tensors are not those of this SAM"):
            match(bad, expected, "it")


ONES = np.ones((3, 5))


def with_value(dtype: type, value: float) -> np.ndarray:
    """Ones of a type, but for a value that is the last in memory."""
    found = ONES.astype(dtype)
    found[-1, -1] = value
    return found


@pytest.mark.parametrize(
    ("tensor", "shown"),
    [
        (with_value(np.float32, np.nan), "nan"),
        (with_value(np.float32, -np.inf), "-inf"),
        (with_value(np.float16, np.inf), "inf"),
        (with_value(ml_dtypes.bfloat16, np.nan), "nan"),
        (with_value(np.float64, 1e39), r"1e\+39"),
        (with_value(np.float64, np.nan), "nan"),
        (with_value(np.float32, np.nan).T, "nan"),
        (with_value(np.float32, np.nan)[::2, ::2], "nan"),
    ],
    ids=["nan", "infinity", "half", "bfloat16", "too large", "double nan", "transposed", "strided"],
)
def test_what_is_not_finite_is_refused_by_name(tensor, shown):
    message = rf"it: b holds {shown} \(1 of {tensor.size} values\); expected finite numbers"
    for check in (finite_float32, require_finite):
        with pytest.raises(UserError, match=message):
            check({"a": ONES, "b": tensor, "c": tensor}, "it")


@pytest.mark.parametrize("position", [0, 1 << 18, (1 << 18) - 1, 600_000, 700_000])
def test_every_piece_is_looked_at(position):
    tensor = np.zeros(700_001, np.float32)
    assert finite_float32({"a": tensor}, "it")["a"] is tensor
    tensor[position] = np.inf
    with pytest.raises(UserError, match="a holds inf"):
        finite_float32({"a": tensor}, "it")


def test_the_largest_numbers_are_taken():
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32):
        largest = np.array([ml_dtypes.finfo(dtype).max, ml_dtypes.finfo(dtype).min], dtype)
        found = finite_float32({"a": largest}, "it")["a"]
        assert found.dtype == np.float32
        assert np.array_equal(found, largest.astype(np.float32))


def test_checking_is_fast_and_takes_no_memory():
    """40 MB in far less than reading them takes, whatever their layout."""
    tensor = np.zeros((1000, 10_000), np.float32)
    for layout in (tensor, tensor.T):
        begin = time.perf_counter()
        assert finite_float32({"a": layout}, "it")["a"] is layout
        assert time.perf_counter() - begin < 0.5


def test_integers_are_refused():
    with pytest.raises(UserError, match="it: a is of type int64; expected a floating-point type"):
        finite_float32({"a": np.zeros(2, np.int64)}, "it")


MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])


def test_pixel_statistics_are_parted_from_the_weights():
    tensors = {"m.pixel_mean": MEAN, "m.pixel_std": STD, "m.a": ONES, "pixel_mean": MEAN, "m.x.pixel_std": STD}
    weights, statistics = split_statistics(tensors, "m.")
    assert weights.keys() == {"m.a", "pixel_mean", "m.x.pixel_std"}
    assert statistics.keys() == {"m.pixel_mean", "m.pixel_std"}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_sam_s_own_statistics_are_accepted_in_any_type_and_shape(dtype):
    for shape in ((3,), (3, 1, 1), (1, 3, 1, 1)):
        stored = {"pixel_mean": MEAN.astype(dtype).reshape(shape), "m.pixel_std": STD.astype(dtype).reshape(shape)}
        check_statistics(stored, 3, "it")
    check_statistics({"pixel_mean": np.full(4, MEAN.mean())}, 4, "it")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pixel_mean", MEAN[::-1]),
        ("pixel_mean", MEAN / 255),
        ("pixel_mean", np.zeros(3)),
        ("pixel_mean", MEAN[:1]),
        ("pixel_mean", MEAN + 0.01),
        ("pixel_mean", np.full(3, np.nan)),
        ("m.pixel_std", MEAN),
        ("pixel_std", np.ones(3, np.float16)),
        ("pixel_std", np.full(4, STD.mean())),
    ],
)
def test_other_statistics_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"it: {name} is \(.*\), but samjax normalises pictures by \(") as caught:
        check_statistics({name: value}, 3, "it")
    assert "another normalisation" in str(caught.value)
